"""AlexNet.

Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", NIPS 2012. As published, it
has two towers that are connected only in the third convolution (2 groups in the second, fourth and fifth), and 60,965,224
parameters for 227x227x3 images and 1000 classes. (The paper says 224, but its first feature map of 55x55 needs 227.)
"""

from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import Published

# Section 5 of the paper: weights from N(0, 0.01^2). Biases are 1 in the second, fourth and fifth convolution and in the hidden
# dense layers, to give the ReLUs positive inputs from the start, and 0 elsewhere.
WEIGHTS = layers.initializer("small_normal")
ONES = nn.initializers.ones


class AlexNet(Network):
    """Conv 11/4 96 - LRN - pool - conv 5 256 - LRN - pool - conv 3 384 - 384 - 256 - pool - 4096 - 4096 - output."""

    num_classes: int
    towers: Annotated[int, "number of towers: 2 as published; 1 joins them, with 62,378,344 parameters"] = 2
    normalization: Annotated[
        Literal["before_pooling", "after_pooling", "none"],
        "position of local response normalisation; before_pooling as published",
    ] = "before_pooling"
    dropout_rate: Annotated[float, "dropout rate before each hidden dense layer", fraction] = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        relu = layers.activation("relu")

        def conv(name: str, features: int, kernel: int, **settings: Any) -> layers.Conv:
            return layers.Conv(features, (kernel, kernel), kernel_init=WEIGHTS, dtype=self.dtype, name=name, **settings)

        def normalize_and_pool(x: Array, name: str) -> Array:
            if self.normalization == "before_pooling":
                x = layers.local_response_norm(x)
            x = layers.max_pool(x, 3, 2, name=name)
            return layers.local_response_norm(x) if self.normalization == "after_pooling" else x

        x = relu(conv("conv1", 96, 11, strides=4, padding="valid")(x))
        maps = [x]
        x = normalize_and_pool(x, "pool1")
        x = relu(conv("conv2", 256, 5, padding=2, groups=self.towers, bias_init=ONES)(x))
        maps.append(x)
        x = normalize_and_pool(x, "pool2")
        x = relu(conv("conv3", 384, 3, padding=1)(x))
        x = relu(conv("conv4", 384, 3, padding=1, groups=self.towers, bias_init=ONES)(x))
        x = relu(conv("conv5", 256, 3, padding=1, groups=self.towers, bias_init=ONES)(x))
        maps.append(x)
        x = layers.max_pool(x, 3, 2, name="pool5")
        if features_only:
            return [*maps, x]
        x = layers.flatten(x)
        dense = {"kernel_init": WEIGHTS, "dtype": self.dtype}
        for name in ("fc6", "fc7"):
            x = layers.Dropout(self.dropout_rate)(x, train)
            x = relu(layers.Dense(4096, bias_init=ONES, name=name, **dense)(x))
        return layers.output(x, self.num_classes, name="fc8", **dense)


# torchvision 0.29.1, `models/alexnet.py`; Keras at commit 3422977 (22 August 2026), `applications/`.
DIFFERENCES = {
    "torchvision": "Another network, here `alexnet_torchvision`: one tower, 64-192-384-256-256 maps instead of 96-256-384-384-256, no "
    "local response normalisation, 224x224 images padded by 2 instead of 227x227, and an average to 6x6 before the dense layers.",
    "Keras": "`keras.applications` has no AlexNet.",
}
PUBLISHED = {
    "alexnet": Published(
        AlexNet,
        (227, 227, 3),
        1000,
        "Krizhevsky et al., NIPS 2012",
        parameters=60_965_224,
        result="40.7 % top-1 error on ImageNet's validation split, one network",
        counts=(60_965_224, 724_406_816),
    ),
}
