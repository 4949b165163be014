"""VGG: 11, 13, 16 and 19 layers of 3x3 convolutions.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015, table 1,
columns A, B, D and E. The `_bn` variants have batch normalisation after each convolution. For image sizes other than 224, the last
maps are averaged to 7x7, as in torchvision; at 224 they are 7x7.
"""

import dataclasses
from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import CAFFE, IMAGENET, V1, Keras, Published, Torchvision, Weights

# The number of convolutions in each of the five blocks with 64, 128, 256, 512 and 512 maps.
BLOCKS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
FEATURES = (64, 128, 256, 512, 512)


class VGG(Network):
    """[[conv 3x3]*n - max-pool 2]*5 - 4096 - 4096 - output."""

    num_classes: int
    blocks: tuple[int, ...]
    batch_norm: bool
    dropout_rate: Annotated[float, "dropout rate after each hidden dense layer", fraction] = 0.5
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    dtype: Any = jnp.float32
    # Caffe's pooling: a window that the map's border cuts counts too.
    ceil_mode: bool = dataclasses.field(default=False, metadata={"option": False})

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        relu = layers.activation("relu")
        he = layers.initializer("he_normal")
        maps = []
        for block, (count, features) in enumerate(zip(self.blocks, FEATURES, strict=True), start=1):
            for index in range(1, count + 1):
                name = f"{block}_{index}"
                x = layers.Conv(features, (3, 3), padding=1, kernel_init=he, dtype=self.dtype, name=f"conv{name}")(x)
                if self.batch_norm:
                    x = layers.BatchNorm(self.sync_batch_norm, name=f"bn{name}")(x, train)
                x = relu(x)
            maps.append(x)
            x = layers.max_pool(x, 2, ceil_mode=self.ceil_mode, name=f"pool{block}")
        if features_only:
            return [*maps, x]
        x = layers.flatten(layers.adaptive_average_pool(x, (7, 7)))
        dense = {"kernel_init": layers.initializer("small_normal"), "dtype": self.dtype}
        for name in ("fc6", "fc7"):
            x = relu(layers.Dense(4096, name=name, **dense)(x))
            x = layers.Dropout(self.dropout_rate)(x, train)
        return layers.output(x, self.num_classes, name="fc8", **dense)


def torchvision_module(counts: tuple[int, ...], batch_norm: bool, path: tuple[str, ...]) -> str:
    """torchvision's name of a layer; it numbers convolutions, normalisations, ReLUs and poolings together.

    Args:
      counts: the number of convolutions in each block.
      batch_norm: whether there are normalisations.
      path: the layer's path, ("conv1_1",), ("bn1_1",) or ("fc6",).
    """
    (name,) = path
    if name.startswith("fc"):
        return f"classifier.{ {'fc6': 0, 'fc7': 3, 'fc8': 6}[name] }"
    block, index = map(int, name.removeprefix("conv").removeprefix("bn").split("_"))
    per_conv = 3 if batch_norm else 2
    before = sum(count * per_conv + 1 for count in counts[: block - 1]) + (index - 1) * per_conv
    return f"features.{before + name.startswith('bn')}"


def keras_layers(counts: tuple[int, ...]) -> list[tuple[str, ...]]:
    """The layers in Keras's order, which is ours."""
    convolutions = [f"conv{block}_{index}" for block, count in enumerate(counts, 1) for index in range(1, count + 1)]
    return [(name,) for name in (*convolutions, "fc6", "fc7", "fc8")]


# Simonyan and Zisserman, tables 2 and 3 (the better of the single scales); torchvision's documentation for the `_bn` variants.
# Parameters and result as published; parameters and multiply-adds as counted.
_ROWS = {
    "vgg11": (133_000_000, "29.6 % top-1 error", (132_863_336, 7_609_090_048)),
    "vgg13": (133_000_000, "28.7 % top-1 error", (133_047_848, 11_308_466_176)),
    "vgg16": (138_000_000, "25.6 % top-1 error", (138_357_544, 15_470_264_320)),
    "vgg19": (144_000_000, "25.5 % top-1 error", (143_667_240, 19_632_062_464)),
    "vgg11_bn": (132_868_840, "70.370 % top-1 accuracy", (132_868_840, 7_609_090_048)),
    "vgg13_bn": (133_053_736, "71.586 % top-1 accuracy", (133_053_736, 11_308_466_176)),
    "vgg16_bn": (138_365_992, "73.360 % top-1 accuracy", (138_365_992, 15_470_264_320)),
    "vgg19_bn": (143_678_248, "74.218 % top-1 accuracy", (143_678_248, 19_632_062_464)),
}
# torchvision 0.29.1, `models/vgg.py`; Keras at commit 3422977 (22 August 2026), `applications/vgg16.py` and `vgg19.py`.
DIFFERENCES = {
    "torchvision": "The same networks, `_bn` variants included. Initial weights of convolutions are He normal by outgoing connections, "
    "ours by incoming ones.",
    "Keras": "`VGG16` and `VGG19` have the same convolutions and dense layers, without dropout. There is no average to 7x7: the first dense "
    "layer's size follows the image's, and the published weights with their dense layers need 224x224. Initial weights are Glorot "
    "uniform. The published weights take BGR images less ImageNet's means, not divided by deviations. There is no VGG-11 or 13, and "
    "no batch normalisation. `cnnjax.load_keras` reads its weights.",
}
PUBLISHED = {
    name: Published(
        partial(VGG, blocks=BLOCKS[name.removesuffix("_bn")], batch_norm=name.endswith("_bn")),
        *IMAGENET,
        "Simonyan and Zisserman, ICLR 2015" + (", and torchvision" if name.endswith("_bn") else ""),
        parameters=parameters,
        result=f"{result} on ImageNet's validation split",
        counts=counts,
        torchvision=Torchvision(
            name,
            partial(torchvision_module, BLOCKS[name.removesuffix("_bn")], name.endswith("_bn")),
            ("fc8",),
            flattened={"fc6": (7, 7)},
        ),
        keras=Keras(name.upper(), keras_layers(BLOCKS[name]), **CAFFE) if name in ("vgg16", "vgg19") else None,
    )
    for name, (parameters, result, counts) in _ROWS.items()
}
# SSD's encoder, which takes pixels of 0 to 255 less their mean, as in the paper.
FEATURES_ALONE = Weights(
    "vgg16",
    "IMAGENET1K_FEATURES",
    "vgg16_features-amdegroot-88682ab5.pth",
    528,
    mean=(0.48235, 0.45882, 0.40784),
    std=(1 / 255,) * 3,
    empty="classifier.",
)
TORCHVISION_WEIGHTS = (
    Weights("vgg11", V1, "vgg11-8a719046.pth", 507, 69.020, 88.628),
    Weights("vgg11_bn", V1, "vgg11_bn-6002323d.pth", 507, 70.370, 89.810),
    Weights("vgg13", V1, "vgg13-19584684.pth", 508, 69.928, 89.246),
    Weights("vgg13_bn", V1, "vgg13_bn-abd245e5.pth", 508, 71.586, 90.374),
    Weights("vgg16", V1, "vgg16-397923af.pth", 528, 71.592, 90.382),
    FEATURES_ALONE,
    Weights("vgg16_bn", V1, "vgg16_bn-6c64b313.pth", 528, 73.360, 91.516),
    Weights("vgg19", V1, "vgg19-dcbb9e9d.pth", 548, 72.376, 90.876),
    Weights("vgg19_bn", V1, "vgg19_bn-c79401a0.pth", 548, 74.218, 91.842),
)
