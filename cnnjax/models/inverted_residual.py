"""The inverted residual block of MobileNetV2, which MnasNet, MobileNetV3 and EfficientNet share, and the rounding of widths."""

from collections.abc import Callable

import flax.linen as nn
from jaxtyping import Array, Float

from cnnjax import layers


def divisible(width: float, divisor: int = 8) -> int:
    """The multiple of the divisor that is nearest to a width, at least the divisor and 0.9 of the width.

    >>> divisible(18), divisible(3), divisible(11)
    (24, 8, 16)
    """
    nearest = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * width else nearest + divisor


class InvertedResidual(nn.Module):
    """Conv 1x1 to more maps - depthwise conv - squeeze-and-excitation - conv 1x1 to fewer, the input added.

    Sandler et al., CVPR 2018, figure 3b; with squeeze-and-excitation Howard et al., ICCV 2019, figure 4. The first convolution is
    left out if it would not add maps, and the input is not added if the output has another shape.

    Attributes:
      conv: the convolution with its normalisation and activation; the last one has no activation.
      kernel_size: the size of the depthwise convolution's window.
      expanded: the number of maps between the two 1x1 convolutions.
      features: the number of the block's output maps.
      strides: the stride of the depthwise convolution.
      dilation: the dilation of the depthwise convolution.
      squeeze: the squeeze-and-excitation layer, if there is one.
      stochastic_depth: the probability that an example skips the block in training.
    """

    conv: Callable[..., layers.ConvNorm]
    kernel_size: int
    expanded: int
    features: int
    strides: int = 1
    dilation: int = 1
    squeeze: Callable[..., nn.Module] | None = None
    stochastic_depth: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch h w features"]:
        y = x
        if self.expanded != x.shape[-1]:
            y = self.conv(self.expanded, 1, name="expand")(y, train)
        depthwise = {"dilation": self.dilation, "groups": self.expanded, "name": "depthwise"}
        y = self.conv(self.expanded, self.kernel_size, self.strides, **depthwise)(y, train)
        if self.squeeze is not None:
            y = self.squeeze(name="squeeze")(y)
        y = self.conv(self.features, 1, activation="identity", name="project")(y, train)
        if self.strides != 1 or x.shape[-1] != self.features:
            return y
        return layers.add(x, layers.StochasticDepth(self.stochastic_depth)(y, train))
