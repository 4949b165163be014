"""Trials as one program: the same numbers as alone, resumed to the same bits, and failures that stay one trial's."""

import json

import numpy as np
import pytest

import cnnjax
from cnnjax.ablation import strategies, study, together
from cnnjax.config import load_config
from cnnjax.training.interruption import Interrupted
from tests.ablation.conftest import timeless
from tests.test_runs import same_bits, stop_at

# Two trials that differ in everything that may differ in one program.
AXES = {
    (
        "optimizer.learning_rate", "optimizer.weight_decay", "model.dense_dropout_rate", "loss.gamma", "loss.label_smoothing",
        "model.initializer", "initial.scale",
    ): [(0.02, 1e-3, 0.1, 0.5, 0.05, "he_normal", 1.0), (0.05, 1e-2, 0.3, 2.0, 0.1, "xavier_uniform", 0.5)]
}  # fmt: skip
FOUR = {"optimizer.learning_rate": [0.02, 0.05], "optimizer.weight_decay": [1e-3, 1e-2]}


@pytest.fixture(scope="module")
def config(small_config):
    """Everything that a step can have: augmentation, batch norm, dropout, averages, decay, smoothing, a warm-up.

    Adam divides each gradient by its size: a parameter without any but rounding errors would part the strategies.
    """
    return {
        **small_config,
        "augment": {"flip_horizontal": True},
        "model": {"name": "pattern", "plan": "conv 4 pool | fc 8", "norm": "batch", "dense_dropout_rate": 0.1},
        "loss": {"name": "focal"},
        "optimizer": {"name": "adamw", "learning_rate": 0.02, "weight_decay": 1e-3},
        "schedule": {"name": "cosine", "warmup_epochs": 0.5},
        "train": {"batch_size": 16, "epochs": 2, "ema": 0.9},
    }


@pytest.fixture(scope="module")
def studies(config, tmp_path_factory):
    """{strategy: (table, folder)}."""
    made = {}
    for strategy in ("serial", "vmap", "devices"):
        folder = tmp_path_factory.mktemp(strategy) / "study"
        made[strategy] = cnnjax.ablate(config, AXES, workdir=folder, strategy=strategy), folder
    return made


@pytest.mark.parametrize("strategy", ["vmap", "devices"])
def test_the_strategies_agree_in_every_trial(studies, strategy):
    alone, folder = studies["serial"]
    grouped, group_folder = studies[strategy]
    for first, second in zip(alone.trials, grouped.trials, strict=True):
        assert first["directory"] == second["directory"] and first["status"] == "finished"
        for name in first.keys() - {"time/seconds", "strategy", "group"}:
            assert second[name] == pytest.approx(first[name], abs=1e-5), name
        histories = [cnnjax.load_run(where / first["directory"]).history for where in (folder, group_folder)]
        for a, b in zip(*histories, strict=True):
            assert a.keys() == b.keys()
            for name in a.keys() - {"time/images_per_second", "time/data_seconds"}:
                assert b[name] == pytest.approx(a[name], abs=1e-5), name
    assert alone.trials[0]["test/loss"] != pytest.approx(alone.trials[1]["test/loss"], abs=1e-3)


@pytest.mark.parametrize("strategy", ["vmap", "devices"])
def test_a_trial_of_a_group_is_an_ordinary_run(studies, strategy):
    (serial, alone), (table, folder) = studies["serial"], studies[strategy]
    groups = {record["group"] for record in table.trials}
    assert {record["strategy"] for record in table.trials} == {strategy} and len(groups) == 1
    assert {(record["strategy"], record["group"]) for record in serial.trials} == {("serial", None)}
    name = table.trials[0]["directory"]
    assert {path.name for path in (folder / name).iterdir()} == {path.name for path in (alone / name).iterdir()}
    run, same = cnnjax.load_run(folder / name), cnnjax.load_run(alone / name)
    assert run.config.to_dict() == same.config.to_dict()
    np.testing.assert_allclose(
        run.predict_prepared(images := np.zeros((3, 32, 32, 1), np.uint8)), same.predict_prepared(images), atol=1e-5
    )
    assert cnnjax.evaluate([run])["accuracy"] == table.trials[0]["test/accuracy"]
    assert [path.name for path in (folder / "groups").iterdir()] == [f"{groups.pop()}.json"]


def test_a_stopped_group_resumes_to_the_same_bits(studies, config, tmp_path, monkeypatch):
    """In its second epoch; at whatever strategy is asked for then it keeps its own."""
    table, folder = studies["vmap"]
    stop_at(2 * (7 - 1) + 1, monkeypatch)
    with pytest.raises(Interrupted, match="stopped by SIGTERM at step 7 of a group of 2, saved"):
        cnnjax.ablate(config, AXES, workdir=tmp_path, strategy="vmap")
    monkeypatch.undo()
    assert not list(tmp_path.glob("*/DONE"))
    resumed = cnnjax.ablate(config, AXES, workdir=tmp_path, strategy="serial")
    assert timeless(resumed) == timeless(table)
    for record in resumed.trials:
        first, second = (cnnjax.load_run(where / record["directory"]) for where in (tmp_path, folder))
        assert same_bits(first.state, second.state) and same_bits(first.selected, second.selected)


