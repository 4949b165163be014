"""Boxes: area, overlap, clipping, and their coding as offsets from other boxes.

A box is (x0, y0, x1, y1) in pixels, its upper left corner and its lower right one. Pixel (0, 0) covers the square from (0, 0) to
(1, 1), so that the box of a whole image is (0, 0, width, height). A box without area is allowed everywhere: it overlaps nothing.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

Boxes = Float[Array, "*batch box 4"]
# The largest log(size / anchor's size) that `decode` uses, as in torchvision: an anchor of 16 pixels becomes a box of at most 1000.
MAX_LOG_SIZE = math.log(1000 / 16)


def area(boxes: Float[Array, "*batch 4"]) -> Float[Array, "*batch"]:
    """The area of boxes, (x1 - x0) (y1 - y0), and 0 where a side is negative.

    >>> area(jnp.array([[0.0, 0.0, 4.0, 2.0], [3.0, 3.0, 3.0, 9.0], [5.0, 5.0, 1.0, 1.0]])).tolist()
    [8.0, 0.0, 0.0]
    """
    width, height = (jnp.maximum(boxes[..., axis + 2] - boxes[..., axis], 0) for axis in (0, 1))
    return width * height


def intersection(first: Float[Array, "*batch a 4"], second: Float[Array, "*batch b 4"]) -> Float[Array, "*batch a b"]:
    """The area of the intersection of each box of the first set with each box of the second."""
    first, second = first[..., :, None, :], second[..., None, :, :]
    corners = jnp.maximum(first[..., :2], second[..., :2]), jnp.minimum(first[..., 2:], second[..., 2:])
    return area(jnp.concatenate(corners, -1))


def intersection_over_union(
    first: Float[Array, "*batch a 4"], second: Float[Array, "*batch b 4"]
) -> Float[Array, "*batch a b"]:
    """The intersection over union (Jaccard index) of each box of the first set with each box of the second.

    IoU(a, b) = |a ∩ b| / |a ∪ b|, from 0 to 1, and 0 if a box has no area.

    >>> intersection_over_union(jnp.array([[0.0, 0.0, 4.0, 2.0]]), jnp.array([[2.0, 0.0, 6.0, 2.0], [1.0, 1.0, 1.0, 1.0]]))[0, 1]
    Array(0., dtype=float32)
    """
    shared = intersection(first, second)
    union = area(first)[..., :, None] + area(second)[..., None, :] - shared
    return shared / jnp.where(union > 0, union, 1)


def coverage(first: Float[Array, "*batch a 4"], second: Float[Array, "*batch b 4"]) -> Float[Array, "*batch a b"]:
    """The fraction of each box of the first set that each box of the second covers: |a ∩ b| / |a|, and 0 for a box without area."""
    whole = area(first)[..., :, None]
    return intersection(first, second) / jnp.where(whole > 0, whole, 1)


def clip(boxes: Float[Array, "*batch 4"], size: tuple[int, int]) -> Float[Array, "*batch 4"]:
    """Boxes clipped to an image.

    Args:
      boxes: the boxes.
      size: the image's height and width.
    """
    height, width = size
    return jnp.clip(boxes, 0, jnp.array((width, height) * 2, boxes.dtype))


def encode(
    boxes: Float[Array, "*batch 4"],
    anchors: Float[Array, "*batch 4"],
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Array, "*batch 4"]:
    """Boxes as offsets from anchors, which a network regresses (Girshick et al., CVPR 2014, appendix C).

    t_x = w_x (x - x_a) / width_a,   t_width = w_width log(width / width_a),   and the same for y and height,

    with the centres (x, y). Sizes below a thousandth of a pixel are treated as a thousandth, so that offsets are finite.

    Args:
      boxes: the boxes.
      anchors: the anchor of each box.
      weights: the factors w on the offsets of x, y, width and height.
    """
    (x, y, width, height), (x_a, y_a, width_a, height_a) = _centres_and_sizes(boxes), _centres_and_sizes(anchors)
    offsets = (x - x_a) / width_a, (y - y_a) / height_a, jnp.log(width / width_a), jnp.log(height / height_a)
    return jnp.stack(offsets, -1) * jnp.array(weights, boxes.dtype)


def decode(
    offsets: Float[Array, "*batch 4"],
    anchors: Float[Array, "*batch 4"],
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
) -> Float[Array, "*batch 4"]:
    """Boxes from offsets; the inverse of `encode`. Sizes are at most 62.5 (1000 / 16) times the anchor's.

    Args:
      offsets: the offsets of x, y, width and height.
      anchors: the anchor of each box.
      weights: the factors on the offsets that `encode` was given.
    """
    x_a, y_a, width_a, height_a = _centres_and_sizes(anchors)
    x, y, width, height = (offsets[..., i] / weight for i, weight in enumerate(weights))
    x, y = x * width_a + x_a, y * height_a + y_a
    half_width = jnp.exp(jnp.minimum(width, MAX_LOG_SIZE)) * width_a / 2
    half_height = jnp.exp(jnp.minimum(height, MAX_LOG_SIZE)) * height_a / 2
    return jnp.stack((x - half_width, y - half_height, x + half_width, y + half_height), -1)


def _centres_and_sizes(boxes: Float[Array, "*batch 4"]) -> tuple[Array, Array, Array, Array]:
    x0, y0, x1, y1 = (boxes[..., i] for i in range(4))
    return (x0 + x1) / 2, (y0 + y1) / 2, jnp.maximum(x1 - x0, 1e-3), jnp.maximum(y1 - y0, 1e-3)
