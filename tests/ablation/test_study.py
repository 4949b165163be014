"""A study as a whole: trained once, stopped, killed, shared, and its failures."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

import cnnjax
from cnnjax import runs
from cnnjax.ablation import study as studies
from cnnjax.core import files
from cnnjax.training.interruption import Interrupted
from tests.ablation.conftest import AXES, timeless
from tests.test_runs import stop_at
from tests.training import events


def stamps(folder):
    """When each file below a folder was last written."""
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name != "study.json" and path.parent.name != "locks"
    }


# --- one call


def test_a_study_is_a_row_a_trial_and_a_row_a_variant(study):
    table, folder = study
    assert [(record["variant"], record["seed"]) for record in table.trials] == [
        (f"learning_rate={rate}, batch_size={size}", seed) for rate in (0.01, 0.05) for size in (16, 32) for seed in range(2)
    ]  # fmt: skip
    assert [row.variant for row in table.rows] == table.variants and len(table.variants) == 4
    for record in table.trials:
        run = cnnjax.load_run(folder / record["directory"])
        assert run.config.optimizer.learning_rate == record["optimizer.learning_rate"]
        assert (run.config.train.batch_size, run.config.seed) == (record["train.batch_size"], record["seed"])
        assert run.metrics["test/accuracy"] == record["test/accuracy"]
        at = next(line for line in run.history if line["step"] == record["checkpoint"])
        assert record["valid/accuracy"] == at["valid/accuracy"]
        assert record["parameters"] == 1024 * 16 + 16 + 16 * 10 + 10
        assert record["time/seconds"] > 0 and record["status"] == "finished"


def test_the_ensemble_is_that_of_the_runs(study):
    table, folder = study
    directories = [record["directory"] for record in table.trials[:2]]
    expected = cnnjax.evaluate([cnnjax.load_run(folder / directory) for directory in directories])
    assert table.rows[0].ensemble == expected["accuracy"]
    assert table.summarize("test/nll")[0].ensemble == expected["nll"]
    assert table.summarize("test/loss")[0].ensemble is None
    assert table.summarize("valid/loss")[0].ensemble is None


def test_the_second_call_trains_nothing_and_gives_the_same_table(study, small_config, monkeypatch):
    table, folder = study
    before = stamps(folder)
    monkeypatch.setattr(runs, "train", None)
    monkeypatch.setattr(runs, "evaluate", None)
    again = cnnjax.ablate(small_config, AXES, seeds=2, workdir=folder)
    assert again == table and again.markdown() == table.markdown()
    assert stamps(folder) == before


def test_another_study_in_the_same_folder_uses_the_trials_that_are_there(study, small_config, monkeypatch):
    table, folder = study
    monkeypatch.setattr(runs, "train", None)
    part = cnnjax.ablate(
        small_config, {"fast": {"optimizer.learning_rate": 0.05}}, seeds=[1, 0], workdir=folder, metric="test/loss"
    )
    assert [record["seed"] for record in part.trials] == [1, 0] and part.metric == "test/loss"
    found = {record["directory"]: record["test/loss"] for record in table.trials}
    assert all(found[record["directory"]] == record["test/loss"] for record in part.trials)
    assert list(json.loads((folder / "study.json").read_text())["trials"].values()) == [
        {"variant": "fast", "seed": 1}, {"variant": "fast", "seed": 0}
    ]  # fmt: skip


def test_each_trial_is_told_unless_progress_is_off(small_config, tmp_path, capsys):
    config = cnnjax.load_config(small_config, {"log.progress": "auto", "train.epochs": 1})
    cnnjax.ablate(config, {"train.batch_size": [40, 80]}, workdir=tmp_path / "study")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("2 trials, 2 to run") and len(lines) == 4
    assert lines[1] == "batch_size  seed  test/accuracy  seconds" and lines[2].split()[:2] == ["40", "0"]


# --- stopped, killed, shared


# Of the study's variants, those with batches of 16.
RATES = {"optimizer.learning_rate": AXES["optimizer.learning_rate"]}


def test_stopped_half_way_and_called_again_it_is_the_same_study(study, small_config, tmp_path, monkeypatch):
    """SIGTERM within the third trial; the first two stay as they are."""
    table = cnnjax.ablate(small_config, RATES, seeds=2, workdir=shutil.copytree(study[1], tmp_path / "undisturbed"))
    folder = tmp_path / "study"
    stop_at(2 * 5 * 2 + 1, monkeypatch)
    with pytest.raises(Interrupted, match="stopped by SIGTERM at step 1, saved"):
        cnnjax.ablate(small_config, RATES, seeds=2, workdir=folder)
    monkeypatch.undo()
    finished = [path.parent for path in folder.glob("*/DONE")]
    assert len(finished) == 2
    before = {path: stamps(path) for path in finished}
    again = cnnjax.ablate(small_config, RATES, seeds=2, workdir=folder)
    assert {path: stamps(path) for path in finished} == before
    assert timeless(again) == timeless(table)


SCRIPT = """
import json, sys
import cnnjax
cnnjax.configure_runtime(cpu_devices=8)  # as the tests' own process
config, axes, seeds, folder, out = json.loads(sys.argv[1])
table = cnnjax.ablate(config, axes, seeds, folder)
json.dump([table.trials, table.ensembles, table.markdown(times=False)], open(out, "w"))
"""


def start(config, axes, seeds, folder, out):
    arguments = json.dumps([config, axes, seeds, str(folder), str(out)])
    return subprocess.Popen([sys.executable, "-c", SCRIPT, arguments], stdout=subprocess.PIPE, text=True)


TOLD = re.compile(r"(0\.0\d +\d+) +0\.\d{4} ")  # learning rate and seed, then the metric


def told(output):
    """The trials that a process said it had ended."""
    return [found[1] for line in output.splitlines() if (found := TOLD.match(line))]


def result(path):
    trials, ensembles, markdown = json.loads(path.read_text())
    return [[{n: v for n, v in record.items() if not n.startswith("time/")} for record in trials], ensembles, markdown]


@pytest.mark.slow
def test_of_two_processes_one_is_killed_and_nothing_is_lost_or_run_twice(small_config, tmp_path):
    """The survivor takes over the trial that was being run."""
    config = {**small_config, "log": {"tensorboard": False}, "train": {"batch_size": 16, "epochs": 15}}
    axes, folder = {"optimizer.learning_rate": [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]}, tmp_path / "study"
    with (
        start(config, axes, 1, folder, tmp_path / "a") as first,
        start(config, axes, 1, folder, tmp_path / "b") as second,
    ):
        first_output = ""
        while not told(first_output) and first.poll() is None:
            first_output += first.stdout.readline()
        time.sleep(0.3)  # somewhere within its next trial
        os.kill(first.pid, signal.SIGKILL)
        finished = {path: path.stat().st_ino for path in folder.glob("*/DONE")}
        first_output += first.communicate(timeout=10)[0]
        second_output = second.communicate(timeout=180)[0]
    assert second.returncode == 0
    names = told(first_output) + told(second_output)
    assert len(names) == len(set(names)) and len(names) >= 5  # one may have ended just before the kill, untold
    assert len(list(folder.glob("*/DONE"))) == 6
    assert {path: path.stat().st_ino for path in finished} == finished
    quiet = {**config, "log": {"tensorboard": False, "progress": "off"}}
    table = cnnjax.ablate(quiet, axes, workdir=tmp_path / "undisturbed")
    assert list(timeless(table)) == result(tmp_path / "b")


def test_a_trial_that_another_process_holds_is_waited_for(small_config, tmp_path, monkeypatch):
    """Here the other one dies without having run it."""
    folder, config = tmp_path / "study", cnnjax.load_config(small_config, {"train.epochs": 1})
    (folder / "locks").mkdir(parents=True)
    (folder / "study.json").write_text("{}")
    holder = files.locked(folder / "locks" / studies.folders.identity(config), "it")
    holder.__enter__()
    waited = []

    def let_go(seconds):
        waited.append(list(folder.glob("*/DONE")))
        if len(waited) == 3:
            holder.__exit__(None, None, None)

    monkeypatch.setattr(studies.time, "sleep", let_go)
    table = cnnjax.ablate(config, {}, workdir=folder)
    assert waited == [[], [], []] and table.trials[0]["status"] == "finished"


# --- failures


def test_failed_trials_are_rows_and_the_others_continue(small_config, tmp_path, monkeypatch):
    """A loss that diverges, a batch larger than the data, and the machine's own failure."""
    train = runs.train

    def out_of_memory(config, workdir, dataset):
        if config.seed == 1 and config.optimizer.learning_rate == 0.01 and config.train.batch_size == 16:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return train(config, workdir, dataset=dataset)

    monkeypatch.setattr(runs, "train", out_of_memory)
    folder = tmp_path / "study"
    axes = {"good": {}, "diverges": {"optimizer.learning_rate": 1e30}, "too large": {"train.batch_size": 500}}
    table = cnnjax.ablate(small_config, axes, seeds=2, workdir=folder)
    status = [(r["variant"], r["seed"], r["status"]) for r in table.trials]
    assert [state for *_, state in status] == ["finished", *["failed"] * 5]
    errors = [record["error"] for record in table.trials]
    assert errors[1] == "RuntimeError: RESOURCE_EXHAUSTED: Out of memory"
    assert errors[2].startswith("FloatingPointError: the loss became")
    assert "train.batch_size=500 and the training split has 80 examples" in errors[4]
    assert [(row.failed, row.trials) for row in table.rows] == [(1, 2), (2, 2), (2, 2)]
    assert "| 1 of 2 |" in table.markdown().splitlines()[2]
    assert table.best().variant == "good" and len(table.frame()) == 6
    assert all(set(record) == set(table.frame()[0]) for record in table.frame())

    # A later call tries once more what the machine was to blame for, and leaves the diverged loss alone.
    tried = []
    monkeypatch.setattr(
        runs, "train", lambda config, workdir, dataset: (tried.append(config.seed), train(config, workdir))
    )
    again = cnnjax.ablate(small_config, axes, seeds=2, workdir=folder)
    assert len(tried) == 3 and again.trials[1]["status"] == "finished" and again.rows[0].failed == 0
    assert [record["error"] for record in again.trials[2:]] == errors[2:]


