"""Non-maximum suppression with a fixed number of results."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnnjax.detection.boxes import intersection_over_union
from cnnjax.detection.objects import Detections, taken

# The number of candidates that are compared at once: larger blocks need fewer rounds, with more comparisons each.
_BLOCK = 256


def suppress(
    boxes: Float[Array, "batch candidate 4"],
    scores: Float[Array, "batch candidate"],
    groups: Int[Array, "batch candidate"],
    mask: Bool[Array, "batch candidate"],
    threshold: float,
    count: int,
) -> tuple[Int[Array, "batch count"], Bool[Array, "batch count"]]:
    """Greedy non-maximum suppression: keeps the best candidate, drops those that overlap it, and so on.

    A candidate is dropped if its IoU with a kept candidate of its group is above the threshold. Candidates are processed in blocks, best
    first: each block is compared with the kept candidates, then with itself, until `count` candidates are kept. So n candidates need
    about n (count + block) comparisons instead of n^2, and fewer if the results are complete early.

    Args:
      boxes: the boxes.
      scores: the scores; of candidates with equal scores the first is the better one.
      groups: the group of each candidate, such as its class: candidates of different groups do not suppress each other.
      mask: whether each is a candidate.
      threshold: the largest IoU of two kept candidates of a group.
      count: the number of results.

    Returns:
      The numbers of the kept candidates, best first, and a mask; entries beyond the last result have the number 0.
    """
    boxes, scores = jax.lax.stop_gradient((boxes, scores))
    one = functools.partial(_suppress, threshold=threshold, count=count)
    return jax.vmap(one)(boxes, scores, groups, mask)


def _suppress(boxes: Array, scores: Array, groups: Array, mask: Array, threshold: float, count: int) -> tuple[Array, Array]:  # fmt: skip
    candidates = boxes.shape[0]
    block = min(_BLOCK, candidates)
    order = jnp.argsort(jnp.where(mask, -scores, jnp.inf), stable=True)
    order = jnp.pad(order, (0, -candidates % block))
    boxes, groups = boxes[order], groups[order]
    total = mask.sum()
    before = jnp.tri(block, k=-1, dtype=bool)  # (i, j): j is better than i

    def clashes(first: Array, first_groups: Array, second: Array, second_groups: Array) -> Bool[Array, "a b"]:
        return (intersection_over_union(first, second) > threshold) & (first_groups[:, None] == second_groups)

    def unfinished(state: tuple[Array, ...]) -> Bool[Array, ""]:
        start, found, _ = state
        return (start < total) & (found < count)

    def advance(state: tuple[Array, ...]) -> tuple[Array, ...]:
        start, found, kept = state
        taken, taken_groups = (jax.lax.dynamic_slice_in_dim(values, start, block) for values in (boxes, groups))
        is_kept = jnp.arange(count) < found
        alive = start + jnp.arange(block) < total
        alive &= ~(clashes(taken, taken_groups, boxes[kept], groups[kept]) & is_kept).any(1)
        within = clashes(taken, taken_groups, taken, taken_groups) & before

        # A candidate is kept if no better one that is kept clashes with it: the n best are decided after n rounds, and usually all
        # of them after a few.
        def again(state: tuple[Array, Array]) -> tuple[Array, Array]:
            keep, _ = state
            new = alive & ~(within & keep).any(1)
            return new, (new != keep).any()

        keep, _ = jax.lax.while_loop(lambda state: state[1], again, (alive, jnp.array(True)))
        places = jnp.where(keep, found + jnp.cumsum(keep) - 1, count)
        kept = kept.at[places].set(start + jnp.arange(block), mode="drop")
        return start + block, jnp.minimum(found + keep.sum(), count), kept

    start = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), jnp.zeros(count, jnp.int32)
    _, found, kept = jax.lax.while_loop(unfinished, advance, start)
    results = jnp.arange(count) < found
    return jnp.where(results, order[kept], 0), results


def best_candidates(
    scores: Float[Array, "batch anchor class"], threshold: float, count: int
) -> tuple[Int[Array, "batch candidate"], Int[Array, "batch candidate"], Float[Array, "batch candidate"]]:
    """The anchors and classes with the highest scores.

    Args:
      scores: the score of each class for each anchor.
      threshold: the score that a candidate must exceed; the others have the score 0.
      count: the number of candidates; fewer if there are fewer scores.

    Returns:
      The candidates' anchors, classes and scores, the best first.
    """
    batch, anchors, classes = scores.shape
    best, places = jax.lax.top_k(scores.reshape(batch, -1), min(count, anchors * classes))
    return places // classes, places % classes, jnp.where(best > threshold, best, 0)


def best_detections(
    boxes: Float[Array, "batch candidate 4"],
    scores: Float[Array, "batch candidate"],
    classes: Int[Array, "batch candidate"],
    mask: Bool[Array, "batch candidate"],
    threshold: float,
    count: int,
) -> Detections:
    """The detections that are left after suppression within each class; the arguments are those of `suppress`."""
    kept, found = suppress(boxes, scores, classes, mask, threshold, count)
    boxes, scores, classes = (taken(each, kept) for each in (boxes, scores, classes))
    return Detections(boxes * found[..., None], scores * found, classes * found, found)


def detections_by_map(
    boxes: Sequence[Float[Array, "batch _anchor 4"]],
    scores: Sequence[Float[Array, "batch _anchor class"]],
    score_threshold: float,
    candidates: int,
    threshold: float,
    count: int,
) -> Detections:
    """The detections of a network that scores each class for each anchor of several maps.

    Args:
      boxes: the boxes of each map's anchors.
      scores: the scores of each map's anchors.
      score_threshold: the score that a detection must exceed.
      candidates: the number of candidates of each map, which are its best.
      threshold: the largest IoU of two detections of a class.
      count: the number of detections.
    """
    found = []
    for each, score in zip(boxes, scores, strict=True):
        anchors, classes, best = best_candidates(score, score_threshold, candidates)
        found.append((taken(each, anchors), best, classes))
    all_boxes, best, classes = (jnp.concatenate(each, 1) for each in zip(*found, strict=True))
    return best_detections(all_boxes, best, classes, best > 0, threshold, count)
