"""ResNet: residual networks.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016: tables 1 (ImageNet, 18 to 152 layers) and 6
(CIFAR-10, 20 to 110 layers). A bottleneck block halves the map in the first 1x1 convolution in the paper and in the 3x3 convolution in
torchvision; `stride_in` selects this. For signals and volumes the kernels have one or three spatial axes. Options are those of later
papers:

- `preactivation`: normalisation and ReLU before the convolutions (He et al., "Identity mappings in deep residual networks", ECCV 2016);
- `widening` and `dropout_rate`: wide residual networks (Zagoruyko and Komodakis, BMVC 2016), here `wide_resnet28_10`;
- `groups`: ResNeXt (Xie, Girshick, Dollár, Tu and He, "Aggregated residual transformations", CVPR 2017), with `widening` for its width;
- `squeeze_excitation`: squeeze-and-excitation networks (Hu, Shen and Sun, CVPR 2018);
- `stochastic_depth_rate`: stochastic depth (Huang et al., ECCV 2016), whose rate rises linearly over the blocks as in timm;
- `stem="deep"`, `shortcut="D"`, `stride_in="3x3"`: ResNet-D (He et al., "Bag of tricks for image classification", CVPR 2019).
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction, known_zero, positive
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import CAFFE, CIFAR, IMAGENET, V1, V2, Keras, Published, Torchvision, Weights

Shortcut = Literal["A", "B", "C", "D", "none"]
relu = layers.activation("relu")
HE = layers.initializer("he_normal")


class BasicBlock(nn.Module):
    """The basic block of figure 2: conv 3x3 - conv 3x3, with a shortcut around them.

    With `widening` both convolutions, and so the output, have that many times `features` maps.
    """

    features: int
    strides: int
    conv: Callable[..., layers.Conv]
    norm: Callable[..., layers.BatchNorm]
    shortcut: Shortcut
    preactivation: bool
    zero_init: bool
    widening: int = 1
    squeeze_excitation: bool = False
    dropout_rate: float = 0.0
    stochastic_depth: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *size channel"], train: bool
    ) -> Float[Array, "batch *output_size widening*features"]:
        width = self.widening * self.features
        if self.preactivation:
            seen = relu(self.norm(name="bn1")(x, train))
            y = self.conv(width, 3, self.strides, 1, name="conv1")(seen)
            y = relu(self.norm(name="bn2")(y, train))
            y = layers.Dropout(self.dropout_rate)(y, train)
            y = self.conv(width, 3, 1, 1, name="conv2")(y)
            return _add(self, width, x, seen, y, train)
        y = self.conv(width, 3, self.strides, 1, name="conv1")(x)
        y = relu(self.norm(name="bn1")(y, train))
        y = layers.Dropout(self.dropout_rate)(y, train)
        y = self.conv(width, 3, 1, 1, name="conv2")(y)
        y = self.norm(name="bn2", scale_init=_last_scale(self))(y, train)
        return relu(_add(self, width, x, x, y, train))


class Bottleneck(nn.Module):
    """The bottleneck block of figure 5: conv 1x1 - conv 3x3 - conv 1x1 with four times `features` maps, and a shortcut around them.

    With `widening` the 3x3 convolution has that many times `features` maps.
    """

    features: int
    strides: int
    conv: Callable[..., layers.Conv]
    norm: Callable[..., layers.BatchNorm]
    shortcut: Shortcut
    preactivation: bool
    zero_init: bool
    stride_in: Literal["1x1", "3x3"]
    widening: int = 1
    squeeze_excitation: bool = False
    dropout_rate: float = 0.0
    stochastic_depth: float = 0.0
    groups: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *size channel"], train: bool
    ) -> Float[Array, "batch *output_size 4*features"]:
        inner, width = self.widening * self.features, 4 * self.features
        first, second = (self.strides, 1) if self.stride_in == "1x1" else (1, self.strides)
        drop = layers.Dropout(self.dropout_rate)
        if self.preactivation:
            seen = relu(self.norm(name="bn1")(x, train))
            y = self.conv(inner, 1, first, name="conv1")(seen)
            y = drop(relu(self.norm(name="bn2")(y, train)), train)
            y = self.conv(inner, 3, second, self.dilation, self.dilation, self.groups, name="conv2")(y)
            y = drop(relu(self.norm(name="bn3")(y, train)), train)
            y = self.conv(width, 1, name="conv3")(y)
            return _add(self, width, x, seen, y, train)
        y = self.conv(inner, 1, first, name="conv1")(x)
        y = drop(relu(self.norm(name="bn1")(y, train)), train)
        y = self.conv(inner, 3, second, self.dilation, self.dilation, self.groups, name="conv2")(y)
        y = drop(relu(self.norm(name="bn2")(y, train)), train)
        y = self.conv(width, 1, name="conv3")(y)
        y = self.norm(name="bn3", scale_init=_last_scale(self))(y, train)
        return relu(_add(self, width, x, x, y, train))


def _last_scale(block: BasicBlock | Bottleneck) -> nn.initializers.Initializer:
    return nn.initializers.zeros if block.zero_init else nn.initializers.ones


def _add(block: BasicBlock | Bottleneck, width: int, x: Array, seen: Array, y: Array, train: bool) -> Array:
    """Adds the shortcut of a block's input x to its output y; a projection is applied to `seen`, the input of the convolutions."""
    if block.squeeze_excitation:  # to a sixteenth of the maps, the ratio of table 10
        y = layers.SqueezeExcitation(
            max(width // 16, 1), kernel_init=HE, dtype=block.conv.keywords["dtype"], name="se"
        )(y)
    if not known_zero(block.stochastic_depth):
        y = layers.StochasticDepth(block.stochastic_depth)(y, train)
    changes, strides = x.shape[-1] != width or block.strides != 1, block.strides
    if block.shortcut == "none":
        return y
    if block.shortcut == "D" and strides != 1:
        seen, strides = layers.average_pool(seen, 2, ceil_mode=True), 1
    if block.shortcut == "C" or (block.shortcut in ("B", "D") and changes):
        x = block.conv(width, 1, strides, name="shortcut_conv")(seen)
        x = x if block.preactivation else block.norm(name="shortcut_bn")(x, train)
    elif changes:  # A: every other position, and zeros for the new channels
        x = x[:, *[slice(None, None, block.strides)] * (x.ndim - 2)]
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])])
    return layers.add(x, y)


