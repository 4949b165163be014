"""Searches: which points each method tries, that runs go on from their checkpoints, and what is refused."""

import math
import sys

import pytest

import cnnjax
from cnnjax import runs
from cnnjax.ablation.search import Task, _result, coarse_to_fine, halving
from cnnjax.ablation.spaces import Choice, LogUniform, Uniform, Variant, Whole, parse_range
from cnnjax.ablation.trials import make_trials
from cnnjax.config import load_config, to_json
from cnnjax.core import files
from cnnjax.runs import training
from cnnjax.training.interruption import Interrupted
from tests.ablation.conftest import timeless
from tests.commands.shell import run
from tests.test_runs import stop_at

RATES = {"optimizer.learning_rate": LogUniform(1e-5, 10.0)}


def distance(point):
    """As if 0.03 were the best learning rate."""
    return -abs(math.log10(point["optimizer.learning_rate"] / 0.03))


def task(measure, points, epochs=27, space=RATES, announce=lambda stages: None):
    return Task(load_config({"train": {"epochs": epochs}}), space, points, 0, None, announce, measure)


def test_coarse_to_fine_narrows_around_the_best_with_more_epochs():
    stages, announced = [], []

    def measure(points):
        stages.append(points)
        return [distance(point) for point in points]

    coarse_to_fine(task(measure, 24, announce=announced.extend), stages=3, factor=0.25)
    assert announced == [(8, 5), (8, 12), (8, 27)]
    assert [len(points) for points in stages] == [8, 8, 8]
    assert [{point["train.epochs"] for point in points} for points in stages] == [{5}, {12}, {27}]
    rates = [[math.log10(point["optimizer.learning_rate"]) for point in points] for points in stages]
    widths = [max(each) - min(each) for each in rates]
    assert widths[0] > 3 and widths[1] <= 6 / 4 + 1e-3 and widths[2] <= 6 / 16 + 1e-3
    assert max(map(distance, stages[2])) > -0.3


def test_coarse_to_fine_continues_when_a_whole_stage_fails():
    stages = []
    coarse_to_fine(task(lambda points: stages.append(points) or [None] * len(points), 4), stages=2)
    assert [len(points) for points in stages] == [2, 2]


def test_halving_trains_ever_fewer_ever_longer():
    rungs = []

    def measure(points, epochs):
        rungs.append((len(points), epochs, points))
        return [None if point["optimizer.learning_rate"] > 1 else distance(point) for point in points]

    announced = []
    halving(task(measure, 27, announce=announced.extend), factor=3)
    assert announced == [(27, 1), (9, 2), (3, 6), (1, 18)]
    assert [(count, epochs) for count, epochs, _ in rungs] == [(27, 1), (9, 3), (3, 9), (1, 27)]
    assert rungs[3][2][0] == max((p for p in rungs[0][2] if p["optimizer.learning_rate"] <= 1), key=distance)
    rungs.clear()
    halving(task(measure, 5), factor=2, first_epochs=10)
    assert [(count, epochs) for count, epochs, _ in rungs] == [(5, 10), (2, 20), (1, 27)]
    rungs.clear()
    halving(task(measure, 1))
    assert [(count, epochs) for count, epochs, _ in rungs] == [(1, 27)]


@pytest.fixture(scope="module")
def config(small_config):
    return load_config(small_config, {"train.epochs": 4})


SPACE = {"optimizer.learning_rate": LogUniform(0.005, 0.05), "train.batch_size": [8, 16]}


