"""Depthwise convolution, of each channel with a kernel of its own, as a sum of shifted inputs.

There is no sum over channels, so that a matrix product has nothing to do: each kernel element multiplies a shifted input, and
all of them are one elementwise operation. Of 8 images of 56x56 with 96 channels and a 3x3 kernel, XLA's own took 69 ms of
each processor's time, with gradients 161, this 1.4 and 12, PyTorch 3.9 and 28 (2 cores of an AMD EPYC, 27 November 2026).
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.ops.storage import stored

# Images whose products are added as they are computed, for the kernel's gradient.
TOGETHER = 8


def convolution(
    x: Float[Array, "batch *size channel"],
    kernel: Float[Array, "*kernel_size 1 channel"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> Float[Array, "batch *output_size channel"]:
    """y[n, p, c] = sum over q of x[n, p * strides + q * dilation - before, c] kernel[q, 0, c]."""
    padded = stored(jnp.pad(x, ((0, 0), *padding, (0, 0))))
    return _convolution(padded, kernel, tuple(strides), tuple(dilation))


def _shifted(padded: Array, extents: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> list[Array]:
    """The inputs that each kernel element multiplies."""
    reach = [
        (length - gap * (extent - 1) - 1) // step * step + 1
        for length, gap, extent, step in zip(padded.shape[1:-1], dilation, extents, strides, strict=True)
    ]

    def shifted(place: Sequence[int]) -> Array:
        start = [position * gap for position, gap in zip(place, dilation, strict=True)]
        stop = [first + length for first, length in zip(start, reach, strict=True)]
        return lax.slice(padded, (0, *start, 0), (len(padded), *stop, padded.shape[-1]), (1, *strides, 1))

    return [shifted(place) for place in itertools.product(*map(range, extents))]


def _sum(padded: Array, kernel: Array, strides: Sequence[int], dilation: Sequence[int]) -> Array:
    extents = kernel.shape[:-2]
    elements = kernel.reshape(-1, kernel.shape[-1])
    return sum(
        shifted * element
        for shifted, element in zip(_shifted(padded, extents, strides, dilation), elements, strict=True)
    )


_convolution = jax.custom_vjp(_sum, nondiff_argnums=(2, 3))


def _forward(
    padded: Array, kernel: Array, strides: Sequence[int], dilation: Sequence[int]
) -> tuple[Array, tuple[Array, Array]]:
    return _sum(padded, kernel, strides, dilation), (padded, kernel)


def _backward(
    strides: Sequence[int], dilation: Sequence[int], arrays: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    """The gradients; that of a kernel element is the sum of the products of the input that it multiplies and the output's gradient.

    A reduction on a CPU reads its operands from memory, so that XLA would write each shifted input there. The products of some
    images are therefore added in an elementwise operation before they are reduced: a training step of MobileNetV2 (16 images of 224x224)
    takes 0.92 times as long (2 cores of an AMD EPYC, medians of two interleaved runs, 27 November 2026).
    """
    padded, kernel = arrays
    (from_padded,) = jax.linear_transpose(lambda padded: _sum(padded, kernel, strides, dilation), padded)(gradient)
    together = max(number for number in range(1, TOGETHER + 1) if len(padded) % number == 0)
    inputs, gradients = jnp.split(padded, together), jnp.split(gradient, together)
    shifted = [_shifted(part, kernel.shape[:-2], strides, dilation) for part in inputs]
    products = [sum(map(jnp.multiply, element, gradients)) for element in zip(*shifted, strict=True)]
    sums = [each.sum(range(each.ndim - 1)) for each in products]
    return from_padded, jnp.stack(sums).reshape(kernel.shape)


_convolution.defvjp(_forward, _backward)
