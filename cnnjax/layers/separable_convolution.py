"""Depthwise separable convolution: over space for each channel alone, then over the channels at each position."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from cnnjax.layers.convolution import Conv
from cnnjax.layers.initializers import DEFAULT
from cnnjax.ops.windows import Padding


class SeparableConv(nn.Module):
    """A depthwise convolution followed by a convolution 1x1, with nothing in between (Chollet, CVPR 2017).

    It has kernel elements x channels + channels x features weights; an ordinary convolution has the product of all three. A depthwise
    convolution alone is `Conv` with as many groups and features as its input has channels. Parameters: those of the layers
    `depthwise`, without a bias, and `pointwise`; arguments as in `Conv`.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: Padding = "same"
    dilation: int | Sequence[int] = 1
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = DEFAULT
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch *size channel"]) -> Float[Array, "batch *output_size features"]:
        channels, shared = x.shape[-1], {"kernel_init": self.kernel_init, "dtype": self.dtype}
        window = self.kernel_size, self.strides, self.padding, self.dilation
        x = Conv(channels, *window, groups=channels, use_bias=False, **shared, name="depthwise")(x)
        return Conv(self.features, 1, use_bias=self.use_bias, **shared, name="pointwise")(x)