@pytest.mark.slow
def test_survivors_resume_from_their_checkpoints_and_an_interrupted_search_is_the_same_search(
    config, tmp_path, monkeypatch
):
    given = {"method": "halving", "points": 4, "factor": 2}
    table = cnnjax.search(config, SPACE, tmp_path / "whole", **given)
    assert sorted(record["epoch"] for record in table.trials) == [1, 1, 2, 4]
    best = cnnjax.load_run(tmp_path / "whole" / table.trials[0]["directory"])
    assert table.trials[0]["epoch"] == 4 and best.config.train.epochs == 4
    assert [line["epoch"] for line in best.history if "train/loss" in line] == [1, 2, 3, 4]
    assert table.best().variant == table.variants[0] == table.baseline

    starts = []
    original = training.run_training
    monkeypatch.setattr(
        training, "run_training", lambda config, *rest: starts.append(config.train.epochs) or original(config, *rest)
    )
    again = cnnjax.search(config, SPACE, tmp_path / "whole", **given)
    assert again == table and not starts
    steps = sum(80 // record["train.batch_size"] for record in table.trials)
    stop_at(steps + 3, monkeypatch)  # in the second round
    with pytest.raises(Interrupted):
        cnnjax.search(config, SPACE, tmp_path / "stopped", **given)
    assert starts == [1, 1, 1, 1, 2]
    monkeypatch.undo()
    assert timeless(cnnjax.search(config, SPACE, tmp_path / "stopped", **given)) == timeless(table)


def test_a_search_by_a_loss_has_the_least_first(config, tmp_path):
    short = load_config(config, {"train.epochs": 1})
    table = cnnjax.search(short, SPACE, tmp_path, points=3, metric="valid/loss", method="halton", seeds=2)
    means = [row.estimate.mean for row in table.rows]
    assert means == sorted(means) and len(means) == 3 and len(table.trials) == 6
    assert (
        table.markdown()
        .splitlines()[0]
        .startswith("| variant | valid/loss | 95 % interval | difference from learning_rate=")
    )


def test_optuna_resumes_where_it_stopped(config, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    space = {
        "optimizer.learning_rate": LogUniform(0.005, 0.05),
        "train.batch_size": [16, 32],
        "optimizer.momentum": Uniform(0, 0.9),
    }
    short, train, seen = load_config(config, {"train.epochs": 1}), runs.train, []

    def interrupted(config, workdir, dataset):
        seen.append(workdir)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return train(config, workdir)

    monkeypatch.setattr(runs, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cnnjax.search(short, space, tmp_path, method="optuna", points=3)
    table = cnnjax.search(short, space, tmp_path, method="optuna", points=3)
    assert len(table.rows) == 3 and len(set(seen)) == 3 and seen[1] in seen[2:]  # that point is tried after all
    monkeypatch.setattr(runs, "train", None)
    assert cnnjax.search(short, space, tmp_path, method="optuna", points=3) == table
    assert (tmp_path / "optuna.db").exists()


def test_the_command_line_searches(capsys, tmp_path):
    flags = [
        "search", "--config", "quickstart", "--config.train.epochs=2", "--config.log.tensorboard=False", "--config.devices=1",
        "--config.dataset.examples_per_class=8", "--config.model.name=mlp", "--config.model.features=(16,)",
        "--config.evaluate.batch_size=72",
        "--vary", "optimizer.learning_rate=log_uniform(0.001, 0.1)", "--vary", "train.batch_size=16,32",
        "--method", "coarse_to_fine", "--option", "stages=2", "--points", 2, "--workdir", tmp_path / "found",
    ]  # fmt: skip
    code, out, err = run(capsys, *flags)
    assert code == 0 and not err and out[-3].startswith("variant\tvalid/accuracy\tdifference from learning_rate=0.0")
    assert len(out[-1].split("\t")) == 5


def test_ranges_on_the_command_line():
    assert parse_range("a.b=whole(2, 8)") == ("a.b", Whole(2, 8)) and parse_range("a.b=1,2") == ("a.b", [1, 2])
    assert parse_range("a.b=uniform(0,0.5)") == ("a.b", Uniform(0, 0.5))
    with pytest.raises(ValueError, match=r"--vary a.b=uniform.0.5.: expected uniform.LOWEST,HIGHEST., two numbers"):
        parse_range("a.b=uniform(0.5)")
    assert Choice((1, 2, 3)).narrowed(3, 0.3) == Choice((3,))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"method": "grad_student"}, ValueError, "unknown search method 'grad_student': choose from coarse_to_fine, grid"),
        ({"metric": "test/accuracy"}, ValueError, "search by test/accuracy: the test split is reserved for the chosen point: choose valid/accuracy"),
        ({"metric": "accuracy"}, ValueError, "unknown metric 'accuracy'"),
        ({"space": {}}, ValueError, "the space is empty"),
        ({"space": {"optimizer.rate": [1]}}, ValueError, "unknown field 'optimizer.rate'"),
        ({"space": {"optimizer.learning_rate": 0.1}}, TypeError, "optimizer.learning_rate: expected a list of values, got 0.1"),
        ({"space": {"train.batch_size": Whole(-3, 5)}}, ValueError, "train.batch_size=-3: expected a number above 0"),
        ({"space": {"train.batch_size": Uniform(16, 31)}}, TypeError, "train.batch_size: expected a whole number, got 23.5"),
        ({"space": {"seed": [1, 2]}}, ValueError, "seed is set by `seeds`: leave it out"),
        ({"space": {"train.epochs": [1, 2]}, "method": "halving"}, ValueError, "halving sets train.epochs: leave it out"),
        ({"space": {"optimizer.learning_rate": Uniform(0, 1)}, "method": "grid"}, ValueError, "search by grid: optimizer.learning_rate: expected a list"),
        ({"points": 0}, ValueError, "points=0: expected a whole number of at least 1"),
        ({"stages": 3}, ValueError, "random has no option 'stages'"),
        ({"method": "halving", "factr": 3}, ValueError, "unknown option of halving 'factr': did you mean 'factor'"),
        ({"method": "halving", "factor": 1}, ValueError, "factor=1: expected at least 2"),
        ({"method": "coarse_to_fine", "factor": 2.0}, ValueError, "factor=2.0: expected a number between 0 and 1"),
        ({"seeds": []}, ValueError, "seeds: expected a number of seeds"),
        ({"strategy": "all"}, ValueError, "unknown strategy 'all'"),
    ],
)  # fmt: skip
def test_bad_searches_are_refused_and_leave_nothing_behind(config, tmp_path, given, error, message):
    arguments = {"space": RATES, **given}
    with pytest.raises(error, match=message) as caught:
        cnnjax.search(config, workdir=tmp_path / "search", **arguments)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_optuna_must_be_installed(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"search by optuna: it is not installed: pip install 'cnnjax\[search\]'"):
        cnnjax.search(config, RATES, tmp_path / "search", method="optuna")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("history", ["", "{\n{\n", "\xff\n{}\n"])
def test_a_run_trained_further_whose_history_is_lost_has_no_result(tmp_path, history):
    [trial] = make_trials(load_config({"train": {"epochs": 1}}), [Variant("only", {})], [0])
    (tmp_path / trial.directory).mkdir()
    files.write_json(
        tmp_path / trial.directory / "config.json", to_json(load_config(trial.config, {"train.epochs": 2}))
    )
    (tmp_path / trial.directory / "metrics.jsonl").write_text(history, encoding="latin-1")
    assert _result(tmp_path, trial, "valid/accuracy") is None
