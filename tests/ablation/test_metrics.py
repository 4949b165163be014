"""The metrics of a study are its task's: names, directions, bounds."""

import math
import re

import pytest

from cnnjax.ablation.metrics import followed_metric, known_metrics
from cnnjax.ablation.table import Table
from cnnjax.config import load_config

TASK = """
import cnnjax
class Robust(cnnjax.tasks.Classification):
    monitor = "robust"
    directions = {"accuracy": "max"}
    def summarize(self, sums):
        return {**super().summarize(sums), "robust": 0.5, "margin": -1.0}
"""


def known(*each):
    return known_metrics([load_config({}, overrides) for overrides in each])


def test_each_task_has_its_own():
    found = known({})
    assert found.names == [
        "train/loss", "train/accuracy", "valid/loss", "valid/accuracy", "test/loss", "test/nll", "test/accuracy", "time/seconds",
    ]  # fmt: skip
    assert [found.sign(name) for name in ("valid/accuracy", "valid/loss", "test/nll", "time/seconds")] == [
        1,
        -1,
        -1,
        -1,
    ]
    assert found.range("test/accuracy") == (0, 1) and found.difference_range("test/accuracy") == (-1, 1)
    assert found.range("test/nll") == found.range("time/seconds") == (0, math.inf)
    regression = known({"task.name": "regression"})
    assert regression.followed == "mae" and {"valid/mae", "test/rmse", "train/r2"} <= set(regression.names)
    assert regression.sign("valid/mae") == -1 and regression.sign("valid/r2") == 1
    assert regression.range("test/r2") == (-math.inf, 1) and regression.difference_range("test/r2") == (
        -math.inf,
        math.inf,
    )


def test_a_followed_metric_of_ones_own_has_the_mode_of_the_config():
    found = known({"evaluate.metric": "top3", "evaluate.mode": "max"})
    assert (
        found.check("valid/top3")
        and found.sign("valid/top3") == 1
        and found.range("valid/top3") == (-math.inf, math.inf)
    )
    config = load_config({}, {"evaluate.metric": "loss"})
    assert followed_metric(config) == ("valid/loss", -1) and followed_metric(load_config({})) == ("valid/accuracy", 1)


def test_several_tasks_of_one_study_have_the_metrics_of_all():
    found = known({}, {"task.name": "regression"})
    assert found.followed == "accuracy" and {"valid/mae", "valid/accuracy"} <= set(found.names)


def test_unknown_metrics_and_those_without_direction(tmp_path):
    (tmp_path / "mine.py").write_text(TASK)
    found = known({"task.name": f"{tmp_path}/mine.py:Robust"})
    assert found.followed == "robust" and found.sign("valid/robust") == 1
    advice = "set 'margin' in Robust.directions, or as evaluate.metric with evaluate.mode"
    with pytest.raises(ValueError, match=re.escape(advice)):
        found.check("valid/margin")
    with pytest.raises(ValueError, match="unknown metric 'valid/robus': did you mean 'valid/robust'"):
        found.check("valid/robus")
    record = {
        "variant": "a",
        "seed": 0,
        "status": "finished",
        "valid/margin": 1.0,
        "valid/robust": 0.5,
        "parameters": 1,
    }
    table = Table(({**record, "time/seconds": 1.0},), {}, "valid/robust", "a", found)
    assert table.best().mean == 0.5 and table.summarize("valid/margin")[0].estimate.mean == 1.0
    with pytest.raises(ValueError, match=re.escape(f"metric 'valid/margin' has no direction: {advice}")):
        table.best("valid/margin")
    with pytest.raises(
        ValueError, match="unknown metric 'test/nll': choose from time/seconds, valid/margin, valid/robust"
    ):
        table.summarize("test/nll")
