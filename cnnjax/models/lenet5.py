"""LeNet-5: the form that is taught today.

After LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", Proceedings of the IEEE 86(11),
1998, with all connections, plain average pooling and a dense output: 61,706 parameters for 32x32x1 images and 10 classes, 61,932 with
batch normalisation. For signals and volumes its kernels have one or three spatial axes.
"""

from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import all_positive
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import Published


class LeNet5(Network):
    """C1 6@28x28 - S2 6@14x14 - C3 16@10x10 - S4 16@5x5 - C5 120 - F6 84 - output, for 32x32 images."""

    num_classes: int
    widths: Annotated[tuple[int, int, int, int], "feature maps of C1 and C3, units of C5 and F6", all_positive] = (
        6,
        16,
        120,
        84,
    )
    batch_norm: Annotated[
        bool, "batch normalisation after every convolution and hidden dense layer, instead of a bias"
    ] = False
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    activation: layers.ActivationName = "tanh"
    pooling: layers.PoolingName = "average"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *size channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        activation, pool = layers.activation(self.activation), layers.pooling(self.pooling)
        c1, c3, c5, f6 = self.widths
        # No bias before batch normalisation: it would be subtracted with the mean, and would not learn.
        settings = {"use_bias": not self.batch_norm, "dtype": self.dtype}

        def activate(x: Array, name: str) -> Array:
            if self.batch_norm:
                x = layers.BatchNorm(self.sync_batch_norm, name=f"bn_{name}")(x, train)
            return activation(x)

        x = activate(layers.Conv(c1, 5, padding="valid", name="c1", **settings)(x), "c1")
        maps = [x]
        x = pool(x, 2, name="s2")
        x = activate(layers.Conv(c3, 5, padding="valid", name="c3", **settings)(x), "c3")
        maps.append(x)
        x = pool(x, 2, name="s4")
        if features_only:
            return [*maps, x]
        x = layers.flatten(x)  # C5's 5x5 kernels cover the whole map, so that it is a dense layer
        x = activate(layers.Dense(c5, name="c5", **settings)(x), "c5")
        x = activate(layers.Dense(f6, name="f6", **settings)(x), "f6")
        return layers.output(x, self.num_classes, dtype=self.dtype, name="output")


PUBLISHED = {
    "lenet5": Published(LeNet5, (32, 32, 1), 10, "as taught, after LeCun et al., 1998", counts=(61_706, 416_520)),
    "lenet5_bn": Published(
        partial(LeNet5, batch_norm=True), (32, 32, 1), 10, "LeNet-5 with batch normalisation", counts=(61_932, 416_520)
    ),
}
