"""torchvision's AlexNet: one tower, 64-192-384-256-256 maps, no normalisation; 61,100,840 parameters.

After Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997, 2014.
"""

from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import IMAGENET, V1, Published, Torchvision, Weights


class AlexNetTorchvision(Network):
    """Conv 11/4 64 - pool - conv 5 192 - pool - conv 3 384 - 256 - 256 - pool - 6x6 average - 4096 - 4096 - output."""

    num_classes: int
    dropout_rate: Annotated[float, "dropout rate before each hidden dense layer", fraction] = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        relu = layers.activation("relu")
        initial = {"kernel_init": layers.initializer("he_uniform"), "dtype": self.dtype}
        x = relu(layers.Conv(64, (11, 11), strides=4, padding=2, name="conv1", **initial)(x))
        maps = [x]
        x = layers.max_pool(x, 3, 2, name="pool1")
        x = relu(layers.Conv(192, (5, 5), padding=2, name="conv2", **initial)(x))
        maps.append(x)
        x = layers.max_pool(x, 3, 2, name="pool2")
        x = relu(layers.Conv(384, (3, 3), padding=1, name="conv3", **initial)(x))
        x = relu(layers.Conv(256, (3, 3), padding=1, name="conv4", **initial)(x))
        x = relu(layers.Conv(256, (3, 3), padding=1, name="conv5", **initial)(x))
        maps.append(x)
        x = layers.max_pool(x, 3, 2, name="pool5")
        if features_only:
            return [*maps, x]
        x = layers.flatten(layers.adaptive_average_pool(x, (6, 6)))
        for name in ("fc6", "fc7"):
            x = layers.Dropout(self.dropout_rate)(x, train)
            x = relu(layers.Dense(4096, name=name, **initial)(x))
        return layers.output(x, self.num_classes, name="fc8", **initial)


_FEATURES = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8, "conv5": 10}
_CLASSIFIER = {"fc6": 1, "fc7": 4, "fc8": 6}


def torchvision_module(path: tuple[str, ...]) -> str:
    """torchvision's name of a layer."""
    (name,) = path
    return f"features.{_FEATURES[name]}" if name in _FEATURES else f"classifier.{_CLASSIFIER[name]}"


# torchvision 0.29.1, `models/alexnet.py`; Keras at commit 3422977 (22 August 2026), `applications/`.
DIFFERENCES = {
    "torchvision": "The same network. Initial weights differ: PyTorch's default, uniform with variance 1/(3 inputs), there; He uniform here.",
    "Keras": "`keras.applications` has no AlexNet.",
}
PUBLISHED = {
    "alexnet_torchvision": Published(
        AlexNetTorchvision,
        *IMAGENET,
        "torchvision",
        parameters=61_100_840,
        macs=714_000_000,
        result="56.522 % top-1 accuracy on ImageNet's validation split",
        counts=(61_100_840, 714_188_480),
        torchvision=Torchvision("alexnet", torchvision_module, ("fc8",), flattened={"fc6": (6, 6)}),
    ),
}
TORCHVISION_WEIGHTS = (Weights("alexnet", V1, "alexnet-owt-7be5be79.pth", 233, 56.522, 79.066),)
