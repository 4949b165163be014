"""Studies of components of one's own, and of data that are given from Python."""

import dataclasses
import shutil

import numpy as np
import pytest

import cnnjax
from cnnjax import runs
from cnnjax.ablation import together
from tests.tasks.conftest import LABELS, digits_with, three_labels
from tests.test_own_components import FILE, assert_near

STRATEGIES = ("serial", "vmap", "devices")
RATES = {"optimizer.learning_rate": [0.02, 0.05]}


def assert_alike(studies):
    """Each strategy's trials, against those that were trained alone: figures, histories and states."""
    alone, folder = studies["serial"]
    for strategy, (table, where) in studies.items():
        assert {record["strategy"] for record in table.trials} == {strategy}
        for first, second in zip(alone.trials, table.trials, strict=True):
            assert first["status"] == second["status"] == "finished" and first["directory"] == second["directory"]
            for name in first.keys() - {"time/seconds", "strategy", "group"}:
                assert second[name] == pytest.approx(first[name], abs=1e-5), (strategy, name)
            one, other = (cnnjax.load_run(each / first["directory"]) for each in (folder, where))
            assert_near(one.state, other.state, 1e-4)
            for a, b in zip(one.history, other.history, strict=True):
                assert a.keys() == b.keys()
                for name in a.keys() - {"time/images_per_second", "time/data_seconds"}:
                    assert b[name] == pytest.approx(a[name], abs=1e-5), (strategy, name)
    assert len({record["test/loss"] for record in alone.trials}) == len(alone.trials)


@pytest.mark.slow
def test_the_strategies_agree_over_a_model_a_loss_and_a_task_of_ones_own(tmp_path):
    config = cnnjax.load_config(f"{FILE}:ByClass", {"devices": 1, "train.ema": 0.8, "optimizer.name": "adamw"})
    fields = "optimizer.learning_rate", "model.dropout_rate", "loss.gamma", "loss.label_smoothing"
    axes = {fields: [(0.01, 0.1, 1.5, 0.05), (0.03, 0.4, 2.5, 0.1)]}
    studies = {}
    for strategy in STRATEGIES:
        folder = tmp_path / strategy
        studies[strategy] = cnnjax.ablate(config, axes, workdir=folder, strategy=strategy), folder
    assert_alike(studies)
    assert studies["serial"][0].metric == "test/recall"


@pytest.fixture(scope="module")
def labelled():
    return digits_with(lambda images, digits: three_labels(digits), LABELS)


@pytest.fixture(scope="module")
def config():
    return {
        "task": {"name": "multilabel"},
        "devices": 1,
        "log": {"progress": "off", "tensorboard": False},
        "model": {"name": "mlp", "features": (8,)},
        "train": {"batch_size": 40, "epochs": 1},
        "evaluate": {"batch_size": 52},
    }


@pytest.fixture(scope="module")
def studies(config, labelled, tmp_path_factory):
    """{strategy: (table, folder)} of a multi-label task on arrays."""
    made = {}
    for strategy in ("serial", "vmap"):
        folder = tmp_path_factory.mktemp("multilabel") / strategy
        made[strategy] = (
            cnnjax.ablate(config, RATES, seeds=2, workdir=folder, strategy=strategy, dataset=labelled), folder
        )  # fmt: skip
    return made


@pytest.mark.slow
def test_the_strategies_agree_over_a_multi_label_task_of_given_arrays(studies, labelled):
    assert_alike(studies)
    table, folder = studies["serial"]
    assert table.metric == "test/macro_f1"
    members = [cnnjax.load_run(folder / record["directory"]) for record in table.trials[:2]]
    assert members[0].config.dataset.name == "object:arrays"
    expected = cnnjax.evaluate(members, dataset=labelled)
    assert table.rows[0].ensemble == expected["macro_f1"]
    assert table.summarize("test/mean_average_precision")[0].ensemble == expected["mean_average_precision"]


def test_trials_of_given_data_are_found_again_by_studies_and_searches_of_the_same_data(
    studies, config, labelled, tmp_path, monkeypatch
):
    table, folder = studies["serial"]
    shutil.copytree(folder, tmp_path / "study")
    monkeypatch.setattr(runs, "train", None)
    again = cnnjax.ablate(config, RATES, seeds=2, workdir=tmp_path / "study", dataset=labelled)
    assert again == table
    found = cnnjax.search(config, RATES, tmp_path / "study", method="grid", seeds=2, dataset=labelled)
    assert {record["directory"] for record in found.trials} == {record["directory"] for record in table.trials}
    best = max(table.summarize("valid/macro_f1"), key=lambda row: row.estimate.mean)
    assert found.rows[0].variant == best.variant


