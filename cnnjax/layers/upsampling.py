"""Upsampling layers, whose output has more positions than the input."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnjax.layers.initializers import DEFAULT
from cnnjax.ops.convolution import transposed_convolution
from cnnjax.ops.windows import explicit_padding, per_axis


def _check_factor(factor: int) -> None:
    if not isinstance(factor, int) or factor < 1:
        raise ValueError(f"upsampling: factor={factor!r}: expected a whole number of at least 1")


def upsample_nearest(x: Float[Array, "batch *size channel"], factor: int) -> Float[Array, "batch *larger channel"]:
    """Repeats every value `factor` times along each spatial axis."""
    _check_factor(factor)
    for axis in range(1, x.ndim - 1):
        x = jnp.repeat(x, factor, axis)
    return x


def resize_nearest(x: Float[Array, "batch *size channel"], size: Sequence[int]) -> Float[Array, "batch *new channel"]:
    """Repeats or leaves out values: place i of n is place floor(i m / n) of m, as in PyTorch."""
    for axis, new in enumerate(size, start=1):
        old = x.shape[axis]
        x = jnp.repeat(x, new // old, axis) if new % old == 0 else jnp.take(x, jnp.arange(new) * old // new, axis)
    return x


def upsample_bilinear(x: Float[Array, "batch *size channel"], factor: int) -> Float[Array, "batch *larger channel"]:
    """Interpolates linearly between pixel centres, with repeated borders (PyTorch's `align_corners=False`)."""
    _check_factor(factor)
    larger = tuple(factor * length for length in x.shape[1:-1])
    return jax.image.resize(x, (x.shape[0], *larger, x.shape[-1]), "linear")


def resize_bilinear(x: Float[Array, "batch *size channel"], size: Sequence[int]) -> Float[Array, "batch *new channel"]:
    """The same interpolation to any size; a smaller one takes of the two nearest pixels alone, as PyTorch's does."""
    return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "linear", antialias=False)


def upsample_bed_of_nails(x: Float[Array, "batch *size channel"], factor: int) -> Float[Array, "batch *larger channel"]:
    """Places every value at the first corner of a cell of width `factor`, with zeros elsewhere."""
    _check_factor(factor)
    nothing = jnp.zeros((), x.dtype)
    return jax.lax.pad(x, nothing, [(0, 0, 0), *((0, factor - 1, factor - 1),) * (x.ndim - 2), (0, 0, 0)])


def max_unpool(
    x: Float[Array, "batch *size channel"], pooled: Float[Array, "batch *larger channel"], factor: int
) -> Float[Array, "batch *larger channel"]:
    """Every value where the maximum of its window was, zeros elsewhere: max-pooling turned round (Zeiler et al., ICCV 2011).

    Of equal maxima it is the first in reading order, which the gradient of `max_pool` goes to, as in PyTorch's `MaxUnpool2d`.

    Args:
      x: the values, one for each window.
      pooled: the map whose windows, as wide as the factor, are looked at.
      factor: the size of a window.
    """
    axes = x.ndim - 2
    split = pooled.reshape(len(x), *(part for length in x.shape[1:-1] for part in (length, factor)), x.shape[-1])
    windows = jnp.moveaxis(split, range(2, 2 * axes + 1, 2), range(-axes, 0)).reshape(*x.shape, factor**axes)
    first = windows.argmax(-1)
    numbers = np.tile(np.arange(factor**axes).reshape((factor,) * axes), x.shape[1:-1])[..., None]
    return jnp.where(upsample_nearest(first, factor) == numbers, upsample_nearest(x, factor), 0)


class ConvTranspose(nn.Module):
    """Transposed convolution: every input value adds a scaled copy of the kernel to the output.

    y[n, p * strides + q - padding, f] += x[n, p, c] kernel[q, c, f];   out = (in - 1) strides + kernel - 2 padding

    It is the gradient of the convolution with the same strides and padding. Parameters: `kernel`, of shape (*kernel_size,
    channel, features), and `bias`, of shape (features,).
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: int | Sequence[int] = 0
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = DEFAULT
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch *size channel"]) -> Float[Array, "batch *larger features"]:
        layer = "/".join(self.path) or type(self).__name__
        axes = x.ndim - 2
        if not 1 <= axes <= 3:
            raise ValueError(
                f"{layer}: an input of shape {x.shape}: expected batch, one to three spatial axes, channels"
            )
        if isinstance(self.padding, str):
            raise ValueError(f"{layer}: padding={self.padding!r}: expected numbers")
        kernel_size = per_axis(self.kernel_size, axes, f"{layer}: kernel_size")
        strides = per_axis(self.strides, axes, f"{layer}: strides")
        padding = explicit_padding(self.padding, x.shape[1:-1], kernel_size, strides, (1,) * axes)
        sides = zip(x.shape[1:-1], strides, kernel_size, padding, strict=True)
        if any((length - 1) * step + extent - sum(pair) < 1 for length, step, extent, pair in sides):
            raise ValueError(f"{layer}: padding={self.padding} leaves an empty output")
        shape = (*kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        y = transposed_convolution(x, kernel, strides, padding)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(y.dtype)
        return y
