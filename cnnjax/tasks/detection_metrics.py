"""Metrics of detections: the average precision and recall of COCO, and the average precision of PASCAL VOC.

All are computed on the host, in float64, from the detections of a whole split. A detection is a hit if it overlaps an object of its
class by at least a threshold of the intersection over union (IoU); each object is hit once. Precision is the fraction of detections
that are hits, recall the fraction of objects that are hit, both over the detections above a score.

Objects are rows (x0, y0, x1, y1, class, status) in pixels; class -1 is padding. An object whose status is `IGNORED` is neither a miss
nor its detection a false alarm; a `CROWD` is a region of many objects, which is ignored too, and of which a detection needs only to
lie inside: its overlap is relative to the area of the detection.

Sources: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, with the evaluation at cocodataset.org/#detection-eval,
whose figures are equal to those of pycocotools; Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010, section
4.2 (11 points), and the development kit of VOC2010 (area).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cnnjax.data.boxes import CLASS, CROWD, STATUS

Rows = Float[np.ndarray, "example object 6"]

# COCO's thresholds of the IoU, and the recalls at which precision is read.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
# The largest numbers of detections of an image and class that count.
MOST = (1, 10, 100)
# COCO's ranges of the area in pixels; both ends belong to a range.
AREAS: Mapping[str, tuple[float, float]] = {
    "all": (0, 1e10),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
}


@dataclasses.dataclass(frozen=True)
class Matches:
    """The detections of one class over all images, the highest score first, and the objects that they hit.

    Attributes:
      scores: the score of each detection.
      image: the position of its image.
      rank: its rank among the detections of its image and class, from 0.
      row: its position among the detections of its image.
      object: the position of the object that it hits, in the rows of its image, by range of areas and threshold; -1 if there is none.
      ignored: whether it counts neither as a hit nor as a false alarm, by range of areas and threshold.
      objects: the number of objects to be found in each range of areas.
    """

    scores: Float[np.ndarray, "detection"]
    image: Int[np.ndarray, "detection"]
    rank: Int[np.ndarray, "detection"]
    row: Int[np.ndarray, "detection"]
    object: Int[np.ndarray, "range threshold detection"]
    ignored: Bool[np.ndarray, "range threshold detection"]
    objects: Int[np.ndarray, "range"]


@dataclasses.dataclass(frozen=True)
class Curves:
    """Precision and recall of every class; NaN for a class without objects in a range of areas.

    Attributes:
      precision: the largest precision at each recall of `RECALLS` or beyond it, with 100 detections of an image and class.
      recall: the recall with each number of detections in `MOST`.
    """

    precision: Float[np.ndarray, "range class threshold recall"]
    recall: Float[np.ndarray, "range class threshold most"]


def overlaps(
    boxes: Float[np.ndarray, "box 4"], others: Float[np.ndarray, "other 4"], crowd: Bool[np.ndarray, "other"]
) -> Float[np.ndarray, "box other"]:
    """The IoU of each box with each other box; for a crowd the intersection over the area of the box. Empty unions give 0."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low).clip(min=0).prod(-1)
    own, other = areas(boxes)[:, None], areas(others)[None]
    union = np.where(crowd, own, own + other - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def areas(boxes: Float[np.ndarray, "... 4"]) -> Float[np.ndarray, "..."]:
    """The areas of boxes."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def match(
    detections: Any,
    rows: Rows,
    number: int,
    thresholds: Sequence[float] = THRESHOLDS,
    object_areas: Float[np.ndarray, "example object"] | None = None,
) -> Matches:
    """Matches the detections of one class to its objects, as COCO does.

    In each image, detections choose in the order of their scores: of the objects that are still free and overlap enough, that with the
    largest IoU, ignored ones last.

    Args:
      detections: the `boxes`, `scores`, `classes` and `mask` of each image's detections, the highest score first.
      rows: the objects of each image.
      number: the class.
      thresholds: the smallest IoU of a hit.
      object_areas: the areas by which objects are small or large, such as those of their masks; None is the areas of their boxes.
    """
    thresholds = np.minimum(np.asarray(thresholds, np.float64), 1 - 1e-10)
    lower, upper = np.array([*AREAS.values()]).T[:, :, None]
    found, objects = [], np.zeros(len(AREAS), np.int64)
    for image, (boxes, scores, own_rows) in enumerate(_of_class(detections, rows, number)):
        objects_here = np.flatnonzero(rows[image][:, CLASS] == number)
        truth = rows[image][objects_here].astype(np.float64)
        size = areas(truth) if object_areas is None else object_areas[image][objects_here]
        ignored = (truth[:, STATUS] > 0) | (size < lower) | (size > upper)
        crowd = truth[:, STATUS] == CROWD
        objects += (~ignored).sum(1)
        hit, skipped = _matched(overlaps(boxes, truth[:, :4], crowd), ignored, crowd, thresholds)
        outside = ((area := areas(boxes)) < lower) | (area > upper)
        skipped |= (hit < 0) & outside[:, None]
        places = np.where(hit < 0, -1, objects_here[hit] if len(truth) else -1)
        found.append((scores, np.full(len(scores), image), np.arange(len(scores)), own_rows, places, skipped))
    scores, image, rank, row, places, skipped = (np.concatenate(parts, axis=-1) for parts in zip(*found, strict=True))
    order = np.argsort(-scores, kind="stable")
    return Matches(
        scores[order], image[order], rank[order], row[order], places[..., order], skipped[..., order], objects
    )


def _of_class(detections: Any, rows: Rows, number: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The boxes, scores and positions of each image's detections of a class, the highest score first, 100 at most."""
    for image in range(len(rows)):
        own = np.flatnonzero(np.asarray(detections.mask[image]) & (np.asarray(detections.classes[image]) == number))
        scores = np.asarray(detections.scores[image], np.float64)[own]
        own = own[np.argsort(-scores, kind="stable")][: MOST[-1]]
        yield (
            np.asarray(detections.boxes[image], np.float64)[own],
            np.asarray(detections.scores[image], np.float64)[own],
            own,
        )


def _matched(
    iou: Float[np.ndarray, "detection object"],
    ignored: Bool[np.ndarray, "range object"],
    crowd: Bool[np.ndarray, "object"],
    thresholds: Float[np.ndarray, "threshold"],
) -> tuple[Int[np.ndarray, "range threshold detection"], Bool[np.ndarray, "range threshold detection"]]:
    """The object that each detection of an image hits, or -1, and whether that object is ignored."""
    shape = len(ignored), len(thresholds)
    hit = np.full((*shape, len(iou)), -1)
    skipped = np.zeros(hit.shape, bool)
    if not iou.shape[1]:
        return hit, skipped
    free = np.ones((*shape, iou.shape[1]), bool)
    every, last = np.indices(shape), iou.shape[1] - 1
    for place, own in enumerate(iou):
        if own.max() < thresholds[0]:
            continue
        possible = free & (own >= thresholds[:, None])
        # Objects that count are preferred to ignored ones, whose IoU is lowered below all of theirs.
        value = np.where(possible, own - 2.0 * ignored[:, None], -4.0)
        chosen = last - value[..., ::-1].argmax(-1)  # among equals the last, as in pycocotools
        taken = value[(*every, chosen)] > -3
        hit[..., place] = np.where(taken, chosen, -1)
        skipped[..., place] = taken & np.take_along_axis(ignored, chosen, 1)
        free[(*every, chosen)] &= ~taken | crowd[chosen]
    return hit, skipped


def coco_curves(
    detections: Any, rows: Rows, classes: int, object_areas: Float[np.ndarray, "example object"] | None = None
) -> Curves:
    """The precision and recall of every class, by range of areas; arguments as in `match`, and the number of classes."""
    precision = np.full((len(AREAS), classes, len(THRESHOLDS), len(RECALLS)), np.nan)
    recall = np.full((len(AREAS), classes, len(THRESHOLDS), len(MOST)), np.nan)
    for number in range(classes):
        matches = match(detections, rows, number, object_areas=object_areas)
        for size in np.flatnonzero(matches.objects):
            for place, most in enumerate(MOST):
                recalls, precisions = precision_and_recall(matches, int(size), most)
                recall[size, number, :, place] = recalls[:, -1] if recalls.shape[1] else 0
            precision[size, number] = [_at_recalls(*pair) for pair in zip(recalls, precisions, strict=True)]
    return Curves(precision, recall)


def precision_and_recall(
    matches: Matches, size: int = 0, most: int = MOST[-1]
) -> tuple[Float[np.ndarray, "threshold detection"], Float[np.ndarray, "threshold detection"]]:
    """Recall and precision over the detections down to each one, by threshold.

    Args:
      matches: the matches of a class that has objects in the range of areas.
      size: the position of the range in `AREAS`.
      most: the largest number of detections of an image that count.
    """
    counted = matches.rank < most
    hit, ignored = matches.object[size][:, counted] >= 0, matches.ignored[size][:, counted]
    hits = np.cumsum(hit & ~ignored, axis=1, dtype=np.float64)
    alarms = np.cumsum(~hit & ~ignored, axis=1, dtype=np.float64)
    return hits / matches.objects[size], hits / (hits + alarms + np.spacing(1))


def _at_recalls(
    recall: Float[np.ndarray, "detection"], precision: Float[np.ndarray, "detection"]
) -> Float[np.ndarray, "recall"]:
    """The largest precision at each recall of `RECALLS` or beyond it; 0 at recalls that are not reached."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return np.append(envelope, 0.0)[np.searchsorted(recall, RECALLS, side="left")]


def coco_metrics(curves: Curves) -> dict[str, float]:
    """COCO's twelve figures: means over the classes that have objects.

    A figure of a range of areas in which no class has objects is left out; AP and AR are 0 if there are no objects at all.

    Returns:
      `AP`, the mean over `THRESHOLDS`; `AP50` and `AP75` at one threshold; `AP_small`, `AP_medium` and `AP_large`; the average
      recalls `AR1`, `AR10` and `AR100` with 1, 10 and 100 detections of an image and class, and by area.
    """
    precision, recall = curves.precision, curves.recall
    at = {50: [0], 75: [5]}
    figures = {
        "AP": precision[0],
        **{f"AP{threshold}": precision[0][:, places] for threshold, places in at.items()},
        **{f"AP_{name}": precision[place] for place, name in enumerate(AREAS) if place},
        **{f"AR{most}": recall[0][..., place] for place, most in enumerate(MOST)},
        **{f"AR_{name}": recall[place][..., -1] for place, name in enumerate(AREAS) if place},
    }
    known = {name: values[~np.isnan(values)] for name, values in figures.items()}
    if not len(known["AP"]):
        return {name: 0.0 for name in figures if "_" not in name}
    return {name: float(values.mean()) for name, values in known.items() if len(values)}


def class_figures(curves: Curves) -> Float[np.ndarray, "class 4"]:
    """AP, AP50, AP75 and AR100 of every class; NaN for a class without objects."""
    precision, recall = curves.precision[0], curves.recall[0]
    parts = precision.mean((1, 2)), precision[:, 0].mean(-1), precision[:, 5].mean(-1), recall[..., -1].mean(-1)
    return np.stack(parts, axis=-1)


def voc_metrics(detections: Any, rows: Rows, classes: int, threshold: float = 0.5) -> dict[str, float]:
    """PASCAL VOC's mean average precisions at one IoU over the classes that have objects; 0 without any.

    Unlike COCO's, a detection belongs to the object with the largest IoU even if another detection has hit that already, and is then
    a false alarm. Ignored objects are those that VOC marks as difficult.

    Returns:
      `VOC_AP`, the area below the curve of precision (made to fall) over recall, as from VOC2010 on; `VOC07_AP`, the mean of the
      largest precision at 11 recalls.
    """
    found = [_voc_curve(detections, rows, number, threshold) for number in range(classes)]
    found = [curve for curve in found if curve is not None]
    if not found:
        return {"VOC_AP": 0.0, "VOC07_AP": 0.0}
    return {
        "VOC_AP": float(np.mean([_area_below(*curve) for curve in found])),
        "VOC07_AP": float(np.mean([_at_eleven_points(*curve) for curve in found])),
    }


def _voc_curve(
    detections: Any, rows: Rows, number: int, threshold: float
) -> tuple[Float[np.ndarray, "detection"], Float[np.ndarray, "detection"]] | None:
    """Recall and precision of a class; None if it has no objects."""
    scores, verdicts, objects = [], [], 0
    for image, (boxes, own_scores, _) in enumerate(_of_class(detections, rows, number)):
        truth = rows[image][rows[image][:, CLASS] == number].astype(np.float64)
        difficult, free = truth[:, STATUS] > 0, np.ones(len(truth), bool)
        objects += int((~difficult).sum())
        for own in overlaps(boxes, truth[:, :4], np.zeros(len(truth), bool)):
            best = int(own.argmax()) if len(own) else -1
            if best < 0 or own[best] < threshold:
                verdicts.append((False, True))
            elif difficult[best]:
                verdicts.append((False, False))
            else:
                verdicts.append((bool(free[best]), not free[best]))
                free[best] = False
        scores.append(own_scores)
    if not objects:
        return None
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits, alarms = np.array(verdicts, float).reshape(-1, 2)[order].T.cumsum(-1)
    return hits / objects, hits / np.maximum(hits + alarms, np.finfo(np.float64).tiny)


def _area_below(recall: Float[np.ndarray, "detection"], precision: Float[np.ndarray, "detection"]) -> float:
    """The area below the curve of precision, made to fall, over recall."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * envelope).sum())


def _at_eleven_points(recall: Float[np.ndarray, "detection"], precision: Float[np.ndarray, "detection"]) -> float:
    """The mean over the recalls 0, 0.1, ..., 1 of the largest precision at this recall or beyond it."""
    return float(np.mean([precision[recall >= point].max(initial=0.0) for point in np.arange(11) / 10]))
