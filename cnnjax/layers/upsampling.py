"""Upsampling: more positions out than in."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.layers.initializers import DEFAULT
from cnnjax.ops.windows import per_axis


def upsample_nearest(x: Float[Array, "batch *size channel"], factor: int) -> Float[Array, "batch *larger channel"]:
    """Every value repeated `factor` times along each spatial axis."""
    for axis in range(1, x.ndim - 1):
        x = jnp.repeat(x, factor, axis)
    return x


def upsample_bilinear(x: Float[Array, "batch *size channel"], factor: int) -> Float[Array, "batch *larger channel"]:
    """Linear interpolation between pixel centres, borders repeated (PyTorch's `align_corners=False`)."""
    larger = tuple(factor * length for length in x.shape[1:-1])
    return jax.image.resize(x, (x.shape[0], *larger, x.shape[-1]), "linear")


def upsample_bed_of_nails(x: Float[Array, "batch *size channel"], factor: int) -> Float[Array, "batch *larger channel"]:
    """Every value at the first corner of a `factor`-wide cell, zeros elsewhere."""
    nothing = jnp.zeros((), x.dtype)
    return jax.lax.pad(x, nothing, [(0, 0, 0), *((0, factor - 1, factor - 1),) * (x.ndim - 2), (0, 0, 0)])


class ConvTranspose(nn.Module):
    """Transposed convolution: every input value adds a copy of the kernel, scaled by it, to the output.

    y[n, p * strides + q - padding, f] += x[n, p, c] kernel[q, c, f];   out = (in - 1) strides + kernel - 2 padding

    It is the gradient of the convolution with the same strides and padding. Parameters: `kernel`, (*kernel_size,
    channel, features), and `bias`.
    """

    features: int
    kernel_size: Sequence[int]
    strides: int | Sequence[int] = 1
    padding: int | Sequence[int] = 0
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = DEFAULT
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch *size channel"]) -> Float[Array, "batch *larger features"]:
        axes = x.ndim - 2
        strides = per_axis(self.strides, axes, "strides")
        padding = (self.padding,) * axes if isinstance(self.padding, int) else tuple(self.padding)
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        names = "DHW"[-axes:]
        y = jax.lax.conv_general_dilated(
            x,
            jnp.flip(kernel, range(axes)),
            (1,) * axes,
            [(extent - 1 - pad,) * 2 for extent, pad in zip(self.kernel_size, padding, strict=True)],
            lhs_dilation=strides,
            dimension_numbers=(f"N{names}C", f"{names}IO", f"N{names}C"),
        )
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32).astype(y.dtype)
        return y