def shorten(trial):
    lines = (trial / "metrics.jsonl").read_text().splitlines(keepends=True)
    (trial / "metrics.jsonl").write_text(lines[-1])


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (shorten, ""),  # restored from the checkpoint
        (lambda trial: (trial / "metrics.jsonl").write_text("{\n{\n"), "metrics.jsonl, line 1: not valid JSON"),
        (lambda trial: (trial / "config.json").write_text("{"), "config.json: not valid JSON"),
        (lambda trial: (trial / "environment.json").write_text("{"), "environment.json: not valid JSON"),
    ],
)
def test_a_damaged_trial_is_a_row(studied, small_config, tmp_path, damage, error):
    folder, axes, table = studied
    shutil.copytree(folder, tmp_path / "study")
    damage(tmp_path / "study" / table.trials[0]["directory"])
    (tmp_path / "study" / ".study.json.x1y2").write_text("{")
    os.utime(tmp_path / "study" / ".study.json.x1y2", (0, 0))
    again = cnnjax.ablate(small_config, axes, workdir=tmp_path / "study")
    assert error in again.trials[0]["error"] and bool(error) == (again.trials[0]["status"] == "failed")
    assert not error or table.trials[1:] == again.trials[1:]
    assert not list((tmp_path / "study").glob(".study.json.*"))


