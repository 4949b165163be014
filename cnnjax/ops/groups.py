"""Convolution of channels in groups, as a few dense convolutions of several groups each.

XLA on a CPU computes a convolution in groups one value at a time. Here the kernels of neighbouring groups are the blocks on the
diagonal of one dense kernel, zero elsewhere,

    K[:, (i, c), (j, f)] = k[:, c, (j, f)]   if i = j, else 0,        i, j = groups put together,

so that fast dense convolutions can be used. With n groups together, n times as many products are computed as needed, and an infinite
value or NaN in one of these groups makes the outputs of all of them NaN.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

# Groups are put together up to this many channels. Measured for 8 to 64 channels a group, maps of 7 to 28 pixels and batches of 16: more
# cost more products than they save, none at all is a quarter slower with 8 channels a group. A 3x3 convolution of 256 channels in 32 groups
# (16 images, 28x28) and its gradients take 36 ms, XLA's take 8,010 ms (2 cores of an AMD EPYC, 27 November 2026).
CHANNELS = 16


def together(groups: int, channels: int) -> int:
    """The number of groups that are put together: the largest divisor of `groups` with which there are at most `CHANNELS` channels."""
    return max(number for number in range(1, max(CHANNELS // channels, 1) + 1) if groups % number == 0)


def block_diagonal(
    kernel: Float[Array, "*kernel_size channel features"], number: int
) -> Float[Array, "*kernel_size number*channel features"]:
    """The dense kernel of a number of groups, from the kernels of the groups side by side."""
    *size, channels, features = kernel.shape
    blocks = kernel.reshape(*size, 1, channels, number, -1) * jnp.eye(number, dtype=kernel.dtype)[:, None, :, None]
    return blocks.reshape(*size, number * channels, features)


def convolution(
    dense: Callable[[Array, Array], Array],
    x: Float[Array, "batch *size channel"],
    kernel: Float[Array, "*kernel_size channel_per_group features"],
    groups: int,
) -> Float[Array, "batch *output_size features"]:
    """A convolution in groups by dense ones.

    Args:
      dense: the convolution of an input with a kernel, without groups.
      x: the input.
      kernel: the kernel of all groups.
      groups: the number of groups.
    """
    number = together(groups, kernel.shape[-2])
    parts = zip(*(jnp.split(array, groups // number, -1) for array in (x, kernel)), strict=True)
    return jnp.concatenate([dense(part, block_diagonal(own, number)) for part, own in parts], -1)
