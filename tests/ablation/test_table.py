"""The table of a study: figures, text, pictures, and what cannot be asked of it."""

import csv
import io
import sys
import types

import numpy as np
import pytest
from matplotlib.figure import Figure

from cnnjax.ablation.metrics import known_metrics
from cnnjax.ablation.table import LEAST, Table, distinct
from cnnjax.config import load_config
from cnnjax.core.terminal import fit_table

KNOWN = known_metrics([load_config({})])
METRICS = KNOWN.names


def record(variant, seed, accuracy, valid=0.5, **more):
    measured = {name: accuracy if name.endswith("accuracy") else 1 - accuracy for name in METRICS}
    return {
        "variant": variant, "seed": seed, "optimizer.learning_rate": 0.1, "directory": f"{variant}{seed}",
        "status": "finished", "error": "", **measured, "valid/accuracy": valid, "time/seconds": 2.0 + seed,
        "parameters": 61706, **more,
    }  # fmt: skip


FAILED = {
    "variant": "b|2", "seed": 2, "optimizer.learning_rate": 0.1, "directory": "b2", "status": "failed",
    "error": "FloatingPointError: the loss became nan", "parameters": 61706,
}  # fmt: skip


@pytest.fixture
def table():
    trials = (
        record("a_1", 0, 0.80, 0.7), record("a_1", 1, 0.84, 0.7), record("a_1", 2, 0.82, 0.7),
        record("b|2", 0, 0.83, 0.9), record("b|2", 1, 0.86, 0.6), FAILED,
    )  # fmt: skip
    return Table(trials, {"a_1": {"test/accuracy": 0.85, "test/loss": 0.4}}, "test/accuracy", "a_1", KNOWN)


def test_rows_are_means_and_paired_differences(table):
    first, second = table.rows
    assert (first.variant, first.failed, first.trials, first.parameters, first.seconds) == ("a_1", 0, 3, 61706, 3.0)
    assert first.estimate.mean == pytest.approx(0.82) and first.estimate.deviation == pytest.approx(0.02)
    assert first.ensemble == 0.85 and second.ensemble is None and first.difference is None
    assert second.difference.count == 2 and second.difference.mean == pytest.approx(0.025)  # 0.03 and 0.02
    half = 12.7062 * np.std([0.03, 0.02], ddof=1) / np.sqrt(2)
    assert second.difference.high == pytest.approx(0.025 + half, rel=1e-4)
    other = table.summarize("test/loss", baseline="b|2")
    assert other[0].difference.mean == pytest.approx(0.025) and other[1].difference is None


def test_it_is_text_in_a_shell_and_a_card_in_a_notebook(table):
    title, head, first, second, power = repr(table).splitlines()
    assert title == "test/accuracy of 2 variants, 6 trials, 3 seeds"
    assert head.split()[:2] == ["variant", "test/accuracy"] and first.startswith("a_1") and second.endswith("1 of 3")
    assert power == table.power()
    card = table._repr_html_()
    assert "0.8200 ± 0.0200" in card and "+0.0250" in card and "failed: b|2, seed 2: FloatingPointError" in card
    assert card.count("<circle") == 5 and card.count("<svg") == 1


def test_p_values_are_corrected_for_the_number_of_variants():
    trials = [record("a", seed, 0.5 + 0.01 * seed) for seed in range(3)]
    trials += [record("b", seed, 0.6 + 0.011 * seed) for seed in range(3)]  # differences .1 .101 .102
    trials += [record("c", seed, 0.5 + 0.01 * seed + (0.0, 0.02, 0.01)[seed]) for seed in range(3)]
    several = Table(tuple(trials), {}, "test/accuracy", "a", KNOWN)
    _, b, c = several.rows
    # t = .101 / .001 * sqrt(3) = 174.9 and .01 / .01 * sqrt(3) = 1.732, with two degrees of freedom p = .0000327 and .225.
    assert b.p_value == pytest.approx(2 * 3.2677e-5, rel=1e-3) and c.p_value == pytest.approx(0.2254, rel=1e-3)
    columns, first, second, third = several.cells()
    place = columns.index("p (Holm)")
    assert (first[place], second[place], third[place]) == ("", "6.5e-05", "0.23")
    # Three pairs find 3.264 standard deviations, .001 and .01 here.
    assert several.power() == (
        "Power: 3 seeds find a true difference of 0.0033 to 0.033, by variant, with probability 0.8 (paired t-test at the level of 0.05)."
    )


def test_without_differences_nothing_is_said_of_power(table):
    single = Table((table.trials[0],), {}, "test/accuracy", "a_1", KNOWN)
    assert single.power() == "" and [row.p_value for row in single.rows] == [None]
    assert table.power().startswith("Power: 2 seeds find a true difference of 0.082, with probability 0.8")


def test_markdown(table):
    assert table.markdown().splitlines() == [
        r"| variant | test/accuracy | 95 % interval | difference from a_1 | its 95 % interval | ensemble | parameters | seconds | failed |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
        "| a_1 | 0.8200 ± 0.0200 | [0.7703, 0.8697] |  |  | 0.8500 | 61,706 | 3 |  |",
        r"| b\|2 | 0.8450 ± 0.0212 | [0.6544, 1.0000] | +0.0250 | [-0.0385, +0.0885] |  | 61,706 | 2.5 | 1 of 3 |",
    ]
    assert "seconds" not in table.markdown(times=False)
    assert table.markdown("valid/loss").splitlines()[2].startswith("| a_1 | 0.1800 ± 0.0200 |")


