"""torchvision's GoogLeNet: batch normalisation instead of LRN and biases, and 3x3 instead of 5x5 convolutions.

6,624,904 parameters for 224x224x3 images and 1000 classes, 13,004,888 with the auxiliary heads. Its weights expect normalised images
(torchvision's `transform_input` is part of the preprocessing).
"""

from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models.googlenet import INCEPTIONS
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import HALF, IMAGENET, V1, Published, Torchvision, Weights

INITIAL = layers.initializers.truncated_normal(0.01)
ConvNorm = partial(layers.ConvNorm, epsilon=1e-3, kernel_init=INITIAL)


class InceptionTorchvision(nn.Module):
    """The four branches of an inception module."""

    maps: tuple[int, int, int, int, int, int]
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch h w features"]:
        def conv(name: str, features: int, size: int, x: Array) -> Array:
            settings = {"sync_batch_norm": self.sync_batch_norm, "dtype": self.dtype, "name": name}
            return ConvNorm(features, size, **settings)(x, train)

        one, three_reduce, three, five_reduce, five, projection = self.maps
        branches = (
            conv("branch1", one, 1, x),
            conv("branch2_1", three, 3, conv("branch2_0", three_reduce, 1, x)),
            conv("branch3_1", five, 3, conv("branch3_0", five_reduce, 1, x)),
            conv("branch4_1", projection, 1, layers.max_pool(x, 3, 1, padding=1, ceil_mode=True)),
        )
        return jnp.concatenate(branches, -1)


class AuxiliaryHeadTorchvision(nn.Module):
    """Average to 4x4 - conv 1x1 128 - dense 1024 - dropout 0.7 - output."""

    num_classes: int
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"], train: bool) -> Float[Array, "batch class"]:
        dense = {"kernel_init": INITIAL, "dtype": self.dtype}
        x = layers.adaptive_average_pool(x, (4, 4))
        x = ConvNorm(128, 1, sync_batch_norm=self.sync_batch_norm, dtype=self.dtype, name="conv")(x, train)
        x = layers.activation("relu")(layers.Dense(1024, name="fc1", **dense)(layers.flatten(x)))
        x = layers.Dropout(0.7)(x, train)
        return layers.Dense(self.num_classes, name="fc2", **dense)(x)


class GoogLeNetTorchvision(Network):
    """The paper's architecture with the layers above; auxiliary logits as in `googlenet.GoogLeNet`."""

    num_classes: int
    auxiliary_weight: Annotated[float, "weight of each auxiliary head's loss; 0 for no auxiliary heads", fraction] = 0.3
    dropout_rate: Annotated[float, "dropout rate before the output layer", fraction] = 0.2
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        shared = {"sync_batch_norm": self.sync_batch_norm, "dtype": self.dtype}
        x = ConvNorm(64, 7, 2, **shared, name="conv1")(x, train)
        maps = [x]
        x = layers.max_pool(x, 3, 2, ceil_mode=True, name="pool1")
        x = ConvNorm(64, 1, **shared, name="conv2")(x, train)
        x = ConvNorm(192, 3, **shared, name="conv3")(x, train)
        maps.append(x)
        x = layers.max_pool(x, 3, 2, ceil_mode=True, name="pool2")
        heads = self.num_classes and self.auxiliary_weight and not features_only
        for name, widths in INCEPTIONS.items():
            x = InceptionTorchvision(widths, **shared, name=f"inception{name}")(x, train)
            if name in ("3b", "4e"):
                maps.append(x)
            if name == "3b":
                x = layers.max_pool(x, 3, 2, ceil_mode=True, name="pool3")
            if name == "4e":
                x = layers.max_pool(x, 2, 2, ceil_mode=True, name="pool4")
            if name in ("4a", "4d") and heads and (train or self.is_initializing()):
                logits = AuxiliaryHeadTorchvision(self.num_classes, **shared, name=f"auxiliary{name}")(x, train)
                if train:
                    self.sow("auxiliary", f"logits{name}", logits)
        if features_only:
            return [*maps, x]
        x = layers.Dropout(self.dropout_rate)(layers.global_average_pool(x), train)
        return layers.output(x, self.num_classes, kernel_init=INITIAL, dtype=self.dtype, name="fc")


def torchvision_module(path: tuple[str, ...]) -> str:
    """torchvision's name of a layer."""
    heads = {"auxiliary4a": "aux1", "auxiliary4d": "aux2"}
    return ".".join(heads.get(module, module.replace("_", ".")) for module in path)


# torchvision 0.29.1, `models/googlenet.py`; Keras at commit 3422977 (22 August 2026), `applications/`.
DIFFERENCES = {
    "torchvision": "The same network. `transform_input` is not part of it: it undoes ImageNet's normalisation for the published weights, "
    "which `import-weights` does by means and deviations of 0.5. The auxiliary heads in the published file are not trained.",
    "Keras": "`keras.applications` has no GoogLeNet; its `InceptionV3` is a later network.",
}
PUBLISHED = {
    "googlenet_torchvision": Published(
        GoogLeNetTorchvision,
        *IMAGENET,
        "torchvision",
        parameters=6_624_904,
        macs=1_498_000_000,
        result="69.778 % top-1 accuracy on ImageNet's validation split",
        counts=(6_624_904, 1_498_376_192),
        torchvision=Torchvision("googlenet", torchvision_module, ("fc",), flattened={"fc1": (4, 4)}),
    ),
}
TORCHVISION_WEIGHTS = (Weights("googlenet", V1, "googlenet-1378be20.pth", 50, 69.778, 89.530, mean=HALF, std=HALF),)
