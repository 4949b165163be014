"""DenseNet: each layer receives the maps of all layers before it in its block.

Huang, Liu, van der Maaten and Weinberger, "Densely connected convolutional networks", CVPR 2017, tables 1 (ImageNet) and 2 (CIFAR). A
layer adds `growth_rate` maps, k in the paper. In DenseNet-BC a layer reduces its input to 4 k maps first (bottleneck), and a transition
halves the number of maps (compression).
"""

from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import all_positive, fraction, positive
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import (
    CIFAR,
    IMAGENET,
    IMAGENET_MEAN,
    IMAGENET_STD,
    V1,
    Keras,
    Published,
    Torchvision,
    Weights,
)

HE = layers.initializer("he_normal")
relu = layers.activation("relu")


class DenseLayer(nn.Module):
    """[BN - ReLU - conv 1x1 4 k] - BN - ReLU - conv 3x3 k - dropout, concatenated with the input: k more maps."""

    growth_rate: int
    bottleneck: bool
    dropout_rate: float
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch height width wider"]:
        conv = partial(layers.Conv, use_bias=False, kernel_init=HE, dtype=self.dtype)
        norm = partial(layers.BatchNorm, self.sync_batch_norm)
        y = relu(norm(name="bn1")(x, train))
        if self.bottleneck:
            y = conv(4 * self.growth_rate, 1, name="conv1")(y)
            y = layers.Dropout(self.dropout_rate)(y, train)
            y = relu(norm(name="bn2")(y, train))
        y = conv(self.growth_rate, 3, padding=1, name="conv2")(y)
        y = layers.Dropout(self.dropout_rate)(y, train)
        return jnp.concatenate([x, y], -1)


class Transition(nn.Module):
    """BN - ReLU - conv 1x1 - average pool 2."""

    features: int
    dropout_rate: float
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch h w features"]:
        x = relu(layers.BatchNorm(self.sync_batch_norm, name="bn")(x, train))
        x = layers.Conv(self.features, 1, use_bias=False, kernel_init=HE, dtype=self.dtype, name="conv")(x)
        x = layers.Dropout(self.dropout_rate)(x, train)
        return layers.average_pool(x, 2, name="/".join((*self.path, "pool")))


class DenseNet(Network):
    """Stem - [dense block - transition]*n - dense block - BN - ReLU - global average - output."""

    num_classes: int
    blocks: Annotated[tuple[int, ...], "layers of each dense block", all_positive]
    growth_rate: Annotated[int, "feature maps that a layer adds", positive]
    features: Annotated[int, "feature maps of the first convolution", positive]
    bottleneck: Annotated[bool, "whether a layer reduces its input to 4 growth rates of maps first"] = True
    compression: Annotated[float, "share of the maps that a transition keeps", positive] = 0.5
    small_images: Annotated[
        bool, "whether the stem is a convolution 3x3, for small images, instead of 7x7/2 and max-pooling"
    ] = False
    dropout_rate: Annotated[float, "dropout rate after each convolution but the first", fraction] = 0.0
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    rematerialize: Annotated[bool, "whether to recompute layers for their gradients, which saves memory"] = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        shared = {"sync_batch_norm": self.sync_batch_norm, "dtype": self.dtype, "dropout_rate": self.dropout_rate}
        layer = nn.remat(DenseLayer, static_argnums=(2,)) if self.rematerialize else DenseLayer
        conv = partial(layers.Conv, self.features, use_bias=False, kernel_init=HE, dtype=self.dtype, name="conv1")
        maps = []
        if self.small_images:
            x = conv(3, padding=1)(x)
        else:
            x = relu(layers.BatchNorm(self.sync_batch_norm, name="bn1")(conv(7, 2, 3)(x), train))
            maps.append(x)
            x = layers.max_pool(x, 3, 2, padding=1)
        for block, count in enumerate(self.blocks, start=1):
            for index in range(1, count + 1):
                x = layer(self.growth_rate, self.bottleneck, **shared, name=f"block{block}_{index}")(x, train)
            if block < len(self.blocks):
                maps.append(x)
                x = Transition(int(self.compression * x.shape[-1]), **shared, name=f"transition{block}")(x, train)
        x = relu(layers.BatchNorm(self.sync_batch_norm, name="bn_last")(x, train))
        if features_only:
            return [*maps, x]
        x = layers.global_average_pool(x)
        small = layers.initializer("small_normal")
        return layers.output(x, self.num_classes, kernel_init=small, dtype=self.dtype, name="fc")


