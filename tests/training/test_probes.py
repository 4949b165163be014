"""Probes against the same quantities computed by hand, and that looking changes nothing."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax
from cnnjax import layers
from cnnjax.ablation.together import compatibility
from cnnjax.data.datasets import Split
from cnnjax.models import create_model
from cnnjax.tasks import Classification
from cnnjax.training import probes
from cnnjax.training.interruption import Interrupted
from cnnjax.training.optimizers import make_optimizer
from cnnjax.training.parallel import over_devices, replicate
from cnnjax.training.schedules import constant
from cnnjax.training.state import initial_state
from cnnjax.training.step import plain_inputs, train_step
from tests.test_runs import measured, same_bits, stop_at


class Tiny(nn.Module):
    """Dense 5 - ReLU - batch normalisation - dense 4 - tanh - output."""

    num_classes: int = 3

    @nn.compact
    def __call__(self, x, train=False):
        x = layers.activation("relu")(layers.Dense(5, name="first")(layers.flatten(x)))
        x = layers.BatchNorm(name="norm")(x, train)
        x = layers.activation("tanh")(layers.Dense(4, name="second")(x))
        return layers.Dense(self.num_classes, name="output")(x)


class FlaxTiny(nn.Module):
    """The same of Flax's and JAX's own parts, with a layer of two outputs before."""

    @nn.compact
    def __call__(self, x, train=False):
        x, _ = Two(name="two")(x.reshape(len(x), -1))
        x = nn.relu(nn.Dense(5, name="first")(x))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        x = jnp.tanh(nn.Dense(4, name="second")(x))
        return nn.Dense(3, name="output")(x)


class Two(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x * self.param("one", nn.initializers.ones, ()), x


generator = np.random.RandomState(3)
SPLIT = Split(generator.randint(0, 256, (32, 2, 2, 1)).astype(np.uint8), generator.randint(0, 3, 32).astype(np.int32))
TASK = Classification()
INPUTS = plain_inputs(TASK, lambda images: images.astype(jnp.float32) / 64 - 2, {"num_classes": 3})
OPTIMIZER = make_optimizer("sgd", constant(0.1, 1, 1), momentum=0.9, weight_decay=0.01)


def batch_of(index, devices):
    batch = {"image": SPLIT.images[index], "label": SPLIT.labels[index], "mask": np.ones(len(index), np.float32)} | {
        "index": np.asarray(index, np.int32)
    }
    return {name: array.reshape(devices, -1, *array.shape[1:]) for name, array in batch.items()}


def probed(state, devices, indices=(range(32),), model=None, optimizer=OPTIMIZER, **options):
    step = probes.probe_step(model or Tiny(), optimizer, TASK, INPUTS, seed=3, **options)
    compiled, state = over_devices(step, devices), replicate(state, devices)
    batches = [jax.device_get(compiled(state, {}, batch_of(np.array(index), len(devices)))) for index in indices]
    return probes.summarize(batches, jax.device_get(state.batch_stats))


@pytest.fixture(scope="module")
def trained():
    """A state after two steps, one of the first layer's units dead and the second layer half saturated."""
    state = jax.device_get(initial_state(Tiny(), OPTIMIZER, (2, 2, 1), seed=3))
    step = over_devices(train_step(Tiny(), OPTIMIZER, TASK, INPUTS, seed=3), jax.devices()[:1])
    for _ in range(2):
        state, _ = step(state, {}, batch_of(np.arange(32), 1))
    state = jax.device_get(state)
    params = jax.tree.map(np.array, state.params)
    params["first"]["bias"][2] = -50.0
    params["second"]["kernel"] *= 3
    return state.replace(params=params)


