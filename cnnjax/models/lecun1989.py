"""LeCun 1989: the first convolutional network trained by back-propagation on images of digits, with 9,760 free parameters.

LeCun, Boser, Denker, Henderson, Howard, Hubbard and Jackel, "Backpropagation applied to handwritten zip code recognition", Neural
Computation 1, 1989. The units of a map share their weights, but each has its own bias. A map of H2 is connected to 8 of the 12 maps of
H1. The paper does not say to which: here the first four maps are connected to the first eight, the next four to the last eight, and the
others to the first four and the last four. Images and maps are padded with -1. The activation function is 1.7159 tanh(2 x / 3), also of
the outputs, whose targets are 1 for the class and -1 for the others.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import Published

_FIRST, _MIDDLE, _LAST = range(4), range(4, 8), range(8, 12)
CONNECTIONS = 4 * ((*_FIRST, *_MIDDLE),) + 4 * ((*_MIDDLE, *_LAST),) + 4 * ((*_FIRST, *_LAST),)
BACKGROUND = -1.0


def bound(fan_in: int) -> float:
    """Weights are drawn uniformly between -2.4 / F and 2.4 / F, with F the number of inputs of a unit."""
    return 2.4 / fan_in


class UnitBias(nn.Module):
    """Adds a bias for each unit of each map."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"]) -> Float[Array, "batch height width channel"]:
        return x + self.param("bias", nn.initializers.zeros, x.shape[1:], jnp.float32).astype(x.dtype)


class LeCun1989(Network):
    """H1 12@8x8 - H2 12@4x4 - H3 30 - output, for 16x16 images of -1 to 1."""

    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        squash, maps = layers.scaled_tanh, []
        everywhere = 12 * (tuple(range(x.shape[-1])),)
        for name, connections in (("h1", everywhere), ("h2", CONNECTIONS)):
            x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=BACKGROUND)
            x = layers.PartialConv(connections, 5, "valid", bound, self.dtype, strides=2, use_bias=False, name=name)(x)
            x = squash(UnitBias(name=f"{name}_bias")(x))
            maps.append(x)
        if features_only:
            return maps
        for name, width in (("h3", 30), ("output", self.num_classes)):
            if width:
                x = layers.flatten(x) if name == "h3" else x
                drawn = layers.initializers.symmetric_uniform(bound(x.shape[-1]))
                x = squash(layers.Dense(width, kernel_init=drawn, dtype=self.dtype, name=name)(x))
        return x


PUBLISHED = {
    "lecun1989": Published(
        LeCun1989,
        (16, 16, 1),
        10,
        "LeCun et al., Neural Computation 1989",
        parameters=9_760,
        result="5.0 % test error on 2,007 digits of zip codes",
        counts=(9_760, 82_860),
    ),
}
