"""ConvNeXt: a residual network with the parts of a vision transformer: patches, depthwise 7x7 windows, layer normalisation, GELU.

Liu et al., "A ConvNet for the 2020s", CVPR 2022, table 9: 28,589,128, 50,223,688, 88,591,464 and 197,767,336 parameters for 1000
classes.
"""

import dataclasses
from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction, positive
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import IMAGENET, V1, Published, Torchvision, Weights

# PyTorch truncates this normal distribution at -2 and 2, a hundred standard deviations away, so that nothing is cut off.
NORMAL = layers.initializers.normal(0.02)


class Block(nn.Module):
    """Depthwise conv 7x7 - LayerNorm - dense to four times the maps - GELU - dense - layer scale, the input added (figure 4)."""

    layer_scale: float
    stochastic_depth: float
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch height width channel"]:
        width, initial = x.shape[-1], {"kernel_init": NORMAL, "dtype": self.dtype}
        y = layers.Conv(width, 7, padding=3, groups=width, name="depthwise", **initial)(x)
        y = layers.LayerNorm(dtype=self.dtype, name="norm")(y)
        y = layers.activation("gelu")(layers.Dense(4 * width, name="expand", **initial)(y))
        y = layers.Dense(width, name="project", **initial)(y)
        y = layers.LayerScale(self.layer_scale, name="scale")(y)
        return layers.add(x, layers.StochasticDepth(self.stochastic_depth)(y, train))


class ConvNeXt(Network):
    """Conv 4x4/4 - four stages of blocks, with conv 2x2/2 between them - global average - LayerNorm - output."""

    num_classes: int
    counts: tuple[int, ...] = dataclasses.field(metadata={"option": False})
    features: tuple[int, ...] = dataclasses.field(metadata={"option": False})
    layer_scale: Annotated[float, "initial factor of a block's output maps", positive] = 1e-6
    stochastic_depth_rate: Annotated[
        float, "rate at which an example skips the last block, rising linearly from 0 at the first one", fraction
    ] = 0.1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        conv = partial(layers.Conv, padding=0, kernel_init=NORMAL, dtype=self.dtype)
        norm = partial(layers.LayerNorm, dtype=self.dtype)
        x = norm(name="stem_norm")(conv(self.features[0], 4, 4, name="stem_conv")(x))
        maps = []
        for stage, (count, features) in enumerate(zip(self.counts, self.features, strict=True), start=1):
            if stage > 1:
                maps.append(x)
                x = conv(features, 2, 2, name=f"halve{stage}_conv")(norm(name=f"halve{stage}_norm")(x))
            for index in range(count):
                rate = self.stochastic_depth_rate * (sum(self.counts[: stage - 1]) + index) / (sum(self.counts) - 1)
                x = Block(self.layer_scale, rate, self.dtype, name=f"stage{stage}_{index + 1}")(x, train)
        if features_only:
            return [*maps, x]
        x = norm(name="head_norm")(layers.global_average_pool(x))
        return layers.output(x, self.num_classes, kernel_init=NORMAL, dtype=self.dtype, name="fc")


def torchvision_module(path: tuple[str, ...]) -> str:
    """torchvision's name of a layer; it numbers a block's layers, permutations and activations together."""
    first, *inner = path
    kind, _, number = first.partition("_")
    if first in ("fc", "head_norm"):
        return f"classifier.{2 if first == 'fc' else 0}"
    if kind == "stem":
        return f"features.0.{('conv', 'norm').index(number)}"
    if kind.startswith("halve"):
        return f"features.{2 * int(kind.removeprefix('halve')) - 2}.{('norm', 'conv').index(number)}"
    block = f"features.{2 * int(kind.removeprefix('stage')) - 1}.{int(number) - 1}"
    if inner[0] == "scale":  # whose array has a name of its own
        return block
    return f"{block}.block.{ {'depthwise': 0, 'norm': 2, 'expand': 3, 'project': 5}[inner[0]] }"


# torchvision 0.29.1, `models/convnext.py`; Keras at commit 4f6900a, `applications/convnext.py`.
DIFFERENCES = {
    "torchvision": "The same networks, with the same initial distributions.",
    "Keras": "`ConvNeXtTiny` to `ConvNeXtLarge` have the same layers, without stochastic depth, and normalise the images themselves. "
    "`ConvNeXtXLarge` is not in torchvision.",
}
# Table 9, blocks and widths of the stages; torchvision's rate of stochastic depth, multiply-adds and accuracy; parameters and
# multiply-adds as counted.
_ROWS = {
    "convnext_tiny": ((3, 3, 9, 3), 96, 0.1, 4_456_000_000, "82.520", (28_589_128, 4_455_531_264)),
    "convnext_small": ((3, 3, 27, 3), 96, 0.4, 8_684_000_000, "83.616", (50_223_688, 8_683_712_256)),
    "convnext_base": ((3, 3, 27, 3), 128, 0.5, 15_355_000_000, "84.062", (88_591_464, 15_354_729_472)),
    "convnext_large": ((3, 3, 27, 3), 192, 0.5, 34_361_000_000, "84.414", (197_767_336, 34_361_433_600)),
}
PUBLISHED = {
    name: Published(
        partial(
            ConvNeXt,
            counts=blocks,
            features=tuple(width * 2**stage for stage in range(4)),
            stochastic_depth_rate=stochastic_depth,
        ),
        *IMAGENET,
        "Liu et al., CVPR 2022, and torchvision",
        parameters=counts[0],
        macs=macs,
        result=f"{accuracy} % top-1 accuracy on ImageNet's validation split (torchvision)",
        counts=counts,
        torchvision=Torchvision(name, torchvision_module, ("fc",)),
    )
    for name, (blocks, width, stochastic_depth, macs, accuracy, counts) in _ROWS.items()
}
TORCHVISION_WEIGHTS = (
    Weights("convnext_tiny", V1, "convnext_tiny-983f1562.pth", 109, 82.520, 96.146, resize=236),
    Weights("convnext_small", V1, "convnext_small-0c510722.pth", 192, 83.616, 96.650, resize=230),
    Weights("convnext_base", V1, "convnext_base-6075fbad.pth", 338, 84.062, 96.870, resize=232),
    Weights("convnext_large", V1, "convnext_large-ea097f82.pth", 755, 84.414, 96.976, resize=232),
)
