"""Matching of anchors with objects, and sampling of the anchors that enter the losses.

A match is the number of an object, or `BACKGROUND`, or `NEITHER` for an anchor that enters no loss.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from cnnjax.detection.boxes import area, coverage
from cnnjax.detection.objects import Objects, taken

BACKGROUND, NEITHER = -1, -2
# If an ignored object covers more than this fraction of an anchor, the anchor is not background (as in Detectron).
COVERED = 0.7
Matches = Int[Array, "batch anchor"]


def match(
    overlaps: Float[Array, "*batch anchor objects"],
    wanted: Bool[Array, "*batch objects"],
    foreground: float,
    background: float,
    keep_best: bool,
) -> Int[Array, "*batch anchor"]:
    """Matches every anchor with the object that it overlaps most, if it overlaps enough (Ren et al., NIPS 2015, section 3.1.2).

    An anchor whose largest IoU is at least `foreground` is matched with that object; below `background` it is background, and in
    between neither. With `keep_best` the anchors that have the largest IoU with an object (ties included) are matched too, however
    small this IoU is, each with the object that the *anchor* overlaps most. An object that no anchor overlaps has no match.

    Args:
      overlaps: the intersection over union of each anchor with each object.
      wanted: whether each object is to be found; others, such as padding, match nothing.
      foreground: the smallest IoU of a match.
      background: the IoU below which an anchor is background.
      keep_best: whether the anchors with the largest IoU for an object are always matched.
    """
    overlaps = jnp.where(wanted[..., None, :], overlaps, 0)
    best, matches = overlaps.max(-1), overlaps.argmax(-1)
    found = best >= foreground
    if keep_best:
        most = overlaps.max(-2, keepdims=True)
        found |= ((overlaps == most) & (most > 0)).any(-1)
    return jnp.where(found, matches, jnp.where(best < background, BACKGROUND, NEITHER))


def match_default_boxes(
    overlaps: Float[Array, "*batch anchor objects"], wanted: Bool[Array, "*batch objects"], foreground: float
) -> Int[Array, "*batch anchor"]:
    """Matches default boxes with objects as SSD does (Liu et al., ECCV 2016, section 2.2).

    Each object is matched with the default box that it overlaps most, even if that box overlaps another object more; if it is the
    best box of several objects, it is matched with the last of them, as in torchvision. The other default boxes are matched by
    `match` with one threshold.

    Args:
      overlaps: the intersection over union of each default box with each object.
      wanted: whether each object is to be found.
      foreground: the smallest IoU of a match, below which a box is background.
    """
    matches = match(overlaps, wanted, foreground, foreground, keep_best=False)
    anchors, objects = overlaps.shape[-2:]
    best = overlaps.argmax(-2)
    own = (jnp.arange(anchors)[:, None] == best[..., None, :]) & (wanted & (overlaps.max(-2) > 0))[..., None, :]
    last = jnp.where(own, jnp.arange(objects), BACKGROUND).max(-1)
    return jnp.where(last >= 0, last, matches)


def match_points(
    anchors: Float[Array, "anchor 4"],
    boxes: Float[Array, "*batch objects 4"],
    wanted: Bool[Array, "*batch objects"],
    distances: Float[Array, "anchor 2"],
    radius: float,
) -> Int[Array, "*batch anchor"]:
    """Matches points with objects as FCOS does (Tian et al., ICCV 2019, section 3.2, with the later centre sampling).

    A point is matched with an object if it lies within the object's box, at most `radius` strides from the box's centre along both
    axes, and if its distance from the farthest side is in the range of the point's map. If several objects qualify, it is the one
    with the smallest area.

    Args:
      anchors: the points as squares of their map's stride.
      boxes: the boxes of the objects.
      wanted: whether each object is to be found.
      distances: the smallest and the largest distance from the farthest side, by point.
      radius: the radius of the centre, in strides.
    """
    x, y = ((anchors[:, axis] + anchors[:, axis + 2])[:, None] / 2 for axis in (0, 1))
    stride = anchors[:, 2:3] - anchors[:, 0:1]
    x0, y0, x1, y1 = (boxes[..., None, :, side] for side in range(4))
    away = jnp.maximum(jnp.abs(x - (x0 + x1) / 2), jnp.abs(y - (y0 + y1) / 2))
    sides = jnp.stack((x - x0, y - y0, x1 - x, y1 - y), -1)
    nearest, farthest = sides.min(-1), sides.max(-1)
    least, most = distances[:, 0:1], distances[:, 1:2]
    own = (away < radius * stride) & (nearest > 0) & (farthest > least) & (farthest < most) & wanted[..., None, :]
    areas = jnp.where(own, area(boxes)[..., None, :], jnp.inf)
    return jnp.where(own.any(-1), areas.argmin(-1), BACKGROUND)


def without_ignored(
    matches: Int[Array, "batch anchor"], anchors: Float[Array, "*batch anchor 4"], objects: Objects
) -> Int[Array, "batch anchor"]:
    """The matches, in which background anchors that an ignored object covers by more than 0.7 of their area are `NEITHER`."""
    covered = (coverage(anchors, objects.boxes) > COVERED) & objects.ignored[:, None]
    return jnp.where((matches == BACKGROUND) & covered.any(-1), NEITHER, matches)


def matched(matches: Matches, values: Array) -> Array:
    """The values of the objects that anchors are matched with; 0 where there is no match.

    Args:
      matches: the matches.
      values: the values by object, (batch, objects, ...).
    """
    chosen = taken(values, jnp.maximum(matches, 0))
    return jnp.where(matches.reshape(*matches.shape, *(1,) * (chosen.ndim - 2)) >= 0, chosen, 0)


def sample(
    keys: Key[Array, "batch"], matches: Matches, count: int, positive_fraction: float
) -> tuple[Int[Array, "batch count"], Bool[Array, "batch count"]]:
    """Draws the anchors that enter the losses: matched ones up to a fraction of the sample, and background for the rest.

    Ren et al., NIPS 2015, section 3.1.3. If there are too few background anchors, fewer anchors are drawn.

    Args:
      keys: the key of each example.
      matches: the matches.
      count: the number of anchors to draw.
      positive_fraction: the largest fraction of matched anchors.

    Returns:
      The anchors' numbers, the matched ones first, and whether each was drawn.
    """
    anchors = matches.shape[-1]
    most = min(int(count * positive_fraction), anchors)

    def draw(key: Key[Array, ""], matches: Int[Array, "anchor"]) -> tuple[Array, Array]:
        numbers = jax.random.uniform(key, (anchors,))

        def drawn(which: Bool[Array, "anchor"], most: int) -> tuple[Array, Array]:
            return jax.lax.top_k(jnp.where(which, numbers, -1), most)[1], jnp.minimum(which.sum(), most)

        positives, found = drawn(matches >= 0, most)
        negatives, others = drawn(matches == BACKGROUND, min(count, anchors))
        place = jnp.arange(count)
        positive = positives[jnp.minimum(place, most - 1)] if most else place
        negative = negatives[jnp.clip(place - found, 0, len(negatives) - 1)]
        return jnp.where(place < found, positive, negative), place < found + others

    return jax.vmap(draw)(keys, matches)
