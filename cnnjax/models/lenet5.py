"""LeNet-5 as it is taught today.

After LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", Proceedings of
the IEEE 86(11), 1998, with a full connection table, plain average pooling and a dense output: 61,706 parameters for
32x32x1 images and 10 classes.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers


class LeNet5(nn.Module):
    """C1 6@28x28 - S2 6@14x14 - C3 16@10x10 - S4 16@5x5 - C5 120 - F6 84 - output, for 32x32 images."""

    num_classes: int
    activation: layers.ActivationName = "tanh"
    pooling: layers.PoolingName = "average"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False
    ) -> Float[Array, "batch class"]:
        activation, pool = layers.activation(self.activation), layers.pooling(self.pooling)
        x = activation(layers.Conv(6, (5, 5), padding="valid", dtype=self.dtype, name="c1")(x))
        x = pool(x, 2)
        x = activation(layers.Conv(16, (5, 5), padding="valid", dtype=self.dtype, name="c3")(x))
        x = pool(x, 2)
        x = layers.flatten(x)  # C5's 5x5 kernels cover the whole map: a dense layer
        x = activation(layers.Dense(120, dtype=self.dtype, name="c5")(x))
        x = activation(layers.Dense(84, dtype=self.dtype, name="f6")(x))
        return layers.Dense(self.num_classes, dtype=self.dtype, name="output")(x)
