"""All-CNN-C: the all convolutional network, with strided convolutions instead of pooling.

Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for simplicity: the all convolutional net", ICLR workshop 2015
(arXiv:1412.6806), model All-CNN-C of its table 2: about 1.4 million parameters for 32x32x3 images and 10 classes. The class maps
have no ReLU here, so that logits can be negative. Their mean over space then equals a dense layer on the mean features.
"""

from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction, positive
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import CIFAR, Published


class AllCNN(Network):
    """[conv 3x3, conv 3x3, conv 3x3 / 2] 96 | the same 192 - conv 3x3 192, unpadded - conv 1x1 192 - mean over space - output.

    Each convolution is followed by a ReLU; dropout is applied to the images and after each convolution of stride 2.
    """

    num_classes: int
    features: Annotated[int, "feature maps of the first block, doubled in the second", positive] = 96
    input_dropout_rate: Annotated[float, "dropout rate of the images", fraction] = 0.2
    block_dropout_rate: Annotated[float, "dropout rate after each block", fraction] = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        initial = {"kernel_init": layers.initializer("he_normal"), "dtype": self.dtype}
        relu = layers.activation("relu")
        x = layers.Dropout(self.input_dropout_rate)(x, train)
        maps = []
        for block, features in enumerate((self.features, 2 * self.features), start=1):
            for index, stride in enumerate((1, 1, 2), start=1):
                if stride == 2:
                    maps.append(x)
                x = relu(layers.Conv(features, (3, 3), stride, padding=1, name=f"conv{block}_{index}", **initial)(x))
            x = layers.Dropout(self.block_dropout_rate)(x, train)
        x = relu(layers.Conv(2 * self.features, (3, 3), padding="valid", name="conv3_1", **initial)(x))
        x = relu(layers.Conv(2 * self.features, (1, 1), name="conv3_2", **initial)(x))
        if features_only:
            return [*maps, x]
        x = layers.global_average_pool(x)
        return layers.output(x, self.num_classes, name="output", **initial)


PUBLISHED = {
    "all_cnn": Published(
        AllCNN,
        *CIFAR,
        "Springenberg et al., ICLR workshop 2015",
        result="9.08 % test error on CIFAR-10, 7.25 % with shifts and flips",
        counts=(1_369_738, 270_731_136),
    ),
}
