"""A model, a loss and a task of one's own, each by reference: what holds for ours holds for them."""

from pathlib import Path

import jax
import numpy as np
import pytest

import cnnjax
from tests.tasks.runs_alike import metrics_on
from tests.test_runs import measured, same_bits

FILE = Path(__file__).with_name("own_components.py")


def train(workdir, task="ByClass", **fields):
    """A run of that file's components on one device, unless the fields say otherwise."""
    overrides = {"devices": 1} | {name.replace("__", "."): value for name, value in fields.items()}
    return cnnjax.train(cnnjax.load_config(f"{FILE}:{task}", overrides), workdir)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    return train(tmp_path_factory.mktemp("own") / "averaged", train__ema=0.8)


@pytest.fixture(scope="module")
def test_split():
    return cnnjax.load_dataset(cnnjax.load_config(f"{FILE}:ByClass").dataset).splits["test"]


def assert_near(first, second, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance), *jax.device_get((first, second)))


def log_softmax(scores):
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def test_a_loss_by_example_and_its_sums_are_exact_on_any_number_of_devices(averaged, test_split, eight_devices):
    labels = test_split.labels
    logits = averaged.predict_prepared(test_split.images).astype(np.float64)
    own = log_softmax(logits)[np.arange(len(labels)), labels]
    loss = -((1 - np.exp(own)) ** 2 * own).mean()
    recall = np.mean([(logits.argmax(-1) == labels)[labels == digit].mean() for digit in range(10)])
    assert averaged.metrics["test/recall"] == pytest.approx(recall, abs=1e-12)
    assert averaged.metrics["test/loss"] == pytest.approx(loss, rel=1e-5)
    for count in (3, 8):  # batches of 42 or 40, the last one partial; it was trained and tested on one
        found = metrics_on(averaged, test_split, eight_devices[:count])
        assert found["recall"] == pytest.approx(recall, abs=1e-12), count
        assert found["loss"] == pytest.approx(loss, rel=1e-5), count


def test_a_loss_over_a_batch_is_the_same_on_any_number_of_devices(test_split, tmp_path, eight_devices):
    """In training, whose gradients pass from device to device, and in evaluation, at a batch that they cannot share equally."""
    one, four = (train(tmp_path / str(count), "Contrast", devices=count) for count in (1, 4))
    for a, b in zip(measured(one.history), measured(four.history), strict=True):
        assert b == pytest.approx(a, abs=1e-5)
    assert_near(one.state, four.state, 1e-4)
    three = metrics_on(one, test_split, eight_devices[:3], 50)
    assert {f"test/{name}": value for name, value in three.items()} == pytest.approx(
        {name: value for name, value in one.metrics.items() if name.startswith("test/")}, rel=1e-6
    )
    z = one.predict_prepared(test_split.images).astype(np.float64)
    z /= np.sqrt((z**2).sum(-1, keepdims=True) + 1e-6)
    losses = []
    for start in range(0, len(z), 50):
        part, labels = z[start : start + 50], test_split.labels[start : start + 50]
        scores = part @ part.T / 0.5
        np.fill_diagonal(scores, -np.inf)
        for place, log_p in enumerate(log_softmax(scores)):
            same = (labels == labels[place]) & (np.arange(len(part)) != place)
            losses.append(-log_p[same].mean() if same.any() else 0.0)
    assert one.metrics["test/loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_averaged_weights_and_statistics_are_those_that_predict(averaged, test_split):
    state, images = averaged.selected, averaged.network_inputs(test_split.images[:9])
    apply = jax.jit(averaged.model.apply)
    expected = apply(state.averages, images)
    np.testing.assert_allclose(averaged.predict_prepared(test_split.images[:9]), expected, atol=1e-5)
    latest = apply({"params": state.params, "batch_stats": state.batch_stats}, images)
    assert np.abs(latest - expected).max() > 0.01
    again = cnnjax.load_run(averaged.workdir)
    assert same_bits(again.selected.averages, state.averages)
    assert cnnjax.evaluate([again])["recall"] == averaged.metrics["test/recall"]


def test_accumulated_small_batches_make_the_step_of_a_large_one(tmp_path):
    """Without batch normalisation and dropout, which see a batch and a step: three steps of 40, or six of 20 two by two."""
    large, small = (
        train(
            tmp_path / str(size), model__norm=False, train__batch_size=size, optimizer__accumulate=40 // size,
            train__ema=0.8, loss__label_smoothing=0.1,
        )
        for size in (40, 20)
    )  # fmt: skip
    assert_near(large.state.params, small.state.params, 2e-6)
    assert_near(large.state.averages, small.state.averages, 2e-6)
    for a, b in zip(measured(large.history), measured(small.history), strict=True):
        same = a.keys() - {"step", "checkpoint"}
        assert {name: b[name] for name in same} == pytest.approx({name: a[name] for name in same}, abs=1e-5)


def test_frozen_layers_and_their_statistics_keep_every_bit(averaged, tmp_path):
    """Under weight decay, averages and accumulation, on three devices."""
    tuned = train(
        tmp_path / "tuned", initial__run=str(averaged.workdir), initial__frozen=("first_*",), devices=3, train__ema=0.8,
        optimizer__name="adamw", optimizer__weight_decay=0.1, optimizer__accumulate=2,
    )  # fmt: skip
    before, after = averaged.selected.averages, tuned.state
    for trees in ({"params": after.params, "batch_stats": after.batch_stats}, after.averages):
        for part, layer in (("params", "first_conv"), ("params", "first_norm"), ("batch_stats", "first_norm")):
            assert same_bits(trees[part][layer], before[part][layer]), (part, layer)
        for part, layer in (("params", "second_conv"), ("batch_stats", "second_norm"), ("params", "head")):
            assert not same_bits(trees[part][layer], before[part][layer]), (part, layer)