@pytest.mark.parametrize("devices", [1, 2])
def test_flaxs_own_layers_and_functions_are_seen_as_ours(trained, eight_devices, devices):
    own = initial_state(FlaxTiny(), OPTIMIZER, (2, 2, 1), seed=3)
    params = {**trained.params, "two": own.params["two"]}
    state = trained.replace(params=params, opt_state=OPTIMIZER.init(params))
    ours = probed(trained.replace(opt_state=OPTIMIZER.init(trained.params)), eight_devices[:1])
    line = probed(state, eight_devices[:devices], model=FlaxTiny())
    assert (
        line.keys() == ours.keys()
        and ours["probe/first/dead"] == pytest.approx(0.2)
        and ours["probe/second/saturated"] > 0.1
    )
    for name, value in ours.items():
        assert line[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def forward(params, x):
    """Everything the network computes in training, in NumPy and double precision."""
    relu = np.maximum(x @ params["first"]["kernel"] + params["first"]["bias"], 0)
    mean, variance = relu.mean(0), relu.var(0)
    norm = (relu - mean) / np.sqrt(variance + 1e-5) * params["norm"]["scale"] + params["norm"]["bias"]
    tanh = np.tanh(norm @ params["second"]["kernel"] + params["second"]["bias"])
    logits = tanh @ params["output"]["kernel"] + params["output"]["bias"]
    return {"first": relu, "norm": norm, "second": tanh, "output": logits}, mean, variance


def mean_loss(params, x, labels):
    logits = forward(params, x)[0]["output"]
    return (np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(x)), labels]).mean()


def numerical_gradient(params, x, labels, size=1e-5):
    gradients = jax.tree.map(np.zeros_like, params)
    for layer in params:
        for name, array in params[layer].items():
            for place in np.ndindex(array.shape):
                there = []
                for sign in (1, -1):
                    changed = jax.tree.map(np.copy, params)
                    changed[layer][name][place] += sign * size
                    there.append(mean_loss(changed, x, labels))
                gradients[layer][name][place] = (there[0] - there[1]) / (2 * size)
    return gradients


def norm(layer):
    return np.sqrt(sum(np.square(array).sum() for array in layer.values()))


def test_every_quantity_by_hand(trained, eight_devices):
    line = probed(trained, eight_devices[:1])
    params = jax.tree.map(lambda array: np.asarray(array, np.float64), trained.params)
    x, labels = SPLIT.images.reshape(32, -1) / 64 - 2, SPLIT.labels
    outputs, batch_mean, batch_variance = forward(params, x)
    gradients = numerical_gradient(params, x, labels)
    momentum = trained.opt_state[3]  # of SGD's direction, among the parts of the chain
    momentum = jax.tree.map(np.asarray, jax.tree.leaves(momentum, is_leaf=lambda part: hasattr(part, "trace"))[0].trace)
    expected = {}
    for layer, output in outputs.items():
        decay = {name: 0.01 * array if name == "kernel" else 0 for name, array in params[layer].items()}
        updates = {
            name: 0.1 * (gradients[layer][name] + decay[name] + 0.9 * momentum[layer][name]) for name in params[layer]
        }
        expected |= {
            f"probe/{layer}/activation_mean": output.mean(),
            f"probe/{layer}/activation_variance": output.var(),
            f"probe/{layer}/gradient_norm": norm(gradients[layer]),
            f"probe/{layer}/weight_norm": norm(params[layer]),
            f"probe/{layer}/update_ratio": norm(updates) / norm(params[layer]),
        }
    running = trained.batch_stats["norm"]
    v, s = running["var"] + 1e-5, batch_variance + 1e-5
    divergence = np.log(np.sqrt(v / s)) + (s + (batch_mean - running["mean"]) ** 2) / (2 * v) - 1 / 2
    expected |= {
        "probe/first/dead": (outputs["first"] == 0).all(0).mean(),
        "probe/second/saturated": (np.abs(outputs["second"]) > 0.97).mean(),
        "probe/norm/statistics_drift": divergence.mean(),
    }
    assert expected["probe/first/dead"] >= 0.2 and 0.1 < expected["probe/second/saturated"] < 0.9
    assert line.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(line[name], value, rtol=2e-4, atol=1e-6, err_msg=name)
    order = list(dict.fromkeys(name.split("/")[1] for name in line))
    assert order == ["first", "norm", "second", "output"]  # as an image meets them


