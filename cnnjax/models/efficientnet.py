"""EfficientNet: MobileNetV2's blocks with squeeze-and-excitation, scaled in width, depth and image size together.

Tan and Le, "EfficientNet: Rethinking model scaling for convolutional neural networks", ICML 2019, table 1 (B0), with the factors of
B1 to B7 of the authors' code, in torchvision's version. The networks of version 2 are in `efficientnet_v2`.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction, positive
from cnnjax.models.inverted_residual import InvertedResidual, divisible
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import CONV_NORM, V1, V2, Published, Torchvision, Weights

HE = layers.initializers.scaled(2.0, "normal", "out")


class Row(NamedTuple):
    """A row of the table: its blocks' kind, expansion, kernel, output maps and number, and the first one's stride."""

    block: Literal["MBConv", "FusedMBConv"]
    expansion: int
    kernel_size: int
    strides: int
    features: int
    count: int


TABLE_1 = (
    Row("MBConv", 1, 3, 1, 16, 1),
    Row("MBConv", 6, 3, 2, 24, 2),
    Row("MBConv", 6, 5, 2, 40, 2),
    Row("MBConv", 6, 3, 2, 80, 3),
    Row("MBConv", 6, 5, 1, 112, 3),
    Row("MBConv", 6, 5, 2, 192, 4),
    Row("MBConv", 6, 3, 1, 320, 1),
)


class FusedMBConv(nn.Module):
    """Conv kxk to more maps - conv 1x1 to fewer, the input added (EfficientNetV2, figure 2); without expansion one conv kxk."""

    conv: Callable[..., layers.ConvNorm]
    kernel_size: int
    expanded: int
    features: int
    strides: int
    stochastic_depth: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch h w features"]:
        expands = self.expanded != x.shape[-1]
        y = self.conv(self.expanded if expands else self.features, self.kernel_size, self.strides, name="fused")(
            x, train
        )
        if expands:
            y = self.conv(self.features, 1, activation="identity", name="project")(y, train)
        if self.strides != 1 or x.shape[-1] != self.features:
            return y
        return layers.add(x, layers.StochasticDepth(self.stochastic_depth)(y, train))


class EfficientNet(Network):
    """Conv 3x3/2 - stages of MBConv and FusedMBConv blocks - conv 1x1 - global average - dropout - output."""

    num_classes: int
    rows: tuple[Row, ...] = dataclasses.field(default=TABLE_1, metadata={"option": False})
    stem: int = dataclasses.field(default=32, metadata={"option": False})
    # The maps of the last convolution; None means four times those of the last row.
    last: int | None = dataclasses.field(default=None, metadata={"option": False})
    width: Annotated[float, "factor of the numbers of maps, which are rounded to multiples of 8", positive] = 1.0
    depth: Annotated[float, "factor of the numbers of blocks, which are rounded up", positive] = 1.0
    dropout_rate: Annotated[float, "dropout rate before the output layer", fraction] = 0.2
    stochastic_depth_rate: Annotated[
        float, "rate at which an example skips a block, rising linearly from 0 at the first block", fraction
    ] = 0.2
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    dtype: Any = jnp.float32
    momentum: float = dataclasses.field(default=0.9, metadata={"option": False})
    epsilon: float = dataclasses.field(default=1e-5, metadata={"option": False})

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        conv = partial(
            layers.ConvNorm,
            activation="silu",
            momentum=self.momentum,
            epsilon=self.epsilon,
            kernel_init=HE,
            sync_batch_norm=self.sync_batch_norm,
            dtype=self.dtype,
        )
        counts = [math.ceil(row.count * self.depth) for row in self.rows]
        x = conv(divisible(self.stem * self.width), 3, 2, name="stem")(x, train)
        maps = []
        for stage, (row, count) in enumerate(zip(self.rows, counts, strict=True), start=1):
            if row.strides == 2:
                maps.append(x)
            for index in range(count):
                settings = {
                    "kernel_size": row.kernel_size,
                    "expanded": row.expansion * x.shape[-1],
                    "features": divisible(row.features * self.width),
                    "strides": row.strides if index == 0 else 1,
                    "stochastic_depth": self.stochastic_depth_rate * (sum(counts[: stage - 1]) + index) / sum(counts),
                    "name": f"stage{stage}_{index + 1}",
                }
                if row.block == "FusedMBConv":
                    x = FusedMBConv(conv, **settings)(x, train)
                else:  # the squeezed values are a quarter of the block's input maps, not of the expanded ones
                    squeeze = partial(
                        layers.SqueezeExcitation,
                        max(1, x.shape[-1] // 4),
                        hidden="silu",
                        kernel_init=HE,
                        dtype=self.dtype,
                    )
                    x = InvertedResidual(conv, squeeze=squeeze, **settings)(x, train)
        x = conv(self.last or 4 * x.shape[-1], 1, name="last")(x, train)
        if features_only:
            return [*maps, x]
        x = layers.Dropout(self.dropout_rate)(layers.global_average_pool(x), train)
        uniform = layers.initializers.scaled(1 / 3, "uniform", "out")  # to both sides of 0 as far as 1/sqrt(classes)
        return layers.output(x, self.num_classes, kernel_init=uniform, dtype=self.dtype, name="fc")


def torchvision_module(rows: tuple[Row, ...], path: tuple[str, ...]) -> str:
    """torchvision's name of a layer; it numbers the layers that a block has."""
    first, *inner = path
    if first == "fc":
        return "classifier.1"
    ends = {"stem": 0, "last": len(rows) + 1}
    if first in ends:
        return f"features.{ends[first]}.{CONV_NORM[inner[0]]}"
    stage, index = map(int, first.removeprefix("stage").split("_"))
    row = rows[stage - 1]
    expand = ["expand"] * (row.expansion != 1)
    names = ["fused", "project"] if row.block == "FusedMBConv" else [*expand, "depthwise", "squeeze", "project"]
    return f"features.{stage}.{index - 1}.block.{names.index(inner[0])}.{CONV_NORM.get(inner[1], inner[1])}"


