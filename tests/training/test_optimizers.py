import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.training.losses import LOSSES
from cnnjax.training.optimizers import kernel_mask, sgd
from cnnjax.training.schedules import SCHEDULES, constant, cosine

PARAMS = {"layer": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5])}}
GRADIENTS = {"layer": {"kernel": jnp.array([0.1, 0.3]), "bias": jnp.array([-0.2])}}


def steps(optimizer, count):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(count):
        updates, state = optimizer.update(GRADIENTS, state, params)
        params = optax.apply_updates(params, updates)
    return params["layer"]


def by_hand(w, g, count, rate, momentum, decay, nesterov):
    """The textbook's update, a step at a time."""
    v = np.zeros_like(w)
    for _ in range(count):
        gradient = g + decay * w
        v = momentum * v + gradient
        w = w - rate * (gradient + momentum * v if nesterov else v)
    return w


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 4), st.sampled_from([0.0, 0.9]), st.sampled_from([0.0, 0.1]), st.booleans())
def test_sgd_is_the_textbooks(count, momentum, decay, nesterov):
    nesterov = nesterov and momentum > 0
    for decayed in ("kernels", "all"):
        optimizer = sgd(constant(0.1, 10, 1), momentum=momentum, weight_decay=decay, nesterov=nesterov, decayed=decayed)
        result = steps(optimizer, count)
        kernel = by_hand(np.array([1.0, -2.0]), np.array([0.1, 0.3]), count, 0.1, momentum, decay, nesterov)
        bias_decay = decay if decayed == "all" else 0.0
        bias = by_hand(np.array([0.5]), np.array([-0.2]), count, 0.1, momentum, bias_decay, nesterov)
        np.testing.assert_allclose(result["kernel"], kernel, rtol=1e-5)
        np.testing.assert_allclose(result["bias"], bias, rtol=1e-5)


def test_the_learning_rate_follows_its_schedule():
    optimizer = sgd(lambda step: 0.1 * 0.5**step, momentum=0.0)
    np.testing.assert_allclose(steps(optimizer, 3)["bias"], 0.5 + 0.2 * (0.1 + 0.05 + 0.025), rtol=1e-6)


def test_only_kernels_decay_by_default():
    params = {"conv": {"kernel": 1, "bias": 1}, "norm": {"scale": 1, "bias": 1}}
    assert kernel_mask(params) == {"conv": {"kernel": True, "bias": False}, "norm": {"scale": False, "bias": False}}


def test_cosine_with_warm_up():
    schedule = cosine(0.4, 100, 10, warmup_epochs=2.0, end_factor=0.1)
    for step, expected in ((0, 0.0), (10, 0.2), (20, 0.4), (60, 0.4 * 0.55), (100, 0.04)):
        np.testing.assert_allclose(schedule(step), expected, atol=1e-6)
    plain = cosine(0.4, 100, 10)
    np.testing.assert_allclose([plain(0), plain(50), plain(100)], [0.4, 0.2, 0.0], atol=1e-6)


def test_a_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="warmup_epochs=10: expected at least 0 and less than the run's 10 epochs"):
        cosine(0.4, 100, 10, warmup_epochs=10.0)


def test_every_schedule_starts_from_what_the_loop_gives_it():
    for schedule in SCHEDULES.values():
        np.testing.assert_allclose(schedule(0.1, 50, 5)(0), 0.1, rtol=1e-6)


def test_cross_entropy_is_minus_the_log_of_the_labels_softmax():
    logits, labels = np.random.RandomState(0).randn(6, 4) * 5, np.array([0, 3, 1, 2, 2, 0])
    exponentials = np.exp(logits)
    expected = -np.log(exponentials[np.arange(6), labels] / exponentials.sum(-1))
    np.testing.assert_allclose(LOSSES["cross_entropy"]()(jnp.array(logits), jnp.array(labels)), expected, rtol=1e-5)
    assert jnp.isfinite(LOSSES["cross_entropy"]()(jnp.array([[1e4, -1e4]]), jnp.array([1]))).all()
    assert jax.grad(lambda x: LOSSES["cross_entropy"]()(x, jnp.array([0])).sum())(jnp.zeros((1, 4))).shape == (1, 4)