def test_any_number_of_devices_sees_the_same(trained, eight_devices):
    one = probed(trained, eight_devices[:1])
    for count in (2, 8):
        several = probed(trained, eight_devices[:count])
        assert list(several) == list(one)
        for name, value in one.items():
            np.testing.assert_allclose(several[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_several_batches_are_one_set_of_examples(eight_devices):
    """Of a network whose batches do not see each other: a unit is dead if it is in all of them."""
    model = create_model("mlp", 3, features=(6,))
    state = jax.device_get(initial_state(model, OPTIMIZER, (2, 2, 1), seed=1))
    state.params["hidden1"]["bias"] = np.array([0, -0.5, -1, -1.5, -2, -50], np.float32)
    whole = probed(state, eight_devices[:1], model=model)
    parts = probed(state, eight_devices[:1], np.split(np.arange(32), 4), model=model)
    alone = [probed(state, eight_devices[:1], [part], model=model) for part in np.split(np.arange(32), 4)]
    for quantity in ("activation_mean", "activation_variance", "dead"):
        name = f"probe/hidden1/{quantity}"
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-5)
    assert max(line["probe/hidden1/dead"] for line in alone) > whole["probe/hidden1/dead"] >= 1 / 6
    for name in ("probe/output/gradient_norm", "probe/output/update_ratio"):
        np.testing.assert_allclose(parts[name], np.mean([line[name] for line in alone]), rtol=1e-5)


def test_an_accumulating_optimizer_shows_the_update_it_will_make(eight_devices):
    accumulating = make_optimizer("sgd", constant(0.1, 1, 1), momentum=0.9, weight_decay=0.01, accumulate=4)
    model = create_model("mlp", 3, features=(6,))
    plain, gathering = (initial_state(model, optimizer, (2, 2, 1), seed=1) for optimizer in (OPTIMIZER, accumulating))
    expected = probed(plain, eight_devices[:1], model=model)
    seen = probed(gathering, eight_devices[:1], model=model, optimizer=accumulating, accumulate=4)
    assert seen == pytest.approx(expected) and expected["probe/hidden1/update_ratio"] > 0


def test_frozen_layers_have_no_gradient_to_show(trained, eight_devices):
    line = probed(trained, eight_devices[:1], frozen=lambda name: name.startswith("first/") or name == "second/bias")
    assert "probe/first/dead" in line and not {"probe/first/gradient_norm", "probe/first/update_ratio"} & line.keys()
    whole = probed(trained, eight_devices[:1])
    assert 0 < line["probe/second/gradient_norm"] < whole["probe/second/gradient_norm"]


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("resnet20", (32, 32, 3), {"bn1": "relu", "conv2_1/conv1": None, "conv2_1/bn1": "relu", "conv2_1/bn2": None,
                                   "conv2_1": "relu", "fc": None}),
        ("lenet5_1998", (32, 32, 1), {"c1": "scaled_tanh", "s2": "scaled_tanh"}),
        ("maxdrop_cnn", (32, 32, 3), {"conv1_1": "relu"}),
        ("googlenet", (224, 224, 3), {"conv1": "relu", "fc": None}),
        ("mlp", (8, 8, 1), {"hidden1": "relu", "output": None}),
    ],
)  # fmt: skip
def test_each_activation_is_its_layers(name, shape, expected):
    model = create_model(name, 10)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    names = {"/".join(str(part.key) for part in path[:-1]) for path, _ in jax.tree_util.tree_leaves_with_path(
        variables["params"])}  # fmt: skip
    with probes.watched(names) as seen:
        jax.eval_shape(model.apply, variables, images)
    found = {layer: seen[layer].activation for layer in expected}
    assert found == expected and "" not in seen
    assert set(seen) <= names | {layer.rpartition("/")[0] for layer in names}


# --- in a run

EVERYTHING = {
    "devices": 1,
    "dataset": {"name": "digits"},
    "augment": {"shift": 1.0},
    "log": {"progress": "off", "tensorboard": False, "probes": True},
    "model": {"name": "pattern", "plan": "conv 4 pool | fc 16", "norm": "batch", "dense_dropout_rate": 0.3},
    "optimizer": {"learning_rate": 0.05, "weight_decay": 1e-3},
    "train": {"batch_size": 64, "epochs": 2, "ema": 0.9},
    "evaluate": {"batch_size": 72},
}


def without_probes(history):
    lines = [{key: value for key, value in line.items() if not key.startswith("probe/")} for line in history]
    return [line for line in measured(lines) if line["step"]]


