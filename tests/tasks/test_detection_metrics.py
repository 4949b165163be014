"""Average precision and recall, against pycocotools and against VOC's definitions, written out."""

import contextlib
import io
from types import SimpleNamespace

import numpy as np
import pytest

from cnnjax.data.boxes import COLUMNS, CROWD, IGNORED, as_rows, padded
from cnnjax.tasks.detection_metrics import (
    class_figures,
    coco_curves,
    coco_metrics,
    match,
    overlaps,
    precision_and_recall,
    voc_metrics,
)
from cnnjax.tasks.faster_coco_metrics import faster_coco_curves

CLASSES, MOST = 4, 130


def detections(of_images):
    """Detections of (boxes, scores, classes) by image, padded to one number."""
    count = max([len(scores) for _, scores, _ in of_images], default=0)
    found = SimpleNamespace(
        boxes=np.zeros((len(of_images), count, 4), np.float32),
        scores=np.zeros((len(of_images), count), np.float32),
        classes=np.zeros((len(of_images), count), np.int32),
        mask=np.zeros((len(of_images), count), bool),
    )
    for image, (boxes, scores, classes) in enumerate(of_images):
        place = image, slice(0, len(scores))
        found.boxes[place], found.scores[place], found.classes[place] = np.reshape(boxes, (-1, 4)), scores, classes
        found.mask[place] = True
    return found


def random_boxes(generator, count):
    corner = generator.uniform(0, 200, (count, 2))
    return np.concatenate([corner, corner + generator.gamma(2, 25, (count, 2))], 1)


def random_split(seed, images=24):
    """Objects with crowds and ignored ones, and detections near them and elsewhere; empty images; a class that does not occur."""
    generator = np.random.default_rng(seed)
    rows, found = [], []
    for image in range(images):
        count = 0 if image % 6 == 0 else generator.integers(1, 12)
        boxes = random_boxes(generator, count).astype(np.float32)
        status = generator.choice([0, 0, 0, IGNORED, CROWD], count)
        rows.append(padded(as_rows(boxes, generator.integers(0, CLASSES - 1, count), status), 12))
        near = np.repeat(boxes, 2, 0) + generator.normal(0, 4, (2 * count, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2])
        others = random_boxes(generator, 0 if image % 4 == 1 else 5 if image % 5 else MOST - 2 * count)
        both = np.concatenate([near, others])
        scores = np.sort(generator.choice(np.linspace(0, 1, 60), len(both)))[::-1]  # with ties
        mixed = generator.permutation(len(both))
        own = np.repeat(rows[-1][:count, 4], 2)
        classes = np.concatenate([own, generator.integers(0, CLASSES, len(others))])
        classes = np.where(generator.random(len(classes)) < 0.2, generator.integers(0, CLASSES, len(classes)), classes)
        found.append((both[mixed], scores, classes[mixed]))
    return np.stack(rows), detections(found)


