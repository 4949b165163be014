"""Training's features together, from a config to a run: what resumes, what stays, what is chosen by what was measured."""

import itertools
import time

import flax.linen as nn
import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.data import batches
from cnnjax.data.datasets import DatasetOptions
from cnnjax.tasks import Classification
from cnnjax.training import evaluation, program
from cnnjax.training.interruption import Interrupted
from cnnjax.training.loop import rate_scale, stops_early
from tests.test_runs import measured, same_bits, stop_at

QUIET = {"progress": "off", "tensorboard": False}
# The evaluation's batches have one size, in which the parts of both splits fit.
DIGITS = {
    "devices": 1,
    "log": QUIET,
    "model": {"name": "mlp", "features": (32,)},
    "train": {"batch_size": 128, "epochs": 2},
    "evaluate": {"batch_size": 72},
}
LENET5 = DIGITS | {"model": {"name": "lenet5"}}
EVERYTHING = {
    "devices": 2,
    "log": QUIET,
    "dataset": {"name": "digits", "balanced": True, "examples_per_class": 32},
    "augment": {
        "rotation": 10.0, "shift": 1.0, "elastic": 1.0, "pad": 1, "crop": (32, 32), "brightness": 0.2, "erasing": 0.2,
        "mixup": 0.2, "cutmix": 0.5,
    },
    "model": {"name": "lenet5_bn"},
    "loss": {"label_smoothing": 0.1, "class_weights": "balanced"},
    "optimizer": {"name": "adam", "learning_rate": 0.01, "accumulate": 2, "clip_norm": 1.0, "weight_decay": 1e-4,
                  "groups": (("c1", "learning_rate", 0.5),)},
    "schedule": {"name": "plateau", "patience": 0, "factor": 0.5, "threshold": 0.5},
    "train": {"batch_size": 32, "epochs": 4, "ema": 0.9, "early_stopping": 3},
    "evaluate": {"views": "scales", "batch_size": 72},
    "initial": {"frozen": ("c3",), "unfreeze": ((2.0, "c3"),)},
    "checkpoint": {"every_steps": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return cnnjax.train(EVERYTHING, tmp_path_factory.mktemp("features") / "run")


@pytest.mark.slow
def test_with_every_feature_on_a_run_stopped_twice_resumes_to_the_same_bits(everything, tmp_path):
    """Within the first epoch, and within the third, when the frozen layer has begun to train."""
    done = 0
    for step in (4, 25):
        with pytest.MonkeyPatch.context() as patch:
            stop_at(step - done, patch)
            with pytest.raises(Interrupted, match=f"at step {step}, saved"):
                cnnjax.train(EVERYTHING, tmp_path / "run")
        done = step
    resumed = cnnjax.train(EVERYTHING, tmp_path / "run")
    assert same_bits(resumed.state, everything.state)
    assert measured(resumed.history) == measured(everything.history)


def test_a_plateau_lowers_the_rate_by_what_was_measured(everything):
    """No improvement by half is ever made, so every evaluation but the first halves the rate."""
    rates = [line["learning_rate"] for line in everything.history if "valid/accuracy" in line]
    np.testing.assert_allclose(rates, [0.01, 0.01, 0.005, 0.0025][: len(rates)], rtol=1e-6)
    assert (
        float(everything.state.rate_scale) == rate_scale(everything.config, everything.history, "accuracy", "max") < 0.5
    )


def test_training_stops_early(tmp_path):
    config = DIGITS | {
        "optimizer": {"learning_rate": 0.0},
        "train": {"batch_size": 128, "epochs": 20, "early_stopping": 2},
    }
    run = cnnjax.train(config, tmp_path / "run")
    epochs = [line["epoch"] for line in run.history if "valid/accuracy" in line]
    assert epochs == [1, 2, 3] and run.history[-1]["epoch"] == 3 and "test/accuracy" in run.metrics
    assert (tmp_path / "run" / "DONE").exists() and int(run.state.step) == run.history[-1]["step"]
    again = cnnjax.train(config, tmp_path / "run")
    assert measured(again.history) == measured(run.history)


def test_early_stopping_waits_as_long_as_it_says():
    config = cnnjax.load_config({"train": {"early_stopping": 2}})
    history = [{"valid/accuracy": value} for value in (0.5, 0.7, 0.6, 0.7)]
    assert [stops_early(config, history[:count], "accuracy", "max") for count in range(5)] == [
        False,
        False,
        False,
        False,
        True,
    ]
    assert not stops_early(config, [*history[:3], {"valid/accuracy": 0.71}], "accuracy", "max")
    assert not stops_early(cnnjax.load_config({}), history, "accuracy", "max")


def test_averaged_weights_are_kept_and_used(tmp_path):
    plain = cnnjax.train(DIGITS, tmp_path / "plain")
    averaged = cnnjax.train(
        DIGITS | {"train": DIGITS["train"] | {"ema": 0.9}, "evaluate": {"checkpoint": "last", "batch_size": 72}},
        tmp_path / "ema",
    )
    assert same_bits(plain.state.params, averaged.state.params)  # training itself is the same
    assert plain.state.averages is None
    differences = jax.tree.map(
        lambda a, b: np.abs(a - b).max(), averaged.state.averages["params"], averaged.state.params
    )
    assert max(jax.tree.leaves(differences)) > 1e-4
    assert averaged.selected.variables is averaged.selected.averages
    assert cnnjax.evaluate([averaged])["accuracy"] == averaged.metrics["test/accuracy"]


def test_accumulated_small_batches_make_the_step_of_a_large_one(tmp_path):
    """Ten steps of 128 and twenty of 64, two by two: the same examples in each update, and no batch normalisation."""
    runs = [
        cnnjax.train(
            DIGITS
            | {
                "train": {"batch_size": size, "epochs": 1},
                "optimizer": {"learning_rate": 0.1, "weight_decay": 1e-3, "accumulate": 128 // size},
            },
            tmp_path / str(size),
        )
        for size in (128, 64)
    ]
    for a, b in zip(*(jax.tree.leaves(run.state.params) for run in runs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return cnnjax.train(DIGITS | {"model": {"name": "lenet5_bn"}}, tmp_path_factory.mktemp("base") / "run")


def test_frozen_layers_keep_every_bit_until_they_are_unfrozen(base, tmp_path):
    config = DIGITS | {
        "devices": 3,
        "model": {"name": "lenet5_bn"},
        "optimizer": {"name": "adamw", "weight_decay": 0.1},
        "train": {"batch_size": 126, "epochs": 2},
        "initial": {"run": str(base.workdir), "frozen_up_to": "bn_c3", "unfreeze": ((1.0, "c3"),)},
    }
    once = cnnjax.load_config(config, {"train.epochs": 1})
    frozen, unfrozen = (cnnjax.train(fields, tmp_path / "tuned").state for fields in (once, config))
    before = base.selected
    for layer in ("c1", "bn_c1", "c3", "bn_c3"):
        assert same_bits(frozen.params[layer], before.params[layer]), layer
    for layer in ("bn_c1", "bn_c3"):
        assert same_bits(frozen.batch_stats[layer], before.batch_stats[layer]), layer
    for layer in ("c5", "bn_c5", "output"):
        assert not same_bits(frozen.params[layer], before.params[layer]), layer
    assert not same_bits(frozen.batch_stats["bn_c5"], before.batch_stats["bn_c5"])
    assert same_bits(unfrozen.params["c1"], before.params["c1"])
    assert same_bits(unfrozen.params["bn_c3"], before.params["bn_c3"])
    assert not same_bits(unfrozen.params["c3"], before.params["c3"])


@pytest.mark.slow
def test_a_run_starts_from_another_with_its_head_or_a_new_one(base, tmp_path):
    still = {
        "model": {"name": "lenet5_bn"},
        "optimizer": {"learning_rate": 0.0},
        "train": {"batch_size": 128, "epochs": 1},
    }
    config = DIGITS | still | {"initial": {"run": str(base.workdir)}}
    new = cnnjax.train(config | {"initial": config["initial"] | {"head": "new"}}, tmp_path / "new").state
    assert same_bits(new.params["c1"], base.selected.params["c1"])
    assert not same_bits(new.params["output"], base.selected.params["output"])
    # The scale is of what is drawn: the new head's kernel, and nothing that was taken.
    kept = cnnjax.train(config | {"initial": config["initial"] | {"scale": 4.0}}, tmp_path / "kept").state
    assert same_bits(kept.params, base.selected.params)
    scaled = cnnjax.train(config | {"initial": config["initial"] | {"head": "new", "scale": 4.0}}, tmp_path / "scaled")
    output = scaled.state.params.pop("output")
    drawn = new.params.pop("output")
    assert same_bits(scaled.state.params, new.params)
    np.testing.assert_array_equal(output["kernel"], 4 * np.asarray(drawn["kernel"]))
    np.testing.assert_array_equal(output["bias"], drawn["bias"])
    with pytest.raises(
        ValueError, match=r"does not fit the model: 6 of another shape .*c5/kernel is .400, 120., expected .400, 60."
    ):
        cnnjax.train(config | {"model": {"name": "lenet5_bn", "widths": (6, 16, 60, 84)}}, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        ({"frozen": ("conv9",)}, "initial.frozen: 'conv9' matches no layer or parameter: choose from"),
        ({"frozen_up_to": "c9"}, "initial.frozen_up_to: 'c9' matches no layer"),
        ({"frozen": ("*",)}, "every parameter is frozen"),
        ({"unfreeze": ((1.0, "c1"),)}, "initial.unfreeze needs initial.frozen"),
        ({"run": "a", "weights": "b"}, "initial.run and initial.weights are both set"),
        ({"run": "nowhere"}, "nowhere holds no run"),
        ({"weights": "w.npz"}, "torchvision has no network that equals lenet5"),
    ],
)
def test_an_initial_section_that_cannot_be_is_refused(initial, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        cnnjax.train(LENET5 | {"initial": initial}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_folds_partition_the_examples_and_keep_the_classes_shares():
    whole = cnnjax.load_dataset(DatasetOptions())
    together = np.concatenate([whole.splits["train"].images, whole.splits["valid"].images])
    found = []
    for fold in range(4):
        part = cnnjax.load_dataset(DatasetOptions(folds=4, fold=fold))
        train, valid = part.splits["train"], part.splits["valid"]
        assert len(train) + len(valid) == len(together)
        counts = np.bincount(valid.labels, minlength=10)
        assert counts.max() - counts.min() <= 3
        assert part.fingerprint != whole.fingerprint
        found.append(valid.images)
    everything = np.concatenate(found)
    key = lambda images: sorted(image.tobytes() for image in images)  # noqa: E731
    assert key(everything) == key(together)
    np.testing.assert_array_equal(part.splits["test"].images, whole.splits["test"].images)


def test_few_examples_of_each_class_nest():
    ten, thirty = (cnnjax.load_dataset(DatasetOptions(examples_per_class=count)).splits["train"] for count in (10, 30))
    assert np.bincount(ten.labels).tolist() == [10] * 10 and np.bincount(thirty.labels).tolist() == [30] * 10
    assert {image.tobytes() for image in ten.images} <= {image.tobytes() for image in thirty.images}
    with pytest.raises(ValueError, match="examples_per_class=500: some classes have fewer"):
        cnnjax.load_dataset(DatasetOptions(examples_per_class=500))


def test_a_balanced_order_draws_every_class_as_often():
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    order = batches.balanced_order(0, 3, labels)
    counts = np.bincount(labels[order])
    assert len(order) == 1000 and counts.min() > 270
    np.testing.assert_array_equal(order, batches.balanced_order(0, 3, labels))
    assert not np.array_equal(order, batches.balanced_order(0, 4, labels))


def test_half_precision_trains_with_single_precision_parameters(tmp_path):
    config = DIGITS | {
        "train": DIGITS["train"] | {"precision": "bfloat16", "epochs": 4},
        "model": {"name": "lenet5_bn"},
    }
    run = cnnjax.train(config, tmp_path / "run")
    assert run.metrics["valid/accuracy"] > 0.8
    assert {leaf.dtype for leaf in jax.tree.leaves((run.state.params, run.state.batch_stats))} == {np.dtype("float32")}


LOSSES = {  # of logits and one-hot targets; probabilities of logits, not yet divided by their sum
    "cross_entropy": (lambda x, t: -(t * np.log(np.exp(x) / np.exp(x).sum(-1, keepdims=True))).sum(-1), np.exp),
    "binary_cross_entropy": (
        lambda x, t: (t * np.log1p(np.exp(-x)) + (1 - t) * np.log1p(np.exp(x))).sum(-1),
        lambda x: 1 / (1 + np.exp(-x)),
    ),
    "mean_squared_error": (lambda x, t: ((x - t) ** 2).mean(-1), lambda x: np.clip(x, 1e-6, 1)),
}


@pytest.mark.parametrize(
    ("name", "views"),
    [
        ("cross_entropy", "flip"),
        ("binary_cross_entropy", "one"),
        ("binary_cross_entropy", "flip"),
        ("mean_squared_error", "flip"),
    ],
)
def test_the_tests_loss_is_the_configured_one_and_its_likelihood_that_of_all_views(name, views, tmp_path):
    """Both computed again in NumPy, from the parameters of a network of one dense layer."""
    config = DIGITS | {
        "train": DIGITS["train"] | {"epochs": 1},
        "model": {"name": "mlp", "features": ()},
        "loss": {"name": name},
        "evaluate": {"views": views, "batch_size": 72},
    }
    run = cnnjax.train(config, tmp_path / "run")
    data = cnnjax.load_dataset(DatasetOptions())
    mean, std = (np.array(values) for values in (data.statistics.mean, data.statistics.std))
    layer = jax.tree.map(lambda w: np.asarray(w, np.float64), run.selected.params["output"])
    part = data.splits["test"]

    def logits(images):
        return ((images - mean) / std).reshape(len(images), -1) @ layer["kernel"] + layer["bias"]

    loss, unnormalized = LOSSES[name]
    seen = [part.images, part.images[:, :, ::-1]] if views == "flip" else [part.images]
    shares = [values / values.sum(-1, keepdims=True) for values in (unnormalized(logits(x)) for x in seen)]
    labels = np.eye(10)[part.labels]
    probabilities = (np.mean(shares, 0) * labels).sum(-1)
    expected = {
        "loss": loss(logits(part.images), labels).mean(),
        "nll": -np.log(probabilities).mean(),
        "accuracy": (np.mean(shares, 0).argmax(-1) == part.labels).mean(),
    }
    judged = cnnjax.evaluate([run])
    for metric, value in expected.items():
        assert run.metrics[f"test/{metric}"] == pytest.approx(value, rel=1e-4)
        assert judged[metric] == pytest.approx(value, rel=1e-4)


def test_a_further_sum_of_a_task_is_reported(tmp_path, monkeypatch, capsys):
    class Negative(Classification):
        def loss_of_logits(self, logits, batch, train):
            values, sums = super().loss_of_logits(logits, batch, train)
            return values, {**sums, "negative": (logits < 0).sum(-1)}

        def summarize(self, sums):
            return super().summarize(sums) | {"negative": sums["negative"] / sums["count"]}

    config = DIGITS | {"log": {"progress": "lines", "tensorboard": False}, "model": {"name": "mlp", "features": ()}}
    stop_at(13, monkeypatch)
    with pytest.raises(Interrupted):
        cnnjax.train(config, tmp_path / "run", task=Negative())
    run = cnnjax.train(config, tmp_path / "run", task=Negative())
    data, layer = cnnjax.load_dataset(DatasetOptions()), run.selected.params["output"]
    for split in ("valid", "test"):
        logits = run.network_inputs(data.splits[split].images).reshape(len(data.splits[split]), -1) @ layer["kernel"]
        expected = (logits + layer["bias"] < 0).sum(-1).mean()
        [value] = [
            line[f"{split}/negative"]
            for line in run.history
            if f"{split}/negative" in line and run.metrics["checkpoint"] in (line["step"], line.get("checkpoint"))
        ]
        assert value == pytest.approx(expected, abs=0.02)
    assert [0 < line["train/negative"] < 10 for line in run.history if "train/loss" in line] == [True, True]
    assert f"valid/negative {run.history[1]['valid/negative']:.4f}" in capsys.readouterr().out
    with pytest.raises(
        ValueError, match="a step returned correct, count, loss, earlier steps correct, count, loss, negat"
    ):
        evaluation.add_up([{"loss": 1, "correct": 1, "count": 1}], {"loss": 1, "correct": 1, "count": 1, "negative": 2})


def test_compiling_for_layers_that_begin_to_train_is_no_training_time(tmp_path, monkeypatch):
    ahead = program.compiled_ahead

    def slow(*arguments):
        compiled, calls = ahead(*arguments), itertools.count()

        def call(*given):
            if next(calls) == 0:
                time.sleep(1)
            return compiled(*given)

        return call

    monkeypatch.setattr(program, "compiled_ahead", slow)
    config = DIGITS | {
        "model": {"name": "mlp", "features": (32,)},
        "initial": {"frozen": ("hidden1",), "unfreeze": ((1.0, "hidden1"),)},
    }
    run = cnnjax.train(config, tmp_path / "run")
    images = 10 * 128
    assert all(line["time/images_per_second"] > images for line in run.history if "train/loss" in line)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mean_squared_error"])
def test_other_losses_learn(loss, tmp_path):
    config = DIGITS | {
        "train": DIGITS["train"] | {"epochs": 6},
        "model": {"name": "mlp", "features": ()},
        "loss": {"name": loss},
        "optimizer": {"name": "adam", "learning_rate": 0.003},
    }
    run = cnnjax.train(config, tmp_path / "run")
    assert run.metrics["test/accuracy"] > 0.85
    judged = cnnjax.evaluate([run])
    for name in ("loss", "nll", "accuracy"):
        assert judged[name] == pytest.approx(run.metrics[f"test/{name}"], rel=1e-5)
    np.testing.assert_allclose(
        run.predict_prepared(cnnjax.load_dataset(DatasetOptions()).splits["test"].images).sum(-1), 1, rtol=1e-4
    )


class Pooling(nn.Module):
    """A convolution and a global average, for images of any size."""

    num_classes: int

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(8, (3, 3), (2, 2))(x)).mean((1, 2))
        return nn.Dense(self.num_classes)(x)


GROWING = {
    "devices": 1,
    "log": QUIET,
    "augment": {"sizes": ((0.0, (8, 8)), (1.0, (12, 16))), "repeats": 3, "crop": (28, 28), "shift": 1.0},
    "train": {"batch_size": 128, "epochs": 2},
    "evaluate": {"crop": (24, 24)},
    "checkpoint": {"every_steps": 3},
}


@pytest.mark.slow
def test_images_grow_and_repeat_in_training_and_have_their_own_size_in_evaluation(tmp_path):
    """The sizes of the images that the network gets while it is traced; a stopped run resumes to the same bits."""
    seen = []

    class Watched(Pooling):
        def __call__(self, x, train=False):
            seen.append((train, x.shape[1:3]))
            return super().__call__(x, train)

    run = cnnjax.train(GROWING, tmp_path / "whole", model=Watched(10))
    assert {size for train, size in seen if train} == {(8, 8), (12, 16)}
    assert (False, (24, 24)) in seen and run.predict_prepared(np.zeros((1, 32, 32, 1), np.uint8)).shape == (1, 10)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(13, patch)
        with pytest.raises(Interrupted, match="at step 13, saved"):
            cnnjax.train(GROWING, tmp_path / "stopped", model=Watched(10))
    resumed = cnnjax.train(GROWING, tmp_path / "stopped", model=Watched(10))
    assert same_bits(resumed.state, run.state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment.sizes": ((0.0, (16, 16)),)}, r"augment.sizes=\(16, 16\): the parameters of model lenet5 depend on the size"),
        ({"evaluate.crop": (28, 28)}, r"evaluate.crop=\(28, 28\): the parameters of model lenet5 depend on the size of its images"),
        ({"evaluate.crop": (40, 40)}, r"evaluate.crop=\(40, 40\): expected a length for each axis of the images, at most 32x32"),
        ({"augment.sizes": ((2.0, (16, 16)), (1.0, (8, 8)))}, "augment.sizes.*epochs from 0 on, each above the one before"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused_before_the_training(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        cnnjax.train(cnnjax.load_config(LENET5, changes), tmp_path / "run")
