"""Convolution with few multiplications: Winograd's F(4 x 4, 3 x 3) (Lavin and Gray, CVPR 2016).

A direct 3x3 convolution of stride 1 takes 9 products per output value and channel. Computed in tiles of 4x4 outputs, each
from 6x6 inputs,

    Y = A^T [ (G g G^T) * (B^T d B) ] A        (* element by element, summed over channels)

takes 36 products per tile, or 2.25 per value. Summed over channels, each of the 36 is a matrix product.

The factors of up to 8 in the transforms cost some accuracy: a layer's results differ from the direct sum by about 2e-6 of
their size. The difference grows through a deep network: VGG-11's gradients differed by 3e-4 of their size with some weights
and images, by 2e-3 with others. From 64 channels on, the saved products outweigh the transforms: ResNet-18's step at 32x32
takes two thirds of the time (2 cores of an AMD EPYC).
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

Images = Float[Array, "batch height width channel"]
Kernel = Float[Array, "3 3 channel features"]
Outputs = Float[Array, "batch output_height output_width features"]
Pairs = Sequence[tuple[int, int]]

TILE = 4  # outputs per tile along an axis
PATCH = TILE + 2  # inputs per tile along an axis

# The paper's matrices for the points 0, 1, -1, 2, -2 and infinity.
_A = np.array([[1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1]], np.float32)
_B = np.array(
    [
        [4, 0, 0, 0, 0, 0],
        [0, -4, 4, -2, 2, 4],
        [-5, -4, -4, -1, -1, 0],
        [0, 1, -1, 2, -2, -5],
        [1, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ],
    np.float32,
)
_G = np.array(
    [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
    np.float32,
)  # fmt: skip

Tiles = Float[Array, "patch_squared tile channel"]


# Traced once per shape, however many layers have it, so that a network starts faster.
_traced_once = partial(jax.jit, static_argnames="padding")


@_traced_once
def convolution(x: Images, kernel: Kernel, padding: Pairs) -> Outputs:
    """The convolution with a 3x3 kernel and stride 1."""
    batch, height, width = x.shape[0], *_output_size(x, padding)
    products = jnp.einsum("ptc,pcf->ptf", _input_tiles(x, padding), _kernel_tiles(kernel))
    rows, columns = -(-height // TILE), -(-width // TILE)
    patches = products.reshape(PATCH, PATCH, batch, rows, columns, -1)
    down = _transformed(_A.T, list(patches), 3)  # patch column, batch, tile row, row in tile, tile column, features
    y = _transformed(_A.T, list(down), 4)
    return y.reshape(batch, rows * TILE, columns * TILE, -1)[:, :height, :width]


@_traced_once
def weight_gradient(x: Images, gradient: Outputs, padding: Pairs) -> Kernel:
    """The gradient of the 3x3 kernel: the adjoints of the transforms, in reverse order."""
    products = jnp.einsum("ptc,ptf->pcf", _input_tiles(x, padding), _gradient_tiles(gradient))
    both = np.kron(_G, _G).T
    return (both @ products.reshape(PATCH**2, -1)).reshape(3, 3, x.shape[-1], gradient.shape[-1])


@_traced_once
def input_gradient(kernel: Kernel, gradient: Outputs, padding: Pairs) -> Images:
    """The gradient of the input: the convolution with the flipped kernel."""
    around = tuple((2 - before, 2 - after) for before, after in padding)
    return convolution(gradient, kernel[::-1, ::-1].swapaxes(2, 3), around)


def _output_size(x: Images, padding: Pairs) -> tuple[int, int]:
    height, width = (size + before + after - 2 for size, (before, after) in zip(x.shape[1:3], padding, strict=True))
    return height, width


def _transformed(matrix: Float[np.ndarray, "out in"], parts: list[Array], axis: int) -> Array:
    """The sums of the parts weighted by each row of the matrix, along a new axis; zero weights are skipped."""
    sums = [
        sum(part if weight == 1 else float(weight) * part for weight, part in zip(row, parts, strict=True) if weight)
        for row in matrix
    ]
    # Prevents fusion with the next transform, which would compute each sum six times.
    return lax.optimization_barrier(jnp.stack(sums, axis))


def _kernel_tiles(kernel: Kernel) -> Float[Array, "patch_squared channel features"]:
    return (np.kron(_G, _G) @ kernel.reshape(9, -1)).reshape(PATCH**2, *kernel.shape[2:])


def _input_tiles(x: Images, padding: Pairs) -> Tiles:
    (top, _), (left, _) = padding
    rows, columns = (-(-size // TILE) for size in _output_size(x, padding))
    bottom, right = rows * TILE + 2 - x.shape[1] - top, columns * TILE + 2 - x.shape[2] - left
    x = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    last_row, last_column = (rows - 1) * TILE + 1, (columns - 1) * TILE + 1
    down = _transformed(_B.T, [x[:, i : i + last_row : TILE] for i in range(PATCH)], 0)
    tiles = _transformed(_B.T, [down[:, :, :, j : j + last_column : TILE] for j in range(PATCH)], 1)
    return tiles.reshape(PATCH**2, -1, x.shape[-1])


def _gradient_tiles(gradient: Outputs) -> Tiles:
    height, width = gradient.shape[1:3]
    gradient = jnp.pad(gradient, ((0, 0), (0, -height % TILE), (0, -width % TILE), (0, 0)))
    down = _transformed(_A, [gradient[:, i::TILE] for i in range(TILE)], 0)
    tiles = _transformed(_A, [down[:, :, :, j::TILE] for j in range(TILE)], 1)
    return tiles.reshape(PATCH**2, -1, gradient.shape[-1])