def test_killed_while_the_run_directories_are_made_nothing_is_lost(studies, config, tmp_path, monkeypatch):
    table, _ = studies["vmap"]
    end, ended = together._end, []

    def killed(*arguments):
        if len(ended) == 1:
            raise KeyboardInterrupt
        ended.append(arguments[0])
        end(*arguments)

    monkeypatch.setattr(together, "_end", killed)
    with pytest.raises(KeyboardInterrupt):
        cnnjax.ablate(config, AXES, workdir=tmp_path, strategy="vmap")
    monkeypatch.undo()
    before = [(path / "DONE").stat().st_mtime_ns for path in ended]
    resumed = cnnjax.ablate(config, AXES, workdir=tmp_path)
    assert [(path / "DONE").stat().st_mtime_ns for path in ended] == before
    assert [record["test/loss"] for record in resumed.trials[1:]] == [
        record["test/loss"] for record in table.trials[1:]
    ]


def test_a_diverging_trial_leaves_the_others_of_its_group_alone(small_config, tmp_path):
    axes, first = {"optimizer.learning_rate": [0.05, 1e30]}, {"optimizer.learning_rate": [0.05]}
    grouped = cnnjax.ablate(small_config, axes, workdir=tmp_path / "vmap", strategy="vmap")
    alone = cnnjax.ablate(small_config, first, workdir=tmp_path / "serial", strategy="serial")
    assert [record["status"] for record in grouped.trials] == ["finished", "failed"]
    assert grouped.trials[1]["error"].startswith("FloatingPointError: ")
    assert grouped.trials[0]["test/loss"] == pytest.approx(alone.trials[0]["test/loss"], abs=1e-5)
    again = cnnjax.ablate(small_config, axes, workdir=tmp_path / "vmap", strategy="vmap")
    assert again == grouped


def test_a_group_that_does_not_fit_is_failed_rows_and_planned_anew(small_config, tmp_path, monkeypatch):
    def too_large(*arguments):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(study, "train_group", too_large)
    axes = {"optimizer.learning_rate": [0.05, 0.02]}
    table = cnnjax.ablate(small_config, axes, workdir=tmp_path, strategy="vmap")
    assert [record["error"] for record in table.trials] == ["RuntimeError: RESOURCE_EXHAUSTED: Out of memory"] * 2
    again = cnnjax.ablate(small_config, axes, workdir=tmp_path, strategy="serial")
    assert [(record["status"], record["strategy"]) for record in again.trials] == [("finished", "serial")] * 2


def test_families_are_trials_that_differ_in_numbers_alone(config):
    def same(**fields):
        return together.compatibility(
            load_config(config, {name.replace("__", "."): value for name, value in fields.items()})
        )

    base = together.compatibility(load_config(config))
    assert base == same(seed=3) == same(optimizer__learning_rate=0.5) == same(model__initializer="zeros")
    assert base == same(initial__scale=2.0) == same(initial__scale=0.0)
    assert base == same(model__dense_dropout_rate=0.9) == same(optimizer__weight_decay=1.0)
    others = [
        same(optimizer__weight_decay=0.0), same(loss__label_smoothing=0.1), same(train__batch_size=8),
        same(model__dense_dropout_rate=0.0), same(optimizer__b1=0.8), same(dataset__split_seed=1),
    ]  # fmt: skip
    assert len({base, *others}) == 7
    for fields in (
        {"initial__frozen": ("conv*",)}, {"train__early_stopping": 2}, {"schedule__name": "plateau"},
        {"log__every_steps": 1}, {"dataset__streaming": True},
    ):  # fmt: skip
        assert same(**fields) is None


def test_what_may_differ_in_one_program_is_said_by_the_options_marks(config, tmp_path, monkeypatch):
    (tmp_path / "marked.py").write_text(
        "from typing import Annotated\n\nimport cnnjax\n\n\n"
        "def loss(outputs, targets, *, power: Annotated[float, cnnjax.Traceable] = 2.0, share: float = 0.5):\n"
        "    return (abs(outputs - targets) ** power).mean(-1) * share\n"
    )
    monkeypatch.chdir(tmp_path)

    def compatibility(**fields):
        loss = {"loss": {"name": "./marked.py:loss", **fields}}
        return together.compatibility(load_config({**config, **loss}))

    assert compatibility() == compatibility(power=3.0) != compatibility(power=0.0)
    assert compatibility() != compatibility(share=0.25)
    focal = load_config(
        {**config, "loss": {"name": "focal"}, "optimizer": {"name": "optax:adamw", "weight_decay": 0.1}}
    )
    assert {"loss.gamma", "loss.label_smoothing", "optimizer.weight_decay"} < together.numbers(focal)
    assert together.compatibility(focal) == together.compatibility(
        load_config(focal, {"loss.gamma": 1.0, "optimizer.weight_decay": 0.2})
    )


