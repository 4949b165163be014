"""Network in network: each convolution is followed by two of 1x1, and class maps are averaged in place of dense layers.

Lin, Chen and Yan, "Network in network", ICLR 2014, the network for CIFAR-10 of the authors' Caffe file `cifar-10_def`: 966,986
parameters for 32x32x3 images and 10 classes. The class maps have a ReLU, as there.
"""

from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import CIFAR, Published


class NIN(Network):
    """Conv 5 192 - 1x1 160, 96 - max-pool - conv 5 192 - 1x1 192, 192 - average pool - conv 3 192 - 1x1 192, classes - global average."""

    num_classes: int
    dropout_rate: Annotated[float, "dropout rate after each pooling", fraction] = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        relu = layers.activation("relu")
        conv = partial(layers.Conv, kernel_init=layers.initializers.normal(0.05), dtype=self.dtype)
        x = relu(conv(192, 5, padding=2, name="conv1")(x))
        x = relu(conv(160, 1, name="mlp1_1")(x))
        x = relu(conv(96, 1, name="mlp1_2")(x))
        maps = [x]
        x = layers.Dropout(self.dropout_rate)(layers.max_pool(x, 3, 2, ceil_mode=True, name="pool1"), train)
        x = relu(conv(192, 5, padding=2, name="conv2")(x))
        x = relu(conv(192, 1, name="mlp2_1")(x))
        x = relu(conv(192, 1, name="mlp2_2")(x))
        maps.append(x)
        x = layers.Dropout(self.dropout_rate)(layers.average_pool(x, 3, 2, ceil_mode=True, name="pool2"), train)
        x = relu(conv(192, 3, padding=1, name="conv3")(x))
        x = relu(conv(192, 1, name="mlp3_1")(x))
        if features_only:
            return [*maps, x]
        if self.num_classes:
            x = relu(conv(self.num_classes, 1, name="mlp3_2")(x))
        return layers.global_average_pool(x)


PUBLISHED = {
    "nin": Published(
        NIN,
        *CIFAR,
        "Lin et al., ICLR 2014, and the authors' network file",
        result="10.41 % test error on CIFAR-10, 8.81 % with shifts and flips",
        counts=(966_986, 222_486_528),
    ),
}
