"""Pooling: the maximum or mean of each window, separately for each channel."""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int8

from cnnjax.ops import batch_minor, choice
from cnnjax.ops.columns import shifts
from cnnjax.ops.windows import Padding, explicit_padding, output_size, per_axis


def max_pool(
    x: Float[Array, "batch *size channel"],
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    ceil_mode: bool = False,
    name: str = "max_pool",
) -> Float[Array, "batch *output_size channel"]:
    """The maximum of each window.

    The gradient goes to the first of several equal maxima in reading order, and to the last NaN if there are NaNs, as in
    PyTorch. With stock operations (`ops.choice`) XLA decides which NaN receives the gradient.

    Args:
      x: the input, with channels last and any number of spatial axes.
      kernel_size: the size of the window; a single number is used for every axis.
      strides: the strides of the window; None means the kernel size, so that windows do not overlap.
      padding: the padding, as in `windows.explicit_padding`; padding values are never the maximum.
      ceil_mode: whether a last window may reach past the end, if it starts within the input or the padding before it.
      name: the layer's name, for error messages.

    Raises:
      ValueError: the window does not fit, or a window would lie entirely in the padding.
    """
    window, steps, pairs, beyond = _windows(name, x, kernel_size, strides, padding, ceil_mode)
    pairs = tuple((before, after + more) for (before, after), more in zip(pairs, beyond, strict=True))
    own = choice.max_pool(x.dtype) and max(window) <= 8  # each position in a window is a separate operation
    return (_max_pool if own else _stock_max_pool)(x, window, steps, pairs)


def _stock_max_pool(
    x: Float[Array, "batch *size channel"],
    window: tuple[int, ...],
    steps: tuple[int, ...],
    pairs: tuple[tuple[int, int], ...],
) -> Float[Array, "batch *output_size channel"]:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *steps, 1), ((0, 0), *pairs, (0, 0)))


# The stock gradient, select-and-scatter, takes 15 to 30 times as long on a CPU as this one, and is a scatter on a GPU. This one
# stores the position of each maximum. The maximum is taken along one axis at a time, last axis first, so that the first of ties in
# reading order wins, as in the stock implementation.
@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(
    x: Float[Array, "batch *size channel"],
    window: tuple[int, ...],
    steps: tuple[int, ...],
    pairs: tuple[tuple[int, int], ...],
) -> Float[Array, "batch *output_size channel"]:
    # This branch runs without a gradient. On a CPU, XLA's own implementation is faster for many images (`cnn_small`'s prediction
    # at batch 128: 16 ms, ours 21) and for small images (0.45 ms for one, ours 0.55), and much slower for a few large images
    # (VGG16 at batch 4: 1,400 ms, ours 360).
    batch = choice.least(x.shape[0])
    if not choice.is_for_cpu() or batch >= 32 or batch * math.prod(x.shape[1:]) <= 2**16:
        return _stock_max_pool(x, window, steps, pairs)
    return _max_pool_forward(x, window, steps, pairs)[0]


def _max_pool_forward(x, window, steps, pairs):
    places = []
    for axis in range(x.ndim - 2, 0, -1):
        size = x.shape[axis]
        x, place = _max_along(x, axis, window[axis - 1], steps[axis - 1], pairs[axis - 1])
        places.append((axis, size, place))
    return x, places


def _max_pool_backward(window, steps, pairs, places, gradient):
    for axis, size, place in reversed(places):
        gradient = _scatter_along(gradient, place, axis, size, window[axis - 1], steps[axis - 1], pairs[axis - 1][0])
    return (gradient,)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _max_along(
    x: Float[Array, "..."], axis: int, extent: int, step: int, pair: tuple[int, int]
) -> tuple[Float[Array, "..."], Int8[Array, "..."]]:
    """The maximum of each window along one axis, and its position in the window."""
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (*pair, 0)
    x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), widths)
    taps = shifts(x, extent, step, axis)
    highest, where = taps[0], jnp.zeros(taps[0].shape, jnp.int8)
    for place, tap in enumerate(taps[1:], start=1):
        where = jnp.where((tap > highest) | jnp.isnan(tap), jnp.int8(place), where)
        highest = jnp.maximum(highest, tap)  # unlike `where`, this propagates NaNs
    return highest, where


