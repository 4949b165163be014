"""LeNet-5 of 1998: exactly as published, with 60,000 trainable parameters.

LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", Proceedings of the IEEE
86(11), 1998, section II-B. Each map of C3 is connected to some maps of S2 (table I), subsampling layers have one coefficient and one
bias per map, the squashing function is 1.7159 tanh(2 x / 3), and the output units are Euclidean radial basis functions whose centres
are fixed 7x12 drawings of the characters (figure 3).
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import Published

# Table I: the maps of S2 that each map of C3 is connected to.
CONNECTIONS = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip
CODE_ROWS, CODE_COLUMNS = 12, 7


def fan_in_uniform(fan_in: int) -> nn.initializers.Initializer:
    """An initialiser that draws uniformly between -2.4 / F and 2.4 / F, with F the number of inputs of a unit (appendix A)."""
    return layers.initializers.symmetric_uniform(2.4 / fan_in)


def character_codes(num_classes: int) -> Float[np.ndarray, "class 84"]:
    """The fixed centres of the output units, +1 for ink and -1 for paper.

    The first ten are 7x12 drawings of the digits in the style of the paper's figure 3. Further classes, which have no drawing, get
    fixed codes of random signs.
    """
    codes = np.full((max(num_classes, 10), CODE_ROWS, CODE_COLUMNS), -1.0, np.float32)
    for digit, rows in enumerate(_DIGITS):
        codes[digit] = [[1.0 if pixel == "#" else -1.0 for pixel in row] for row in rows.split()]
    signs = np.random.RandomState(1998).randint(0, 2, codes[10:].shape) * 2 - 1
    codes[10:] = signs
    return codes.reshape(len(codes), -1)[:num_classes]


class Subsampling(nn.Module):
    """y = f(coefficient * (sum of each 2x2 neighbourhood) + bias), with two parameters per map."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"]) -> Float[Array, "batch h w channel"]:
        channels = x.shape[-1:]
        coefficient = self.param("coefficient", fan_in_uniform(4), channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        total = 4 * layers.average_pool(x, 2, name="/".join(self.path))
        return layers.scaled_tanh(total * coefficient.astype(x.dtype) + bias.astype(x.dtype))


class LeNet51998(Network):
    """C1 6@28x28 - S2 6@14x14 - C3 16@10x10 - S4 16@5x5 - C5 120 - F6 84 - RBF, for 32x32 images.

    The logits are the negated outputs of the RBF units, -sum_j (F6_j - code_ij)^2: the largest is the nearest code.
    """

    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        squash, channels = layers.scaled_tanh, x.shape[-1]
        x = squash(
            layers.Conv(
                6, (5, 5), padding="valid", kernel_init=fan_in_uniform(25 * channels), dtype=self.dtype, name="c1"
            )(x)
        )
        maps = [x]
        x = Subsampling(name="s2")(x)
        x = squash(layers.PartialConv(CONNECTIONS, 5, "valid", lambda fan_in: 2.4 / fan_in, self.dtype, name="c3")(x))
        maps.append(x)
        x = Subsampling(name="s4")(x)
        x = layers.Conv(120, (5, 5), padding="valid", kernel_init=fan_in_uniform(400), dtype=self.dtype, name="c5")(x)
        x = squash(x)
        if features_only:
            return [*maps, x]
        x = layers.flatten(x)
        x = squash(layers.Dense(84, kernel_init=fan_in_uniform(120), dtype=self.dtype, name="f6")(x))
        if not self.num_classes:
            return x
        return -jnp.square(x[:, None, :] - character_codes(self.num_classes).astype(x.dtype)).sum(-1)


_DIGITS = (
    """
    .......
    ..###..
    .##.##.
    ##...##
    ##...##
    ##...##
    ##...##
    ##...##
    ##...##
    .##.##.
    ..###..
    .......
    """,
    """
    .......
    ...##..
    ..###..
    .####..
    ...##..
    ...##..
    ...##..
    ...##..
    ...##..
    ...##..
    .######
    .......
    """,
    """
    .......
    .#####.
    ##...##
    ##...##
    .....##
    ....##.
    ...##..
    ..##...
    .##....
    ##.....
    #######
    .......
    """,
    """
    .......
    .#####.
    ##...##
    .....##
    .....##
    ..####.
    .....##
    .....##
    .....##
    ##...##
    .#####.
    .......
    """,
    """
    .......
    ....##.
    ...###.
    ..####.
    .##.##.
    ##..##.
    ##..##.
    #######
    ....##.
    ....##.
    ....##.
    .......
    """,
    """
    .......
    #######
    ##.....
    ##.....
    ##.....
    ######.
    .....##
    .....##
    .....##
    ##...##
    .#####.
    .......
    """,
    """
    .......
    ..####.
    .##....
    ##.....
    ##.....
    ######.
    ##...##
    ##...##
    ##...##
    ##...##
    .#####.
    .......
    """,
    """
    .......
    #######
    .....##
    .....##
    ....##.
    ....##.
    ...##..
    ...##..
    ..##...
    ..##...
    ..##...
    .......
    """,
    """
    .......
    .#####.
    ##...##
    ##...##
    ##...##
    .#####.
    ##...##
    ##...##
    ##...##
    ##...##
    .#####.
    .......
    """,
    """
    .......
    .#####.
    ##...##
    ##...##
    ##...##
    ##...##
    .######
    .....##
    .....##
    ....##.
    .####..
    .......
    """,
)


PUBLISHED = {
    "lenet5_1998": Published(
        LeNet51998,
        (32, 32, 1),
        10,
        "LeCun et al., Proceedings of the IEEE 1998",
        parameters=60_000,
        result="0.95 % test error on MNIST",
        counts=(60_000, 415_680),
    ),
}
