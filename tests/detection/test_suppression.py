"""Non-maximum suppression, against torchvision's and against the greedy rule as it is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.detection import suppression
from cnnjax.detection.suppression import best_detections, suppress
from tests.detection.reference import PARTS

BOXES, SCORES, CLASSES = (PARTS[f"nms/{name}"][None] for name in ("boxes", "scores", "classes"))
ALL = np.ones_like(SCORES, bool)
suppressed = jax.jit(suppress, static_argnums=5)


def results(found):
    kept, which = found
    return [np.asarray(row)[np.asarray(mask)] for row, mask in zip(kept, which, strict=True)]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_what_is_kept_is_what_torchvision_keeps(threshold):
    """Scores are of two digits, so that many are equal; 300 candidates are three blocks."""
    one = np.zeros_like(CLASSES)
    for groups, name in ((one, "kept"), (CLASSES, "by_class")):
        (kept,) = results(suppressed(BOXES, SCORES, groups, ALL, threshold, 300))
        np.testing.assert_array_equal(kept, PARTS[f"nms/{name}{threshold}"])


def test_candidates_that_are_masked_are_as_if_they_were_not_there():
    mask = np.random.default_rng(0).random(SCORES.shape) < 0.5
    (kept,) = results(suppressed(BOXES, SCORES, CLASSES, mask, 0.5, 300))
    others = np.where(mask, CLASSES, 3 + np.arange(300))  # nothing is of their groups
    (alone,) = results(suppressed(BOXES, SCORES, others, ALL, 0.5, 300))
    np.testing.assert_array_equal(kept, alone[mask[0, alone]])


def test_images_of_a_batch_are_treated_alone():
    mask = np.stack((ALL[0], np.zeros_like(ALL[0]), np.arange(300) < 1))
    batch = [np.repeat(values, 3, 0) for values in (BOXES, SCORES, CLASSES)]
    whole, nothing, one = results(suppressed(*batch, mask, 0.5, 300))
    np.testing.assert_array_equal(whole, PARTS["nms/by_class0.5"])
    assert len(nothing) == 0 and one.tolist() == [0]


def test_a_chain_of_boxes_keeps_every_other_one():
    """Each overlaps the next alone: the longest dependence that the rounds within a block can have."""
    x = np.arange(300, dtype=np.float32) * 4
    boxes = np.stack((x, 0 * x, x + 7, 0 * x + 7), -1)[None]
    scores = np.linspace(1, 0.1, 300, dtype=np.float32)[None]
    (kept,) = results(suppressed(boxes, scores, np.zeros_like(CLASSES), ALL, 0.2, 300))
    np.testing.assert_array_equal(kept, np.arange(0, 300, 2))


def test_boxes_without_area_suppress_nothing():
    boxes, scores = np.full((1, 300, 4), 5, np.float32), np.linspace(0, 1, 300, dtype=np.float32)[None]
    (kept,) = results(suppressed(boxes, scores, np.zeros_like(CLASSES), ALL, 0.5, 300))
    np.testing.assert_array_equal(kept, np.arange(300)[::-1])


def test_another_block_and_fewer_results(monkeypatch):
    monkeypatch.setattr(suppression, "_BLOCK", 7)
    (kept,) = results(jax.jit(lambda *given: suppress(*given, 0.5, 50))(BOXES, SCORES, CLASSES, ALL))
    np.testing.assert_array_equal(kept, PARTS["nms/by_class0.5"][:50])


def test_detections_are_sorted_and_padding_is_zero():
    found = jax.jit(best_detections, static_argnums=5)(BOXES, SCORES, CLASSES, ALL, 0.3, 400)
    count, kept = len(PARTS["nms/by_class0.3"]), PARTS["nms/by_class0.3"]
    np.testing.assert_array_equal(found.mask[0], np.arange(400) < count)
    np.testing.assert_array_equal(found.boxes[0, :count], BOXES[0, kept])
    np.testing.assert_array_equal(found.scores[0, :count], SCORES[0, kept])
    np.testing.assert_array_equal(found.classes[0, :count], CLASSES[0, kept])
    assert not any(jnp.any(values[0, count:]) for values in found)
