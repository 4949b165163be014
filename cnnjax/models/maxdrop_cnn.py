"""MaxDrop CNN: the network of Park and Kwak's study of dropout in convolutional layers.

Park and Kwak, "Analysis on the dropout effect in convolutional neural networks", ACCV 2016, from the authors' published network files:
7,640,394 parameters for 32x32x3 images and 10 classes, without batch normalisation.
"""

from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction, positive
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import CIFAR, Published

CONVOLUTIONS = (2, 2, 3, 3)  # of each block


class MaxDropCNN(Network):
    """[conv 3x3 - drop - ReLU] 64, 64 | 128, 128 | 256 x 3 | 512 x 3, max-pool between, average-pool 4 - dropout - output.

    The drop layer is between the convolution and the ReLU, except for the last convolution.
    """

    num_classes: int
    method: Annotated[
        Literal["none", "dropout", "spatial", "max_map", "max_channels", "stochastic_normal", "stochastic_uniform"],
        "kind of dropout in the convolutional layers",
    ] = "dropout"
    rate: Annotated[float, "dropout rate, or the mean of the drawn rates", fraction] = 0.1
    features: Annotated[int, "feature maps of the first block, doubled in each following block", positive] = 64
    dense_dropout_rate: Annotated[float, "dropout rate before the output layer", fraction] = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        xavier = layers.initializer("xavier_uniform")
        maps = []
        for block, count in enumerate(CONVOLUTIONS, start=1):
            features = self.features * 2 ** (block - 1)
            for index in range(1, count + 1):
                name = f"conv{block}_{index}"
                x = layers.Conv(features, (3, 3), padding=1, kernel_init=xavier, dtype=self.dtype, name=name)(x)
                if (block, index) != (4, 3):
                    x = layers.DROPOUTS[self.method](self.rate)(x, train)
                x = layers.activation("relu")(x)
            maps.append(x)
            pool, size = (layers.max_pool, 2) if block < 4 else (layers.average_pool, 4)
            x = pool(x, size, name=f"pool{block}")
        if features_only:
            return [*maps, x]
        x = layers.Dropout(self.dense_dropout_rate)(layers.flatten(x), train)
        return layers.output(x, self.num_classes, kernel_init=xavier, dtype=self.dtype, name="output")


PUBLISHED = {
    "maxdrop_cnn": Published(
        MaxDropCNN,
        *CIFAR,
        "Park and Kwak, ACCV 2016",
        parameters=7_640_394,
        result="12.22 % test error on CIFAR-10 with dropout 0.1",
        counts=(7_640_394, 284_890_112),
    ),
}
