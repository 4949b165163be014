"""Convolution and average-pooling of few channels, with the batch where the channels usually are.

A processor adds 8 or 16 neighbouring numbers at once. With 1 to 16 channels these are too few to fill that; 128 examples
are enough. So the arrays lie in memory as (channel, height, width, batch), and the convolution is a matrix product with
the windows as columns. Bias, activation and pooling between two such convolutions, and their gradients, are in the same
order, and nothing is copied. LeNet-5's step at batch 128 takes half of plain Flax's time (2 cores of an AMD EPYC).
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from cnnjax.ops.columns import shifts, taps

Images = Float[Array, "batch height width channel"]
Minor = Float[Array, "channel height width batch"]


def convolution(x: Images, kernel: Array, strides: Sequence[int], padding: Sequence[tuple[int, int]]) -> Array:
    """The convolution of images with a (height, width, channel, features) kernel."""
    windows = _windows(x, kernel.shape, strides, padding)
    rows, features = kernel.reshape(-1, kernel.shape[-1]).T, kernel.shape[-1]
    y = rows @ windows.reshape(rows.shape[1], -1)
    return _from_minor(y.reshape(features, *windows.shape[1:]))


def tap_by_tap(x: Images, kernel: Array, strides: Sequence[int], padding: Sequence[tuple[int, int]]) -> Array:
    """The same for images of one channel, whose windows no gradient needs: the kernel's elements times what they meet.

    LeNet-5's prediction at batch 128 takes 0.8 times as long as with the windows copied.
    """
    padded = jnp.pad(_to_minor(x), ((0, 0), *padding, (0, 0)))
    weights = kernel.reshape(-1, kernel.shape[-1], 1, 1, 1)
    return _from_minor(sum(map(jnp.multiply, weights, taps(padded, kernel.shape[:2], strides, 1))))


def add_bias(y: Images, bias: Float[Array, "channel"]) -> Images:
    """The sum, whose gradient comes in the order that the convolution's takes it.

    Else XLA computes it with the channels innermost, for the bias's, and then transposes it. Together with `average_pool`
    LeNet-5's step takes 0.8 times as long; either alone gains little.
    """
    return _from_minor(_to_minor(y) + bias[:, None, None, None])


def average_pool(
    x: Images, window: Sequence[int], strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> Images:
    """The mean of each window, padding counted as zeros."""
    padded = jnp.pad(_to_minor(x), ((0, 0), *padding, (0, 0)))
    return _from_minor(sum(taps(padded, window, strides, 1)) / math.prod(window))


def weight_gradient(
    x: Images, shape: Sequence[int], gradient: Array, strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> Array:
    """The kernel's gradient, of that shape."""
    windows = _windows(x, shape, strides, padding)
    outputs = _to_minor(gradient)
    return (windows.reshape(windows.shape[0], -1) @ outputs.reshape(shape[-1], -1).T).reshape(shape)


def input_gradient(
    shape: Sequence[int], kernel: Array, gradient: Array, strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> Images:
    """The input's gradient, of that shape: each window's, added where it was taken from."""
    extents, channels, features = kernel.shape[:2], *kernel.shape[2:]
    outputs = _to_minor(gradient)
    windows = kernel.reshape(-1, features) @ outputs.reshape(features, -1)
    windows = lax.optimization_barrier(windows).reshape(*extents, channels, *outputs.shape[1:])
    zero = jnp.zeros((), gradient.dtype)

    def placed(part: Array, axis: int, place: int) -> Array:
        """A part that starts at `place` of an axis of the padded input, its values `stride` apart."""
        step, length = strides[axis - 1], shape[axis] + sum(padding[axis - 1])
        widths = [(0, 0, 0)] * part.ndim
        widths[axis] = (place, length - place - (part.shape[axis] - 1) * step - 1, step - 1)
        return lax.pad(part, zero, widths)

    rows = [sum(placed(windows[row, column], 2, column) for column in range(extents[1])) for row in range(extents[0])]
    padded = sum(placed(part, 1, row) for row, part in enumerate(rows))
    (top, _), (left, _) = padding
    return _from_minor(padded[:, top : top + shape[1], left : left + shape[2]])


def _windows(
    x: Images, shape: Sequence[int], strides: Sequence[int], padding: Sequence[tuple[int, int]]
) -> Float[Array, "window output_height output_width batch"]:
    padded = jnp.pad(_to_minor(x), ((0, 0), *padding, (0, 0)))
    # One axis after the other, which copies less than each window's elements one by one: LeNet-5's step takes 0.86 times as
    # long. Fused into the next step or the product, every slice would be taken again for each of its rows.
    rows = lax.optimization_barrier(jnp.concatenate(shifts(padded, shape[1], strides[1], 2), 0))
    return lax.optimization_barrier(jnp.concatenate(shifts(rows, shape[0], strides[0], 1), 0))


def _to_minor(x: Images) -> Minor:
    return _as_it_lies(x.transpose(3, 1, 2, 0))


def _from_minor(x: Minor) -> Images:
    return _as_it_lies(x).transpose(3, 1, 2, 0)


def _as_it_lies(x: Minor) -> Minor:
    """Keeps XLA from calling the transposed array a view of the other, read at long strides by everything after."""
    return with_layout_constraint(x, Layout(major_to_minor=tuple(range(x.ndim))))
