"""RoIAlign and RoI pooling, against torchvision's."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.detection.pooling import pyramid_level, roi_align, roi_pool
from tests.detection.reference import PARTS

MAPS = [PARTS[f"roi/map{index}"].transpose(0, 2, 3, 1) for index in (0, 1)]
BOXES = PARTS["roi/boxes"][None]


def test_the_values_of_one_map_are_torchvisions():
    """Boxes that are cut by the map, lie outside it or have no area are among them."""
    levels = jnp.zeros(BOXES.shape[:2], int)
    found = jax.jit(lambda maps, boxes: roi_align(maps, boxes, levels, (8,)))(MAPS[:1], BOXES)
    np.testing.assert_allclose(found[0].transpose(0, 3, 1, 2), PARTS["roi/one"], rtol=1e-4, atol=1e-5)


def test_the_values_and_gradients_of_a_pyramid_are_torchvisions():
    cotangent = PARTS["roi/cotangent"].transpose(0, 2, 3, 1)[None]

    @jax.jit
    def pooled(maps, boxes):
        return roi_align(maps, boxes, pyramid_level(boxes, 3, 4), (8, 16), size=5, samples=3)

    values, pullback = jax.vjp(lambda maps: pooled(maps, BOXES), MAPS)
    np.testing.assert_allclose(values[0].transpose(0, 3, 1, 2), PARTS["roi/pyramid"], rtol=1e-4, atol=1e-5)
    for index, gradient in enumerate(pullback(cotangent)[0]):
        expected = PARTS[f"roi/gradient{index}"]
        np.testing.assert_allclose(gradient.transpose(0, 3, 1, 2), expected, rtol=1e-4, atol=1e-5)


def test_images_of_a_batch_are_treated_alone():
    maps = [np.concatenate((each, each[:, ::-1])) for each in MAPS]
    boxes = np.concatenate((BOXES, BOXES[:, ::-1]))
    level = lambda boxes: pyramid_level(boxes, 3, 4)  # noqa: E731
    pooled = jax.jit(lambda maps, boxes: roi_align(maps, boxes, level(boxes), (8, 16)))
    swapped = pooled([each[::-1] for each in maps], boxes[::-1])
    np.testing.assert_array_equal(pooled(maps, boxes), swapped[::-1])
    assert not np.array_equal(swapped[0], swapped[1])


def test_a_box_has_the_level_of_its_size():
    sides = np.array([0, 20, 111, 112, 223, 224, 447, 448, 5000], np.float32)
    boxes = np.stack((0 * sides, 0 * sides, sides, sides), -1)
    np.testing.assert_array_equal(pyramid_level(boxes, 2, 5), [0, 0, 0, 1, 1, 2, 2, 3, 3])


def test_boxes_have_no_gradient():
    levels = np.zeros(BOXES.shape[:2], int)
    gradient = jax.jit(jax.grad(lambda boxes: roi_align(MAPS[:1], boxes, levels, (8,), size=1).sum()))(BOXES)
    assert not gradient.any()


def test_rounded_bins_have_torchvisions_maxima():
    """Of boxes that begin in the image, as proposals do: torchvision rounds halves below 0 the other way."""
    inside = [*range(6), *range(7, 10)]
    values, pullback = jax.vjp(jax.jit(lambda image: roi_pool(image, BOXES[:, inside], 8, 4)), MAPS[0])
    expected = PARTS["roi_pool/values"][inside]
    np.testing.assert_allclose(values[0].transpose(0, 3, 1, 2), expected, rtol=1e-6)
    (gradient,) = pullback(np.ones(values.shape, np.float32))
    assert float(gradient.sum()) == np.count_nonzero(expected)
