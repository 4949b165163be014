"""A task of one's own in the commands: what its predictions are decides how they are shown."""

from typing import ClassVar

import numpy as np
import pytest

import cnnjax
from cnnjax.tasks import Classification, MultiLabel, Regression, Task
from cnnjax.tasks.task import bounds_of, class_names, directions_of, monitored, number_names
from tests.commands.shell import run

OWN = """
import cnnjax
import jax.numpy as jnp

class Ink(cnnjax.Task):
    monitor, mode = "missed", "min"
    def outputs(self, dataset):
        return {"num_classes": 16}
    def loss(self, net, batch, train):
        there = batch["image"].reshape(-1, 4, 8, 4, 8).mean((2, 4)).reshape(-1, 16) > 0
        logits = net(batch["image"], train)
        missed = (logits > 0) != there
        return jnp.logaddexp(0, jnp.where(there, -logits, logits)).mean(-1), {"missed": missed.mean(-1)}
    def summarize(self, sums):
        return {"loss": sums["loss"] / sums["count"], "missed": sums["missed"] / sums["count"]}
    def predict(self, net, batch):
        logits = net(batch["image"], False)
        return {"map": logits.reshape(-1, 4, 4) > 0, "sure": abs(logits).mean(-1)}
"""


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "ink.py").write_text(OWN)
    config = {
        "task": {"name": f"{folder}/ink.py:Ink"},
        "dataset": {"name": "digits", "examples_per_class": 16},
        "devices": 1,
        "log": {"progress": "off", "tensorboard": False},
        "model": {"name": "mlp", "features": (24,)},
        "train": {"batch_size": 32, "epochs": 2},
    }
    return cnnjax.train(config, folder / "run")


def test_predictions_of_any_shape_are_arrays(capsys, own_run, digit_files, tmp_path):
    folder, images = digit_files
    expected = own_run.predict(images)
    assert expected["map"].shape == (5, 4, 4) and own_run.predict([])["sure"].shape == (0,)
    code, out, _ = run(capsys, "predict", "--workdir", own_run.workdir, folder)
    assert code == 0
    assert out == ["5 predictions, map (4, 4) bool per image, sure () float32 per image: use --npz FILE to write them"]
    code, _, err = run(capsys, "predict", "--workdir", own_run.workdir, folder, "--csv", tmp_path / "no.csv")
    assert code == 1 and len(err) == 1 and "cannot be written as columns of a table: use --npz FILE" in err[0]
    assert not (tmp_path / "no.csv").exists()
    assert run(capsys, "predict", "--workdir", own_run.workdir, folder, "--npz", tmp_path / "out.npz")[0] == 0
    with np.load(tmp_path / "out.npz") as stored:
        np.testing.assert_array_equal(stored["map"], expected["map"])
        np.testing.assert_array_equal(stored["sure"], expected["sure"])


def test_evaluate_report_and_diagnose_show_what_it_has(capsys, own_run):
    code, out, _ = run(capsys, "evaluate", "--workdir", own_run.workdir, "--details")
    assert code == 0 and out[1] == "Ink has no further details"
    assert out[0].startswith(f"{own_run.workdir}: test missed {own_run.metrics['test/missed']:.4f}, loss ")
    code, out, _ = run(capsys, "report", own_run.workdir)
    text = (own_run.workdir / "report" / "report.md").read_text()
    assert (
        code == 0
        and "best validation missed" in text
        and "ccuracy" not in text.partition("## Config")[0].replace("accuracies of class labels", "")
    )
    code, out, _ = run(capsys, "diagnose", own_run.workdir)
    assert code == 0 and "which this task does not have" in "".join(out)


def test_columns_of_arrays():
    found = Task().columns(np.array([[1.23456789, -2.0], [0.5, 3.0]]), ("a", "b"))
    assert found == {"a": [1.23457, 0.5], "b": [-2.0, 3.0]}
    assert Task().describe(np.array([1.0, 2.5]), ()) == ["value 1.0", "value 2.5"]
    assert list(Task().columns(np.zeros((1, 2)), ("x",))) == ["value_1", "value_2"] == number_names((), 2)
    assert Task().columns(np.zeros((2, 3, 4)), ()) is None and Task().describe({"a": np.zeros(2)}, ()) is None
    assert class_names(("a", "b"), 2) == ["a", "b"] and class_names((), 3) == ["0", "1", "2"]


def test_directions_and_bounds_are_merged_over_base_classes():
    class Mine(Classification):
        monitor, mode = "robust", "max"
        directions: ClassVar = {"gap": "min"}
        bounds: ClassVar = {"robust": (0.0, 1.0)}

    assert directions_of(Mine) == {
        "loss": "min", "nll": "min", "accuracy": "max", "gap": "min", "robust": "max",
    }  # fmt: skip
    assert bounds_of(Mine())["accuracy"] == bounds_of(Mine)["robust"] == (0, 1)
    assert monitored(Mine(), None, None) == ("robust", "max") and monitored(Mine(), "gap", None) == ("gap", "min")
    assert directions_of(MultiLabel)["macro_f1"] == "max" and directions_of(Regression)["mae"] == "min"
    with pytest.raises(ValueError, match=r"evaluate.metric='x' has no direction: set evaluate.mode to min or max"):
        monitored(Mine(), "x", None)