def test_other_data_of_the_same_name_are_other_trials(config, labelled, tmp_path):
    train = labelled.splits["train"]
    fewer = cnnjax.from_arrays((train.images[:200], train.labels[:200]), label_names=LABELS)
    first, second = (
        cnnjax.ablate(config, {}, workdir=tmp_path / "study", dataset=dataset).trials[0]
        for dataset in (labelled, fewer)
    )
    assert first["status"] == second["status"] == "finished" and first["directory"] != second["directory"]
    for record, dataset in ((first, labelled), (second, fewer)):
        run = cnnjax.load_run(tmp_path / "study" / record["directory"])
        assert run.described["fingerprint"] == dataset.fingerprint


def test_a_search_by_halving_trains_on_with_the_given_data(config, labelled, tmp_path):
    table = cnnjax.search(
        {**config, "train": {"batch_size": 40, "epochs": 2}}, RATES, tmp_path, method="halving", points=2, factor=2,
        dataset=labelled,
    )  # fmt: skip
    assert [record["status"] for record in table.trials] == ["finished"] * len(table.trials)


def test_given_data_and_a_varied_name_are_refused(config, labelled, tmp_path):
    names = {"dataset.name": ["digits", "fashion_mnist"]}
    with pytest.raises(
        ValueError, match=r"axes: dataset.name is varied, but a data set is given too: leave one of them"
    ):
        cnnjax.ablate(config, names, workdir=tmp_path / "study", dataset=labelled)
    with pytest.raises(ValueError, match=r"search: dataset.name is in the space, but a data set is given too"):
        cnnjax.search(config, names, tmp_path / "study", method="grid", dataset=labelled)
    given = cnnjax.load_config(config, {"dataset.name": "object:arrays"})
    for study in (cnnjax.ablate, cnnjax.search):
        with pytest.raises(ValueError, match=r"with objects from Python: pass them again, dataset=\.\.\."):
            study(given, RATES, workdir=tmp_path / "study")
        for bad, message in (
            ([], "list, train: the sequence is empty"),
            (3, r"int, train: expected a data set of .* got int"),
        ):
            with pytest.raises(ValueError, match=message):
                study(config, RATES, workdir=tmp_path / "study", dataset=bad)
    assert not list(tmp_path.iterdir())


def test_a_study_s_folder_is_named_without_what_no_folder_can_be_named(config, labelled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text((FILE).read_text("utf-8"))
    named = {**config, "model": {"name": "./net.py:Net"}}
    monkeypatch.setattr(together, "train_group", None)
    monkeypatch.setattr(runs, "train", lambda config, workdir, dataset: 1 / 0)
    table = cnnjax.ablate(named, {}, dataset=dataclasses.replace(labelled, name="labelled"))
    assert (tmp_path / "runs" / "Net_labelled-ablation").is_dir() and table.rows[0].failed == 1


def test_a_study_takes_what_train_takes_and_reads_it_once_for_each_size(tmp_path):
    class Examples:
        def __init__(self):
            self.read = 0

        def __len__(self):
            return 30

        def __getitem__(self, index):
            self.read += 1
            return np.random.RandomState(index).randint(0, 256, (8, 8)).astype(np.uint8), index % 2

    config = {
        "devices": 1,
        "dataset": {"resize": (6, 6)},
        "log": {"progress": "off", "tensorboard": False},
        "model": {"name": "mlp", "features": (4,)},
        "train": {"batch_size": 8, "epochs": 1},
    }
    given, once = Examples(), 30 + 2  # the first is read twice more, to see whether it is the same
    table = cnnjax.ablate(config, RATES, workdir=tmp_path / "study", dataset=given, strategy="serial")
    assert [record["status"] for record in table.trials] == ["finished"] * 2 and given.read == once
    sizes = cnnjax.ablate(config, {"dataset.resize": [(6, 6), (5, 5)]}, workdir=tmp_path / "sizes", dataset=given)
    assert [record["status"] for record in sizes.trials] == ["finished"] * 2 and given.read == 3 * once
    found = cnnjax.search(config, RATES, tmp_path / "study", method="grid", dataset=given)
    assert {record["directory"] for record in found.trials} == {record["directory"] for record in table.trials}
    member = cnnjax.load_run(tmp_path / "study" / table.trials[0]["directory"])
    alone = cnnjax.train(member.config, tmp_path / "alone", dataset=given)
    assert alone.config.dataset.resize == (6, 6) and alone.described["fingerprint"] == member.described["fingerprint"]
    assert alone.metrics["test/loss"] == member.metrics["test/loss"]
