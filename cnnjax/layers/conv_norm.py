"""A convolution with normalisation and activation, as in most networks since 2015."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from cnnjax.layers.activations import ActivationName, activation
from cnnjax.layers.convolution import Conv
from cnnjax.layers.initializers import DEFAULT
from cnnjax.layers.normalization import BatchNorm
from cnnjax.ops.windows import Padding, per_axis


class ConvNorm(nn.Module):
    """Convolution without bias - batch normalisation - activation.

    By default half of the window is padded, so that the map keeps its size at stride 1. `momentum` and `epsilon` are those of
    `BatchNorm`. Parameters: those of the layers `conv` and `bn`.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding | None = None
    dilation: int | Sequence[int] = 1
    groups: int = 1
    activation: ActivationName = "relu"
    momentum: float = 0.9
    epsilon: float = 1e-5
    kernel_init: nn.initializers.Initializer = DEFAULT
    sync_batch_norm: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *size channel"], train: bool = False
    ) -> Float[Array, "batch *output_size features"]:
        padding = self.padding
        if padding is None:
            sizes, dilation = (
                per_axis(value, x.ndim - 2, "kernel_size") for value in (self.kernel_size, self.dilation)
            )
            padding = tuple(size // 2 * step for size, step in zip(sizes, dilation, strict=True))
        conv = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            padding,
            self.dilation,
            self.groups,
            use_bias=False,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )
        norm = BatchNorm(self.sync_batch_norm, self.momentum, self.epsilon, name="bn")
        return activation(self.activation)(norm(conv(x), train))
