"""The step on several devices against the same arithmetic done by hand on one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax.losses import softmax_cross_entropy

from cnnjax import layers
from cnnjax.data import batches
from cnnjax.data.datasets import Split
from cnnjax.models import create_model
from cnnjax.tasks import Classification, Criterion
from cnnjax.training import evaluation
from cnnjax.training.optimizers import make_optimizer
from cnnjax.training.parallel import check_replicas, over_devices, replicate, steps_over_devices
from cnnjax.training.schedules import constant
from cnnjax.training.state import initial_state
from cnnjax.training.step import evaluation_step, plain_inputs, prediction_step, train_step

MODEL = create_model("mlp", 5, features=(8,), dropout_rate=0.5)
OPTIMIZER = make_optimizer("sgd", constant(0.1, 1, 1), momentum=0.9, weight_decay=0.01)
generator = np.random.RandomState(0)
SPLIT = Split(generator.randint(0, 256, (21, 4, 4, 1)).astype(np.uint8), generator.randint(0, 5, 21).astype(np.int32))


def normalize(images):
    return images.astype(jnp.float32) / 255


TASK = Classification()
INPUTS = plain_inputs(TASK, normalize, {"num_classes": 5})


def run_steps(devices, count=3, model=MODEL, batch_size=16):
    step = over_devices(train_step(model, OPTIMIZER, TASK, INPUTS, seed=3), devices, donate=True)
    state, results = replicate(initial_state(model, OPTIMIZER, (4, 4, 1), seed=3), devices), []
    for number in range(count):
        index = (np.arange(batch_size) + number) % len(SPLIT)
        batch = {
            "image": SPLIT.images[index],
            "label": SPLIT.labels[index],
            "mask": np.ones(batch_size, np.float32),
            "index": index.astype(np.int32),
        }
        batch = {name: array.reshape(len(devices), -1, *array.shape[1:]) for name, array in batch.items()}
        state, metrics = step(state, {}, batch)
        results.append(jax.device_get(metrics))
    return state, results


def test_any_number_of_devices_gives_the_same_training(eight_devices):
    one, first = run_steps(eight_devices[:1])
    for count in (2, 4, 8):
        several, metrics = run_steps(eight_devices[:count])
        for a, b in zip(first, metrics, strict=True):
            np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
            assert a["correct"] == b["correct"] and a["count"] == b["count"] == 16
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one.params, several.params)
        check_replicas(several)


def test_many_steps_in_one_call_are_those_steps(eight_devices):
    """Two of the five that there is room for, then three: the same five as one by one, and zeros behind them."""
    devices = eight_devices[:2]
    singly, expected = run_steps(devices, 5)
    compiled = steps_over_devices(train_step(MODEL, OPTIMIZER, TASK, INPUTS, seed=3), devices)
    state, losses = replicate(initial_state(MODEL, OPTIMIZER, (4, 4, 1), seed=3), devices), []
    arrays = replicate(batches.resident_arrays(SPLIT), devices)
    indices = [{"index": (np.arange(16) + n) % len(SPLIT), "mask": np.ones(16, np.float32)} for n in range(5)]
    for part in (indices[:2], indices[2:]):
        state, metrics = compiled(state, arrays, batches.stack_over_devices(part, 5, 2), len(part))
        losses += [*metrics["loss"][: len(part)]]
        assert not np.asarray(metrics["count"])[len(part) :].any()
    np.testing.assert_allclose(losses, [metrics["loss"] for metrics in expected], rtol=1e-5)
    assert int(state.step) == 5
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params, singly.params)
    check_replicas(state)


def test_one_step_by_hand(eight_devices):
    """Loss, gradient, decay and momentum of a linear classifier, in NumPy."""
    model = create_model("mlp", 5, features=())
    state = initial_state(model, OPTIMIZER, (4, 4, 1), seed=3)
    kernel, bias = np.asarray(state.params["output"]["kernel"]), np.asarray(state.params["output"]["bias"])
    x, labels = SPLIT.images[:16].reshape(16, -1) / 255, SPLIT.labels[:16]
    logits = x @ kernel + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    losses = -np.log(probabilities[np.arange(16), labels])
    difference = (probabilities - np.eye(5)[labels]) / 16
    expected_kernel = kernel - 0.1 * (x.T @ difference + 0.01 * kernel)
    expected_bias = bias - 0.1 * difference.sum(0)
    after, [metrics] = run_steps(eight_devices[:2], 1, model)
    np.testing.assert_allclose(metrics["loss"], losses.sum(), rtol=1e-5)
    assert metrics["correct"] == (logits.argmax(-1) == labels).sum()
    np.testing.assert_allclose(after.params["output"]["kernel"], expected_kernel, atol=1e-6)
    np.testing.assert_allclose(after.params["output"]["bias"], expected_bias, atol=1e-6)
    assert int(after.step) == 1


def test_evaluation_is_exact_on_any_number_of_devices(eight_devices):
    variables = initial_state(MODEL, OPTIMIZER, (4, 4, 1), seed=0).variables
    logits = np.asarray(MODEL.apply(variables, normalize(SPLIT.images)), np.float64)
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(21), SPLIT.labels]
    correct = (logits.argmax(-1) == SPLIT.labels).sum()
    assert 0 < correct < 21
    for count, batch_size in ((1, 21), (1, 4), (2, 256), (8, 256), (8, 8), (8, 5)):
        devices = eight_devices[:count]
        judge = over_devices(evaluation_step(MODEL, TASK, INPUTS), devices)
        result = TASK.summarize(evaluation.evaluate(judge, variables, SPLIT, batch_size, devices))
        assert result["accuracy"] == correct / 21
        np.testing.assert_allclose(result["loss"], losses.mean(), rtol=1e-6)
        predict = over_devices(prediction_step(MODEL, TASK, [INPUTS]), devices)
        probabilities = evaluation.predict(predict, variables, SPLIT, batch_size, devices)
        np.testing.assert_allclose(probabilities, np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), atol=1e-6)
        scored = TASK.score(probabilities, SPLIT)
        assert scored["accuracy"] == result["accuracy"]
        np.testing.assert_allclose(scored["nll"], result["loss"], rtol=1e-5)


def test_padding_whose_loss_is_not_a_number_changes_nothing(eight_devices):
    def loss(logits, labels):
        return jnp.where(jnp.arange(len(labels)) >= 5, jnp.nan, softmax_cross_entropy(logits, labels))

    task = Classification(criterion=Criterion(loss, loss, jax.nn.softmax))
    judge = over_devices(evaluation_step(MODEL, task, INPUTS), eight_devices[:1])
    variables = initial_state(MODEL, OPTIMIZER, (4, 4, 1), seed=0).variables
    batch = {
        "image": SPLIT.images[None, :8],
        "label": SPLIT.labels[None, :8],
        "mask": np.array([[1] * 5 + [0] * 3], np.float32),
        "index": np.arange(8, dtype=np.int32)[None],
    }
    assert np.isfinite(judge(variables, {}, batch)["loss"])


class Careless(nn.Module):
    """Keeps a batch mean as a parameter-like statistic, not reduced over the devices."""

    @nn.compact
    def __call__(self, x):
        mean = self.variable("batch_stats", "mean", jnp.zeros, ())
        if self.is_mutable_collection("batch_stats"):
            mean.value = x.mean()
        return x


def test_values_that_differ_between_devices_are_found(eight_devices):
    """The trap: pmap calls them the same on all devices, and only the first is seen."""
    devices = eight_devices[:2]
    model = Careless()
    careless = jax.pmap(
        lambda x: model.apply({"batch_stats": {"mean": jnp.zeros(())}}, x, mutable=["batch_stats"])[1],
        out_axes=None,
        devices=devices,
        axis_name="devices",
    )
    state = careless(np.arange(4, dtype=np.float32).reshape(2, 2))
    assert state["batch_stats"]["mean"].is_fully_replicated  # so it says
    with pytest.raises(AssertionError, match=r"\['batch_stats'\]\['mean'\] on device 1 differs from device 0"):
        check_replicas(state)


class RunningMean(nn.Module):
    """A layer whose statistics are its device's own."""

    @nn.compact
    def __call__(self, x, train=False):
        mean = self.variable("batch_stats", "mean", jnp.zeros, ())
        if train:
            mean.value = x.mean()
        return nn.Dense(5)(x.reshape(len(x), -1))