def pycocotools_figures(rows, found, areas=None):
    """The twelve figures, and the AP of each class, as pycocotools computes them; ignored objects are its `ignore`."""
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")

    class Evaluation(cocoeval.COCOeval):
        def _prepare(self):  # which takes only crowds for ignored
            super()._prepare()
            for of_pair in self._gts.values():
                for truth in of_pair:
                    truth["ignore"] = truth["ignore"] or truth["left_out"]

    def box(edges):
        x0, y0, x1, y1 = map(float, edges)
        return [x0, y0, x1 - x0, y1 - y0]

    truths = coco.COCO()
    annotations = [
        {
            "image_id": image,
            "category_id": int(row[4]),
            "bbox": box(row[:4]),
            "area": float((row[2] - row[0]).astype(float) * (row[3] - row[1]))
            if areas is None
            else areas[image, place],
            "iscrowd": int(row[5] == CROWD),
            "left_out": int(row[5] > 0),
        }
        for image, own in enumerate(rows)
        for place, row in enumerate(own.astype(np.float64))
        if row[4] >= 0
    ]
    truths.dataset = {
        "images": [{"id": image} for image in range(len(rows))],
        "categories": [{"id": number} for number in range(CLASSES)],
        "annotations": [{**one, "id": number + 1} for number, one in enumerate(annotations)],
    }
    results = [
        {"image_id": image, "category_id": int(label), "bbox": box(edges.astype(np.float64)), "score": float(score)}
        for image in range(len(rows))
        for edges, score, label, here in zip(
            found.boxes[image], found.scores[image], found.classes[image], found.mask[image], strict=True
        )
        if here
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truths.createIndex()
        evaluation = Evaluation(truths, truths.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100", "AR_small", "AR_medium"
    precision = evaluation.eval["precision"][..., 0, -1]
    return dict(zip((*names, "AR_large"), evaluation.stats, strict=True)), precision.mean((0, 1))


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_pycocotools(seed):
    rows, found = random_split(seed)
    areas = None if seed % 2 else np.random.default_rng(seed).uniform(0, 12_000, rows.shape[:2])
    curves = coco_curves(found, rows, CLASSES, areas)
    expected, of_classes = pycocotools_figures(rows, found, areas)
    assert coco_metrics(curves) == pytest.approx(expected, abs=1e-9) and 0.05 < expected["AP"] < 0.9
    np.testing.assert_allclose(np.nan_to_num(class_figures(curves)[:, 0], nan=-1), of_classes, atol=1e-9)
    assert of_classes[-1] == -1  # never in the objects, often in the detections


@pytest.mark.parametrize("seed", range(2))
def test_those_of_faster_coco_eval_are_the_same(seed):
    pytest.importorskip("faster_coco_eval")
    rows, found = random_split(seed)
    areas = None if seed % 2 else np.random.default_rng(seed).uniform(0, 12_000, rows.shape[:2])
    ours, theirs = (curves(found, rows, CLASSES, areas) for curves in (coco_curves, faster_coco_curves))
    np.testing.assert_allclose(theirs.precision, ours.precision, rtol=0, atol=1e-9)
    np.testing.assert_allclose(theirs.recall, ours.recall, rtol=0, atol=1e-9)
    none = faster_coco_curves(detections([([], [], [])] * len(rows)), rows, CLASSES)
    assert coco_metrics(none) == coco_metrics(coco_curves(detections([([], [], [])] * len(rows)), rows, CLASSES))


def test_figures_by_hand():
    # One object is found well, one loosely; a second detection of the first is a false alarm, as is one elsewhere.
    rows = padded(as_rows([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 0]), 3)[None]
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 26], [60, 60, 70, 70]]
    found = detections([(boxes, [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 0])])
    figures = coco_metrics(coco_curves(found, rows, 1))
    # Precision is 1 up to a recall of 1/2 (51 of 101 points), then 2/3; from an IoU of 0.65 on the second object is missed.
    assert figures["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101) and figures["AP75"] == pytest.approx(51 / 101)
    assert figures["AR1"] == 0.5 and figures["AR100"] == pytest.approx((3 + 7 / 2) / 10) == figures["AR10"]
    assert figures["AP_small"] == figures["AP"] and "AP_large" not in figures
    voc = voc_metrics(found, rows, 1)
    assert voc == pytest.approx({"VOC_AP": 1 / 2 + 1 / 2 * 2 / 3, "VOC07_AP": (6 + 5 * 2 / 3) / 11})
    matches = match(found, rows, 0, [0.5])
    assert matches.object[0, 0].tolist() == [0, -1, 1, -1] and not matches.ignored[0].any()
    recall, precision = precision_and_recall(matches)
    np.testing.assert_allclose(recall, [[0.5, 0.5, 1, 1]])
    np.testing.assert_allclose(precision, [[1, 1 / 2, 2 / 3, 1 / 2]])


def test_ignored_objects_and_crowds_are_neither_misses_nor_alarms():
    rows = as_rows([[0, 0, 10, 10], [20, 20, 60, 60], [70, 70, 80, 80]], [0, 0, 0], [0, CROWD, IGNORED])[None]
    inside = [[21, 21, 25, 25], [50, 50, 55, 55]]  # of the crowd, each a hundredth of its area
    found = detections([([*inside, [70, 70, 80, 80], [0, 0, 10, 10]], [0.9, 0.8, 0.7, 0.6], [0] * 4)])
    assert coco_metrics(coco_curves(found, rows, 1))["AP"] == pytest.approx(1)
    # VOC knows no crowds: what lies inside overlaps it too little.
    assert voc_metrics(found, rows, 1)["VOC_AP"] == pytest.approx(1 / 3)


def test_a_second_detection_takes_another_object_in_coco_and_is_an_alarm_in_voc():
    rows = as_rows([[0, 0, 10, 10], [0, 0, 10, 13]], [0, 0])[None]
    found = detections([([[0, 0, 10, 10], [0, 0, 10, 10.5]], [0.9, 0.8], [0, 0])])
    assert coco_metrics(coco_curves(found, rows, 1))["AP50"] == pytest.approx(1)
    assert voc_metrics(found, rows, 1)["VOC_AP"] == pytest.approx(0.5)


def test_without_objects_or_detections():
    nothing = padded(np.zeros((0, COLUMNS), np.float32), 2)[None]
    one = detections([([[0, 0, 10, 10]], [0.5], [1])])
    none = detections([([], [], [])])
    for found in (one, none):
        figures = coco_metrics(coco_curves(found, nothing, 2))
        assert figures == dict.fromkeys(("AP", "AP50", "AP75", "AR1", "AR10", "AR100"), 0.0)
        assert voc_metrics(found, nothing, 2) == {"VOC_AP": 0.0, "VOC07_AP": 0.0}
    objects = padded(as_rows([[0, 0, 10, 10]], [1]), 2)[None]
    assert coco_metrics(coco_curves(none, objects, 2))["AP"] == 0 == voc_metrics(none, objects, 2)["VOC_AP"]
    # A class that does not occur is left out, whatever is taken for it.
    assert coco_metrics(coco_curves(one, objects, 3))["AP"] == pytest.approx(1)
    assert np.isnan(class_figures(coco_curves(one, objects, 3))[0]).all()


def test_boxes_without_an_area_overlap_nothing():
    flat, box = np.array([[3.0, 3, 3, 8], [4, 4, 4, 4]]), np.array([[0.0, 0, 10, 10]])
    assert not overlaps(flat, box, np.array([False])).any() and not overlaps(flat, flat, np.zeros(2, bool)).any()
