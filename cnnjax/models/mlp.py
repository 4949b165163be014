"""Multilayer perceptrons: fully connected layers on the pixels.

The default, 784-800-10, is the network of Simard, Steinkraus and Platt, "Best practices for convolutional neural
networks applied to visual document analysis", ICDAR 2003: 636,010 parameters for 28x28 images and 10 classes.
"""

from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import all_positive, fraction
from cnnjax.models.published import Published


class MLP(nn.Module):
    """INPUT -> [FC -> activation -> dropout] for each of `features` -> FC."""

    num_classes: int
    features: Annotated[tuple[int, ...], "width of each hidden layer; () is a linear classifier", all_positive] = (800,)
    activation: layers.ActivationName = "relu"
    dropout_rate: Annotated[float, "dropout rate after each hidden layer", fraction] = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch *shape"], train: bool = False) -> Float[Array, "batch class"]:
        activation = layers.activation(self.activation)
        x = layers.flatten(x)
        for index, width in enumerate(self.features, start=1):
            x = activation(layers.Dense(width, dtype=self.dtype, name=f"hidden{index}")(x))
            x = layers.Dropout(self.dropout_rate)(x, train)
        return layers.output(x, self.num_classes, dtype=self.dtype, name="output")


PUBLISHED = {
    "mlp": Published(
        MLP,
        (28, 28, 1),
        10,
        "Simard et al., ICDAR 2003",
        result="1.6 % test error on MNIST",
        counts=(636_010, 635_200),
    ),
}