class ResNet(Network):
    """Stem - stages of residual blocks, each with half the size and twice the maps of the one before - global average - output."""

    num_classes: int
    stages: tuple[int, ...]
    bottleneck: bool
    features: Annotated[int, "feature maps of the first stage, doubled in each following stage", positive] = 64
    stem: Annotated[
        Literal["7x7", "deep", "3x3"],
        "first layers: 7x7 with stride 2 and max-pooling as published, three 3x3 in its place (deep), or 3x3 with stride 1 for small images",
    ] = "7x7"
    shortcut: Annotated[
        Shortcut,
        "shortcuts: zero-padded identity where the shape changes (A), projection there (B), projections everywhere (C), projection there "
        "of means over 2x2 in place of a stride (D), or none for a plain network",
    ] = "B"
    stride_in: Annotated[Literal["1x1", "3x3"], "the convolution of a bottleneck block that halves the map"] = "1x1"
    preactivation: Annotated[bool, "whether normalisation and ReLU come before the convolutions"] = False
    zero_init: Annotated[bool, "whether each block starts as the identity, with a last scale of 0"] = False
    widening: Annotated[int, "factor on the feature maps of 3x3 convolutions", positive] = 1
    groups: Annotated[int, "groups of the 3x3 convolution of a bottleneck block", positive] = 1
    squeeze_excitation: Annotated[bool, "whether each block ends with squeeze-and-excitation"] = False
    dropout_rate: Annotated[float, "dropout rate between the convolutions of a block", fraction] = 0.0
    stochastic_depth_rate: Annotated[
        float, "rate at which an example skips the last block, rising linearly from 0 at the first one", fraction
    ] = 0.0
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    rematerialize: Annotated[bool, "whether to recompute blocks for their gradients, which saves memory"] = False
    dtype: Any = jnp.float32
    # The last two stages keep the map's size: their 3x3 convolutions are dilated in place of their strides (for segmentation).
    dilated: bool = dataclasses.field(default=False, metadata={"option": False})

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *size channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        if self.zero_init and self.preactivation:
            raise ValueError("resnet: zero_init needs blocks that end with a scale, which preactivation blocks do not")
        if self.groups > 1 and not self.bottleneck:
            raise ValueError(f"resnet: groups={self.groups} needs bottleneck blocks, and this network has basic blocks")
        conv = partial(layers.Conv, use_bias=False, kernel_init=HE, dtype=self.dtype)
        norm = partial(layers.BatchNorm, self.sync_batch_norm)
        block = Bottleneck if self.bottleneck else BasicBlock
        block = nn.remat(block, static_argnums=(2,)) if self.rematerialize else block
        block = partial(block, stride_in=self.stride_in, groups=self.groups) if self.bottleneck else block
        block = partial(
            block,
            conv=conv,
            norm=norm,
            shortcut=self.shortcut,
            preactivation=self.preactivation,
            zero_init=self.zero_init,
            widening=self.widening,
            squeeze_excitation=self.squeeze_excitation,
            dropout_rate=self.dropout_rate,
        )

        if self.stem == "deep":
            for index, strides in enumerate((2, 1), start=1):
                x = conv(self.features // 2, 3, strides, 1, name=f"stem_conv{index}")(x)
                x = relu(norm(name=f"stem_bn{index}")(x, train))
        kernel_size, strides = (7, 2) if self.stem == "7x7" else (3, 1)
        x = conv(self.features, kernel_size, strides, kernel_size // 2, name="conv1")(x)
        if not self.preactivation:
            x = relu(norm(name="bn1")(x, train))
        maps = []
        if self.stem != "3x3":
            maps.append(x)
            x = layers.max_pool(x, 3, 2, padding=1)
        for stage, count in enumerate(self.stages):
            if stage > 0:
                maps.append(x)
            dilated = self.dilated and stage >= 2
            for index in range(count):
                strides = 2 if stage > 0 and index == 0 and not dilated else 1
                settings = {"dilation": 2 ** (stage - 1 - (index == 0))} if dilated else {}
                name = f"conv{stage + 2}_{index + 1}"
                if not known_zero(self.stochastic_depth_rate):
                    before = sum(self.stages[:stage]) + index
                    settings["stochastic_depth"] = self.stochastic_depth_rate * before / max(sum(self.stages) - 1, 1)
                x = block(self.features * 2**stage, strides, name=name, **settings)(x, train)
        if self.preactivation:
            x = relu(norm(name="bn_last")(x, train))
        if features_only:
            return [*maps, x]
        x = layers.global_average_pool(x)
        small = layers.initializer("small_normal")
        return layers.output(x, self.num_classes, kernel_init=small, dtype=self.dtype, name="fc")


def torchvision_module(path: tuple[str, ...]) -> str:
    """torchvision's name of a layer, in which the stages are numbered from 1 and their blocks from 0."""
    first, *inner = path
    if not inner:
        return first
    stage, block = first.removeprefix("conv").split("_")
    names = {"shortcut_conv": "downsample.0", "shortcut_bn": "downsample.1"}
    return f"layer{int(stage) - 1}.{int(block) - 1}.{names.get(inner[0], inner[0])}"


def keras_layers(stages: tuple[int, ...]) -> list[tuple[str, ...]]:
    """The layers of a network of bottlenecks in Keras's order: of a block's parallel branches, by their distance from its end."""
    layers = [("conv1",), ("bn1",)]
    for stage, count in enumerate(stages, start=2):
        for index in range(1, count + 1):
            shortcut = index == 1
            names = (
                *("conv1", "bn1", "conv2", "bn2"),
                *(("shortcut_conv", "conv3", "shortcut_bn", "bn3") if shortcut else ("conv3", "bn3")),
            )
            layers += [(f"conv{stage}_{index}", name) for name in names]
    return [*layers, ("fc",)]


# Table 1: blocks in conv2_x to conv5_x, whether they are bottlenecks, and multiply-adds; tables 2 and 3: 10-crop errors
# (18 layers with shortcut A). Parameters and multiply-adds as counted.
_TABLE_1 = {
    "resnet18": ((2, 2, 2, 2), False, 1_800_000_000, "27.88", (11_689_512, 1_814_073_344)),
    "resnet34": ((3, 4, 6, 3), False, 3_600_000_000, "24.52", (21_797_672, 3_663_761_408)),
    "resnet50": ((3, 4, 6, 3), True, 3_800_000_000, "22.85", (25_557_032, 3_857_973_248)),
    "resnet101": ((3, 4, 23, 3), True, 7_600_000_000, "21.75", (44_549_160, 7_570_194_432)),
    "resnet152": ((3, 8, 36, 3), True, 11_300_000_000, "21.43", (60_192_808, 11_282_415_616)),
}
# torchvision's documentation.
_TORCHVISION = {
    "resnet50": (4_089_000_000, "76.130", (25_557_032, 4_089_184_256)),
    "resnet101": (7_801_000_000, "77.374", (44_549_160, 7_801_405_440)),
    "resnet152": (11_514_000_000, "78.312", (60_192_808, 11_513_626_624)),
}
# ResNeXt: blocks, groups and widening (32x4d: 32 groups of 4 maps in the first stage, together 2 * 64); wide: groups of 1. torchvision's
# documentation.
_AGGREGATED_AND_WIDE = {
    "resnext50_32x4d": ((3, 4, 6, 3), 32, 2, 4_230_000_000, "77.618", (25_028_904, 4_230_479_872)),
    "resnext101_32x8d": ((3, 4, 23, 3), 32, 4, 16_414_000_000, "79.312", (88_791_336, 16_414_015_488)),
    "resnext101_64x4d": ((3, 4, 23, 3), 64, 4, 15_460_000_000, "83.246", (83_455_272, 15_460_270_080)),
    "wide_resnet50_2": ((3, 4, 6, 3), 1, 2, 11_398_000_000, "78.468", (68_883_240, 11_398_021_120)),
    "wide_resnet101_2": ((3, 4, 23, 3), 1, 2, 22_753_000_000, "78.848", (126_886_696, 22_753_050_624)),
}
# Table 6: by layers, 6 n + 2 with n blocks in each of three stages.
_TABLE_6 = {
    20: (270_000, "8.75", (269_722, 40_551_040)),
    32: (460_000, "7.51", (464_154, 68_862_592)),
    44: (660_000, "7.17", (658_586, 97_174_144)),
    56: (850_000, "6.97", (853_018, 125_485_696)),
    110: (1_700_000, "6.43", (1_727_962, 252_887_680)),
}
WIDE_28_10 = {
    "stages": (4, 4, 4),
    "bottleneck": False,
    "features": 16,
    "stem": "3x3",
    "preactivation": True,
    "widening": 10,
}
# torchvision 0.29.1, `models/resnet.py`; Keras at commit 3422977 (22 August 2026), `applications/resnet.py`.
DIFFERENCES = {
    "torchvision": "ResNet-18 and 34 are the same network. Of a bottleneck it halves the map in the 3x3 convolution, the paper in the "
    "first 1x1: its ResNet-50, 101 and 152 are `resnet50_torchvision` and so on, whose weights `resnet50` cannot take. Initial "
    "weights differ: torchvision's He normal is by outgoing connections, ours by incoming ones as in He et al.; torchvision's "
    "output layer is uniform, ours normal with 0.01. ResNeXt and the wide networks for ImageNet are torchvision's, which halve the map in "
    "the 3x3 convolution. It has none of the CIFAR-10 networks (`resnet20` and others, `wide_resnet28_10`), no squeeze-and-excitation "
    "and no ResNet-D.",
    "Keras": "`ResNet50`, `ResNet101` and `ResNet152` halve the map in the first 1x1 convolution, as the paper and `resnet50` do. Their "
    "convolutions have biases before batch normalisation (26,560 parameters more in ResNet-50), epsilon is 1.001e-5 (ours 1e-5), "
    "running statistics keep 0.99 (ours 0.9), and initial weights are Glorot uniform (ours He normal). The published weights take "
    "BGR images less ImageNet's means, not divided by deviations. There is no ResNet-18 or 34, no "
    "ResNeXt and no wide ResNet. `cnnjax.load_keras` reads its weights for the paper's networks.",
}
PUBLISHED = {
    **{
        name: Published(
            partial(ResNet, stages=stages, bottleneck=bottleneck),
            *IMAGENET,
            "He et al., CVPR 2016",
            macs=macs,
            result=f"{error} % top-1 error on ImageNet's validation split, 10 crops",
            counts=counts,
            torchvision=None if bottleneck else Torchvision(name, torchvision_module, ("fc",)),
            keras=Keras(name.replace("resnet", "ResNet"), keras_layers(stages), **CAFFE) if bottleneck else None,
        )
        for name, (stages, bottleneck, macs, error, counts) in _TABLE_1.items()
    },
    **{
        f"{name}_torchvision": Published(
            partial(ResNet, stages=_TABLE_1[name][0], bottleneck=True, stride_in="3x3"),
            *IMAGENET,
            "torchvision",
            parameters=counts[0],
            macs=macs,
            result=f"{accuracy} % top-1 accuracy on ImageNet's validation split",
            counts=counts,
            torchvision=Torchvision(name, torchvision_module, ("fc",)),
        )
        for name, (macs, accuracy, counts) in _TORCHVISION.items()
    },
    **{
        f"resnet{depth}": Published(
            partial(ResNet, stages=((depth - 2) // 6,) * 3, bottleneck=False, features=16, stem="3x3", shortcut="A"),
            *CIFAR,
            "He et al., CVPR 2016, table 6",
            parameters=parameters,
            result=f"{error} % test error on CIFAR-10",
            counts=counts,
        )
        for depth, (parameters, error, counts) in _TABLE_6.items()
    },
    **{
        name: Published(
            partial(ResNet, stages=stages, bottleneck=True, stride_in="3x3", groups=groups, widening=widening),
            *IMAGENET,
            ("Xie et al., CVPR 2017" if groups > 1 else "Zagoruyko and Komodakis, BMVC 2016") + ", and torchvision",
            parameters=counts[0],
            macs=macs,
            result=f"{accuracy} % top-1 accuracy on ImageNet's validation split (torchvision's first weights)",
            counts=counts,
            torchvision=Torchvision(name, torchvision_module, ("fc",)),
        )
        for name, (stages, groups, widening, macs, accuracy, counts) in _AGGREGATED_AND_WIDE.items()
    },
    "wide_resnet28_10": Published(
        partial(ResNet, **WIDE_28_10),
        *CIFAR,
        "Zagoruyko and Komodakis, BMVC 2016, tables 5 and 6",
        parameters=36_500_000,
        result="4.00 % test error on CIFAR-10, 3.89 % with dropout of 0.3",
        counts=(36_479_194, 5_243_328_768),
    ),
}
TORCHVISION_WEIGHTS = (
    Weights("resnet18", V1, "resnet18-f37072fd.pth", 45, 69.758, 89.078),
    Weights("resnet34", V1, "resnet34-b627a593.pth", 83, 73.314, 91.420),
    Weights("resnet50", V1, "resnet50-0676ba61.pth", 98, 76.130, 92.862),
    Weights("resnet50", V2, "resnet50-11ad3fa6.pth", 98, 80.858, 95.434, resize=232),
    Weights("resnet101", V1, "resnet101-63fe2227.pth", 171, 77.374, 93.546),
    Weights("resnet101", V2, "resnet101-cd907fc2.pth", 171, 81.886, 95.780, resize=232),
    Weights("resnet152", V1, "resnet152-394f9c45.pth", 230, 78.312, 94.046),
    Weights("resnet152", V2, "resnet152-f82ba261.pth", 230, 82.284, 96.002, resize=232),
    Weights("resnext50_32x4d", V1, "resnext50_32x4d-7cdf4587.pth", 96, 77.618, 93.698),
    Weights("resnext50_32x4d", V2, "resnext50_32x4d-1a0047aa.pth", 96, 81.198, 95.340, resize=232),
    Weights("resnext101_32x8d", V1, "resnext101_32x8d-8ba56ff5.pth", 340, 79.312, 94.526),
    Weights("resnext101_32x8d", V2, "resnext101_32x8d-110c445d.pth", 340, 82.834, 96.228, resize=232),
    Weights("resnext101_64x4d", V1, "resnext101_64x4d-173b62eb.pth", 319, 83.246, 96.454, resize=232),
    Weights("wide_resnet50_2", V1, "wide_resnet50_2-95faca4d.pth", 132, 78.468, 94.086),
    Weights("wide_resnet50_2", V2, "wide_resnet50_2-9ba9bcbe.pth", 263, 81.602, 95.758, resize=232),
    Weights("wide_resnet101_2", V1, "wide_resnet101_2-32ee1156.pth", 243, 78.848, 94.284),
    Weights("wide_resnet101_2", V2, "wide_resnet101_2-d733dc28.pth", 485, 82.510, 96.020, resize=232),
)
