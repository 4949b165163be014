"""COCO's precision and recall as the package faster-coco-eval computes them in C++, for large sets.

The figures are those of `detection_metrics`, whose `Curves` are returned: those of pycocotools.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from cnnjax.data.boxes import CLASS, CROWD, IGNORED, STATUS
from cnnjax.tasks.detection_metrics import Curves, Rows, areas

# An area outside all ranges: the package ignores crowds and what is outside a range, and nothing else that it is told to.
_OUTSIDE = -1.0


def faster_coco_curves(
    detections: Any, rows: Rows, classes: int, object_areas: Float[np.ndarray, "example object"] | None = None
) -> Curves:
    """The precision and recall of every class, by range of areas; arguments as in `detection_metrics.coco_curves`.

    Raises:
      ImportError: the package is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise ImportError(
            "config: task.evaluation='faster-coco-eval': the package is not installed: pip install 'cnnjax[detection]', or 'numpy'"
        ) from None
    truths = COCO(_annotations(rows, classes, object_areas))
    evaluation = COCOeval_faster(truths, truths.loadRes(_results(detections)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    # (threshold, recall, class, range, most) and (threshold, class, range, most); -1 where a class has no objects
    precision, recall = (np.asarray(evaluation.eval[name], np.float64) for name in ("precision", "recall"))
    precision, recall = precision[..., -1].transpose(3, 2, 0, 1), recall.transpose(2, 1, 0, 3)
    return Curves(np.where(precision < 0, np.nan, precision), np.where(recall < 0, np.nan, recall))


def _annotations(rows: Rows, classes: int, object_areas: Float[np.ndarray, "example object"] | None) -> dict[str, Any]:
    """Objects in the form of COCO's file."""
    images, places = np.nonzero(rows[..., CLASS] >= 0)
    objects = rows[images, places].astype(np.float64)
    sizes = areas(objects) if object_areas is None else object_areas[images, places]
    sizes = np.where(objects[:, STATUS] == IGNORED, _OUTSIDE, sizes)
    annotations = [
        {"id": number, "image_id": image, "category_id": int(own[CLASS]), "bbox": box, "area": area, "iscrowd": int(own[STATUS] == CROWD)}
        for number, (image, own, box, area) in enumerate(
            zip(images.tolist(), objects, _corner_and_size(objects).tolist(), sizes.tolist(), strict=True), start=1
        )
    ]  # fmt: skip
    return {
        "images": [{"id": image} for image in range(len(rows))],
        "categories": [{"id": number, "name": str(number)} for number in range(classes)],
        "annotations": annotations,
    }


def _results(detections: Any) -> Float[np.ndarray, "detection 7"]:
    """Detections in rows of image, left, top, width, height, score and class, those of an image in their order."""
    images, places = np.nonzero(np.asarray(detections.mask))
    boxes, scores, classes = (
        np.asarray(each)[images, places].astype(np.float64)
        for each in (detections.boxes, detections.scores, detections.classes)
    )
    return np.column_stack([images, _corner_and_size(boxes), scores, classes])


def _corner_and_size(boxes: Float[np.ndarray, "box edges"]) -> Float[np.ndarray, "box 4"]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:4] - boxes[:, :2]], 1)
