"""ZFNet: AlexNet with smaller windows and strides in its first layers, found by visualising what these layers had learned.

Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, figure 3: 62,357,608 parameters for 224x224x3
images and 1000 classes. The padding of the first convolution and the windows that reach past the border in the first two poolings
give the figure's map sizes (110, 55, 26, 13). Its contrast normalisation across maps is taken to be AlexNet's.
"""

from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import IMAGENET, Published

WEIGHTS = layers.initializer("small_normal")  # section 3: 0.01; biases 0
relu = layers.activation("relu")


class ZFNet(Network):
    """Conv 7/2 96 - pool - LRN - conv 5/2 256 - pool - LRN - conv 3 384 - 384 - 256 - pool - 4096 - 4096 - output."""

    num_classes: int
    dropout_rate: Annotated[float, "dropout rate after each hidden dense layer", fraction] = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        conv = partial(layers.Conv, kernel_init=WEIGHTS, dtype=self.dtype)
        x = relu(conv(96, 7, 2, 1, name="conv1")(x))
        maps = [x]
        x = layers.local_response_norm(layers.max_pool(x, 3, 2, ceil_mode=True, name="pool1"))
        maps.append(x)
        x = relu(conv(256, 5, 2, "valid", name="conv2")(x))
        maps.append(x)
        x = layers.local_response_norm(layers.max_pool(x, 3, 2, ceil_mode=True, name="pool2"))
        x = relu(conv(384, 3, padding=1, name="conv3")(x))
        x = relu(conv(384, 3, padding=1, name="conv4")(x))
        x = relu(conv(256, 3, padding=1, name="conv5")(x))
        maps.append(x)
        x = layers.max_pool(x, 3, 2, name="pool5")
        if features_only:
            return [*maps, x]
        x = layers.flatten(x)
        dense = partial(layers.Dense, kernel_init=WEIGHTS, dtype=self.dtype)
        for name in ("fc6", "fc7"):
            x = layers.Dropout(self.dropout_rate)(relu(dense(4096, name=name)(x)), train)
        if not self.num_classes:
            return x
        return dense(self.num_classes, name="fc8")(x)


PUBLISHED = {
    "zfnet": Published(
        ZFNet,
        *IMAGENET,
        "Zeiler and Fergus, ECCV 2014, figure 3",
        result="38.4 % top-1 error on ImageNet's validation split, one network",
        counts=(62_357_608, 1_168_032_896),
    ),
}
