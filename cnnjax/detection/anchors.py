"""Anchors: the boxes of fixed sizes, around a grid of points, from which a detector's boxes are regressed."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Size = tuple[int, int]
# The anchors of one point, as boxes around (0, 0): constants of a program, and therefore NumPy arrays.
Shapes = Float[np.ndarray, "shape 4"]


def anchor_shapes(sizes: Sequence[float], ratios: Sequence[float] = (0.5, 1.0, 2.0)) -> Shapes:
    """The anchors around the point (0, 0), one for each ratio and size, with corners rounded to whole pixels as in torchvision.

    width = size / sqrt(ratio),   height = size sqrt(ratio)      (Ren et al., NIPS 2015, section 3.1.1)

    Args:
      sizes: the square roots of the areas.
      ratios: the heights over the widths.

    >>> anchor_shapes((32,), (0.5, 1.0)).tolist()
    [[-23.0, -11.0, 23.0, 11.0], [-16.0, -16.0, 16.0, 16.0]]
    """
    roots = np.sqrt(np.asarray(ratios, np.float32))[:, None]
    widths, heights = (1 / roots * np.float32(sizes)).ravel(), (roots * np.float32(sizes)).ravel()
    return np.round(np.stack((-widths, -heights, widths, heights), -1) / 2)


def grid_anchors(shapes: Shapes, grid: Size, image: Size) -> Float[Array, "anchor 4"]:
    """The anchors of a feature map: all shapes around each of its points, row by row.

    The point (row, column) of the map is the pixel (row * stride, column * stride) of the image. The stride is the whole number of
    pixels for each row and column: height // rows, as in torchvision.

    Args:
      shapes: the anchors of one point.
      grid: the height and width of the map.
      image: the height and width of the image.
    """
    y, x = (jnp.arange(points) * (length // points) for points, length in zip(grid, image, strict=True))
    corners = jnp.stack((jnp.broadcast_to(x[None], grid), jnp.broadcast_to(y[:, None], grid)) * 2, -1)
    return (corners[:, :, None].astype(jnp.float32) + shapes).reshape(-1, 4)


def pyramid_anchors(
    sizes: Sequence[Sequence[float]], ratios: Sequence[float], grids: Sequence[Size], image: Size
) -> list[Float[Array, "_anchor 4"]]:
    """The anchors of each map of a pyramid.

    Args:
      sizes: the sizes of the anchors of each map.
      ratios: the heights over the widths, the same for all maps.
      grids: the height and width of each map.
      image: the height and width of the image.
    """
    return [grid_anchors(anchor_shapes(each, ratios), grid, image) for each, grid in zip(sizes, grids, strict=True)]


def default_box_shapes(scale: float, next_scale: float, ratios: Sequence[float], image: Size) -> Shapes:
    """The default boxes of SSD around the point (0, 0) (Liu et al., ECCV 2016, section 2.2): squares, then a pair for each ratio.

    The squares have the sides s and sqrt(s s'), with the scale s of this map and s' of the next. For each ratio a there is one box of
    width s sqrt(a) and height s / sqrt(a), and one turned by 90 degrees. Sides are at most those of the image.

    Args:
      scale: the scale of the map, a fraction of the image's sides.
      next_scale: the scale of the next map.
      ratios: the ratios other than 1.
      image: the height and width of the image.
    """
    between = math.sqrt(scale * next_scale)
    sides = [(scale, scale), (between, between)]
    for root in map(math.sqrt, ratios):
        sides += [(scale * root, scale / root), (scale / root, scale * root)]
    half = np.minimum(np.float32(sides), 1) / 2 * np.float32(image[::-1])
    return np.concatenate((-half, half), -1)


def centred_anchors(shapes: Shapes, grid: Size, step: float) -> Float[Array, "anchor 4"]:
    """The anchors of a feature map around the centres of its cells: (column + 1/2, row + 1/2) times a step in pixels."""
    y, x = ((jnp.arange(points) + 0.5) * step for points in grid)
    corners = jnp.stack((jnp.broadcast_to(x[None], grid), jnp.broadcast_to(y[:, None], grid)) * 2, -1)
    return (corners[:, :, None] + shapes).reshape(-1, 4)
