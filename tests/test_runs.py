"""Runs as a whole: trained, stopped, resumed, read back."""

import io
import json
import logging
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import jax
import numpy as np
import optax
import pytest
from PIL import Image

import cnnjax
from cnnjax.config import load_config, to_json
from cnnjax.core import files
from cnnjax.data import batches
from cnnjax.data.datasets import DatasetOptions, load_dataset
from cnnjax.data.displayed import displayed
from cnnjax.data.streaming import RandomCrop
from cnnjax.runs.training import network_images
from cnnjax.training import loop, program, record, run_directory, schedules, tensorboard
from cnnjax.training.checkpoints import CheckpointError
from cnnjax.training.experiment import build, data_facts
from cnnjax.training.interruption import Interrupted
from tests.tasks.runs_alike import assert_compiled_in_the_first_epoch
from tests.training import events


def same_bits(first, second):
    a, b = jax.tree_util.tree_leaves_with_path(first), jax.tree_util.tree_leaves_with_path(second)
    assert [path for path, _ in a] == [path for path, _ in b]
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for (_, x), (_, y) in zip(a, b, strict=True))


def measured(history):
    """Without what depends on the clock."""
    return [{key: value for key, value in line.items() if not key.startswith("time/")} for line in history]


def with_fields(config, **fields):
    return load_config(config, {name.replace("__", "."): value for name, value in fields.items()})


# --- what a run is


def test_a_run_directory_holds_what_the_run_was(finished_run, digits_config):
    workdir = finished_run.workdir
    names = {path.name for path in workdir.iterdir()} - {".lock"}
    assert names == {"config.json", "environment.json", "dataset.json", "metrics.jsonl", "checkpoints", "DONE"}
    assert json.loads((workdir / "config.json").read_text()) == to_json(load_config(digits_config))
    environment = json.loads((workdir / "environment.json").read_text())
    assert environment["packages"]["jax"] == jax.__version__ and environment["devices"] == [
        {"platform": "cpu", "kind": "cpu"}
    ]
    described = json.loads((workdir / "dataset.json").read_text())
    assert described["examples"] == {"train": 1298, "valid": 144, "test": 355}
    assert described["label_names"] == list("0123456789")


def test_a_run_is_a_line_and_a_card(finished_run):
    accuracy = finished_run.metrics["test/accuracy"]
    assert (
        repr(finished_run)
        == f"Run({str(finished_run.workdir)!r}: mlp on digits, 2 epochs, test/accuracy {accuracy:.4f})"
    )
    card = finished_run._repr_html_()
    assert "mlp, 33,130 parameters" in card and "digits: 1,298 train, 144 valid, 355 test" in card
    assert "2 of 2 epochs, 10 steps of 128 each" in card and f">{accuracy:.4f}<" in card
    assert card.count("<svg") == 2 and card.count("<polyline") == 4 and len(card) < 20_000


def test_metrics_are_a_line_an_epoch_and_the_test_last(finished_run):
    lines = [json.loads(line) for line in (finished_run.workdir / "metrics.jsonl").read_text().splitlines()]
    assert lines == finished_run.history
    assert [(line["step"], line["epoch"]) for line in lines] == [(10, 1), (20, 2), (20, 2)]
    for line in lines[:2]:
        assert {"train/loss", "train/accuracy", "valid/loss", "valid/accuracy", "learning_rate"} <= line.keys()
    assert lines[-1].keys() == {"step", "epoch", "checkpoint", "test/loss", "test/nll", "test/accuracy"}
    assert finished_run.metrics["test/accuracy"] == lines[-1]["test/accuracy"] > 0.5
    assert all(math.isfinite(value) for line in lines for value in line.values())


def test_the_recorded_metrics_are_those_of_the_saved_state(finished_run):
    """Computed again in NumPy from the saved parameters."""
    dataset = load_dataset(DatasetOptions())
    params = jax.tree.map(np.asarray, finished_run.selected.params)
    for split in ("valid", "test"):
        part = dataset.splits[split]
        mean, std = (np.array(values) for values in (dataset.statistics.mean, dataset.statistics.std))
        x = ((part.images - mean) / std).reshape(len(part), -1)
        hidden = np.maximum(x @ params["hidden1"]["kernel"] + params["hidden1"]["bias"], 0)
        logits = hidden @ params["output"]["kernel"] + params["output"]["bias"]
        losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(part)), part.labels]
        at = finished_run.metrics["checkpoint"]
        line = next(
            line for line in finished_run.history if f"{split}/loss" in line and (split == "test" or line["step"] == at)
        )
        np.testing.assert_allclose(line[f"{split}/loss"], losses.mean(), rtol=1e-4)
        assert line[f"{split}/accuracy"] == (logits.argmax(-1) == part.labels).mean()
        assert cnnjax.evaluate([finished_run], split)["accuracy"] == line[f"{split}/accuracy"]


def test_a_run_read_back_is_the_run(finished_run):
    run = cnnjax.load_run(finished_run.workdir)
    assert same_bits(run.state, finished_run.state) and run.history == finished_run.history
    assert run.config.to_dict() == finished_run.config.to_dict()
    images = load_dataset(DatasetOptions()).splits["test"].images[:7]
    probabilities = run.predict(images)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probabilities, finished_run.predict(images))
    assert run.predict([]).shape == (0, 10)


