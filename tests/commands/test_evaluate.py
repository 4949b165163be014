"""`cnnjax evaluate` as a user meets it."""

import pytest
from scipy import stats

from tests.commands.shell import run


def test_evaluate_prints_what_was_recorded(capsys, finished_run):
    code, out, _ = run(capsys, "evaluate", "--workdir", finished_run.workdir)
    metrics = finished_run.metrics
    assert code == 0
    assert out == [
        f"{finished_run.workdir}: test accuracy {metrics['test/accuracy']:.4f}, loss {metrics['test/loss']:.4f}, "
        f"negative log-likelihood {metrics['test/nll']:.4f}"
    ]
    _, out, _ = run(capsys, "evaluate", "--split", "valid", "--workdir", finished_run.workdir, finished_run.workdir)
    assert out[0].startswith("ensemble of 2: valid accuracy")


def test_an_evaluation_in_detail(capsys, finished_run):
    code, out, _ = run(capsys, "evaluate", "--workdir", finished_run.workdir, "--details")
    assert code == 0 and out[2].startswith("top-5 accuracy") and out[3].startswith("calibration error")
    assert out[4].startswith("Cohen's kappa 0.")
    hits = round(355 * finished_run.metrics["test/accuracy"])
    ends = stats.binomtest(hits, 355).proportion_ci(method="wilson")
    assert out[1] == (
        f"{hits} of 355 correct, 95 % interval of the accuracy {ends.low:.4f} to {ends.high:.4f} (Wilson)"
    )
    rows = [line.split("\t") for line in out[6:]]
    assert out[5].split("\t")[:5] == ["class", "examples", "precision", "recall", "F1"] and len(rows) == 10
    assert sum(int(row[1]) for row in rows) == 355
    recalled = sum(int(row[1]) * float(row[3]) for row in rows) / 355
    assert recalled == pytest.approx(finished_run.metrics["test/accuracy"], abs=1e-3)
