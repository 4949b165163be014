"""Convolution with few features, where neighbouring outputs of a row become the features of one convolution with a wider kernel.

XLA computes a convolution as a matrix product whose columns are the features: 8 or 16 of them do not fill a processor's
vectors. Of a kernel k of width w, n outputs side by side are those of one position of a kernel of width w + n - 1 and stride n,

    K[:, j, c, (i, f)] = k[:, j - i, c, f]        i = 0 ... n - 1, zero outside k,

and its output (batch, height, width / n, n features) has the memory layout of the result, (batch, height, width, features). Because of
the zeros it computes (w + n - 1) / w times as many products.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

# The number of features from which a matrix product is fast.
FEATURES = 32


def outputs(width: int, features: int) -> int:
    """The number of outputs of a row that are computed together: the largest divisor of the width with at most `FEATURES` features."""
    return max(number for number in range(1, max(FEATURES // features, 1) + 1) if width % number == 0)


def widened(
    kernel: Float[Array, "kernel_height kernel_width channel features"], number: int
) -> Float[Array, "kernel_height wider_width channel number*features"]:
    """The kernel that computes `number` outputs of a row at one position."""
    none, last = (0, 0), number - 1
    return jnp.concatenate([jnp.pad(kernel, (none, (i, last - i), none, none)) for i in range(number)], -1)