def test_prediction_prepares_as_training_did(finished_run):
    images = load_dataset(DatasetOptions()).splits["test"].images[:3]
    expected = finished_run.predict_prepared(images)
    np.testing.assert_array_equal(finished_run.predict(images[..., 0]), expected)
    np.testing.assert_array_equal(finished_run.predict(np.repeat(images, 3, -1)), expected)  # grey seen as colour
    with pytest.raises(ValueError, match=r"image 0: the image is 20x20, the network takes 32x32"):
        finished_run.predict(np.zeros((1, 20, 20), np.uint8), resize="refuse")
    with pytest.raises(ValueError, match=r"unknown resize 'refusal': did you mean 'refuse'"):
        finished_run.predict(images, resize="refusal")
    with pytest.raises(ValueError, match=r"image 0: it holds float32, 1 channel, but the data set's images are uint8"):
        finished_run.predict(np.zeros((1, 32, 32), np.float32))


def test_what_the_training_did_not_do_is_logged_once_a_call(finished_run, caplog):
    test = load_dataset(DatasetOptions()).splits["test"]
    with caplog.at_level(logging.WARNING):
        finished_run.predict(test.images[:20])  # as the training's: nothing to say
        assert not caplog.records
        large = [Image.fromarray(image[..., 0]).resize((64, 64)) for image in test.images[:3]]
        np.testing.assert_array_equal(
            finished_run.predict(large), finished_run.predict_prepared(finished_run.prepare_all(large))
        )
    said = "3 of 3 images (the first: image 0): resized to 32x32 by the shorter side and the central crop"
    assert [record.message for record in caplog.records] == [said] * 2


def test_an_ensembles_probabilities_are_the_mean(finished_run, digits_config, tmp_path):
    other = cnnjax.train(with_fields(digits_config, seed=1), tmp_path / "other")
    test = load_dataset(DatasetOptions()).splits["test"]
    mean = (finished_run.predict_prepared(test.images) + other.predict_prepared(test.images)) / 2
    result = cnnjax.evaluate([finished_run, other])
    assert result["accuracy"] == (mean.argmax(-1) == test.labels).mean()
    assert "loss" not in result
    np.testing.assert_allclose(result["nll"], -np.log(mean[np.arange(len(test)), test.labels]).mean(), rtol=1e-5)


# --- the same bits again


def test_the_same_config_gives_the_same_bits(finished_run, digits_config, tmp_path):
    again = cnnjax.train(digits_config, tmp_path / "again")
    assert same_bits(again.state, finished_run.state)
    assert measured(again.history) == measured(finished_run.history)
    other = cnnjax.train(with_fields(digits_config, seed=1), tmp_path / "other")
    assert not same_bits(other.state.params, finished_run.state.params)


def test_streaming_gives_the_same_bits_as_resident_data(finished_run, digits_config, tmp_path):
    streamed = cnnjax.train(with_fields(digits_config, dataset__resident=False), tmp_path / "streamed")
    assert same_bits(streamed.state, finished_run.state)


class Killed(Exception):
    pass


def stop_at(step, monkeypatch):
    """Sends this process SIGTERM while the given step, counted from 1, is made."""
    original, count = batches.training_batches, 0

    def counted(*arguments):
        nonlocal count
        for batch in original(*arguments):
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr(batches, "training_batches", counted)


