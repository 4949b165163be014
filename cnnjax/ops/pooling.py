"""Pooling: the maximum or the mean of each window, channel by channel."""

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
) -> Float[Array, "batch *output_size channel"]:
    """The maximum of each window.

    Args:
      x: channels last, any number of spatial axes.
      kernel_size: of the window; a number is used for every axis.
      strides: how far the window moves; None is the kernel size, so that windows do not overlap.
      padding: see `windows.explicit_padding`; padding never wins.

    Raises:
      ValueError: the window does not fit.
    """
    window, steps, pairs = _windows("max_pool", x, kernel_size, strides, padding)
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *steps, 1), ((0, 0), *pairs, (0, 0)))


def average_pool(
    x: Float[Array, "batch *size channel"],
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
) -> Float[Array, "batch *output_size channel"]:
    """The mean of each window, padding counted as zeros; arguments as in `max_pool`."""
    window, steps, pairs = _windows("average_pool", x, kernel_size, strides, padding)
    total = lax.reduce_window(x, 0.0, lax.add, (1, *window, 1), (1, *steps, 1), ((0, 0), *pairs, (0, 0)))
    count = 1
    for length in window:
        count *= length
    return total / count


def _windows(
    name: str, x: Array, kernel_size: int | Sequence[int], strides: int | Sequence[int] | None, padding: Padding
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]:
    size = x.shape[1:-1]
    window = per_axis(kernel_size, len(size), f"{name}: kernel_size")
    steps = window if strides is None else per_axis(strides, len(size), f"{name}: strides")
    ones = (1,) * len(size)
    pairs = explicit_padding(padding, size, window, steps, ones)
    output_size(size, window, steps, pairs, ones, name)
    return window, steps, pairs
