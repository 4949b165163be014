"""The page of a study's table: its sentence, its chart, and every trial."""

import re

import pytest

from cnnjax.ablation.page import as_page, summary
from cnnjax.ablation.table import Table
from tests.ablation.test_table import KNOWN, record


def study(gain):
    """Two variants of three seeds; the second is better by `gain` and what varies from seed to seed."""
    values = {"rate=0.01": (0.80, 0.81, 0.82), "rate=0.1": (0.80 + gain, 0.812 + gain, 0.818 + gain)}
    trials = tuple(record(name, seed, value) for name, found in values.items() for seed, value in enumerate(found))
    return Table(trials, {}, "test/accuracy", "rate=0.01", KNOWN)


def test_the_sentence_says_what_the_seeds_can_tell():
    names = {"rate=0.01": "0.01", "rate=0.1": "0.1"}
    assert summary(study(0.05), names) == (
        "0.1 has the best test accuracy, 0.86. Its difference from the baseline, 0.01, is +0.0500, with a 95 % interval of +0.0450 to "
        "+0.0550, which does not contain zero."
    )
    assert "contains zero: these seeds cannot tell the two apart" in summary(study(0.001), names)
    assert summary(study(-0.05), names).startswith(
        "0.01 has the best test accuracy, 0.81. It is the baseline. Next is 0.1; the difference is -0.05"
    )


def test_the_page_stands_alone_with_every_trial_and_its_chart():
    page = as_page(study(0.05), "<rates>")
    assert page.startswith("<!DOCTYPE html>") and "&lt;rates&gt;" in page and "<rates>" not in page
    assert page.count("<circle") == 6 and page.count('class="mean"') == 2 and page.count('class="bar"') == 2
    assert re.findall(r'<section id="(\w+)">', page) == ["summary", "variants", "table", "trials"]
    places = {value: float(x) for x, value in re.findall(r'<circle cx="([\d.]+)"[^>]*><title>([\d.]+)<', page)}
    assert places["0.8"] < places["0.81"] < places["0.82"] < places["0.85"] < places["0.868"]
    assert places["0.82"] - places["0.81"] == pytest.approx(places["0.81"] - places["0.8"], abs=0.02)
    failed = Table(
        tuple({**trial, "status": "failed", "error": "no"} for trial in study(0.05).trials), {}, "test/accuracy",
        "rate=0.01", KNOWN,
    )  # fmt: skip
    assert "None of the 6 trials has finished." in as_page(failed, "t")