@pytest.fixture
def studied(study, small_config, tmp_path):
    """A finished study of two trials: its folder, axes and table."""
    folder = shutil.copytree(study[1], tmp_path / "studied")
    return folder, RATES, cnnjax.ablate(small_config, RATES, workdir=folder)


def test_a_finished_trial_without_a_readable_checkpoint_is_a_row(study, small_config, tmp_path):
    axes, folder = {"optimizer.learning_rate": [0.01]}, shutil.copytree(study[1], tmp_path / "study")
    table = cnnjax.ablate(small_config, axes, seeds=2, workdir=folder, strategy="serial")
    shutil.rmtree(folder / "ensembles")
    for path in (folder / table.trials[0]["directory"] / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.warns(UserWarning) as warned:
        again = cnnjax.ablate(small_config, axes, seeds=2, workdir=folder, strategy="serial")
    assert again.trials == table.trials and again.rows[0].ensemble is None and table.rows[0].ensemble is not None
    assert str(warned[-1].message).startswith("no ensemble of 2 trials: none of the checkpoints in ")


def test_a_variant_of_failures_alone_is_a_row_without_figures(small_config, tmp_path):
    table = cnnjax.ablate(small_config, {"optimizer.learning_rate": [1e30]}, seeds=2, workdir=tmp_path / "study")
    assert table.rows[0].estimate is None and table.rows[0].failed == 2
    assert table.markdown().splitlines()[2].endswith("| 16,570 | 2 of 2 |")
    with pytest.raises(ValueError, match="best: none of the 2 trials finished: FloatingPointError: the loss became"):
        table.best()
    assert table.plot().axes


def test_a_trial_trained_on_by_hand_is_not_taken_for_the_trial(study, small_config, tmp_path):
    folder = shutil.copytree(study[1], tmp_path / "study")
    table = cnnjax.ablate(small_config, {}, workdir=folder)
    cnnjax.train(cnnjax.load_config(small_config, {"train.epochs": 3}), folder / table.trials[0]["directory"])
    again = cnnjax.ablate(small_config, {}, workdir=folder)
    assert again.trials[0]["status"] == "failed"
    assert again.trials[0]["error"] == "its run was extended to 3 epochs"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"axes": {"train.epoch": [1]}}, "unknown field 'train.epoch': did you mean 'train.epochs'"),
        ({"seeds": 0}, "seeds: expected a number of seeds"),
        ({"metric": "test/acuracy"}, "unknown metric 'test/acuracy': did you mean 'test/accuracy'"),
        ({"baseline": "epochs=3"}, "unknown baseline 'epochs=3': did you mean 'epochs="),
        ({"seed_fields": ("sed",)}, "unknown field 'sed'"),
        ({"axes": {"devices": [1, 2]}}, "devices=1 and devices=2 differ only in fields that do not affect results"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_nothing_behind(small_config, tmp_path, given, message):
    arguments = {"axes": {"train.epochs": [1, 2]}, "seeds": 2, **given}
    with pytest.raises(ValueError, match=message) as caught:
        cnnjax.ablate(small_config, workdir=tmp_path / "study", **arguments)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_else_is_left_alone(small_config, tmp_path, finished_run):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files .notes.txt., not a study: choose another"):
        cnnjax.ablate(small_config, {}, workdir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(NotADirectoryError, match="notes.txt is a file: choose another"):
        cnnjax.ablate(small_config, {}, workdir=tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="holds a run, not a study"):
        cnnjax.ablate(small_config, {}, workdir=finished_run.workdir)


def test_tasks_started_together_are_told_how_it_is_done(small_config, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with pytest.raises(
        ValueError, match="runs in one process, but several were started together: start it as a job array"
    ):
        cnnjax.ablate(small_config, {}, workdir=tmp_path / "study")
    assert not list(tmp_path.iterdir())


def test_tensorboard_has_the_hyperparameters_of_each_trial(small_config, tmp_path):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    config = cnnjax.load_config(small_config, {"log.tensorboard": True, "train.epochs": 1})
    for _ in range(2):  # the second call writes anew and adds nothing
        table = cnnjax.ablate(config, {"optimizer.learning_rate": [0.01, 0.05]}, seeds=1, workdir=tmp_path / "study")
    found = events.values(tmp_path / "study")
    for record in table.trials:
        own = f"{record['directory']}/tensorboard"
        [start] = [v for (where, tag), _, v in found if (where, tag) == (own, "_hparams_/session_start_info")]
        session = HParamsPluginData.FromString(start.metadata.plugin_data.content).session_start_info
        assert session.hparams["optimizer.learning_rate"].number_value == record["optimizer.learning_rate"]
        [first] = [v for (where, tag), _, v in found if (where, tag) == (own, "_hparams_/experiment")]
        experiment = HParamsPluginData.FromString(first.metadata.plugin_data.content).experiment
        named = {(info.name.group, info.name.tag): info.display_name for info in experiment.metric_infos}
        assert named["test", "metrics/accuracy"] == "test/accuracy"
        [value] = [v for (where, tag), _, v in found if (where, tag) == (f"{own}/test", "metrics/accuracy")]
        assert value.simple_value == pytest.approx(record["test/accuracy"])
