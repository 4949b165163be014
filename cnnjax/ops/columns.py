"""A convolution's weight gradient as one matrix product: every window of the input in a row ("im2col").

XLA's own transposes the batch and the channels of both its operands first, which for few channels takes longer than the
product: 111 of ResNet-18's 1,000 ms a step at 32x32 were the first layer's (2 cores of an AMD EPYC).
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Windows of more than this are copied a part of the batch at a time, so that they stay in the cache.
MAX_BYTES = 2**21


def taps(
    x: Float[Array, "... height width _"],
    kernel_size: Sequence[int],
    strides: Sequence[int],
    axis: int,
) -> list[Float[Array, "... output_height output_width _"]]:
    """For each element of a kernel, in reading order, the values it meets: shifted, strided slices.

    Args:
      x: padded; its spatial axes are `axis` and the next.
      kernel_size: height and width.
      strides: likewise.
      axis: the place of the height.
    """
    rows = shifts(x, kernel_size[0], strides[0], axis)
    return [tap for row in rows for tap in shifts(row, kernel_size[1], strides[1], axis + 1)]


def shifts(x: Float[Array, "..."], extent: int, step: int, axis: int) -> list[Float[Array, "..."]]:
    """For each place in a window along one axis, the values it meets."""
    reach = (x.shape[axis] - extent) // step * step + 1
    return [lax.slice_in_dim(x, place, place + reach, step, axis) for place in range(extent)]


def weight_gradient(
    x: Float[Array, "batch height width channel"],
    shape: Sequence[int],
    gradient: Float[Array, "batch output_height output_width features"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Float[Array, "kernel_height kernel_width channel features"]:
    """The kernel's gradient, of that shape, summed over parts of the batch."""
    window, features = shape[0] * shape[1] * shape[2], shape[3]

    def part(images: Float[Array, "batch height width channel"], gradient: Array) -> Float[Array, "window features"]:
        padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
        rows = jnp.concatenate(taps(padded, shape[:2], strides, 1), -1)
        return rows.reshape(-1, window).T @ gradient.reshape(-1, features)

    batch, *size, _ = gradient.shape
    most = max(MAX_BYTES // (x.dtype.itemsize * size[0] * size[1] * window), 1)
    parts = next(parts for parts in range(1, batch + 1) if batch % parts == 0 and batch // parts <= most)
    if parts == 1:
        return part(x, gradient).reshape(shape)
    pieces = [array.reshape(parts, -1, *array.shape[1:]) for array in (x, gradient)]
    zeros = jnp.zeros((window, features), x.dtype)
    total, _ = lax.scan(lambda total, piece: (total + part(*piece), None), zeros, pieces)
    return total.reshape(shape)
