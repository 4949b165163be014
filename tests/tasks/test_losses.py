import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.tasks.losses import LOSSES, make_criterion, one_hot

LOGITS, LABELS = (np.random.RandomState(0).randn(6, 4) * 5).astype(np.float32), np.array([0, 3, 1, 2, 2, 0])
COUNTS = np.array([10, 20, 30, 40])
TARGETS = np.eye(4, dtype=np.float32)[LABELS]


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_cross_entropy_is_minus_the_log_of_the_labels_softmax():
    losses = make_criterion(LOSSES["cross_entropy"], COUNTS)
    expected = -np.log(softmax(LOGITS)[np.arange(6), LABELS])
    np.testing.assert_allclose(losses.train(LOGITS, one_hot(jnp.array(LABELS), 4)), expected, rtol=1e-5)
    assert jnp.isfinite(losses.train(jnp.array([[1e4, -1e4]]), one_hot(jnp.array([1]), 2))).all()
    np.testing.assert_allclose(losses.probabilities(LOGITS), softmax(LOGITS), rtol=1e-5)


def test_label_smoothing_and_class_weights_act_in_training_alone():
    losses = make_criterion(LOSSES["cross_entropy"], COUNTS, label_smoothing=0.2, class_weights=(1.0, 2.0, 3.0, 4.0))
    smoothed = 0.8 * TARGETS + 0.05
    expected = -(smoothed * np.log(softmax(LOGITS))).sum(-1) * (1 + LABELS)
    np.testing.assert_allclose(losses.train(LOGITS, TARGETS), expected, rtol=1e-5)
    np.testing.assert_allclose(
        losses.evaluate(LOGITS, TARGETS), -np.log((TARGETS * softmax(LOGITS)).sum(-1)), rtol=1e-5
    )
    balanced = make_criterion(LOSSES["cross_entropy"], COUNTS, class_weights="balanced").train(LOGITS, TARGETS)
    plain = make_criterion(LOSSES["cross_entropy"], COUNTS).train(LOGITS, TARGETS)
    np.testing.assert_allclose(balanced / plain, (100 / (4 * COUNTS))[LABELS], rtol=1e-5)
    with pytest.raises(ValueError, match="class_weights has 2 values and the data set 4 classes"):
        make_criterion(LOSSES["cross_entropy"], COUNTS, class_weights=(1.0, 2.0))


def test_class_weights_are_pytorchs_but_for_what_divides_the_sum():
    """PyTorch divides by the sum of the examples' weights, this and Keras by their number."""
    torch = pytest.importorskip("torch")
    weights = (1.0, 2.0, 3.0, 4.0)
    ours = make_criterion(LOSSES["cross_entropy"], COUNTS, class_weights=weights).train(LOGITS, TARGETS)
    arguments = torch.tensor(LOGITS), torch.tensor(LABELS), torch.tensor(weights)
    np.testing.assert_allclose(ours, torch.nn.functional.cross_entropy(*arguments, reduction="none"), rtol=1e-5)
    mean = torch.nn.functional.cross_entropy(*arguments, reduction="mean")
    np.testing.assert_allclose(ours.sum() / np.array(weights)[LABELS].sum(), mean, rtol=1e-5)