@pytest.mark.parametrize("step", [1, 10, 15, 20])
def test_stopped_at_any_step_and_resumed_it_is_the_same_run(finished_run, digits_config, tmp_path, monkeypatch, step):
    """A signal at every kind of moment: in an epoch, at its end, before the last step's evaluation."""
    stop_at(step, monkeypatch)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=f"stopped by SIGTERM at step {step}, saved"):
        cnnjax.train(digits_config, tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not (tmp_path / "run" / "DONE").exists()
    monkeypatch.undo()
    resumed = cnnjax.train(digits_config, tmp_path / "run")
    assert same_bits(resumed.state, finished_run.state)
    assert measured(resumed.history) == measured(finished_run.history)


def test_resumed_from_within_an_epoch_by_a_checkpoint(finished_run, digits_config, tmp_path, monkeypatch):
    config = with_fields(digits_config, checkpoint__every_steps=4)
    write = record.MetricsLog.write

    def killed(self, line):
        if line["step"] == 20:
            raise Killed
        write(self, line)

    monkeypatch.setattr(record.MetricsLog, "write", killed)
    with pytest.raises(Killed):
        cnnjax.train(config, tmp_path / "run")
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())[-1] == "00000016"
    resumed = cnnjax.train(config, tmp_path / "run")
    assert same_bits(resumed.state, finished_run.state) and measured(resumed.history) == measured(finished_run.history)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(finished_run, digits_config, tmp_path, caplog):
    shutil.copytree(finished_run.workdir, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints" / "00000020" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    (tmp_path / "run" / "DONE").unlink()
    with caplog.at_level(logging.WARNING):
        resumed = cnnjax.train(digits_config, tmp_path / "run")
    assert any("00000020 is damaged" in record.message for record in caplog.records)
    assert same_bits(resumed.state, finished_run.state) and measured(resumed.history) == measured(finished_run.history)


COMMAND = [sys.executable, "-m", "cnnjax", "train"]


def command_line(config):
    flags = []
    for path, value in config.items():
        flags.append(f"--config.{path}={value}")
    return flags


@pytest.mark.slow
def test_killed_three_times_at_random_moments_the_bits_are_those_of_an_undisturbed_run(tmp_path):
    fields = {"train.epochs": 5, "checkpoint.every_steps": 15}
    flags = ["--config", "quickstart", *command_line(fields)]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    subprocess.run([*COMMAND, *flags, "--workdir", str(undisturbed)], check=True, capture_output=True)

    def last_checkpoint():
        names = [path.name for path in (killed / "checkpoints").glob("*") if path.name.isdigit()]
        return max(map(int, names), default=0)

    total = 5 * (1298 // 16)
    moments = random.Random()  # other moments in every run of the tests
    for least in sorted(moments.sample(range(total - 150), 3)):
        with subprocess.Popen([*COMMAND, *flags, "--workdir", str(killed)], stdout=subprocess.DEVNULL) as process:
            while last_checkpoint() < least:
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.1))
            process.kill()
        assert process.returncode == -signal.SIGKILL
    subprocess.run([*COMMAND, *flags, "--workdir", str(killed)], check=True, capture_output=True)
    first, second = cnnjax.load_run(undisturbed), cnnjax.load_run(killed)
    assert same_bits(first.state, second.state) and same_bits(first.selected, second.selected)
    assert measured(first.history) == measured(second.history)
    steps = [sorted(path.name for path in (run.workdir / "checkpoints").iterdir()) for run in (first, second)]
    assert steps[0] == steps[1]


@pytest.mark.slow
def test_one_two_and_four_virtual_devices_agree_in_every_epoch(tmp_path):
    """From the command line, as a user would: nothing is set in the environment."""
    environment = {key: value for key, value in os.environ.items() if key not in {"NPROC", "XLA_FLAGS"}}
    losses = {}
    for count in (1, 2, 4):
        fields = {"devices": count, "train.epochs": 2, "log.progress": "off"}
        flags = [
            "--config",
            "quickstart",
            "--check-replicas",
            *command_line(fields),
            "--workdir",
            str(tmp_path / str(count)),
        ]
        subprocess.run([*COMMAND, *flags], check=True, capture_output=True, env=environment)
        history = run_directory.read_history(tmp_path / str(count))
        losses[count] = [[line["train/loss"], line["valid/loss"]] for line in history if "train/loss" in line]
        environment_file = json.loads((tmp_path / str(count) / "environment.json").read_text())
        assert len(environment_file["devices"]) == count
    for count in (2, 4):
        np.testing.assert_allclose(losses[count], losses[1], atol=1e-4)


@pytest.mark.slow
def test_many_steps_on_virtual_devices_do_not_deadlock_even_without_room(tmp_path):
    """A library user who imported JAX first has no NPROC: bounding the steps in flight is what helps there."""
    code = f"""
import jax
jax.config.update("jax_num_cpu_devices", 4)
jax.devices()
import cnnjax
config = cnnjax.load_config("quickstart", {{"devices": 4, "train.epochs": 5, "log.progress": "off"}})
cnnjax.train(config, {str(tmp_path / "run")!r})
"""
    environment = {key: value for key, value in os.environ.items() if key != "NPROC"}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment, timeout=120)


def test_nothing_is_compiled_after_the_first_epoch(digits_config, tmp_path):
    """Each epoch evaluates 144 images, in batches of 100: the second one is partial."""
    fields = with_fields(
        digits_config, train__epochs=3, model__features=(31,), evaluate__batch_size=100, log__every_steps=1
    )
    assert_compiled_in_the_first_epoch(partial(cnnjax.train, fields, tmp_path / "run"))


def test_the_host_does_not_wait_for_each_step(digits_config, tmp_path, monkeypatch):
    """Metrics are fetched once an epoch here, not once a step."""
    fetches = []
    original = loop.fetch_metrics
    monkeypatch.setattr(
        loop, "fetch_metrics", lambda pending, *rest: fetches.append(len(pending)) or original(pending, *rest)
    )
    cnnjax.train(digits_config, tmp_path / "run")
    assert fetches == [10, 10]


def test_steps_taken_together_are_the_same_steps(finished_run, digits_config, tmp_path, monkeypatch):
    """As on a GPU, where one program takes several; and its bits do not depend on how they are divided into calls."""
    monkeypatch.setattr(program, "steps_together", lambda devices, resident: 4)
    together = cnnjax.train(digits_config, tmp_path / "together")  # 10 steps an epoch: 4, 4, 2
    alone = [line.items() for line in measured(finished_run.history)]
    for line, expected in zip(measured(together.history), alone, strict=True):
        assert line == {name: pytest.approx(value, rel=1e-5) for name, value in expected}

    every = with_fields(digits_config, log__every_steps=3)
    divided = cnnjax.train(every, tmp_path / "divided")  # 3, 3, 3, 1, then 2, 3, 3, 2
    assert [line["step"] for line in divided.history if "train/batch_loss" in line] == [3, 6, 9, 12, 15, 18]
    assert same_bits(divided.state, together.state)


