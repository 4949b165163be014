"""ShuffleNet V2: half of the channels pass a block unchanged, and a channel shuffle mixes the halves.

Ma, Zhang, Zheng and Sun, "ShuffleNet V2: practical guidelines for efficient CNN architecture design", ECCV 2018, table 5, for four
widths.
"""

import dataclasses
from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import all_positive
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import IMAGENET, V1, Published, Torchvision, Weights

relu = layers.activation("relu")
HE = layers.initializer("he_normal")


class Unit(nn.Module):
    """Figure 3 (c), of stride 1: one half as it is - the other through conv 1x1 - depthwise 3x3 - conv 1x1; shuffled.

    Of stride 2, (d): both branches are given all channels, and the first has depthwise 3x3 - conv 1x1.
    """

    features: int
    strides: int
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch h w features"]:
        conv = partial(layers.Conv, use_bias=False, kernel_init=HE, dtype=self.dtype)
        norm = partial(layers.BatchNorm, self.sync_batch_norm)
        half = self.features // 2

        def pointwise(x: Array, name: str) -> Array:
            return relu(norm(name=f"{name}_bn")(conv(half, 1, name=f"{name}_conv")(x), train))

        def depthwise(x: Array, name: str) -> Array:
            x = conv(x.shape[-1], 3, self.strides, 1, groups=x.shape[-1], name=f"{name}_conv")(x)
            return norm(name=f"{name}_bn")(x, train)

        if self.strides == 1:
            left, right = jnp.split(x, 2, -1)
        else:
            left, right = pointwise(depthwise(x, "left_depthwise"), "left_project"), x
        right = pointwise(depthwise(pointwise(right, "expand"), "depthwise"), "project")
        return layers.channel_shuffle(jnp.concatenate([left, right], -1), 2)


class ShuffleNetV2(Network):
    """Conv 3x3/2 24 - max-pool - three stages of 4, 8 and 4 units - conv 1x1 - global average - output."""

    num_classes: int
    widths: tuple[int, int, int, int] = dataclasses.field(metadata={"option": False})
    units: Annotated[tuple[int, int, int], "units of each stage", all_positive] = (4, 8, 4)
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        conv = partial(layers.Conv, use_bias=False, kernel_init=HE, dtype=self.dtype)
        norm = partial(layers.BatchNorm, self.sync_batch_norm)
        x = relu(norm(name="bn1")(conv(24, 3, 2, 1, name="conv1")(x), train))
        maps = [x]
        x = layers.max_pool(x, 3, 2, padding=1)
        *stages, last = self.widths
        for stage, (count, features) in enumerate(zip(self.units, stages, strict=True), start=2):
            maps.append(x)
            for index in range(1, count + 1):
                strides = 2 if index == 1 else 1
                unit = Unit(features, strides, self.sync_batch_norm, self.dtype, name=f"stage{stage}_{index}")
                x = unit(x, train)
        x = relu(norm(name="bn5")(conv(last, 1, name="conv5")(x), train))
        if features_only:
            return [*maps, x]
        x = layers.global_average_pool(x)
        small = layers.initializer("small_normal")
        return layers.output(x, self.num_classes, kernel_init=small, dtype=self.dtype, name="fc")


# The places of a unit's layers in torchvision's branches.
_BRANCHES = {
    "left_depthwise": ("branch1", 0),
    "left_project": ("branch1", 2),
    "expand": ("branch2", 0),
    "depthwise": ("branch2", 3),
    "project": ("branch2", 5),
}


def torchvision_module(path: tuple[str, ...]) -> str:
    """torchvision's name of a layer."""
    first, *inner = path
    if not inner:
        ends = {"conv1": "conv1.0", "bn1": "conv1.1", "conv5": "conv5.0", "bn5": "conv5.1"}
        return ends.get(first, first)
    stage, unit = first.split("_")
    name, kind = inner[0].rsplit("_", 1)
    branch, place = _BRANCHES[name]
    return f"{stage}.{int(unit) - 1}.{branch}.{place + (kind == 'bn')}"


# Table 5: maps of the stages and of the last convolution. Figures of torchvision's documentation; parameters and multiply-adds as
# counted.
_TABLE_5 = {
    "shufflenet_v2_x0_5": ((48, 96, 192, 1024), 40_000_000, "60.552", (1_366_792, 40_476_448)),
    "shufflenet_v2_x1_0": ((116, 232, 464, 1024), 145_000_000, "69.362", (2_278_604, 144_907_992)),
    "shufflenet_v2_x1_5": ((176, 352, 704, 1024), 296_000_000, "72.996", (3_503_624, 295_759_392)),
    "shufflenet_v2_x2_0": ((244, 488, 976, 2048), 583_000_000, "76.230", (7_393_996, 583_253_464)),
}
# torchvision 0.29.1, `models/shufflenetv2.py`; Keras at commit 3422977 (22 August 2026), `applications/`.
DIFFERENCES = {
    "torchvision": "The same networks. Initial weights differ: PyTorch's default, uniform with variance 1/(3 inputs), there; He normal here.",
    "Keras": "`keras.applications` has no ShuffleNet.",
}
PUBLISHED = {
    name: Published(
        partial(ShuffleNetV2, widths=widths),
        *IMAGENET,
        "Ma et al., ECCV 2018, table 5, and torchvision",
        parameters=counts[0],
        macs=macs,
        result=f"{accuracy} % top-1 accuracy on ImageNet's validation split (torchvision's weights)",
        counts=counts,
        torchvision=Torchvision(name, torchvision_module, ("fc",)),
    )
    for name, (widths, macs, accuracy, counts) in _TABLE_5.items()
}
TORCHVISION_WEIGHTS = (
    Weights("shufflenet_v2_x0_5", V1, "shufflenetv2_x0.5-f707e7126e.pth", 5, 60.552, 81.746),
    Weights("shufflenet_v2_x1_0", V1, "shufflenetv2_x1-5666bf0f80.pth", 9, 69.362, 88.316),
    Weights("shufflenet_v2_x1_5", V1, "shufflenetv2_x1_5-3c479a10.pth", 14, 72.996, 91.086, resize=232),
    Weights("shufflenet_v2_x2_0", V1, "shufflenetv2_x2_0-8be3c8ee.pth", 28, 76.230, 93.006, resize=232),
)
