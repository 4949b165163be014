"""airbench94: a stem of 2x2 patches and three groups of two convolutions without residual connections, for CIFAR-10.

Jordan, "94 % on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498, 2024, and its file `airbench94.py`: 1,971,640 parameters.
The first output maps of each convolution initially copy its inputs, batch normalisation has no scale, and the logits are divided by 9. In
that file the stem's kernel is set so that it whitens the training images, and is frozen; here it is initialised at random and trained.
"""

from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import positive
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import CIFAR, Published

# PyTorch's initial distribution of convolutions and dense layers: uniform within 1 / sqrt(inputs).
DRAWN = layers.initializers.scaled(1 / 3, "uniform")


def identity(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Float[Array, "h w inputs maps"]:
    """A kernel whose first output maps copy the inputs, and whose other output maps are random."""
    *window, inputs, maps = shape
    first = np.zeros((*window, inputs, min(inputs, maps)), dtype)
    first[tuple(side // 2 for side in window)] = np.eye(inputs, min(inputs, maps))
    return DRAWN(key, shape, dtype).at[..., : min(inputs, maps)].set(first)


class Group(nn.Module):
    """Conv 3x3 - max-pool 2 - batch norm - GELU - conv 3x3 - batch norm - GELU."""

    features: int
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch h w features"]:
        gelu = layers.activation("gelu")
        for index in (1, 2):
            x = layers.Conv(
                self.features, 3, padding=1, use_bias=False, kernel_init=identity, dtype=self.dtype, name=f"conv{index}"
            )(x)
            x = layers.max_pool(x, 2, name="pool") if index == 1 else x
            norm = layers.BatchNorm(
                self.sync_batch_norm, momentum=0.6, epsilon=1e-12, use_scale=False, name=f"bn{index}"
            )
            x = gelu(norm(x, train))
        return x


class Airbench(Network):
    """Conv 2x2 - GELU - groups of 64, 256 and 256 maps - max-pool 3 - output."""

    num_classes: int
    features: Annotated[int, "feature maps of the first group; the others have four times as many", positive] = 64
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        patches = 2 * 4 * x.shape[-1]  # each principal component of 2x2 patches, and its negative
        x = layers.Conv(patches, 2, padding=0, kernel_init=DRAWN, dtype=self.dtype, name="stem")(x)
        x = layers.activation("gelu")(x)
        maps = []
        for index, width in enumerate((self.features, 4 * self.features, 4 * self.features), start=1):
            maps.append(x)
            x = Group(width, self.sync_batch_norm, self.dtype, name=f"group{index}")(x, train)
        if features_only:
            return [*maps, x]
        x = layers.flatten(layers.max_pool(x, 3, name="pool"))
        x = layers.output(x, self.num_classes, use_bias=False, kernel_init=DRAWN, dtype=self.dtype, name="fc")
        return x / 9 if self.num_classes else x


PUBLISHED = {
    "airbench94": Published(
        Airbench,
        *CIFAR,
        "Jordan, arXiv:2404.00498",
        result="94.01 % test accuracy on CIFAR-10 after 9.9 epochs, with six views",
        counts=(1_971_640, 118_147_360),
    ),
}