DRAWING = """
import dataclasses
from typing import Annotated
import cnnjax
import jax
from cnnjax.tasks import Classification

@dataclasses.dataclass(frozen=True)
class Drawing(Classification):
    rate: Annotated[float, cnnjax.Traceable, "what the loss is multiplied by, in evaluation too"] = 1.0

    def inputs(self, batch, keys, train, prepared):
        return {**super().inputs(batch, keys, train, prepared), "drawn": jax.vmap(jax.random.uniform)(keys)}

    def loss(self, net, batch, train):
        values, sums = super().loss(net, batch, train)
        return values * self.rate, {**sums, "drawn": batch["drawn"]}

    def summarize(self, sums):
        return {**super().summarize(sums), "drawn": sums["drawn"] / sums["count"]}
"""


@pytest.mark.slow
def test_in_evaluation_a_task_draws_with_each_trials_seed_and_has_its_own_number(small_config, tmp_path, monkeypatch):
    """The number is each trial's whatever its name, here that of a dropout rate."""
    (tmp_path / "drawing.py").write_text(DRAWING)
    monkeypatch.chdir(tmp_path)
    config, axes = {**small_config, "task": {"name": "./drawing.py:Drawing"}}, {"task.rate": [0.5, 1.0]}
    drawn, losses = {}, {}
    for strategy in ("serial", "vmap"):
        table = cnnjax.ablate(config, axes, seeds=2, workdir=tmp_path / strategy, strategy=strategy)
        assert {trial["strategy"] for trial in table.trials} == {strategy}
        runs = [cnnjax.load_run(tmp_path / strategy / trial["directory"]) for trial in table.trials]
        drawn[strategy] = [line[key] for run in runs for line in run.history for key in line if key.endswith("/drawn")]
        losses[strategy] = [[trial["valid/loss"], trial["test/loss"]] for trial in table.trials]
    assert len(set(drawn["serial"])) > 6
    for found in (drawn, losses):
        np.testing.assert_allclose(found["vmap"], found["serial"], rtol=1e-5)


def test_auto_is_a_fixed_rule(config, tmp_path, monkeypatch):
    trials = study.make_trials(load_config(config), study.make_variants(load_config(config), FOUR), [0])
    (tmp_path / "locks").mkdir()

    def planned(name, backend, devices):
        monkeypatch.setattr(strategies.jax, "default_backend", lambda: backend)
        monkeypatch.setattr(strategies.jax, "local_device_count", lambda: devices)
        (tmp_path / name).mkdir()
        return [(batch.strategy, len(batch.trials)) for batch in strategies.plan(tmp_path / name, trials, "auto")]

    assert planned("a", "cpu", 8) == [("serial", 1)] * 4
    assert planned("b", "gpu", 1) == [("vmap", 4)]
    assert planned("c", "gpu", 3) == [("devices", 3), ("serial", 1)]
    monkeypatch.setattr(strategies, "SMALL_PARAMETERS", 100)
    assert planned("d", "gpu", 1) == [("serial", 1)] * 4
    assert json.loads(next((tmp_path / "b" / "groups").glob("*.json")).read_text())["strategy"] == "vmap"


def test_every_process_finds_the_same_plan(config, tmp_path):
    made = study.make_trials(load_config(config), study.make_variants(load_config(config), FOUR), [0, 1])
    first = strategies.plan(tmp_path, made, "vmap")
    assert [len(batch.trials) for batch in first] == [8]
    for asked in ("vmap", "serial", "devices"):
        [batch] = strategies.plan(tmp_path, made[3:5], asked)
        assert (batch.strategy, batch.group) == ("vmap", first[0].group)
        assert [trial.config.to_dict() for trial in batch.trials] == [trial.config.to_dict() for trial in made]


def test_strategies_that_are_none_are_refused(small_config, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="unknown strategy 'pmap': did you mean 'vmap'"):
        cnnjax.ablate(small_config, {}, workdir=tmp_path / "study", strategy="pmap")
    monkeypatch.setattr(strategies.jax, "local_device_count", lambda: 1)
    with pytest.raises(
        ValueError, match=r"strategy 'devices' needs several devices, but there is one .cpu.: choose serial or vmap"
    ):
        cnnjax.ablate(small_config, {}, workdir=tmp_path / "study", strategy="devices")
    assert not list(tmp_path.iterdir())


def test_an_optimizer_that_evaluates_the_loss_again_is_trained_alone(small_config, tmp_path):
    config = {**small_config, "optimizer": {"name": "optax:polyak_sgd"}}
    for strategy in ("vmap", "devices"):
        with pytest.raises(
            ValueError, match=f"strategy '{strategy}': optimizer.name='optax:polyak_sgd' uses the value of the loss"
        ):
            cnnjax.ablate(config, {"optimizer.scaling": [0.5, 1.0]}, workdir=tmp_path / "study", strategy=strategy)
    assert not (tmp_path / "study").exists()
    assert together.compatibility(load_config(config)) is None
    assert together.compatibility(load_config({**config, "optimizer": {"name": "optax:lion"}})) is not None