# torchvision 0.29.1, `models/efficientnet.py`; Keras at commit 1937d48, `applications/efficientnet.py`.
DIFFERENCES = {
    "torchvision": "The same networks, with the same initial distributions. Its B2 is measured on images of 288 pixels, the paper's on 260. "
    "Epsilon is 1e-5 and running statistics keep 0.9 in B0 to B4; 1e-3 and 0.99 in B5 to B7. The first weights are used with bicubic "
    "interpolation there.",
    "Keras": "`EfficientNetB0` to `EfficientNetB7` have the same layers, and scale and normalise the images themselves. Epsilon is 1e-3 and "
    "running statistics keep 0.99 in all of them; strided convolutions are padded as TensorFlow does: one zero fewer at the top and at "
    "the left of maps of even size. Convolutions start truncated normal.",
}
# Factors of width and depth, dropout rate, torchvision's size of images, its multiply-adds and accuracy; parameters and multiply-adds as counted.
_ROWS = {
    "efficientnet_b0": (1.0, 1.0, 0.2, 224, 386_000_000, "77.692", (5_288_548, 385_814_752)),
    "efficientnet_b1": (1.0, 1.1, 0.2, 240, 687_000_000, "78.642", (7_794_184, 686_802_832)),
    "efficientnet_b2": (1.1, 1.2, 0.3, 288, 1_088_000_000, "80.608", (9_109_994, 1_087_529_456)),
    "efficientnet_b3": (1.2, 1.4, 0.3, 300, 1_827_000_000, "82.008", (12_233_232, 1_827_141_392)),
    "efficientnet_b4": (1.4, 1.8, 0.4, 380, 4_394_000_000, "83.384", (19_341_616, 4_393_771_024)),
    "efficientnet_b5": (1.6, 2.2, 0.4, 456, 10_266_000_000, "83.444", (30_389_784, 10_266_384_752)),
    "efficientnet_b6": (1.8, 2.6, 0.5, 528, 19_068_000_000, "84.008", (43_040_704, 19_067_593_536)),
    "efficientnet_b7": (2.0, 3.1, 0.5, 600, 37_746_000_000, "84.122", (66_347_960, 37_745_884_192)),
}
_LATER = {"momentum": 0.99, "epsilon": 1e-3}  # of B5 to B7
PUBLISHED = {
    name: Published(
        partial(EfficientNet, width=width, depth=depth, dropout_rate=dropout, **(_LATER if size > 400 else {})),
        (size, size, 3),
        1000,
        "Tan and Le, ICML 2019, and torchvision",
        parameters=counts[0],
        macs=macs,
        result=f"{accuracy} % top-1 accuracy on ImageNet's validation split (torchvision's first weights)",
        counts=counts,
        torchvision=Torchvision(name, partial(torchvision_module, TABLE_1), ("fc",)),
    )
    for name, (width, depth, dropout, size, macs, accuracy, counts) in _ROWS.items()
}
TORCHVISION_WEIGHTS = (
    Weights("efficientnet_b0", V1, "efficientnet_b0_rwightman-7f5810bc.pth", 20, 77.692, 93.532, 256, 224),
    Weights("efficientnet_b1", V1, "efficientnet_b1_rwightman-bac287d4.pth", 30, 78.642, 94.186, 256, 240),
    Weights("efficientnet_b1", V2, "efficientnet_b1-c27df63c.pth", 30, 79.838, 94.934, 255, 240),
    Weights("efficientnet_b2", V1, "efficientnet_b2_rwightman-c35c1473.pth", 35, 80.608, 95.310, 288, 288),
    Weights("efficientnet_b3", V1, "efficientnet_b3_rwightman-b3899882.pth", 47, 82.008, 96.054, 320, 300),
    Weights("efficientnet_b4", V1, "efficientnet_b4_rwightman-23ab8bcd.pth", 74, 83.384, 96.594, 384, 380),
    Weights("efficientnet_b5", V1, "efficientnet_b5_lukemelas-1a07897c.pth", 117, 83.444, 96.628, 456, 456),
    Weights("efficientnet_b6", V1, "efficientnet_b6_lukemelas-24a108a5.pth", 165, 84.008, 96.916, 528, 528),
    Weights("efficientnet_b7", V1, "efficientnet_b7_lukemelas-c5b4e57e.pth", 255, 84.122, 96.908, 600, 600),
)
