"""VGG: 11, 13, 16 and 19 layers of 3x3 convolutions.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015, table 1,
columns A, B, D and E. The `_bn` variants have batch normalisation after each convolution. For other sizes than 224 the
last maps are averaged to 7x7, as torchvision does; at 224 they are 7x7.
"""

from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction

# Convolutions in each of the five blocks of 64, 128, 256, 512 and 512 maps.
BLOCKS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
FEATURES = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """[[conv 3x3]*n - max-pool 2]*5 - 4096 - 4096 - output."""

    num_classes: int
    blocks: tuple[int, ...]
    batch_norm: bool
    dropout_rate: Annotated[float, "after each hidden dense layer", fraction] = 0.5
    sync_batch_norm: Annotated[bool, "statistics of the batch over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False
    ) -> Float[Array, "batch class"]:
        relu = layers.activation("relu")
        he = layers.initializer("he_normal")
        for block, (count, features) in enumerate(zip(self.blocks, FEATURES, strict=True), start=1):
            for index in range(1, count + 1):
                name = f"{block}_{index}"
                x = layers.Conv(features, (3, 3), padding=1, kernel_init=he, dtype=self.dtype, name=f"conv{name}")(x)
                if self.batch_norm:
                    x = layers.BatchNorm(self.sync_batch_norm, name=f"bn{name}")(x, train)
                x = relu(x)
            x = layers.max_pool(x, 2, name=f"pool{block}")
        x = layers.flatten(layers.adaptive_average_pool(x, (7, 7)))
        dense = {"kernel_init": layers.initializer("small_normal"), "dtype": self.dtype}
        for name in ("fc6", "fc7"):
            x = relu(layers.Dense(4096, name=name, **dense)(x))
            x = layers.Dropout(self.dropout_rate)(x, train)
        return layers.Dense(self.num_classes, name="fc8", **dense)(x)
