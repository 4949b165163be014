"""Convolution, in the sense of neural networks: cross-correlation, the kernel is not flipped."""

from collections.abc import Sequence

import jax
from jaxtyping import Array, Float


def convolution(
    x: Float[Array, "batch *size channel"],
    kernel: Float[Array, "*kernel_size channel_per_group features"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int = 1,
) -> Float[Array, "batch *output_size features"]:
    """y[n, p, f] = sum over q, c of x[n, p * strides + q * dilation - before, c] kernel[q, c, f].

    Args:
      x: images, channels last, of any number of spatial axes.
      kernel: its spatial axes, input channels of one group, output features.
      strides: one a spatial axis.
      padding: zeros (before, after) on each spatial axis.
      dilation: distance between the kernel's elements, one a spatial axis.
      groups: the channels are split into so many groups that do not see each other.
    """
    axes = "DHW"[-len(strides) :]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=groups,
    )