def test_steps_to_the_next_pause():
    assert loop.steps_to_next(0, (50, None, None)) == 50
    assert loop.steps_to_next(49, (50, None, 20)) == 1
    assert loop.steps_to_next(41, (50, 7, 20)) == 1
    assert loop.steps_to_next(100, (50, 30, None)) == 20


def test_training_imports_nothing_that_looks_at_what_was_trained(tmp_path):
    code = (
        "import sys, cnnjax\n"
        "fields = {'model': {'name': 'mlp'}, 'train': {'epochs': 1}, 'log': {'progress': 'off'}}\n"
        f"cnnjax.train(fields, {str(tmp_path / 'run')!r})\n"
        "print([name for name in sys.modules if name.startswith(('cnnjax.analysis', 'matplotlib', 'sklearn', 'IPython'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# --- resuming with another config


def copied(run, tmp_path, done=True):
    shutil.copytree(run.workdir, tmp_path / "run")
    if not done:
        (tmp_path / "run" / "DONE").unlink()
    return tmp_path / "run"


def test_a_finished_run_is_returned_as_it_is(finished_run, digits_config, tmp_path):
    workdir = copied(finished_run, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name != ".lock" and path.is_file()}
    again = cnnjax.train(digits_config, workdir)
    assert again.history == finished_run.history
    assert before == {
        path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name != ".lock" and path.is_file()
    }


def test_a_changed_config_is_refused_with_the_difference(finished_run, digits_config, tmp_path):
    workdir = copied(finished_run, tmp_path)
    with pytest.raises(
        ValueError, match=r"another config \(optimizer.learning_rate: 0.05 in the run, 0.1 requested\).*--overwrite"
    ):
        cnnjax.train(with_fields(digits_config, optimizer__learning_rate=0.1), workdir)
    with pytest.raises(ValueError, match="a run can be extended, not shortened"):
        cnnjax.train(with_fields(digits_config, train__epochs=1), workdir)
    with pytest.raises(ValueError, match=r"model.name: 'mlp' in the run, 'lenet5' requested"):
        cnnjax.train(with_fields(digits_config, model__name="lenet5"), workdir)


def test_what_does_not_change_the_numbers_may_differ(finished_run, digits_config, tmp_path):
    workdir = copied(finished_run, tmp_path, done=False)
    changed = with_fields(digits_config, devices=2, checkpoint__keep=3, log__every_steps=5, dataset__resident=False)
    resumed = cnnjax.train(changed, workdir)
    assert same_bits(resumed.state, finished_run.state)  # nothing was left to train


@pytest.fixture(scope="module")
def two_and_three(digits_config, tmp_path_factory):
    """(a config of three epochs, a run of its first two, a run of all three)"""
    config, folder = (
        with_fields(digits_config, schedule__name="constant", train__epochs=3),
        tmp_path_factory.mktemp("runs"),
    )
    short = cnnjax.train(with_fields(config, train__epochs=2), folder / "short")
    return config, short, cnnjax.train(config, folder / "whole")


def test_a_longer_run_resumes_where_the_shorter_one_ended(two_and_three, tmp_path):
    config, short, whole = two_and_three
    longer = cnnjax.train(config, copied(short, tmp_path))
    assert same_bits(longer.state, whole.state) and measured(longer.history) == measured(whole.history)
    assert measured(short.history)[:2] == measured(longer.history)[:2]


def test_a_state_resumes_on_another_number_of_devices(two_and_three, tmp_path):
    config, short, whole = two_and_three
    longer = cnnjax.train(with_fields(config, devices=4), copied(short, tmp_path))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), longer.state.params, whole.state.params)


def test_changed_data_are_refused(finished_run, digits_config, tmp_path):
    workdir = copied(finished_run, tmp_path, done=False)
    described = json.loads((workdir / "dataset.json").read_text())
    (workdir / "dataset.json").write_text(json.dumps({**described, "fingerprint": "0"}))
    with pytest.raises(ValueError, match="data set digits has changed since the run began"):
        cnnjax.train(digits_config, workdir)