@pytest.fixture(scope="module")
def probed_run(tmp_path_factory):
    return cnnjax.train(EVERYTHING, tmp_path_factory.mktemp("probes") / "run")


def test_looking_changes_no_bit_of_the_run(probed_run, tmp_path):
    blind = cnnjax.load_config(EVERYTHING, {"log.probes": False})
    run = cnnjax.train(blind, tmp_path / "blind")
    assert same_bits(run.state, probed_run.state) and same_bits(run.selected, probed_run.selected)
    assert without_probes(run.history) == without_probes(probed_run.history)
    assert not any(key.startswith("probe/") for line in run.history for key in line)


def test_a_line_before_the_first_step_and_one_an_epoch(probed_run):
    lines = [line for line in probed_run.history if any(key.startswith("probe/") for key in line)]
    assert [(line["step"], line["epoch"]) for line in lines] == [(0, 0), (20, 1), (40, 2)]
    keys = [{key for key in line if key.startswith("probe/")} for line in lines]
    assert keys[0] == keys[1] == keys[2] > {"probe/conv1_1/activation_mean", "probe/bn1_1/statistics_drift"}
    assert "probe/bn1_1/dead" in keys[0] and "probe/conv1_1/dead" not in keys[0]
    drift = [line["probe/bn1_1/statistics_drift"] for line in lines]
    assert drift[0] > drift[2] > 0  # the running statistics begin at 0 and 1
    norms = [line["probe/fc1/weight_norm"] for line in lines]
    last = probed_run.state.params["fc1"]  # those that are trained, not their averages
    np.testing.assert_allclose(norms[2], norm(jax.tree.map(np.asarray, last)), rtol=1e-5)


def test_stopped_and_resumed_the_lines_are_the_same(probed_run, tmp_path, monkeypatch):
    stop_at(25, monkeypatch)
    with pytest.raises(Interrupted):
        cnnjax.train(EVERYTHING, tmp_path / "run")
    monkeypatch.undo()
    resumed = cnnjax.train(EVERYTHING, tmp_path / "run")
    assert measured(resumed.history) == measured(probed_run.history)


def test_on_two_devices_and_streamed_a_run_sees_the_same(probed_run, tmp_path):
    config = cnnjax.load_config(EVERYTHING, {"devices": 2, "dataset.resident": False, "log.tensorboard": True})
    run = cnnjax.train(config, tmp_path / "run")
    for a, b in zip(measured(run.history), measured(probed_run.history), strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)  # a mean of activations near 1 may be near 0
    assert any((tmp_path / "run" / "tensorboard").iterdir())


def test_bfloat16_sees_finite_numbers_near_those_of_float32(probed_run, tmp_path):
    config = cnnjax.load_config(EVERYTHING, {"train.precision": "bfloat16", "train.epochs": 1})
    first = json.loads((cnnjax.train(config, tmp_path / "run").workdir / "metrics.jsonl").read_text().splitlines()[0])
    exact = probed_run.history[0]
    assert first.keys() == exact.keys()
    for name in ("probe/bn1_1/activation_mean", "probe/fc1/gradient_norm", "probe/output/update_ratio"):
        np.testing.assert_allclose(first[name], exact[name], rtol=0.1)


def test_a_trial_with_probes_is_trained_alone():
    assert compatibility(cnnjax.load_config(EVERYTHING)) is None
    assert compatibility(cnnjax.load_config(EVERYTHING, {"log.probes": False})) is not None


def test_the_last_line_of_a_diverged_run_stays_in_its_history_until_it_resumes(tmp_path):
    config = cnnjax.load_config(
        EVERYTHING, {"optimizer.learning_rate": 1e30, "log.probes": False, "model.norm": "none"}
    )
    for _ in range(2):  # again: the line is not doubled
        with pytest.raises(FloatingPointError, match="no longer finite|the loss became"):
            cnnjax.train(config, tmp_path / "run")
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        assert [set(line) for line in lines] == [{"step", "epoch", "error"}]
        assert "lower optimizer.learning_rate" in lines[0]["error"] and lines[0]["step"] <= 20
