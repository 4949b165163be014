"""Pooling: the maximum or the mean of each window, channel by channel."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.ops.windows import Padding, explicit_padding, output_size, per_axis


def max_pool(
    x: Float[Array, "batch *size channel"],
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    ceil_mode: bool = False,
) -> Float[Array, "batch *output_size channel"]:
    """The maximum of each window.

    Args:
      x: channels last, any number of spatial axes.
      kernel_size: of the window; a number is used for every axis.
      strides: how far the window moves; None is the kernel size, so that windows do not overlap.
      padding: see `windows.explicit_padding`; padding never wins.
      ceil_mode: a last window may reach past the end, if it starts within the input or the padding before it.

    Raises:
      ValueError: the window does not fit.
    """
    window, steps, pairs, beyond = _windows("max_pool", x, kernel_size, strides, padding, ceil_mode)
    pairs = [(before, after + more) for (before, after), more in zip(pairs, beyond, strict=True)]
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *steps, 1), ((0, 0), *pairs, (0, 0)))


def min_pool(
    x: Float[Array, "batch *size channel"],
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    ceil_mode: bool = False,
) -> Float[Array, "batch *output_size channel"]:
    """The minimum of each window; arguments as in `max_pool`."""
    return -max_pool(-x, kernel_size, strides, padding, ceil_mode)


def average_pool(
    x: Float[Array, "batch *size channel"],
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    ceil_mode: bool = False,
) -> Float[Array, "batch *output_size channel"]:
    """The mean of each window, padding counted as zeros, what is past the padding not; arguments as in `max_pool`."""
    window, steps, pairs, beyond = _windows("average_pool", x, kernel_size, strides, padding, ceil_mode)

    def total(y: Array, padding: Sequence[tuple[int, int]]) -> Array:
        return lax.reduce_window(y, 0.0, lax.add, (1, *window, 1), (1, *steps, 1), ((0, 0), *padding, (0, 0)))

    sums = total(x, [(before, after + more) for (before, after), more in zip(pairs, beyond, strict=True)])
    if not any(beyond):
        return sums / math.prod(window)
    padded = [length + before + after for length, (before, after) in zip(x.shape[1:-1], pairs, strict=True)]
    return sums / total(jnp.ones((1, *padded, 1), x.dtype), [(0, more) for more in beyond])


def global_average_pool(x: Float[Array, "batch *size channel"]) -> Float[Array, "batch channel"]:
    """The mean of each feature map."""
    return x.mean(tuple(range(1, x.ndim - 1)))


def global_max_pool(x: Float[Array, "batch *size channel"]) -> Float[Array, "batch channel"]:
    """The maximum of each feature map."""
    return x.max(tuple(range(1, x.ndim - 1)))


def adaptive_average_pool(
    x: Float[Array, "batch *size channel"], size: Sequence[int]
) -> Float[Array, "batch *output_size channel"]:
    """The means of a grid of `size` cells, which overlap where the input is no multiple of it (as PyTorch's do).

    Cell i of n along an axis of length m covers floor(i m / n) up to, not including, ceil((i + 1) m / n).
    """
    for axis, cells in enumerate(size, start=1):
        length = x.shape[axis]
        if length == cells:
            continue
        bounds = [(index * length // cells, -(-(index + 1) * length // cells)) for index in range(cells)]
        parts = [lax.slice_in_dim(x, start, stop, axis=axis).mean(axis, keepdims=True) for start, stop in bounds]
        x = jnp.concatenate(parts, axis)
    return x


def _windows(
    name: str,
    x: Array,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None,
    padding: Padding,
    ceil_mode: bool,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Window, strides and padding for each axis, and how far a last window reaches past the padding."""
    size = x.shape[1:-1]
    window = per_axis(kernel_size, len(size), f"{name}: kernel_size")
    steps = window if strides is None else per_axis(strides, len(size), f"{name}: strides")
    ones = (1,) * len(size)
    pairs = explicit_padding(padding, size, window, steps, ones)
    if not ceil_mode:
        output_size(size, window, steps, pairs, ones, name)
        return window, steps, pairs, (0,) * len(size)
    beyond = []
    for length, extent, step, (before, after) in zip(size, window, steps, pairs, strict=True):
        rest = length + before + after - extent
        windows = -(-rest // step)  # steps to take, rounded up
        if windows * step >= length + before:  # the last would start in the padding after: not taken
            windows -= 1
        beyond.append(max(windows * step - rest, 0))
    reach = tuple((before, after + more) for (before, after), more in zip(pairs, beyond, strict=True))
    output_size(size, window, steps, reach, ones, name)
    return window, steps, pairs, tuple(beyond)
