"""The convolutional layer."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.layers.initializers import DEFAULT
from cnnjax.ops.convolution import convolution
from cnnjax.ops.windows import Padding, explicit_padding, output_size, per_axis


class Conv(nn.Module):
    """Convolution over one, two or three spatial axes, plus a bias: y = x * kernel + bias.

    `kernel_size`, `strides` and `dilation` are one number for all spatial axes or one number per axis; `padding` is "same",
    "valid" or numbers (`ops.windows.explicit_padding`). Parameters: `kernel`, of shape (*kernel_size, channels / groups,
    features), and `bias`, of shape (features,).
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "same"
    dilation: int | Sequence[int] = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = DEFAULT
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch *size channel"]) -> Float[Array, "batch *output_size features"]:
        layer = "/".join(self.path) or type(self).__name__
        axes, channels = x.ndim - 2, x.shape[-1]
        if not 1 <= axes <= 3:
            raise ValueError(
                f"{layer}: an input of shape {x.shape}: expected batch, one to three spatial axes, channels"
            )
        if self.features < 1 or self.groups < 1:
            raise ValueError(f"{layer}: features={self.features}, groups={self.groups}: expected at least 1 of each")
        if channels % self.groups or self.features % self.groups:
            raise ValueError(
                f"{layer}: {channels} channels and {self.features} features cannot both be split into {self.groups} groups"
            )
        kernel_size = per_axis(self.kernel_size, axes, f"{layer}: kernel_size")
        strides = per_axis(self.strides, axes, f"{layer}: strides")
        dilation = per_axis(self.dilation, axes, f"{layer}: dilation")
        padding = explicit_padding(self.padding, x.shape[1:-1], kernel_size, strides, dilation)
        output_size(x.shape[1:-1], kernel_size, strides, padding, dilation, layer)
        kernel_shape = (*kernel_size, channels // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, kernel_shape, jnp.float32)
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32) if self.use_bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return convolution(x, kernel, strides, padding, dilation, self.groups, bias)