def test_killed_while_it_was_being_set_up_it_starts_again(digits_config, tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    (tmp_path / ".config.json.x1y2").write_text("{")
    assert cnnjax.train(with_fields(digits_config, train__epochs=1), tmp_path).metrics["epoch"] == 1


def test_what_killed_writes_have_left_is_cleared(finished_run, digits_config, tmp_path):
    workdir = copied(finished_run, tmp_path, done=False)
    (workdir / ".metrics.jsonl.x1y2").write_text('{"step"')
    cnnjax.train(digits_config, workdir)
    assert not list(workdir.glob(".metrics.jsonl.*"))


def test_checkpoints_without_a_config_are_neither_trained_on_nor_deleted(finished_run, digits_config, tmp_path):
    workdir = copied(finished_run, tmp_path)
    (workdir / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds checkpoints but no config.json: restore it from a copy"):
        cnnjax.train(digits_config, workdir)
    assert (workdir / "checkpoints" / "00000020").is_dir()


def test_overwriting_deletes_a_run_and_nothing_else(finished_run, digits_config, tmp_path):
    workdir = copied(finished_run, tmp_path)
    changed = with_fields(digits_config, train__epochs=1)
    assert cnnjax.train(changed, workdir, overwrite=True).metrics["epoch"] == 1
    (workdir / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"not overwritten: it holds files that do not belong to a run \(thesis.tex\)"):
        cnnjax.train(digits_config, workdir, overwrite=True)
    assert (workdir / "DONE").exists()


def test_the_default_directory_is_numbered_where_another_run_is(digits_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from cnnjax.runs import free_directory

    config = with_fields(digits_config, train__epochs=1)
    first = cnnjax.train(config)
    assert str(first.workdir) == "runs/mlp_digits"
    assert str(free_directory("mlp_digits", config)) == "runs/mlp_digits"
    assert str(free_directory("mlp_digits", with_fields(config, train__epochs=5))) == "runs/mlp_digits-2"
    assert str(free_directory("mlp_digits", with_fields(config, seed=1))) == "runs/mlp_digits-2"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "config.json").write_text("{"), "config.json: not valid JSON"),
        (
            lambda run: (run / "config.json").write_text("[1]"),
            "config.json is damaged: restore it from a copy, or train again",
        ),
        (lambda run: (run / "config.json").write_text("{}"), "config.json is damaged"),
        (lambda run: (run / "dataset.json").write_text("{}"), "dataset.json is damaged"),
        (lambda run: (run / "dataset.json").unlink(), "dataset.json is missing"),
        (
            lambda run: (run / "metrics.jsonl").write_text("[1]\n{}"),
            r"metrics.jsonl, line 1: expected an object with a step",
        ),
    ],
)
def test_what_is_damaged_in_a_run_is_named(finished_run, digits_config, tmp_path, damage, message):
    workdir = copied(finished_run, tmp_path, done=False)
    damage(workdir)
    for use in (lambda: cnnjax.train(digits_config, workdir), lambda: cnnjax.load_run(workdir)):
        with pytest.raises((ValueError, CheckpointError), match=message):
            use()


@pytest.mark.parametrize("lost", ["checkpoints", "metrics.jsonl"])
def test_what_a_finished_run_has_lost_is_made_again(finished_run, digits_config, tmp_path, lost):
    workdir = copied(finished_run, tmp_path)
    shutil.rmtree(workdir / lost) if lost == "checkpoints" else (workdir / lost).unlink()
    again = cnnjax.train(digits_config, workdir)
    assert same_bits(again.state, finished_run.state)
    assert again.metrics["test/accuracy"] == finished_run.metrics["test/accuracy"]


@pytest.fixture(scope="module")
def falling(digits_config, tmp_path_factory):
    """A config whose plateau falls and that stops early, and the run of it, stopped and resumed nowhere."""
    config = with_fields(
        digits_config,
        train__epochs=9, train__early_stopping=4, evaluate__checkpoint="last", optimizer__learning_rate=0.5,
        **{"schedule.name": "plateau", "schedule.patience": 1, "schedule.threshold": 0.3, "schedule.falls": 9},
    )  # fmt: skip
    return config, cnnjax.train(config, tmp_path_factory.mktemp("falling") / "run")


def interrupted(config, workdir, monkeypatch, step=50):
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        with pytest.raises(Interrupted):
            cnnjax.train(config, workdir)


@pytest.mark.parametrize("kept", [[], [0, 1, 3, 4], [0, 1, 2, 3]])
def test_what_a_history_has_lost_comes_back_from_the_checkpoint(falling, tmp_path, monkeypatch, caplog, kept):
    """Plateau and early stopping depend on it: the bits are those of an undisturbed run."""
    config, whole = falling
    workdir = tmp_path / "run"
    interrupted(config, workdir, monkeypatch)
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert len(lines) == 5
    (workdir / "metrics.jsonl").write_text("".join(lines[number] for number in kept))
    resumed = cnnjax.train(config, workdir)
    assert measured(resumed.history) == measured(whole.history) and same_bits(resumed.state, whole.state)
    lost = ", ".join(str(epoch) for epoch in range(1, 6) if epoch - 1 not in kept)
    assert f"metrics.jsonl had lost the lines of epochs {lost}: restored from the checkpoint" in caplog.text


def test_a_checkpoint_that_holds_no_lines_resumes_where_the_history_is_whole(falling, tmp_path, monkeypatch):
    config, whole = falling
    workdir = tmp_path / "run"
    interrupted(config, workdir, monkeypatch)
    for path in workdir.glob("checkpoints/*/notes/metadata"):
        notes = json.loads(path.read_text())
        del notes["lines"]
        path.write_text(json.dumps(notes))
    text = (workdir / "metrics.jsonl").read_text()
    (workdir / "metrics.jsonl").write_text("".join(text.splitlines(keepends=True)[:3]))
    with pytest.raises(
        ValueError, match=r"metrics.jsonl has lost epochs 4, 5 of the 5 that its checkpoint has trained"
    ):
        cnnjax.train(config, workdir)
    (workdir / "metrics.jsonl").write_text(text)
    resumed = cnnjax.train(config, workdir)
    assert measured(resumed.history) == measured(whole.history) and same_bits(resumed.state, whole.state)


