"""MNIST CNN: the convolutional network of the MNIST tutorials.

It is the network of Keras's long-standing example `mnist_cnn.py`, with Glorot-uniform initialisation: 1,199,882 parameters for 28x28x1
images and 10 classes.
"""

from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import Published


class CNNSmall(Network):
    """Conv 3x3x32 - conv 3x3x64 - max-pool 2 - dropout - dense 128 - dropout - output."""

    num_classes: int
    conv_dropout_rate: Annotated[float, "dropout rate after the pooling", fraction] = 0.25
    dense_dropout_rate: Annotated[float, "dropout rate after the dense layer", fraction] = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        initial = {"kernel_init": layers.initializer("xavier_uniform"), "dtype": self.dtype}
        relu = layers.activation("relu")
        x = relu(layers.Conv(32, (3, 3), padding="valid", name="conv1", **initial)(x))
        x = relu(layers.Conv(64, (3, 3), padding="valid", name="conv2", **initial)(x))
        convolved = x
        x = layers.max_pool(x, 2, name="pool")
        x = layers.Dropout(self.conv_dropout_rate)(x, train)
        if features_only:
            return [convolved, x]
        x = layers.flatten(x)
        x = relu(layers.Dense(128, name="dense", **initial)(x))
        x = layers.Dropout(self.dense_dropout_rate)(x, train)
        return layers.output(x, self.num_classes, name="output", **initial)


PUBLISHED = {
    "cnn_small": Published(
        CNNSmall,
        (28, 28, 1),
        10,
        "Keras's mnist_cnn example",
        result="99.25 % test accuracy on MNIST",
        counts=(1_199_882, 11_992_448),
    ),
}