def test_latex(table):
    lines = table.latex().splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrrrrr}" and lines[-1] == r"\end{tabular}"
    assert lines[2].startswith(r"variant & test/accuracy & 95 \% interval & difference from a\_1 &")
    assert r"[$-$0.0385, +0.0885]" in lines[5] and lines[4].startswith(r"a\_1 & 0.8200 $\pm$ 0.0200 &")
    assert all(line.endswith(r"\\") for line in (lines[2], lines[4], lines[5]))


def test_intervals_stay_within_what_the_metric_can_be():
    trials = tuple(
        record(name, seed, value)
        for name, values in (("a", (0.99, 1.0)), ("b", (0.3, 0.9)), ("c", (0.99, 0.99999)))
        for seed, value in enumerate(values)
    )
    table = Table(trials, {}, "test/accuracy", "a", KNOWN)
    assert [row[2] for row in table.cells()[1:]] == ["[0.9315, 1.0000]", "too few seeds", "[0.9315, 1.0000]"]
    # Of a difference: -1 to 1; and what rounds to zero has no minus.
    assert [row[3:5] for row in table.cells()[2:]] == [["-0.3950", "too few seeds"], ["+0.0000", "[-0.0001, +0.0001]"]]
    assert table.cells("test/loss")[1][2].startswith("[0.0000, 0.0")
    assert table.rows[1].estimate.low == 0 and table.rows[1].estimate.high == 1


def test_one_seed_has_no_spread(table):
    single = Table(table.trials[:1], {}, "test/accuracy", "a_1", KNOWN)
    assert single.markdown().splitlines()[0] == "| variant | test/accuracy | parameters | seconds |"
    assert single.markdown().splitlines()[2] == "| a_1 | 0.8000 | 61,706 | 2 |"


def test_the_brief_table_says_once_what_variants_share():
    names = [f"size=8, learning_rate={rate}, batch_size={size}" for rate in (0.01, 0.05) for size in (16, 64)]
    assert distinct(names) == ("learning_rate, batch_size", ["0.01, 16", "0.01, 64", "0.05, 16", "0.05, 64"])
    assert distinct(names[:1]) == ("size, learning_rate, batch_size", ["8, 0.01, 16"])
    assert distinct(["plan=conv 8, x", "plan=(1, 2), x"]) == ("plan", ["conv 8", "(1, 2)"])
    assert distinct(["a", "a, norm=batch"]) == ("variant", ["a", "a, norm=batch"])  # nothing would be left of the first
    trials = tuple(record(name, seed, 0.8 + seed / 50 + len(name) / 500) for name in names for seed in range(3))
    ensembles = {name: {"test/accuracy": 0.9} for name in names}
    columns, rows = Table(trials, ensembles, "test/accuracy", names[2], KNOWN).brief()
    assert columns[:2] == ["learning_rate, batch_size", "test/accuracy"] and columns[3] == "difference"
    assert [row[3] for row in rows] == ["+0.0000", "+0.0000", "baseline", "+0.0000"]
    assert [row[0] for row in rows] == ["0.01, 16", "0.01, 64", "0.05, 16", "0.05, 64"]
    for width, missing in (
        (80, ["95 % interval", "p (Holm)", "ensemble", "parameters", "seconds"]), (100, ["parameters", "seconds"]), (120, []),
    ):  # fmt: skip
        shown, left_out = fit_table(columns, rows, width, LEAST)
        assert left_out == missing and next(iter(shown.columns[0].cells)).plain == "0.01, 16"


def test_the_best(table):
    best = table.best()
    assert (best.variant, best.mean, best.trial["seed"]) == ("b|2", 0.75, 0)
    assert table.best("test/loss").variant == "b|2" and table.best("test/loss").trial["seed"] == 1
    assert table.best("time/seconds").variant == "b|2"


def test_frames_are_pandas_where_it_is(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    frame = table.frame()
    assert isinstance(frame, list) and frame[0]["test/accuracy"] == 0.80 and frame[5]["test/accuracy"] is None
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=lambda records: ("frame", records)))
    assert table.frame() == ("frame", frame)


def test_csv(table):
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert len(rows) == 6 and float(rows[1]["test/accuracy"]) == 0.84 and rows[5]["error"] == FAILED["error"]


def test_the_plot_has_a_row_a_variant(table):
    figure = table.plot("valid/accuracy")
    assert isinstance(figure, Figure)
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a_1", "b|2"]
    assert axis.get_xlabel() == "valid/accuracy"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda table: table.markdown("test/acc"), "unknown metric 'test/acc': did you mean 'test/accuracy'"),
        (lambda table: table.best("accuracy"), "unknown metric 'accuracy'"),
        (lambda table: table.summarize(baseline="a_2"), "unknown variant 'a_2': did you mean 'a_1'"),
        (lambda table: table.values("c"), "unknown variant 'c': choose from"),
    ],
)
def test_what_is_not_there_is_named(table, ask, message):
    with pytest.raises(ValueError, match=message):
        ask(table)
