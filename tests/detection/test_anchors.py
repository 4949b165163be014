"""Anchors, against torchvision's generators."""

import jax
import numpy as np

from cnnjax.detection import anchors
from tests.detection.reference import PARTS

IMAGE, GRIDS = (40, 60), ((5, 7), (3, 4))


def test_anchors_are_torchvisions():
    sizes = (32, 40, 50), (64, 80, 101)
    found = jax.jit(lambda: anchors.pyramid_anchors(sizes, (0.5, 1.0, 2.0), GRIDS, IMAGE))()
    np.testing.assert_array_equal(np.concatenate(found), PARTS["anchors/values"])


def test_default_boxes_are_torchvisions():
    rows = ((0.07, 0.15, (2,)), 8), ((0.15, 0.33, (2, 3)), 16)
    boxes = jax.jit(anchors.centred_anchors, static_argnums=(1, 2))
    found = [
        boxes(anchors.default_box_shapes(*shapes, IMAGE), grid, step)
        for (shapes, step), grid in zip(rows, GRIDS, strict=True)
    ]
    np.testing.assert_allclose(np.concatenate(found), PARTS["default_boxes/values"], rtol=1e-5, atol=1e-5)


def test_default_boxes_are_no_larger_than_the_image():
    shapes = anchors.default_box_shapes(0.87, 1.05, (2, 3), (100, 200))
    np.testing.assert_array_equal(shapes[:, :2], -shapes[:, 2:])
    np.testing.assert_allclose(shapes[2:4, 2:], [(100, 0.87 / 2**0.5 * 50), (0.87 / 2**0.5 * 100, 50)], rtol=1e-6)
