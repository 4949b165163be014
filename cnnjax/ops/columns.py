"""The weight gradient of a convolution as one matrix product.

XLA's own implementation first transposes the batch and channel axes of both operands, which takes longer than the product
if there are few channels: in ResNet-18 at 32x32 it took 111 of 1,000 ms per step for the first layer (2 cores of an AMD
EPYC). A product with each window of the input as a row ("im2col") needs kernel_height * kernel_width copies of the input. Here
the inputs are copied for the kernel's columns and the outputs' gradients for its rows. Of 16 channels and features, 128 images
of 32x32 and a kernel of 3x3, the gradient took 6.7 ms, with windows as rows 12.8, XLA's own 11 (27 November 2026).
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# If the copies take more bytes than this, they are made for a part of the batch at a time, to stay in the cache.
MAX_BYTES = 4 * 2**20


def taps(
    x: Float[Array, "... height width _"],
    kernel_size: Sequence[int],
    strides: Sequence[int],
    axis: int,
) -> list[Float[Array, "... output_height output_width _"]]:
    """The input values that each element of a kernel is multiplied with, in reading order: shifted, strided slices.

    Args:
      x: the padded input, whose spatial axes are `axis` and the next.
      kernel_size: the height and width of the kernel.
      strides: the vertical and horizontal stride.
      axis: the index of the height axis.
    """
    rows = shifts(x, kernel_size[0], strides[0], axis)
    return [tap for row in rows for tap in shifts(row, kernel_size[1], strides[1], axis + 1)]


def shifts(x: Float[Array, "..."], extent: int, step: int, axis: int) -> list[Float[Array, "..."]]:
    """The input values at each position in a window along one axis: shifted, strided slices."""
    reach = (x.shape[axis] - extent) // step * step + 1
    return [lax.slice_in_dim(x, place, place + reach, step, axis) for place in range(extent)]


def weight_gradient(
    x: Float[Array, "batch height width channel"],
    shape: Sequence[int],
    gradient: Float[Array, "batch output_height output_width features"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Float[Array, "kernel_height kernel_width channel features"]:
    """The gradient of the kernel, which has the given shape, summed over parts of the batch.

    Windows of `kernel_height` rows are not copied: with x's rows in groups of `step` = strides[0], the kernel's row
    i = step * a + b multiplies row b of the group a places below that of the output. The outputs' gradients are therefore copied
    once for each a, the inputs once for each column of the kernel, and one product has the gradient of all (b, column, channel)
    and (a, features).
    """
    height, width, channels, features = shape
    step, rows = strides[0], gradient.shape[1]
    reach = -(-height // step)  # places a
    groups = rows + reach - 1
    (top, _), (left, right) = padding

    def part(images: Float[Array, "batch height width channel"], gradient: Array) -> Array:
        below = groups * step - top - images.shape[1]
        images = images[:, : images.shape[1] + min(below, 0)]
        padded = jnp.pad(images, ((0, 0), (top, max(below, 0)), (left, right), (0, 0)))
        inputs = [window for row in shifts(padded, step, step, 1) for window in shifts(row, width, strides[1], 2)]
        inputs = jnp.concatenate([window[:, :, : gradient.shape[2]] for window in inputs], -1)
        outputs = [jnp.pad(gradient, ((0, 0), (a, reach - 1 - a), (0, 0), (0, 0))) for a in range(reach)]
        inputs, outputs = lax.optimization_barrier((inputs, jnp.concatenate(outputs, -1)))
        return inputs.reshape(-1, inputs.shape[-1]).T @ outputs.reshape(-1, outputs.shape[-1])

    batch = x.shape[0]
    copied = step * width * channels + reach * features
    most = max(MAX_BYTES // (x.dtype.itemsize * groups * gradient.shape[2] * copied), 1)
    parts = next(parts for parts in range(1, batch + 1) if batch % parts == 0 and batch // parts <= most)
    if parts == 1:
        total = part(x, gradient)
    else:
        pieces = [array.reshape(parts, -1, *array.shape[1:]) for array in (x, gradient)]
        zeros = jnp.zeros((step * width * channels, reach * features), x.dtype)
        total, _ = lax.scan(lambda total, piece: (total + part(*piece), None), zeros, pieces)
    total = total.reshape(step, width, channels, reach, features).transpose(3, 0, 1, 2, 4)
    return total.reshape(reach * step, width, channels, features)[:height]
