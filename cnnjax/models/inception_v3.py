"""Inception v3: convolutions factorised into smaller and one-dimensional ones.

Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception architecture for computer vision", CVPR 2016, table 1 and figures 5
to 10, as its authors implemented it: 27,161,264 parameters with the auxiliary head for 299x299x3 images and 1000 classes, 23,834,568
without. The modules have the names of that implementation.
"""

from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import HALF, V1, Published, Torchvision, Weights

ConvNorm = partial(layers.ConvNorm, epsilon=1e-3, kernel_init=layers.initializers.normal(0.1))


class Inception(nn.Module):
    """A module: branches beside each other, each a sequence of convolutions, and one that begins with pooling.

    Attributes:
      branches: for each branch, its name and the maps and kernel sizes of its convolutions; the last step may be two kernels beside each
        other, as in figure 7.
      pooled: maps of the convolution after average pooling; 0 for max-pooling without one.
      strides: the strides of each branch's last convolution and of the pooling.
    """

    branches: tuple[tuple[str, tuple[tuple[int, Any], ...]], ...]
    pooled: int
    strides: int = 1
    sync_batch_norm: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch h w features"]:
        conv = partial(ConvNorm, sync_batch_norm=self.sync_batch_norm, dtype=self.dtype)
        outputs = []
        for name, steps in self.branches:
            y = x
            for number, (features, size) in enumerate(steps, start=1):
                label = name if len(steps) == 1 else f"{name}_{number}"
                if size == "1x3 and 3x1":
                    y = [
                        conv(features, kernel, name=f"{label}{letter}")(y, train)
                        for letter, kernel in (("a", (1, 3)), ("b", (3, 1)))
                    ]
                    y = jnp.concatenate(y, -1)
                else:
                    strides = self.strides if number == len(steps) else 1
                    y = conv(features, size, strides, "valid" if strides > 1 else None, name=label)(y, train)
            outputs.append(y)
        if self.pooled:
            outputs.append(conv(self.pooled, 1, name="branch_pool")(layers.average_pool(x, 3, 1, padding=1), train))
        else:
            outputs.append(layers.max_pool(x, 3, self.strides, name="/".join((*self.path, "pool"))))
        return jnp.concatenate(outputs, -1)


def inception_a(pooled: int, **shared: Any) -> Inception:
    """Figure 5: at 35x35, a 5x5 and two 3x3 convolutions."""
    branches = (
        ("branch1x1", ((64, 1),)),
        ("branch5x5", ((48, 1), (64, 5))),
        ("branch3x3dbl", ((64, 1), (96, 3), (96, 3))),
    )
    return Inception(branches, pooled, **shared)


def inception_b(**shared: Any) -> Inception:
    """Figure 10: from 35x35 to 17x17."""
    branches = (("branch3x3", ((384, 3),)), ("branch3x3dbl", ((64, 1), (96, 3), (96, 3))))
    return Inception(branches, 0, strides=2, **shared)


def inception_c(features: int, **shared: Any) -> Inception:
    """Figure 6: at 17x17, 7x7 convolutions factorised into 1x7 and 7x1."""
    branches = (
        ("branch1x1", ((192, 1),)),
        ("branch7x7", ((features, 1), (features, (1, 7)), (192, (7, 1)))),
        (
            "branch7x7dbl",
            ((features, 1), (features, (7, 1)), (features, (1, 7)), (features, (7, 1)), (192, (1, 7))),
        ),
    )
    return Inception(branches, 192, **shared)


def inception_d(**shared: Any) -> Inception:
    """Figure 10 again: from 17x17 to 8x8."""
    branches = (
        ("branch3x3", ((192, 1), (320, 3))),
        ("branch7x7x3", ((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3))),
    )
    return Inception(branches, 0, strides=2, **shared)


def inception_e(**shared: Any) -> Inception:
    """Figure 7: at 8x8, 1x3 and 3x1 convolutions beside each other."""
    branches = (
        ("branch1x1", ((320, 1),)),
        ("branch3x3", ((384, 1), (384, "1x3 and 3x1"))),
        ("branch3x3dbl", ((448, 1), (384, 3), (384, "1x3 and 3x1"))),
    )
    return Inception(branches, 192, **shared)


class AuxiliaryHead(nn.Module):
    """Average pool 5/3 - conv 1x1 128 - conv 5x5 768 - global average - output."""

    num_classes: int
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"], train: bool) -> Float[Array, "batch class"]:
        conv = partial(ConvNorm, padding="valid", sync_batch_norm=self.sync_batch_norm, dtype=self.dtype)
        x = layers.average_pool(x, 5, 3, name="/".join((*self.path, "pool")))
        x = conv(128, 1, name="conv0")(x, train)
        x = conv(768, 5, kernel_init=layers.initializer("small_normal"), name="conv1")(x, train)
        x = layers.global_average_pool(x)
        initial = layers.initializers.normal(0.001)
        return layers.Dense(self.num_classes, kernel_init=initial, dtype=self.dtype, name="fc")(x)


