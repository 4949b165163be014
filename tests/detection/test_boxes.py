"""Boxes, against pixels that are counted, against the formulas in NumPy and against torchvision's coder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.detection import Objects, boxes
from tests.detection.reference import PARTS

GENERATOR = np.random.default_rng(0)


def drawn(count, size=16):
    corners = np.sort(GENERATOR.integers(0, size + 1, (count, 2, 2)), 1)
    return corners.reshape(count, 4).astype(np.float32)


def pixels(box, size=16):
    """The pixels that a box of whole numbers covers."""
    x0, y0, x1, y1 = map(int, box)
    covered = np.zeros((size, size), bool)
    covered[y0:y1, x0:x1] = True
    return covered


def test_overlaps_are_those_of_the_pixels_that_boxes_cover():
    first, second = drawn(20), np.concatenate((drawn(7), [(3, 3, 3, 9), (5, 5, 5, 5)])).astype(np.float32)
    shared = np.array([[(pixels(a) & pixels(b)).sum() for b in second] for a in first])
    union = np.array([[(pixels(a) | pixels(b)).sum() for b in second] for a in first])
    sizes = np.array([pixels(a).sum() for a in first])
    found = jax.jit(
        lambda a, b: (
            boxes.area(a),
            boxes.intersection(a, b),
            boxes.intersection_over_union(a, b),
            boxes.coverage(a, b),
        )
    )(first, second)
    np.testing.assert_array_equal(found[0], sizes)
    np.testing.assert_array_equal(found[1], shared)
    np.testing.assert_allclose(found[2], shared / np.maximum(union, 1), rtol=1e-6)
    np.testing.assert_allclose(found[3], shared / np.maximum(sizes, 1)[:, None], rtol=1e-6)


def test_images_of_a_batch_are_treated_alone():
    first, second = drawn(6).reshape(2, 3, 4), drawn(8).reshape(2, 4, 4)
    overlaps = jax.jit(boxes.intersection_over_union)
    both, swapped = overlaps(first, second), overlaps(first[::-1], second[::-1])
    assert both.shape == (2, 3, 4)
    np.testing.assert_array_equal(both, swapped[::-1])


def test_boxes_are_cut_to_the_image():
    given = np.array([(-3, -4, 5, 6), (2, 3, 70, 60), (90, 90, 95, 99)], np.float32)
    np.testing.assert_array_equal(boxes.clip(given, (50, 64)), [(0, 0, 5, 6), (2, 3, 64, 50), (64, 50, 64, 50)])


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_offsets_are_the_papers_and_give_the_boxes_back(weights):
    box, anchor = np.array((10, 20, 30, 60), np.float32), np.array((8, 16, 24, 32), np.float32)
    expected = np.array(((20 - 16) / 16, (40 - 24) / 16, np.log(20 / 16), np.log(40 / 16))) * weights
    offsets = boxes.encode(box, anchor, weights)
    np.testing.assert_allclose(offsets, expected, rtol=1e-6)
    np.testing.assert_allclose(boxes.decode(offsets, anchor, weights), box, rtol=1e-6)


@pytest.mark.parametrize(("name", "weights"), [("plain", (1.0, 1.0, 1.0, 1.0)), ("weighted", (10.0, 10.0, 5.0, 5.0))])
def test_offsets_and_boxes_are_those_of_torchvisions_coder(name, weights):
    """Of random boxes; some of the random offsets are of sizes beyond the bound."""
    given, anchors, offsets = PARTS["iou/anchors"][:6], PARTS["iou/objects"], PARTS[f"code/{name}_offsets"]
    np.testing.assert_allclose(boxes.encode(given, anchors, weights), PARTS[f"code/{name}"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        boxes.decode(offsets, anchors, weights), PARTS[f"code/{name}_boxes"], rtol=1e-4, atol=1e-3
    )


def test_sizes_are_bounded_and_empty_boxes_have_finite_offsets_and_gradients():
    anchor, empty = np.array((0, 0, 16, 16), np.float32), np.array((5, 5, 5, 9), np.float32)
    x0, _, x1, _ = boxes.decode(np.array((0, 0, 100, 0), np.float32), anchor)
    assert x1 - x0 == pytest.approx(1000, rel=1e-5)

    @jax.jit
    def values_and_gradients(empty):
        both = jnp.stack((empty, anchor))
        overlaps = boxes.intersection_over_union(both, both)
        values = boxes.encode(empty, anchor), boxes.area(empty), overlaps
        total = lambda empty: sum(map(jnp.sum, (boxes.encode(empty, anchor), boxes.area(empty))))  # noqa: E731
        overlap = lambda both: boxes.intersection_over_union(both, both).sum()  # noqa: E731
        return values, jax.grad(total)(empty), jax.grad(overlap)(both)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values_and_gradients(empty)))


def test_objects_that_are_wanted_are_no_padding_have_an_area_and_are_not_ignored():
    given = jnp.array([[(0, 0, 4, 4), (0, 0, 4, 4), (2, 2, 2, 9), (0, 0, 4, 4)]], jnp.float32)
    ignore, mask = jnp.array([[False, True, False, False]]), jnp.array([[True, True, True, False]])
    objects = jax.jit(lambda objects: objects)(Objects(given, jnp.zeros((1, 4), int), ignore, mask))
    assert objects.wanted.tolist() == [[True, False, False, False]]
    assert objects.ignored.tolist() == [[False, True, False, False]]
