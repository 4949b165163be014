"""Losses, against torchvision's and PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.detection import losses
from tests.detection.reference import PARTS


def test_the_focal_loss_is_torchvisions():
    logits, targets = PARTS["focal/logits"], PARTS["focal/targets"]
    np.testing.assert_allclose(losses.sigmoid_focal_loss(logits, targets), PARTS["focal/values"], rtol=1e-5, atol=1e-8)


def test_without_focus_it_is_half_the_cross_entropy():
    logits, targets = PARTS["focal/logits"], PARTS["focal/targets"]
    plain = losses.binary_cross_entropy(logits, targets)
    expected = -np.log(np.where(targets > 0, 1, 0) * jax.nn.sigmoid(logits) + (1 - targets) * jax.nn.sigmoid(-logits))
    np.testing.assert_allclose(plain, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(losses.sigmoid_focal_loss(logits, targets, 0.5, 0), plain / 2, rtol=1e-5)


def test_smooth_l1_is_pytorchs():
    found = losses.smooth_l1(PARTS["smooth/differences"], 1 / 9)
    np.testing.assert_allclose(found, PARTS["smooth/values"], rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(losses.smooth_l1(np.float32((-2, 0, 3)), 0), (2, 0, 3))


def test_the_loss_of_generalized_iou_is_torchvisions():
    found = losses.generalized_iou_loss(PARTS["iou/anchors"], PARTS["giou/second"])
    np.testing.assert_allclose(found, PARTS["giou/values"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("logit", [0.0, 100.0, -100.0, 1e4])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_gradients_are_finite_at_any_logit(logit, target):
    for loss in (losses.sigmoid_focal_loss, losses.binary_cross_entropy):
        value, gradient = jax.value_and_grad(loss)(logit, target)
        assert np.isfinite(value) and np.isfinite(gradient)


def test_gradients_are_finite_for_boxes_without_area():
    empty, box = jnp.array((3.0, 3.0, 3.0, 3.0)), jnp.array((0.0, 0.0, 5.0, 4.0))
    for first, second in ((empty, box), (box, empty), (empty, empty)):
        value, gradient = jax.value_and_grad(losses.generalized_iou_loss)(first, second)
        assert np.isfinite(value) and np.isfinite(gradient).all()
