"""MobileNetV2: inverted residual blocks, whose last convolution has no activation.

Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", CVPR 2018, table 2: 3,504,872 parameters for 224x224x3
images and 1000 classes. The stride of a padded 3x3 window begins at the border's zeros, as in torchvision.
"""

import dataclasses
from functools import partial
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction, positive
from cnnjax.models.inverted_residual import InvertedResidual, divisible
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import CONV_NORM, IMAGENET, V1, V2, Published, Torchvision, Weights


class Row(NamedTuple):
    """A row of the table: its blocks' expansion, output maps and number, and the first one's stride."""

    expansion: int
    features: int
    count: int
    strides: int


TABLE_2 = (
    Row(1, 16, 1, 1),
    Row(6, 24, 2, 2),
    Row(6, 32, 3, 2),
    Row(6, 64, 4, 2),
    Row(6, 96, 3, 1),
    Row(6, 160, 3, 2),
    Row(6, 320, 1, 1),
)


class MobileNetV2(Network):
    """Conv 3x3/2 32 - 17 inverted residual blocks - conv 1x1 1280 - global average - dropout - output."""

    num_classes: int
    rows: tuple[Row, ...] = dataclasses.field(default=TABLE_2, metadata={"option": False})
    width: Annotated[float, "factor of the numbers of maps, which are rounded to multiples of 8", positive] = 1.0
    dropout_rate: Annotated[float, "dropout rate before the output layer", fraction] = 0.2
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        conv = partial(
            layers.ConvNorm,
            activation="relu6",
            kernel_init=layers.initializers.scaled(2.0, "normal", "out"),
            sync_batch_norm=self.sync_batch_norm,
            dtype=self.dtype,
        )
        x = conv(divisible(32 * self.width), 3, 2, name="stem")(x, train)
        maps = []
        rows = [(row, index) for row in self.rows for index in range(row.count)]
        for number, (row, index) in enumerate(rows, start=1):
            strides = row.strides if index == 0 else 1
            if strides == 2:
                maps.append(x)
            expanded, features = row.expansion * x.shape[-1], divisible(row.features * self.width)
            x = InvertedResidual(conv, 3, expanded, features, strides, name=f"block{number}")(x, train)
        x = conv(divisible(1280 * max(1, self.width)), 1, name="last")(x, train)
        if features_only:
            return [*maps, x]
        x = layers.Dropout(self.dropout_rate)(layers.global_average_pool(x), train)
        small = layers.initializer("small_normal")
        return layers.output(x, self.num_classes, kernel_init=small, dtype=self.dtype, name="fc")


def torchvision_module(rows: tuple[Row, ...], path: tuple[str, ...]) -> str:
    """torchvision's name of a layer; it numbers the layers that a block has."""
    first, *inner = path
    if first == "fc":
        return "classifier.1"
    ends = {"stem": 0, "last": sum(row.count for row in rows) + 1}
    if first in ends:
        return f"features.{ends[first]}.{CONV_NORM[inner[0]]}"
    block, number = f"features.{first.removeprefix('block')}.conv", CONV_NORM[inner[1]]
    layer = ("expand", "depthwise", "project").index(inner[0]) - (first == "block1")  # which has no expansion
    return f"{block}.{layer + number}" if inner[0] == "project" else f"{block}.{layer}.{number}"


# torchvision 0.29.1, `models/mobilenetv2.py`; Keras at commit 08995a4, `applications/mobilenet_v2.py`.
DIFFERENCES = {
    "torchvision": "The same network, with the same initial distributions.",
    "Keras": "`MobileNetV2` has the same layers, without dropout. Epsilon is 1e-3 (ours 1e-5), running statistics keep 0.999 (ours 0.9), "
    "and strided convolutions are padded as TensorFlow does: one zero fewer at the top and at the left of maps of even size. The "
    "published weights take images scaled to -1..1.",
}
PUBLISHED = {
    "mobilenet_v2": Published(
        MobileNetV2,
        *IMAGENET,
        "Sandler et al., CVPR 2018, and torchvision",
        parameters=3_504_872,
        macs=301_000_000,
        result="71.878 % top-1 accuracy on ImageNet's validation split (torchvision's first weights)",
        counts=(3_504_872, 300_774_272),
        torchvision=Torchvision("mobilenet_v2", partial(torchvision_module, TABLE_2), ("fc",)),
    ),
}
TORCHVISION_WEIGHTS = (
    Weights("mobilenet_v2", V1, "mobilenet_v2-b0353104.pth", 14, 71.878, 90.286),
    Weights("mobilenet_v2", V2, "mobilenet_v2-7ebf99e0.pth", 14, 72.154, 90.822, resize=232),
)
