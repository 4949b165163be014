"""Losses, against torchvision's and PyTorch's."""

import jax
import numpy as np
import pytest

from cnnjax.core.randomness import AXIS
from cnnjax.detection import Ratio, losses
from tests.detection.reference import PARTS


def test_the_focal_loss_is_torchvisions():
    logits, targets = PARTS["focal/logits"], PARTS["focal/targets"]
    np.testing.assert_allclose(
        jax.jit(losses.sigmoid_focal_loss)(logits, targets), PARTS["focal/values"], rtol=1e-5, atol=1e-8
    )


def test_without_focus_it_is_half_the_cross_entropy():
    logits, targets = PARTS["focal/logits"], PARTS["focal/targets"]
    plain = jax.jit(losses.binary_cross_entropy)(logits, targets)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -np.log(np.where(targets > 0, p, 1 - p))
    np.testing.assert_allclose(plain, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(losses.sigmoid_focal_loss(logits, targets, 0.5, 0), plain / 2, rtol=1e-5)


def test_smooth_l1_is_pytorchs():
    found = losses.smooth_l1(PARTS["smooth/differences"], 1 / 9)
    np.testing.assert_allclose(found, PARTS["smooth/values"], rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(losses.smooth_l1(np.float32((-2, 0, 3)), 0), (2, 0, 3))


def test_the_loss_of_generalized_iou_is_torchvisions():
    found = jax.jit(losses.generalized_iou_loss)(PARTS["iou/anchors"], PARTS["giou/second"])
    np.testing.assert_allclose(found, PARTS["giou/values"], rtol=1e-5, atol=1e-6)


def test_a_ratio_is_of_the_examples_of_all_devices_without_padding():
    values, counts, mask = np.float32((6, 1, 5, 9)), np.array((3, 0, 1, 7)), np.float32((1, 1, 1, 0))
    whole = Ratio(values, counts).by_example(mask)
    assert (whole * mask).sum() / mask.sum() == pytest.approx((6 + 1 + 5) / (3 + 0 + 1))
    halves = [each.reshape(2, 2) for each in (values, counts, mask)]
    shared = jax.vmap(lambda values, counts, mask: Ratio(values, counts).by_example(mask), axis_name=AXIS)(*halves)
    np.testing.assert_array_equal(shared.ravel(), whole)
    assert Ratio(values, counts * 0).by_example(mask).tolist() == (values * 3).tolist()  # no count: over 1


@pytest.mark.parametrize("loss", [losses.sigmoid_focal_loss, losses.binary_cross_entropy])
def test_gradients_are_finite_at_any_logit(loss):
    logits, targets = np.float32((0, 100, -100, 1e4) * 2), np.repeat(np.float32((0, 1)), 4)
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(loss)))(logits, targets)
    assert np.isfinite(values).all() and np.isfinite(gradients).all()


def test_gradients_are_finite_for_boxes_without_area():
    empty, box = np.float32((3, 3, 3, 3)), np.float32((0, 0, 5, 4))
    pairs = np.stack((empty, box, empty)), np.stack((box, empty, empty))
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(losses.generalized_iou_loss)))(*pairs)
    assert np.isfinite(values).all() and np.isfinite(gradients).all()
