"""The input gradient of a strided convolution, as a convolution without gaps.

XLA computes it as a convolution of the gradient with zeros between its values, most products of which are with zeros. But the
input's positions s a + r, of one r = 0 ... s - 1 (a phase), receive only the kernel's elements r + s m:

    dx[s a + r] = sum over m of g[a - m] k[r + s m],

so that all phases are the features of one convolution, whose kernel has 1/s of the rows and columns. With 16 channels, 32 features, 128
images of 32x32 and a 3x3 kernel of stride 2 it takes 4.4 ms, XLA's own 9.5; from some 32 channels on XLA's is as fast, though
(2 cores of an AMD EPYC, 27 November 2026).
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def input_gradient(
    shape: Sequence[int],
    kernel: Float[Array, "kernel_height kernel_width channel features"],
    gradient: Float[Array, "batch output_height output_width features"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Float[Array, "batch height width channel"]:
    """The gradient of the input, which has the given shape; arguments as in `ops.convolution`."""
    (batch, height, width, channels), (down, right) = shape, strides
    (top, _), (left, _) = padding
    rows, columns = (-(-extent // step) for extent, step in zip(kernel.shape, strides, strict=False))
    missing = ((0, rows * down - kernel.shape[0]), (0, columns * right - kernel.shape[1]), (0, 0), (0, 0))
    whole = jnp.pad(kernel, missing)
    by_phase = whole.reshape(rows, down, columns, right, channels, -1)[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
    # The positions a of the padded input; outputs beyond them saw only padding.
    places_down, places_right = -(-(height + top) // down), -(-(width + left) // right)
    gradient = gradient[:, :places_down, :places_right]
    x = lax.conv_general_dilated(
        gradient,
        by_phase.reshape(rows, columns, -1, down * right * channels),
        (1, 1),
        [(rows - 1, places_down - gradient.shape[1]), (columns - 1, places_right - gradient.shape[2])],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = x.reshape(batch, places_down, places_right, down, right, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, places_down * down, places_right * right, channels)
    return x[:, top : top + height, left : left + width]