def test_the_step_averages_statistics_that_the_model_does_not(eight_devices):
    one, _ = run_steps(eight_devices[:1], model=RunningMean())
    four, _ = run_steps(eight_devices[:4], model=RunningMean())
    check_replicas(four)
    np.testing.assert_allclose(four.batch_stats["mean"], one.batch_stats["mean"], rtol=1e-6)


def test_the_state_is_an_ordinary_pytree_from_the_seed_alone():
    first, again, other = (initial_state(MODEL, OPTIMIZER, (4, 4, 1), seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not np.array_equal(first.params["output"]["kernel"], other.params["output"]["kernel"])
    assert first.params["hidden1"]["kernel"].shape == (16, 8)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return layers.Dense(5, name="output")(x)


class Initialised(nn.Module):
    """What is drawn at the start, a kernel within a block, and what is not: a bias of ones, a normalisation."""

    @nn.compact
    def __call__(self, x, train=False):
        x = layers.Conv(3, (2, 2), bias_init=nn.initializers.ones, name="conv")(x)
        x = layers.flatten(layers.BatchNorm(name="bn")(x, train))
        return Block(name="block")(x)


def test_the_scale_multiplies_kernels_alone():
    usual = initial_state(Initialised(), OPTIMIZER, (4, 4, 1), 3, averaged=True)
    for scale in (1.0, 0.25, 0.0):  # powers of two round nothing, in whichever order XLA multiplies
        scaled = initial_state(Initialised(), OPTIMIZER, (4, 4, 1), 3, averaged=True, scale=scale)
        for params in (scaled.params, scaled.averages["params"]):
            kernels = params["conv"]["kernel"], params["block"]["output"]["kernel"]
            drawn = usual.params["conv"]["kernel"], usual.params["block"]["output"]["kernel"]
            for kernel, before in zip(kernels, drawn, strict=True):
                assert np.ptp(before) > 0
                np.testing.assert_array_equal(kernel, np.asarray(before) * np.float32(scale))
            np.testing.assert_array_equal(params["conv"]["bias"], np.ones(3))
            np.testing.assert_array_equal(params["bn"]["scale"], np.ones(3))
        jax.tree.map(np.testing.assert_array_equal, scaled.batch_stats, usual.batch_stats)
        if scale == 1.0:
            jax.tree.map(np.testing.assert_array_equal, scaled, usual)


class TwoHeads(nn.Module):
    """A linear classifier with an auxiliary one beside it."""

    num_classes: int
    auxiliary_weight: float = 0.3

    @nn.compact
    def __call__(self, x, train=False):
        x = x.reshape(len(x), -1)
        if train or self.is_initializing():
            auxiliary = nn.Dense(self.num_classes, name="auxiliary")(x)
            if not self.is_initializing():
                self.sow("auxiliary", "logits", auxiliary)
        return nn.Dense(self.num_classes, name="main")(x)


def test_an_auxiliary_heads_loss_is_added_with_its_weight(eight_devices):
    before = initial_state(TwoHeads(5), OPTIMIZER, (4, 4, 1), 3).params
    plain = make_optimizer("sgd", constant(0.1, 1, 1), momentum=0.0)
    step = over_devices(train_step(TwoHeads(5), plain, TASK, INPUTS, 3), eight_devices[:1])
    images, labels = SPLIT.images[:16], SPLIT.labels[:16]
    batch = {"image": images, "label": labels, "mask": np.ones(16, np.float32), "index": np.arange(16)}
    state = initial_state(TwoHeads(5), plain, (4, 4, 1), 3)
    after, metrics = step(state, {}, {name: array[None] for name, array in batch.items()})
    x = images.reshape(16, -1) / 255.0
    for head, weight in (("main", 1.0), ("auxiliary", 0.3)):
        logits = x @ np.asarray(before[head]["kernel"], np.float64) + np.asarray(before[head]["bias"])
        probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        gradient = weight * x.T @ (probabilities - np.eye(5)[labels]) / 16
        np.testing.assert_allclose(after.params[head]["kernel"], before[head]["kernel"] - 0.1 * gradient, atol=1e-6)
        if head == "main":  # the metrics are of the main head
            np.testing.assert_allclose(metrics["loss"], -np.log(probabilities[np.arange(16), labels]).sum(), rtol=1e-5)
