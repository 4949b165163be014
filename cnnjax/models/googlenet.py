"""GoogLeNet: the published network, with 5x5 convolutions and local response normalisation, without batch normalisation.

Szegedy et al., "Going deeper with convolutions", CVPR 2015, table 1 and figure 3: 6,998,552 parameters for 224x224x3 images and 1000
classes, 13,378,280 with the two auxiliary heads used in training.
"""

from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import IMAGENET, Published

# Table 1: feature maps of #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj. 3b and 4e are followed by pooling.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
XAVIER = layers.initializer("xavier_uniform")


class Inception(nn.Module):
    """An inception module: parallel 1x1, 3x3 and 5x5 convolutions and pooling, with 1x1 reductions; ReLU after each convolution."""

    maps: tuple[int, int, int, int, int, int]
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"]) -> Float[Array, "batch height width features"]:
        def conv(name: str, features: int, size: int, x: Array) -> Array:
            layer = layers.Conv(features, (size, size), kernel_init=XAVIER, dtype=self.dtype, name=name)
            return layers.activation("relu")(layer(x))

        one, three_reduce, three, five_reduce, five, projection = self.maps
        branches = (
            conv("conv1x1", one, 1, x),
            conv("conv3x3", three, 3, conv("conv3x3_reduce", three_reduce, 1, x)),
            conv("conv5x5", five, 5, conv("conv5x5_reduce", five_reduce, 1, x)),
            conv("pool_projection", projection, 1, layers.max_pool(x, 3, 1, padding="same")),
        )
        return jnp.concatenate(branches, -1)


class AuxiliaryHead(nn.Module):
    """Average-pool 5/3 - conv 1x1 128 - dense 1024 - dropout 0.7 - output."""

    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"], train: bool) -> Float[Array, "batch class"]:
        relu = layers.activation("relu")
        initial = {"kernel_init": XAVIER, "dtype": self.dtype}
        x = layers.average_pool(x, 5, 3, name="/".join((*self.path, "pool")))
        x = relu(layers.Conv(128, (1, 1), name="conv", **initial)(x))
        x = relu(layers.Dense(1024, name="fc1", **initial)(layers.flatten(x)))
        x = layers.Dropout(0.7)(x, train)
        return layers.Dense(self.num_classes, name="fc2", **initial)(x)


class GoogLeNet(Network):
    """Conv 7/2 - pool - LRN - conv 1 - conv 3 - LRN - pool - nine inception modules - global average - dropout - output.

    In training, the logits of the auxiliary heads after 4a and 4d are sown into the collection "auxiliary", and the training step
    adds their losses with the weight `auxiliary_weight`. In prediction the heads are not computed.
    """

    num_classes: int
    auxiliary_weight: Annotated[float, "weight of each auxiliary head's loss; 0 for no auxiliary heads", fraction] = 0.3
    normalization: Annotated[
        Literal["local_response", "none"], "normalisation around the second convolution; local_response as published"
    ] = "local_response"
    dropout_rate: Annotated[float, "dropout rate before the output layer", fraction] = 0.4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        relu = layers.activation("relu")
        initial = {"kernel_init": XAVIER, "dtype": self.dtype}

        def pool(x: Array) -> Array:
            return layers.max_pool(x, 3, 2, padding="same")

        def normalize(x: Array) -> Array:
            return layers.local_response_norm(x) if self.normalization == "local_response" else x

        x = relu(layers.Conv(64, (7, 7), 2, name="conv1", **initial)(x))
        maps = [x]
        x = normalize(pool(x))
        x = relu(layers.Conv(64, (1, 1), name="conv2_reduce", **initial)(x))
        x = relu(layers.Conv(192, (3, 3), name="conv2", **initial)(x))
        maps.append(x)
        x = pool(normalize(x))
        heads = self.num_classes and self.auxiliary_weight and not features_only
        for name, widths in INCEPTIONS.items():
            x = Inception(widths, self.dtype, name=f"inception{name}")(x)
            if name in ("3b", "4e"):
                maps.append(x)
                x = pool(x)
            if name in ("4a", "4d") and heads and (train or self.is_initializing()):
                logits = AuxiliaryHead(self.num_classes, self.dtype, name=f"auxiliary{name}")(x, train)
                if train:
                    self.sow("auxiliary", f"logits{name}", logits)
        if features_only:
            return [*maps, x]
        x = layers.global_average_pool(x)
        x = layers.Dropout(self.dropout_rate)(x, train)
        return layers.output(x, self.num_classes, name="fc", **initial)


# torchvision 0.29.1, `models/googlenet.py`; Keras at commit 3422977 (22 August 2026), `applications/`.
DIFFERENCES = {
    "torchvision": "Another network, here `googlenet_torchvision`: batch normalisation (epsilon 1e-3) and no biases in convolutions, no local "
    "response normalisation, 3x3 convolutions instead of 5x5, dropout of 0.2 instead of 0.4, a last pooling of 2x2 instead of 3x3, and "
    "auxiliary heads that average to 4x4.",
    "Keras": "`keras.applications` has no GoogLeNet; its `InceptionV3` is a later network.",
}
PUBLISHED = {
    "googlenet": Published(
        GoogLeNet,
        *IMAGENET,
        "Szegedy et al., CVPR 2015",
        parameters=6_800_000,  # table 1: sums of the columns
        macs=1_500_000_000,
        counts=(6_998_552, 1_582_671_872),
    ),
}