def test_focal_is_cross_entropy_times_a_power_of_what_the_others_have():
    p = softmax(LOGITS.astype(np.float64))[np.arange(6), LABELS]
    losses = make_criterion(LOSSES["focal"], COUNTS, gamma=1.5, class_weights=(1.0, 2.0, 3.0, 4.0))
    np.testing.assert_allclose(losses.evaluate(LOGITS, TARGETS), -((1 - p) ** 1.5) * np.log(p), rtol=1e-4)
    np.testing.assert_allclose(losses.train(LOGITS, TARGETS), -((1 - p) ** 1.5) * np.log(p) * (1 + LABELS), rtol=1e-4)
    np.testing.assert_allclose(losses.probabilities(LOGITS), softmax(LOGITS), rtol=1e-5)
    smoothed = make_criterion(LOSSES["focal"], COUNTS, gamma=0.0, label_smoothing=0.2).train(LOGITS, TARGETS)
    expected = make_criterion(LOSSES["cross_entropy"], COUNTS, label_smoothing=0.2).train(LOGITS, TARGETS)
    np.testing.assert_allclose(smoothed, expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_a_finite_gradient_where_the_network_is_certain(gamma):
    certain, targets = jnp.array([[200.0, 0.0], [0.0, 200.0], [20.0, 0.0]]), jnp.eye(2)[jnp.array([0, 0, 0])]
    loss = lambda logits, gamma: LOSSES["focal"](logits, targets, gamma=gamma)  # noqa: E731
    traced = jax.jit(loss)(certain, gamma)
    np.testing.assert_allclose(traced, loss(certain, gamma), rtol=1e-6)
    np.testing.assert_allclose(traced[:2], [0, 200], atol=1e-6)
    gradient = jax.grad(lambda logits: loss(logits, gamma).sum())(certain)
    assert np.isfinite(gradient).all() and np.abs(gradient[0]).max() < 1e-6
    np.testing.assert_allclose(gradient[1], [-1, 1], rtol=1e-5)


def test_binary_cross_entropy():
    losses = make_criterion(LOSSES["binary_cross_entropy"], COUNTS, label_smoothing=0.1)
    p = 1 / (1 + np.exp(-LOGITS))
    expected = lambda t: -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum(-1)  # noqa: E731
    np.testing.assert_allclose(losses.evaluate(LOGITS, TARGETS), expected(TARGETS), rtol=1e-4)
    np.testing.assert_allclose(losses.train(LOGITS, TARGETS), expected(0.9 * TARGETS + 0.05), rtol=1e-4)
    np.testing.assert_allclose(losses.probabilities(LOGITS), p / p.sum(-1, keepdims=True), rtol=1e-5)


def test_binary_cross_entropy_of_mixed_targets_as_in_timm():
    """Targets above the threshold become 1; the classes' mean, in training and evaluation alike."""
    losses = make_criterion(LOSSES["binary_cross_entropy"], COUNTS, threshold=0.2, reduction="mean")
    mixed = np.array([[0.25, 0.75, 0, 0], [0.9, 0.0, 0.0, 0.1]], np.float32)
    chosen, p = np.array([[1, 1, 0, 0], [1, 0, 0, 0]]), 1 / (1 + np.exp(-LOGITS[:2]))
    expected = -(chosen * np.log(p) + (1 - chosen) * np.log(1 - p)).mean(-1)
    for loss in (losses.train, losses.evaluate):
        np.testing.assert_allclose(loss(LOGITS[:2], mixed), expected, rtol=1e-3)


def test_mean_squared_error():
    losses = make_criterion(LOSSES["mean_squared_error"], COUNTS)
    np.testing.assert_allclose(losses.train(LOGITS, TARGETS), ((LOGITS - TARGETS) ** 2).mean(-1), rtol=1e-5)
    probabilities = losses.probabilities(LOGITS)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    assert (probabilities >= 0).all()


@settings(max_examples=20)
@given(st.sampled_from(sorted({*LOSSES} - {"focal", "dice"})), st.integers(0, 5))  # least at others than a mixture's
def test_every_loss_is_least_at_its_target(name, seed):
    """From the best logits any step away raises the loss."""
    loss = make_criterion(LOSSES[name], COUNTS).train
    target = np.random.RandomState(seed).dirichlet(np.ones(4))[None].astype(np.float32)
    best = {"cross_entropy": np.log(target), "binary_cross_entropy": np.log(target / (1 - target))}.get(name, target)
    away = np.random.RandomState(seed + 100).randn(1, 4).astype(np.float32) * 0.3
    assert loss(best + away, target)[0] > loss(best, target)[0] - 1e-6
    if name != "mean_absolute_error":  # which has a corner there
        np.testing.assert_allclose(jax.grad(lambda x: loss(x, target).sum())(jnp.array(best)), 0, atol=1e-5)
