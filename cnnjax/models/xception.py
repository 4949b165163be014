"""Xception: residual blocks of depthwise separable convolutions.

Chollet, "Xception: deep learning with depthwise separable convolutions", CVPR 2017, figure 5: 22,855,952 parameters for 299x299x3
images and 1000 classes. Padding, epsilon and momentum are those of the author's implementation, Keras's `Xception`.
"""

from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction, positive
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import HALF, Keras, Published

XAVIER = layers.initializer("xavier_uniform")
relu = layers.activation("relu")


class Block(nn.Module):
    """[ReLU - separable conv]*n, max-pooled 3/2 where the size is halved, and a shortcut around them.

    The shortcut is the input, or a conv 1x1/2 of it where the size is halved.
    """

    widths: tuple[int, ...]
    halves: bool
    begins_with_relu: bool
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch h w features"]:
        y = x
        for index, features in enumerate(self.widths, start=1):
            y = relu(y) if index > 1 or self.begins_with_relu else y
            y = _separable(features, self.dtype, name=f"conv{index}")(y)
            y = _norm(self.sync_batch_norm, name=f"bn{index}")(y, train)
        if self.halves:
            y = layers.max_pool(y, 3, 2, padding="same")
            settings = {"use_bias": False, "kernel_init": XAVIER, "dtype": self.dtype, "name": "shortcut_conv"}
            x = _norm(self.sync_batch_norm, name="shortcut_bn")(
                layers.Conv(self.widths[-1], 1, 2, **settings)(x), train
            )
        return layers.add(x, y)


def _separable(features: int, dtype: Any, name: str) -> layers.SeparableConv:
    return layers.SeparableConv(features, 3, padding=1, use_bias=False, kernel_init=XAVIER, dtype=dtype, name=name)


def _norm(synchronized: bool, name: str) -> layers.BatchNorm:
    return layers.BatchNorm(synchronized, momentum=0.99, epsilon=1e-3, name=name)


class Xception(Network):
    """Conv 3x3/2 32 - conv 3x3 64 - three blocks that halve - eight blocks of 728 maps - one that halves - separable convs - output."""

    num_classes: int
    middle_blocks: Annotated[int, "blocks of the middle flow", positive] = 8
    dropout_rate: Annotated[float, "dropout rate before the output layer (section 4.4: 0.5 on ImageNet)", fraction] = (
        0.5
    )
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        shared = {"sync_batch_norm": self.sync_batch_norm, "dtype": self.dtype}
        conv = partial(layers.Conv, padding="valid", use_bias=False, kernel_init=XAVIER, dtype=self.dtype)
        x = relu(_norm(self.sync_batch_norm, name="bn1")(conv(32, 3, 2, name="conv1")(x), train))
        x = relu(_norm(self.sync_batch_norm, name="bn2")(conv(64, 3, name="conv2")(x), train))
        maps = []
        for number, features in enumerate((128, 256, 728), start=1):  # entry flow
            maps.append(x)
            x = Block((features,) * 2, True, number > 1, **shared, name=f"block{number}")(x, train)
        last = 4 + self.middle_blocks
        for number in range(4, last):  # middle flow
            x = Block((728,) * 3, False, True, **shared, name=f"block{number}")(x, train)
        maps.append(x)
        x = Block((728, 1024), True, True, **shared, name=f"block{last}")(x, train)  # exit flow
        for number, features in enumerate((1536, 2048), start=3):
            x = _separable(features, self.dtype, name=f"conv{number}")(x)
            x = relu(_norm(self.sync_batch_norm, name=f"bn{number}")(x, train))
        if features_only:
            return [*maps, x]
        x = layers.Dropout(self.dropout_rate)(layers.global_average_pool(x), train)
        return layers.output(x, self.num_classes, kernel_init=XAVIER, dtype=self.dtype, name="fc")


def keras_layers() -> list[tuple[str, ...]]:
    """The layers in Keras's order: of a block's parallel branches, by their distance from its end."""
    layers = [("conv1",), ("bn1",), ("conv2",), ("bn2",)]
    for number in range(1, 13):
        block, halves = f"block{number}", number not in range(4, 12)
        layers += [(block, f"{kind}{index}") for index in range(1, 3 if halves else 4) for kind in ("conv", "bn")]
        layers += [(block, f"shortcut_{kind}") for kind in ("conv", "bn") if halves]
    return [*layers, ("conv3",), ("bn3",), ("conv4",), ("bn4",), ("fc",)]


# torchvision 0.29.1, `models/`; Keras at commit 3422977 (22 August 2026), `applications/xception.py`.
DIFFERENCES = {
    "torchvision": "`torchvision.models` has no Xception.",
    "Keras": "`Xception` is the same network, without the dropout that the paper has before its output layer. `cnnjax.load_keras` reads "
    "its weights.",
}
PUBLISHED = {
    "xception": Published(
        Xception,
        (299, 299, 3),
        1000,
        "Chollet, CVPR 2017, figure 5 and table 3",
        parameters=22_855_952,
        result="79.0 % top-1 accuracy on ImageNet's validation split",
        counts=(22_855_952, 8_357_403_496),
        keras=Keras("Xception", keras_layers(), HALF, HALF),
    ),
}