def test_a_run_is_not_judged_on_other_data(finished_run, tmp_path):
    workdir = copied(finished_run, tmp_path)
    described = json.loads((workdir / "dataset.json").read_text())
    (workdir / "dataset.json").write_text(json.dumps({**described, "fingerprint": "0"}))
    with pytest.raises(ValueError, match=r"run .*/run: data set digits has changed since the run began"):
        cnnjax.evaluate([cnnjax.load_run(workdir)])


def test_a_longer_run_under_another_schedule_says_so(digits_config, tmp_path, capsys):
    cnnjax.train(with_fields(digits_config, train__epochs=1), tmp_path / "run")
    cnnjax.train(with_fields(digits_config, log__progress="lines"), tmp_path / "run")
    assert "from now on the cosine schedule is for 2 epochs" in capsys.readouterr().out


# --- faults


def test_a_loss_that_is_not_finite_stops_training_and_names_the_step(digits_config, tmp_path):
    config = with_fields(digits_config, optimizer__learning_rate=1e30)
    with pytest.raises(
        FloatingPointError,
        match=r"the loss became (nan|inf) at step \d+; there is no checkpoint yet.*lower.*labels.*precision.*log.0.",
    ):
        cnnjax.train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists() and not (tmp_path / "run" / "DONE").exists()


def test_after_a_good_epoch_its_checkpoint_is_kept(digits_config, tmp_path, monkeypatch):
    original = schedules.SCHEDULES["cosine"]

    def exploding(learning_rate, total_steps, steps_per_epoch, **options):
        schedule = original(learning_rate, total_steps, steps_per_epoch, **options)
        return lambda step: jax.numpy.where(step < 12, schedule(step), 1e38)

    monkeypatch.setitem(schedules.SCHEDULES, "cosine", exploding)
    with pytest.raises(FloatingPointError, match=r"at step 1[34]; the last checkpoint, step 10, is kept"):
        cnnjax.train(digits_config, tmp_path / "run")
    assert int(cnnjax.load_run(tmp_path / "run").state.step) == 10


def test_a_directory_in_use_is_refused(digits_config, tmp_path):
    workdir = tmp_path / "run"
    with files.locked(workdir / ".lock", "it"), pytest.raises(files.InUseError, match="is in use by another process"):
        cnnjax.train(digits_config, workdir)