def _scatter_along(
    gradient: Float[Array, "..."],
    where: Int8[Array, "..."],
    axis: int,
    size: int,
    extent: int,
    step: int,
    before: int,
) -> Float[Array, "..."]:
    """The gradient of `_max_along`: each window's gradient at the position of its maximum.

    Input position step * cell + phase is at position phase + step * back of window cell - back.
    """
    overlap = -(-extent // step)
    cells = -(-(before + size) // step)
    widths = [(0, 0, 0)] * gradient.ndim
    widths[axis] = (overlap - 1, cells - gradient.shape[axis], 0)
    gradient = lax.pad(gradient, jnp.zeros((), gradient.dtype), widths)
    where = lax.pad(where, jnp.int8(-1), widths)

    shape = (*gradient.shape[:axis], cells, *gradient.shape[axis + 1 :])

    def received(phase: int) -> Float[Array, "..."]:
        total = jnp.zeros(shape, gradient.dtype)
        for back in range(-(-(extent - phase) // step)):
            start = overlap - 1 - back
            place, value = (lax.slice_in_dim(array, start, start + cells, axis=axis) for array in (where, gradient))
            total += jnp.where(place == phase + step * back, value, 0)
        return total

    phases = jnp.stack([received(phase) for phase in range(step)], axis + 1)
    positions = phases.reshape(*shape[:axis], cells * step, *shape[axis + 1 :])
    return lax.slice_in_dim(positions, before, before + size, axis=axis)


def min_pool(
    x: Float[Array, "batch *size channel"],
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    ceil_mode: bool = False,
    name: str = "min_pool",
) -> Float[Array, "batch *output_size channel"]:
    """The minimum of each window; arguments as in `max_pool`."""
    return -max_pool(-x, kernel_size, strides, padding, ceil_mode, name)


def average_pool(
    x: Float[Array, "batch *size channel"],
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    padding: Padding = "valid",
    ceil_mode: bool = False,
    name: str = "average_pool",
) -> Float[Array, "batch *output_size channel"]:
    """The mean of each window. Padding counts as zeros; positions beyond the padding do not count. Arguments as in `max_pool`."""
    window, steps, pairs, beyond = _windows(name, x, kernel_size, strides, padding, ceil_mode)

    if not any(beyond) and choice.average_pool(x) == "batch_minor":
        return batch_minor.average_pool(x, window, steps, pairs)

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
    """The means over a grid of `size` cells, which overlap where the input size is not a multiple of `size`, as in PyTorch.

    Cell i of n along an axis of length m covers floor(i m / n) up to, not including, ceil((i + 1) m / n).

    Raises:
      ValueError: `size` does not have one number of at least 1 for each spatial axis.
    """
    for axis, cells in enumerate(per_axis(size, x.ndim - 2, "adaptive_average_pool: size"), start=1):
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
    """Window, strides and padding along each axis, and how far the last window reaches past the padding."""
    size = x.shape[1:-1]
    window = per_axis(kernel_size, len(size), f"{name}: kernel_size")
    steps = window if strides is None else per_axis(strides, len(size), f"{name}: strides")
    ones = (1,) * len(size)
    pairs = explicit_padding(padding, size, window, steps, ones)
    if any(max(pair) >= extent for pair, extent in zip(pairs, window, strict=True)):
        raise ValueError(
            f"{name}: padding={padding} with a window of {'x'.join(map(str, window))} leaves windows empty"
        )
    if not ceil_mode:
        output_size(size, window, steps, pairs, ones, name)
        return window, steps, pairs, (0,) * len(size)
    beyond = []
    for length, extent, step, (before, after) in zip(size, window, steps, pairs, strict=True):
        rest = length + before + after - extent
        windows = -(-rest // step)  # number of steps, rounded up
        if windows * step >= length + before:  # the last window would start in the padding after the input
            windows -= 1
        beyond.append(max(windows * step - rest, 0))
    reach = tuple((before, after + more) for (before, after), more in zip(pairs, beyond, strict=True))
    output_size(size, window, steps, reach, ones, name)
    return window, steps, pairs, tuple(beyond)
