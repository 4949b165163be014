"""Pooling of regions: the part of a feature map within a box, as a map of fixed size."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnnjax.detection.objects import taken


def pyramid_level(
    boxes: Float[Array, "*batch 4"], first: int, last: int, size: float = 224.0, level: int = 4
) -> Int[Array, "*batch"]:
    """The level of a feature pyramid for each box, 0 for the first (Lin et al., CVPR 2017, equation 1).

    k = floor(level + log2(sqrt(width height) / size)),   within first to last

    Args:
      boxes: the boxes.
      first: the binary logarithm of the first map's stride.
      last: the binary logarithm of the last map's stride.
      size: the size of the boxes that belong to `level`.
      level: the level of boxes of that size.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    scale = jnp.sqrt(jnp.maximum(sides[..., 0] * sides[..., 1], 1e-12))
    # A part in a million, as in torchvision, so that rounding does not put a box of exactly a level's size below it.
    k = jnp.floor(level + jnp.log2(scale / size) + 1e-6)
    return (jnp.clip(k, first, last) - first).astype(jnp.int32)


def roi_align(
    maps: Sequence[Float[Array, "batch _h _w channel"]],
    boxes: Float[Array, "batch region 4"],
    levels: Int[Array, "batch region"],
    strides: Sequence[float],
    size: int = 7,
    samples: int = 2,
) -> Float[Array, "batch region size size channel"]:
    """RoIAlign: each box is divided into size x size bins; a bin's value is the mean of values interpolated at points of a map.

    He, Gkioxari, Dollár and Girshick, "Mask R-CNN", ICCV 2017, section 3, with torchvision's defaults (`aligned=False`): pixel x of the
    image is position x / stride of a map, boxes are at least one position wide and high, and a point that is more than one position
    outside of the map has the value 0. There is a gradient for the maps, and none for the boxes.

    Args:
      maps: the feature maps.
      boxes: the boxes, in pixels of the image.
      levels: the number of the map for each box.
      strides: the number of image pixels per position of each map.
      size: the number of bins along each side of a box.
      samples: the number of points along each side of a bin.
    """
    heights, widths = (jnp.array([each.shape[axis] for each in maps]) for axis in (1, 2))
    starts = jnp.cumsum(heights * widths) - heights * widths
    flat = jnp.concatenate([each.reshape(each.shape[0], -1, each.shape[-1]) for each in maps], 1)
    boxes = jax.lax.stop_gradient(boxes) / jnp.array(strides, boxes.dtype)[levels][..., None]
    points = (jnp.arange(size * samples) + 0.5) / samples  # in bins

    def along(axis: int, lengths: Int[Array, "level"]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """The two positions beside each point along an axis, and their weights."""
        start = boxes[..., axis, None]
        length = jnp.maximum(boxes[..., axis + 2, None] - start, 1)
        place, count = start + points * length / size, lengths[levels][..., None]
        outside = (place < -1) | (place > count)
        place = jnp.clip(place, 0, count - 1)
        low = jnp.floor(place).astype(jnp.int32)
        fraction = place - low
        weights = jnp.where(outside, 0, 1 - fraction), jnp.where(outside, 0, fraction)
        return (low, jnp.minimum(low + 1, count - 1)), weights

    (xs, x_weights), (ys, y_weights) = along(0, widths), along(1, heights)
    start, width = starts[levels][..., None, None], widths[levels][..., None, None]
    # Each bin is the weighted sum of samples^2 * 4 positions: one step for each, so that only one of them is in memory at a time.
    bins = (*boxes.shape[:2], size, samples, size, samples)
    places, weights = [], []
    for y, y_weight in zip(ys, y_weights, strict=True):
        for x, x_weight in zip(xs, x_weights, strict=True):
            places.append((start + y[..., :, None] * width + x[..., None, :]).reshape(bins))
            weights.append((y_weight[..., :, None] * x_weight[..., None, :]).reshape(bins))

    def in_turn(arrays: list[Array]) -> Array:
        return jnp.moveaxis(jnp.stack(arrays), (4, 6), (1, 2)).reshape(-1, *boxes.shape[:2], size, size)

    def add(total: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        place, weight = step
        return total + weight[..., None] * taken(flat, place), None

    total = jnp.zeros((*boxes.shape[:2], size, size, flat.shape[-1]), jnp.float32)
    total, _ = jax.lax.scan(add, total, (in_turn(places), in_turn(weights)))
    return (total / samples**2).astype(flat.dtype)


def roi_pool(
    feature_map: Float[Array, "batch height width channel"],
    boxes: Float[Array, "batch region 4"],
    stride: float,
    size: int = 7,
) -> Float[Array, "batch region size size channel"]:
    """RoI pooling: each box, rounded to positions of a map, is divided into size x size bins; a bin's value is its maximum.

    Girshick, "Fast R-CNN", ICCV 2015, section 2.1. Bins overlap if their borders are not whole numbers; a bin outside of the map is 0.
    Equal maxima share the gradient. There is a gradient for the map, and none for the boxes.

    Args:
      feature_map: the feature map.
      boxes: the boxes, in pixels of the image.
      stride: the number of image pixels per position of the map.
      size: the number of bins along each side of a box.
    """
    corners = jnp.floor(jax.lax.stop_gradient(boxes) / stride + 0.5)

    def covered(low: Array, high: Array, length: int) -> Bool[Array, "size place"]:
        """The positions of each bin along an axis."""
        step = jnp.maximum(high - low + 1, 1) / size
        number, place = jnp.arange(size)[:, None], jnp.arange(length)
        return (place >= jnp.floor(number * step) + low) & (place < jnp.ceil((number + 1) * step) + low)

    # One box at a time, whose maxima are computed again for the gradient: for each row of bins, the array of which they are taken is
    # as large as the map.
    @jax.checkpoint
    def pooled(feature_map: Float[Array, "height width channel"], box: Float[Array, "4"]) -> Array:
        height, width, _ = feature_map.shape
        rows, columns = covered(box[1], box[3], height), covered(box[0], box[2], width)
        lowest = jnp.finfo(feature_map.dtype).min
        by_row = jnp.where(rows[:, :, None, None], feature_map, lowest).max(1)
        bins = jnp.where(columns[:, :, None], by_row[:, None], lowest).max(2)
        return jnp.where((rows.any(1)[:, None] & columns.any(1))[..., None], bins, 0)

    return jax.vmap(lambda image, boxes: jax.lax.map(lambda box: pooled(image, box), boxes))(feature_map, corners)