def test_a_directory_that_holds_something_else_is_left_alone(digits_config, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files, not a run"):
        cnnjax.train(digits_config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(OSError, match=r"is a file"):
        cnnjax.train(digits_config, tmp_path / "notes.txt")
    with pytest.raises(OSError, match=r"is a file"):
        cnnjax.train(digits_config, tmp_path / "notes.txt" / "deeper")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"devices": 3}, "train.batch_size=128 cannot be shared equally by 3 devices: choose 126 or 129"),
        ({"devices": 9}, "devices=9: there are 8"),
        (
            {"train__batch_size": 5000},
            "train.batch_size=5000 and the training split has 1298 examples: choose at most 1298",
        ),
        (
            {"model__name": "lenet5", "dataset__resize": (8, 8)},
            "LeNet5 on images of 8x8x1: c3: a 5x5 window does not fit",
        ),
        ({"dataset__name": "digit"}, "no data set with this name: did you mean 'digits'"),
        ({"schedule__warmup_epochs": 2.0}, "schedule.warmup_epochs=2"),
        ({"model__features": (10**9,)}, "need [0-9,.]+ GiB and the device has"),
        (
            {"dataset__normalize": "fixed", "dataset__mean": (0.5, 0.5), "dataset__std": (1.0, 1.0)},
            "dataset.mean and dataset.std have 2 value.s., the images 1 channel",
        ),
    ],
)
def test_a_config_that_cannot_be_run_leaves_nothing_behind(digits_config, tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        cnnjax.train(with_fields(digits_config, **fields), tmp_path / "deep" / "run")
    assert not list(tmp_path.iterdir())


def test_directories_without_a_run_or_a_checkpoint_say_so(digits_config, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run .config.json is missing.: train one"):
        cnnjax.load_run(tmp_path)
    with pytest.raises(FloatingPointError):
        cnnjax.train(with_fields(digits_config, optimizer__learning_rate=1e30), tmp_path / "run")
    with pytest.raises(CheckpointError, match="has no checkpoint yet: continue training"):
        cnnjax.load_run(tmp_path / "run")


def test_a_history_cut_short_by_a_kill_is_read_up_to_there(finished_run, tmp_path):
    path = tmp_path / "metrics.jsonl"
    text = (finished_run.workdir / "metrics.jsonl").read_text()
    path.write_text(text[:-20])
    assert run_directory.read_history(tmp_path) == finished_run.history[:-1]
    assert run_directory.rewind_history(tmp_path, 10) == finished_run.history[:1]
    path.write_text("{\n" + text)
    with pytest.raises(ValueError, match="line 1: not valid JSON"):
        run_directory.read_history(tmp_path)


def test_tensorboard_files_hold_the_same_numbers_in_plots_that_the_splits_share(digits_config, tmp_path):
    config = with_fields(digits_config, train__epochs=2, log__tensorboard=True, log__every_steps=5, log__images=True)
    run = cnnjax.train(config, tmp_path / "run")
    found = events.values(tmp_path / "run" / "tensorboard")
    scalars = {(*place, step) for place, step, value in found if value.WhichOneof("value") == "simple_value"}
    for line in run.history:
        for name in line.keys() - {"step", "epoch", "checkpoint"}:
            place = tensorboard.place_of(name)
            values = [v.simple_value for where, step, v in found if (where, step) == (place, line["step"])]
            assert values  # two of the rate, where a step's line and an epoch's have the same step
            np.testing.assert_allclose(values, line[name], rtol=1e-6)
            scalars.discard((*place, line["step"]))
    assert not scalars  # no checkpoint, no epoch
    assert {place for place, _, _ in found} >= {(split, "metrics/loss") for split in ("train", "valid", "test")}
    [picture] = [value.image for place, _, value in found if place == ("train", "images/first_batch")]
    assert Image.open(io.BytesIO(picture.encoded_image_string)).width == picture.width >= 32


def test_tensorboard_shows_streamed_images_as_they_are_cropped(digits_config):
    """The crops of a tenth of the area are resized as they are decoded; nothing else is done to them."""
    fields = {
        "dataset": {"name": "digits", "streaming": True, "normalize": "none"},
        "augment": {"resized_crop": (0.1, 0.1)},
        "seed": 5,
    }
    config = cnnjax.load_config({**digits_config, **fields})
    dataset = cnnjax.load_dataset(config.dataset)
    experiment = build(config, data_facts(config, dataset))
    train, order = dataset.splits["train"], batches.training_order(5, 0, False, dataset.splits["train"].labels)[:16]
    cropped = train.images.read(order, RandomCrop((0.1, 0.1), (32, 32), 5, 0))
    shown = network_images(config, experiment, dataset)
    np.testing.assert_array_equal(shown, displayed(np.float32(cropped) / 255))
    assert (cropped != train.images[order]).any()


def test_tensorboard_groups_probes_by_quantity_and_has_histograms_of_weights(digits_config, tmp_path):
    config = with_fields(digits_config, train__epochs=1, log__tensorboard=True, log__probes=True)
    run = cnnjax.train(config, tmp_path / "run")
    found = events.values(tmp_path / "run" / "tensorboard")
    groups = {tag.partition("/")[0] for (_, tag), _, _ in found}
    assert (
        groups >= {"metrics", "training", "time", "gradient_norm", "update_ratio", "weights"} and "probe" not in groups
    )
    kernels = {step: v.histo for (_, tag), step, v in found if tag == "weights/hidden1/kernel"}
    last = np.asarray(run.state.params["hidden1"]["kernel"])
    assert sorted(kernels) == [0, 10] and kernels[10].num == last.size
    np.testing.assert_allclose([kernels[10].min, kernels[10].max], [last.min(), last.max()], rtol=1e-6)


def test_training_works_outside_the_main_thread(digits_config, tmp_path):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(cnnjax.train(with_fields(digits_config, train__epochs=1), tmp_path / "run"))
    )
    thread.start()
    thread.join()
    assert results[0].metrics["epoch"] == 1


def test_evaluation_every_other_epoch_and_the_last_checkpoint(digits_config, tmp_path, monkeypatch):
    config = with_fields(digits_config, train__epochs=3, evaluate__every=2, evaluate__checkpoint="last")
    run = cnnjax.train(config, tmp_path / "run")
    assert [line["epoch"] for line in run.history if "valid/loss" in line] == [2, 3]
    assert run.metrics["checkpoint"] == 30 and same_bits(run.selected, run.state)
    best = cnnjax.train(with_fields(config, evaluate__checkpoint="best"), tmp_path / "best")
    rated = {line["step"]: line["valid/accuracy"] for line in best.history if "valid/accuracy" in line}
    assert best.metrics["checkpoint"] == max(rated, key=lambda step: (rated[step], step))
    assert int(best.selected.step) == best.metrics["checkpoint"]


def test_runs_of_other_data_cannot_be_averaged(finished_run, digits_config, tmp_path):
    other = cnnjax.train(
        with_fields(digits_config, train__epochs=1, dataset__test_split="test[:50%]"), tmp_path / "other"
    )
    with pytest.raises(ValueError, match="cannot be averaged: their test splits have different examples or classes"):
        cnnjax.evaluate([finished_run, other])
    with pytest.raises(ValueError, match="split 'tests': expected train, valid or test"):
        cnnjax.evaluate([finished_run], "tests")


def test_features_are_a_layers_outputs(finished_run):
    images = cnnjax.load_dataset(DatasetOptions()).splits["test"].images[:21]
    hidden, logits = (finished_run.features(images, layer) for layer in ("hidden1", "output"))
    assert hidden.shape == (21, 32) and logits.shape == (21, 10)
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(
        exponentials / exponentials.sum(-1, keepdims=True), finished_run.predict(images), rtol=1e-4, atol=1e-6
    )
    params = finished_run.selected.params["output"]
    np.testing.assert_allclose(np.maximum(hidden, 0) @ params["kernel"] + params["bias"], logits, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(finished_run.features(images), np.maximum(hidden, 0), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="unknown layer 'conv1': choose from hidden1, output"):
        finished_run.features(images, "conv1")


SHORT = {
    "train.epochs": 1,
    "dataset.examples_per_class": 8,
    "evaluate.batch_size": 72,
    "log.progress": "off",
    "devices": 1,
}


def test_a_batch_that_does_not_fit_says_so_and_another_may_follow_in_the_same_directory(tmp_path, monkeypatch):
    config = cnnjax.load_config("quickstart", SHORT)
    with monkeypatch.context() as small:
        small.setattr("cnnjax.training.parallel.device_memory", lambda device: 2_000_000)
        with pytest.raises(ValueError, match=r"a step needs 0\.\d GiB and there are 0\.0: lower train\.batch_size"):
            cnnjax.train(config, workdir=tmp_path / "run")
    config.train.batch_size = 8
    assert cnnjax.train(config, workdir=tmp_path / "run").config.train.batch_size == 8


def test_the_environment_says_how_each_operation_was_computed(tmp_path):
    config = cnnjax.load_config("quickstart", SHORT)
    cnnjax.train(config, workdir=tmp_path / "fast")
    config.train.ops = "stock"
    cnnjax.train(config, workdir=tmp_path / "stock")
    fast, stock = (
        json.loads((tmp_path / name / "environment.json").read_text())["operations"] for name in ("fast", "stock")
    )
    assert fast["formulations"] == {
        "16x32x32x1 by 5x5x1x6, strides 1x1": "columns",
        "average-pool of 16x28x28x6": "stock",
        "16x14x14x6 by 5x5x6x16, strides 1x1": "columns",
        "average-pool of 16x10x10x16": "stock",
    }
    assert set(stock["formulations"].values()) == {"stock"} and not stock["compiler_options"]
    assert list(fast["compiler_options"]) == ["xla_cpu_experimental_ynn_fusion_type"]


def test_a_resume_that_is_refused_leaves_the_config(finished_run, tmp_path):
    workdir = shutil.copytree(finished_run.workdir, tmp_path / "run")
    before = (workdir / "config.json").read_bytes()
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    (workdir / "metrics.jsonl").write_text("\n".join([lines[0], '{"x": 1}', *lines[1:]]) + "\n")
    (workdir / "DONE").unlink()
    longer = cnnjax.load_config(workdir / "config.json", {"train.epochs": finished_run.config.train.epochs + 1})
    with pytest.raises(ValueError, match="line 2: expected an object with a step, got .*: restore it from a copy"):
        cnnjax.train(longer, workdir)
    assert (workdir / "config.json").read_bytes() == before


def test_a_given_optimizer_is_used_as_it_is(digits_config, tmp_path):
    """The config's learning rate does not scale its update; a run says that it was given."""
    plain = {**digits_config, "optimizer": {"momentum": 0.0, "learning_rate": 0.02}, "schedule": {"name": "constant"}}
    named = cnnjax.train(plain, tmp_path / "named")
    given = cnnjax.train(plain, tmp_path / "given", optimizer=optax.sgd(0.02))
    for line, expected in zip(measured(given.history), measured(named.history), strict=True):
        rates = {"learning_rate"}
        assert {k: v for k, v in line.items() if k not in rates} == pytest.approx(
            {k: v for k, v in expected.items() if k not in rates}, rel=1e-5
        )
    assert given.config.optimizer.name == "object:optax"


def test_a_data_set_is_what_a_function_of_the_users_returns(digits_config, tmp_path, monkeypatch):
    """It is trained, kept with the run, and evaluated where the file is gone."""
    folder = tmp_path / "mine"
    folder.mkdir()
    file = folder / "noise.py"
    file.write_text(
        "import cnnjax, numpy as np\n"
        "def halves():\n"
        "    generator = np.random.default_rng(0)\n"
        "    labels = generator.integers(0, 2, 200).astype(np.int32)\n"
        "    images = generator.integers(0, 99, (200, 8, 8, 1)).astype(np.uint8)\n"
        "    images[labels == 1, :4] += 100\n"
        "    return cnnjax.from_arrays(train=(images, labels), label_names=('low', 'high'))\n"
        "def number():\n"
        "    return 3\n"
    )
    fields = {**digits_config, "dataset": {"name": "./noise.py:halves"}, "folder": str(folder)}
    fields["train"] = {"batch_size": 32, "epochs": 4}
    run = cnnjax.train(fields, tmp_path / "run")
    file.unlink()
    again = cnnjax.load_run(tmp_path / "run")
    assert cnnjax.evaluate([again])["accuracy"] == run.metrics["test/accuracy"] > 0.9
    assert again.label_names == ("low", "high") and (tmp_path / "run" / "files" / "noise.py").exists()
    file.write_text("def number():\n    return 3\n")
    with pytest.raises(
        ValueError, match=r"./noise.py:number, train: expected a data set of cnnjax.from_arrays, a sequence .*, got int"
    ):
        cnnjax.train({**fields, "dataset": {"name": "./noise.py:number"}}, tmp_path / "other")
    assert not (tmp_path / "other").exists()