# Table 1: layers of the four dense blocks; growth rate (48 in the text of section 4.2 for 161 layers) and maps of the stem. Figures of
# torchvision's documentation; parameters and multiply-adds as counted.
_TABLE_1 = {
    "densenet121": ((6, 12, 24, 16), 32, 2_834_000_000, "74.434", (7_978_856, 2_834_161_664)),
    "densenet161": ((6, 12, 36, 24), 48, 7_728_000_000, "77.138", (28_681_000, 7_727_907_072)),
    "densenet169": ((6, 12, 32, 32), 32, 3_360_000_000, "75.600", (14_149_480, 3_359_843_328)),
    "densenet201": ((6, 12, 48, 32), 32, 4_291_000_000, "76.896", (20_013_928, 4_291_365_888)),
}
# Table 2: depth, growth rate, DenseNet-BC or plain, parameters and the error on CIFAR-10 with flips and shifts. A plain network has a
# stem of 16 maps, DenseNet-BC of two growth rates (section 3).
_TABLE_2 = {
    "densenet_40_12": (40, 12, False, 1_000_000, "5.24", (1_019_722, 264_812_928)),
    "densenet_bc_100_12": (100, 12, True, 800_000, "4.51", (769_162, 287_929_692)),
    "densenet_bc_190_40": (190, 40, True, 25_600_000, "3.46", (25_624_430, 9_301_945_740)),
}


def torchvision_module(path: tuple[str, ...]) -> str:
    """torchvision's name of a layer."""
    first, *inner = path
    ends = {"conv1": "features.conv0", "bn1": "features.norm0", "bn_last": "features.norm5", "fc": "classifier"}
    if first in ends:
        return ends[first]
    if first.startswith("block"):
        block, layer = first.removeprefix("block").split("_")
        first = f"denseblock{block}.denselayer{layer}"
    return f"features.{first}.{inner[0].replace('bn', 'norm')}"


def keras_layers(blocks: tuple[int, ...]) -> list[tuple[str, ...]]:
    """The layers of a network for ImageNet in Keras's order, which is ours."""
    layers = [("conv1",), ("bn1",)]
    for block, count in enumerate(blocks, start=1):
        inner = [
            (f"block{block}_{index}", name)
            for index in range(1, count + 1)
            for name in ("bn1", "conv1", "bn2", "conv2")
        ]
        layers += [*inner, *((f"transition{block}", name) for name in ("bn", "conv") if block < len(blocks))]
    return [*layers, ("bn_last",), ("fc",)]


# The published files have `norm.1` where the network has `norm1`.
_OLDER = r"(denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2"
# torchvision 0.29.1, `models/densenet.py`; Keras at commit 3422977 (22 August 2026), `applications/densenet.py`.
DIFFERENCES = {
    "torchvision": "The networks for ImageNet are the same. The output layer's initial weights differ: uniform with variance 1/(3 inputs) there, "
    "normal with 0.01 here. It has none of the networks for CIFAR. Its dropout follows the 3x3 convolutions alone.",
    "Keras": "`DenseNet121`, `DenseNet169` and `DenseNet201` have the same layers. Epsilon is 1.001e-5 (ours 1e-5), running statistics keep "
    "0.99 (ours 0.9), and initial weights are Glorot uniform (ours He normal). There is no DenseNet-161, and none for CIFAR. "
    "`cnnjax.load_keras` reads its weights.",
}
PUBLISHED = {
    **{
        name: Published(
            partial(DenseNet, blocks=blocks, growth_rate=growth_rate, features=2 * growth_rate),
            *IMAGENET,
            "Huang et al., CVPR 2017, table 1, and torchvision",
            parameters=counts[0],
            macs=macs,
            result=f"{accuracy} % top-1 accuracy on ImageNet's validation split (torchvision's weights)",
            counts=counts,
            torchvision=Torchvision(name, torchvision_module, ("fc",), older=_OLDER),
            keras=None
            if name == "densenet161"
            else Keras(name.replace("densenet", "DenseNet"), keras_layers(blocks), IMAGENET_MEAN, IMAGENET_STD),
        )
        for name, (blocks, growth_rate, macs, accuracy, counts) in _TABLE_1.items()
    },
    **{
        name: Published(
            partial(
                DenseNet,
                blocks=((depth - 4) // (6 if compact else 3),) * 3,
                growth_rate=growth_rate,
                features=2 * growth_rate if compact else 16,
                bottleneck=compact,
                compression=0.5 if compact else 1.0,
                small_images=True,
            ),
            *CIFAR,
            "Huang et al., CVPR 2017, table 2",
            parameters=parameters,
            result=f"{error} % test error on CIFAR-10 with flips and shifts",
            counts=counts,
        )
        for name, (depth, growth_rate, compact, parameters, error, counts) in _TABLE_2.items()
    },
}
TORCHVISION_WEIGHTS = (
    Weights("densenet121", V1, "densenet121-a639ec97.pth", 31, 74.434, 91.972),
    Weights("densenet161", V1, "densenet161-8d451a50.pth", 110, 77.138, 93.560),
    Weights("densenet169", V1, "densenet169-b2777c0a.pth", 55, 75.600, 92.806),
    Weights("densenet201", V1, "densenet201-c1103571.pth", 77, 76.896, 93.370),
)
