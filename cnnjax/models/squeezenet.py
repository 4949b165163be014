"""SqueezeNet: AlexNet's accuracy with a fiftieth of its parameters, by fire modules.

Iandola, Han, Moskewicz, Ashraf, Dally and Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and < 0.5 MB model
size", arXiv:1602.07360, 2016, table 1. Version 1.1 of the authors' repository has a smaller stem and pools earlier, with 2.4 times fewer
multiply-adds. The last convolution gives a map for each class, whose mean after a ReLU is the logit.
"""

import dataclasses
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import IMAGENET, V1, Published, Torchvision, Weights

relu = layers.activation("relu")


class Fire(nn.Module):
    """Conv 1x1 to few maps - conv 1x1 and conv 3x3 beside each other, to as many maps each."""

    squeezed: int
    expanded: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"]) -> Float[Array, "batch height width 2*expanded"]:
        conv = partial(layers.Conv, kernel_init=layers.initializer("he_uniform"), dtype=self.dtype)
        x = relu(conv(self.squeezed, 1, name="squeeze")(x))
        branches = (
            relu(conv(self.expanded, 1, name="expand1x1")(x)),
            relu(conv(self.expanded, 3, padding=1, name="expand3x3")(x)),
        )
        return jnp.concatenate(branches, -1)


# Table 1, s1x1 and e1x1 = e3x3.
FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}
POOLED_AFTER = {"1.0": (4, 8), "1.1": (3, 5)}


class SqueezeNet(Network):
    """Conv - pool - eight fire modules, two poolings between them - dropout - conv 1x1 to class maps - ReLU - global average."""

    num_classes: int
    version: Literal["1.0", "1.1"] = dataclasses.field(metadata={"option": False})
    dropout_rate: Annotated[float, "dropout rate before the last convolution", fraction] = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        features, kernel_size = {"1.0": (96, 7), "1.1": (64, 3)}[self.version]
        he = layers.initializer("he_uniform")
        conv = layers.Conv(features, kernel_size, 2, "valid", kernel_init=he, dtype=self.dtype, name="conv1")
        x = relu(conv(x))
        maps = [x]
        x = layers.max_pool(x, 3, 2, ceil_mode=True, name="pool1")
        for number, (squeezed, expanded) in FIRES.items():
            x = Fire(squeezed, expanded, self.dtype, name=f"fire{number}")(x)
            if number in POOLED_AFTER[self.version]:
                maps.append(x)
                x = layers.max_pool(x, 3, 2, ceil_mode=True, name=f"pool{number}")
        if features_only:
            return [*maps, x]
        x = layers.Dropout(self.dropout_rate)(x, train)
        if self.num_classes:
            small = layers.initializer("small_normal")
            x = relu(layers.Conv(self.num_classes, 1, kernel_init=small, dtype=self.dtype, name="conv10")(x))
        return layers.global_average_pool(x)


def torchvision_module(version: str, path: tuple[str, ...]) -> str:
    """torchvision's name of a layer; it numbers convolutions, ReLUs, poolings and fire modules together."""
    first, *inner = path
    ends = {"conv1": "features.0", "conv10": "classifier.1"}
    if first in ends:
        return ends[first]
    number = int(first.removeprefix("fire"))
    poolings = 1 + sum(number > before for before in POOLED_AFTER[version])
    return f"features.{number + poolings}.{inner[0]}"


# torchvision 0.29.1, `models/squeezenet.py`; Keras at commit 3422977 (22 August 2026), `applications/`.
DIFFERENCES = {
    "torchvision": "The same networks and initial weights.",
    "Keras": "`keras.applications` has no SqueezeNet.",
}
PUBLISHED = {
    "squeezenet1_0": Published(
        partial(SqueezeNet, version="1.0"),
        *IMAGENET,
        "Iandola et al., arXiv:1602.07360, and torchvision",
        parameters=1_248_424,
        macs=819_000_000,
        result="57.5 % top-1 accuracy on ImageNet's validation split (58.092 % with torchvision's weights)",
        counts=(1_248_424, 818_924_576),
        torchvision=Torchvision("squeezenet1_0", partial(torchvision_module, "1.0"), ("conv10",)),
    ),
    "squeezenet1_1": Published(
        partial(SqueezeNet, version="1.1"),
        *IMAGENET,
        "Iandola et al., version 1.1 of their repository, and torchvision",
        parameters=1_235_496,
        macs=349_000_000,
        result="58.178 % top-1 accuracy on ImageNet's validation split (torchvision's weights)",
        counts=(1_235_496, 349_151_936),
        torchvision=Torchvision("squeezenet1_1", partial(torchvision_module, "1.1"), ("conv10",)),
    ),
}
TORCHVISION_WEIGHTS = (
    Weights("squeezenet1_0", V1, "squeezenet1_0-b66bff10.pth", 5, 58.092, 80.420),
    Weights("squeezenet1_1", V1, "squeezenet1_1-b8a52dc0.pth", 5, 58.178, 80.624),
)
