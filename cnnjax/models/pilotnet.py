"""PilotNet: from the picture of a car's camera to the curvature of its path.

Bojarski et al., "End to end learning for self-driving cars", arXiv:1604.07316, 2016, figure 4: 252,219 parameters for 66x200 images in
YUV. Convolutions and dense layers are those of the figure; the paper names no activation function, here it is ReLU. Images are normalised
by the data set's transforms instead of by a first layer. The figure calls the 1152 flattened values 1164 neurons.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import Published


class PilotNet(Network):
    """Conv 5x5/2 24, 36, 48 - conv 3x3 64, 64 - dense 100, 50, 10 - output."""

    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch number"] | FeatureMaps:
        relu, initial = layers.activation("relu"), {"kernel_init": layers.initializer("he_normal"), "dtype": self.dtype}
        conv, dense = partial(layers.Conv, padding="valid", **initial), partial(layers.Dense, **initial)
        maps = []
        for index, features in enumerate((24, 36, 48), start=1):
            if index > 1:
                maps.append(x)
            x = relu(conv(features, 5, 2, name=f"conv{index}")(x))
        for index in (4, 5):
            x = relu(conv(64, 3, name=f"conv{index}")(x))
        if features_only:
            return [*maps, x]
        x = layers.flatten(x)
        for index, width in enumerate((100, 50, 10), start=1):
            x = relu(dense(width, name=f"dense{index}")(x))
        return layers.output(x, self.num_classes, dtype=self.dtype, name="output")


PUBLISHED = {
    "pilotnet": Published(
        PilotNet,
        (66, 200, 3),
        1,
        "Bojarski et al., arXiv:1604.07316, figure 4",
        parameters=252_219,
        result="98 % of the time without intervention in a drive of Monmouth County",
        counts=(252_219, 26_876_342),
    ),
}