class InceptionV3(Network):
    """Three conv 3x3 - pool - conv 1x1 - conv 3x3 - pool - eleven modules - global average - dropout - output.

    In training, the logits of the auxiliary head after `mixed_6e` are sown into the collection "auxiliary", and the training step adds
    their loss with the weight `auxiliary_weight`, 0.4 as in the authors' implementation. In prediction the head is not computed.
    """

    num_classes: int
    auxiliary_weight: Annotated[float, "weight of the auxiliary head's loss; 0 for no auxiliary head", fraction] = 0.4
    dropout_rate: Annotated[float, "dropout rate before the output layer", fraction] = 0.5
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        shared = {"sync_batch_norm": self.sync_batch_norm, "dtype": self.dtype}
        conv = partial(ConvNorm, **shared)
        x = conv(32, 3, 2, padding="valid", name="conv_1a")(x, train)
        x = conv(32, 3, padding="valid", name="conv_2a")(x, train)
        x = conv(64, 3, name="conv_2b")(x, train)
        maps = [x]
        x = layers.max_pool(x, 3, 2, name="pool1")
        x = conv(80, 1, padding="valid", name="conv_3b")(x, train)
        x = conv(192, 3, padding="valid", name="conv_4a")(x, train)
        maps.append(x)
        x = layers.max_pool(x, 3, 2, name="pool2")
        x = inception_a(32, **shared, name="mixed_5b")(x, train)
        x = inception_a(64, **shared, name="mixed_5c")(x, train)
        x = inception_a(64, **shared, name="mixed_5d")(x, train)
        maps.append(x)
        x = inception_b(**shared, name="mixed_6a")(x, train)
        x = inception_c(128, **shared, name="mixed_6b")(x, train)
        x = inception_c(160, **shared, name="mixed_6c")(x, train)
        x = inception_c(160, **shared, name="mixed_6d")(x, train)
        x = inception_c(192, **shared, name="mixed_6e")(x, train)
        maps.append(x)
        head = self.num_classes and self.auxiliary_weight and not features_only
        if head and (train or self.is_initializing()):
            logits = AuxiliaryHead(self.num_classes, **shared, name="auxiliary6e")(x, train)
            if train:
                self.sow("auxiliary", "logits6e", logits)
        x = inception_d(**shared, name="mixed_7a")(x, train)
        x = inception_e(**shared, name="mixed_7b")(x, train)
        x = inception_e(**shared, name="mixed_7c")(x, train)
        if features_only:
            return [*maps, x]
        x = layers.Dropout(self.dropout_rate)(layers.global_average_pool(x), train)
        initial = layers.initializers.normal(0.1)
        return layers.output(x, self.num_classes, kernel_init=initial, dtype=self.dtype, name="fc")


def torchvision_module(path: tuple[str, ...]) -> str:
    """torchvision's name of a layer."""
    first, *inner = path
    if first.startswith("conv_"):
        first = f"Conv2d_{first.removeprefix('conv_')}_{'1x1' if first == 'conv_3b' else '3x3'}"
    first = first.replace("mixed", "Mixed").replace("auxiliary6e", "AuxLogits")
    return ".".join([first, *inner])


# torchvision 0.29.1, `models/inception.py`; Keras at commit 3422977 (22 August 2026), `applications/inception_v3.py`.
DIFFERENCES = {
    "torchvision": "The same network and initial weights. `transform_input` is not part of it: it undoes ImageNet's normalisation for the "
    "published weights, which expect means and deviations of 0.5.",
    "Keras": "`InceptionV3` has the same layers without the auxiliary head. Its batch normalisation has no scale (17,216 parameters fewer), "
    "the mean over padded windows of average pooling does not count the padding, and initial weights are Glorot uniform.",
}
PUBLISHED = {
    "inception_v3": Published(
        InceptionV3,
        (299, 299, 3),
        1000,
        "Szegedy et al., CVPR 2016, and torchvision",
        parameters=23_834_568,
        macs=5_713_000_000,
        result="77.294 % top-1 accuracy on ImageNet's validation split (torchvision's weights)",
        counts=(23_834_568, 5_713_216_096),
        torchvision=Torchvision("inception_v3", torchvision_module, ("fc",)),
    ),
}
TORCHVISION_WEIGHTS = (
    Weights(
        "inception_v3",
        V1,
        "inception_v3_google-0cc3c7bd.pth",
        104,
        77.294,
        93.450,
        resize=342,
        crop=299,
        mean=HALF,
        std=HALF,
    ),
)
