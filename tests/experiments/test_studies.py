"""Every study at its smallest: its trials run, and its page has a row a variant."""

import importlib
import json
import pkgutil
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
from matplotlib.figure import Figure

import cnnjax
import experiments
from cnnjax.ablation.metrics import known_metrics
from cnnjax.ablation.table import Table
from cnnjax.config import load_config
from experiments import study as shared
from experiments.drawings import PAGE, save_svg
from experiments.study import Part, Scale, Study, difference, figure, markdown, page, spread, stored_results, verdict

STUDIES = [
    module.name
    for module in pkgutil.iter_modules(experiments.__path__)
    if hasattr(importlib.import_module(f"experiments.{module.name}"), "STUDY")
]
FOLDER = Path(experiments.__path__[0])
RUN = [name for name in STUDIES if (FOLDER / "results" / f"{name}.md").exists()]


def find(name):
    return importlib.import_module(f"experiments.{name}").STUDY


@pytest.mark.parametrize("name", STUDIES)
def test_every_variant_of_every_scale_is_a_config_and_published_figures_are_of_variants(name):
    study = find(name)
    assert study.name == name and {"smoke", study.default_scale, "full"} <= set(study.scales) <= set(
        get_args(shared.ScaleName)
    )
    assert study.default_scale == "small" or study.smallest
    variants = study.axes if isinstance(study.axes, dict) else {}
    assert set(study.published) <= set(variants)
    for scale in study.scales.values():
        assert set(scale.variants or ()) <= set(variants)
        for fields in variants.values():
            cnnjax.load_config(study.config, {**scale.fields, **fields})


@pytest.mark.parametrize("name", STUDIES)
def test_the_index_knows_it(name):
    study, index = find(name), (FOLDER / "README.md").read_text()
    assert (f"| [{study.question}](results/{name}.md) | {study.answer} |" if name in RUN else f"`{name}`") in index


@pytest.mark.parametrize("name", RUN)
def test_the_committed_page_is_the_studys(name):
    study, text = find(name), (FOLDER / "results" / f"{name}.md").read_text()
    stored = json.loads((FOLDER / "results" / f"{name}.json").read_text())
    assert text == page(study, stored) and len(study.findings.strip().split("\n\n")) == 2
    assert text.startswith(f"# {study.title}\n\n**{study.question}** {study.answer}\n\n![")
    assert stored["scale"] in ("small", "laptop") and f"experiments.{name} --scale {stored['scale']}" in text
    assert f"**Exercise.** {study.exercise}" in text
    for variant in study.axes:
        assert f"| {variant} |" in text
    for picture in re.findall(r"\]\((\w+\.(?:png|svg))\)", text):
        assert (FOLDER / "results" / picture).stat().st_size > 2000


@pytest.mark.parametrize("path", sorted((FOLDER / "results").glob("*.svg")), ids=lambda path: path.stem)
def test_a_committed_picture_fits_a_page_and_its_text_is_readable_at_every_reader(path):
    text = path.read_text()
    width, unit = re.search(r'<svg [^>]*width="([\d.]+)(\w+)"', text).groups()
    assert unit == "pt" and float(width) / 72 <= PAGE + 0.01 and len(text) < 300_000
    assert all(float(size) >= 8 for size in re.findall(r"font: ([\d.]+)px", text))
    assert text.count("px 'DejaVu Sans'") == text.count("'DejaVu Sans', Verdana, sans-serif")


@pytest.mark.parametrize("name", RUN[::6])
def test_the_committed_figure_is_drawn_from_the_stored_results_to_the_byte(name, tmp_path):
    save_svg(figure(json.loads((FOLDER / "results" / f"{name}.json").read_text())), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_bytes() == (FOLDER / "results" / f"{name}.svg").read_bytes()


def test_nothing_of_a_figure_lies_beyond_its_edge():
    """Long names of variants, on a figure whose text is drawn by the reader's browser."""
    interval = {"mean": 0.5, "low": -0.4, "high": 1.3, "values": [0.1, 0.9]}
    found = {f"a variant with a name of many words, number {number}": interval for number in range(3)}
    drawn = figure({"metric": "test/accuracy", "intervals": found})
    drawn.draw_without_rendering()
    box, [axis] = drawn.get_tightbbox(), drawn.axes
    assert box.x0 >= 0 and box.y0 >= 0 and (box.x1, box.y1) <= tuple(drawn.get_size_inches())
    assert axis.get_xlabel() == "test accuracy (%)"
    assert all(0 <= value <= 100 for line in axis.lines for value in line.get_xdata())


def records(variant, accuracies):
    return [
        {
            "variant": variant,
            "seed": seed,
            "status": "finished",
            "parameters": 10,
            "time/seconds": 1.0,
            "train/accuracy": 1.0,
        }
        | {"test/accuracy": accuracy}
        for seed, accuracy in enumerate(accuracies)
    ]


TABLE = Table(
    (*records("plain", [0.50, 0.52]), *records("a|b", [0.60, 0.64])),
    {},
    "test/accuracy",
    "plain",
    known_metrics([load_config({})]),
)


def test_a_page_has_the_published_figures_the_data_and_the_parts():
    study = Study(
        "name", "Title", "Which?", "This one.", "Try it.", {}, {"plain": {}, "a|b": {}}, {"small": Scale("words", {}, 2)},
        {"plain": "48 % (them)"}, "\nFound.\n",
    )  # fmt: skip
    stored = stored_results(
        study, "small", TABLE, [Part("more", "Text of it.", Figure()), Part("words_alone", "No picture.")]
    )
    text = page(study, json.loads(json.dumps(stored)))
    plain, other = (line for line in text.splitlines() if line.startswith(("| plain", "| a")))
    assert plain.endswith("| 1.0000 | 48 % (them) | words |") and "0.5100 ± 0.0141" in plain
    assert other.startswith(r"| a\|b |") and other.endswith("| 1.0000 |  | words |")
    assert "seconds" not in text
    assert re.match(r"# Title\n\n\*\*Which\?\*\* This one.\n\n!\[(.*)\]\(name.svg\)\n\n\*\1.\*\n\nTo repeat it", text)
    assert text.index("**Exercise.** Try it.") < text.index("\n\nFound.\n\n") < text.index("| plain")
    assert text.endswith("\n\nText of it.\n\n![name more](name_more.svg)\n\nNo picture.\n")
    assert stored["intervals"]["plain"]["values"] == [0.50, 0.52] and "each dot is a seed" in text


def test_a_verdict_is_a_direction_an_interval_within_the_smallest_difference_or_a_number_of_seeds():
    base = [0.80, 0.81, 0.82, 0.83, 0.84]
    differences = {
        "better": [0.02, 0.021, 0.022, 0.021, 0.02],
        "worse": [-0.02, -0.021, -0.022, -0.021, -0.02],
        "hardly better": [0.002, 0.0021, 0.0022, 0.0021, 0.002],
        "alike": [0.001, -0.001, 0.0, 0.001, -0.001],
        "unknown": [0.03, -0.03, 0.0, 0.02, -0.02],
    }
    trials = records("base", base)
    for variant, values in differences.items():
        trials += records(variant, [a + b for a, b in zip(base, values, strict=True)])
    table = Table(tuple(trials), {}, "test/accuracy", "base", known_metrics([load_config({})]))
    found = [verdict(row, 0.005) for row in table.summarize()]
    # The deviation of the last is 0.0255: (1.960 + 0.842)^2 (0.0255 / 0.005)^2 = 204 pairs by the normal distribution, 2 more by t.
    assert found == ["", "higher", "lower", "higher, within 0.005", "within 0.005", "undecided (206 seeds)"]
    study = Study(
        "name", "Title", "Which?", "This one.", "Try it.", {}, {name: {} for name in ("base", *differences)},
        {"laptop": Scale("words", {}, 5)}, {}, "\nFound.\n", smallest=0.005,
    )  # fmt: skip
    text = page(study, json.loads(json.dumps(stored_results(study, "laptop", table))))
    assert "worth naming was set to 0.005 before the trials" in text and "--scale laptop" in text
    line = next(line for line in text.splitlines() if line.startswith("| unknown |"))
    assert line.endswith("| 1.0000 | undecided (206 seeds) | words |")


def test_differences_and_spreads_by_hand():
    # Pairs differ by .10 and .12: mean .11, deviation .0141; t with 1 degree of freedom 12.706: .11 ± .127.
    assert difference(TABLE, "a|b", "plain") == "+11.0 [-1.7, +23.7]"
    assert difference(TABLE, "plain", "plain") == ""
    assert spread([0.5, 0.51, 0.52]) == "51.0 ± 1.0 [48.5, 53.5]"  # 4.303 / sqrt(3) = 2.48
    assert spread([0.5]) == "50.0" and spread([]) == ""
    assert markdown(["a", "b"], [["x|y", 1]]) == "| a | b |\n| --- | --: |\n| x\\|y | 1 |"


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_smoke_scale_makes_a_page_and_plots(name, tmp_path, capsys):
    study = find(name)
    shared.main(study, ["--scale", "smoke", "--workdir", str(tmp_path / "trials"), "--out", str(tmp_path / "page")])
    text = (tmp_path / "page" / f"{name}.md").read_text()
    assert text in capsys.readouterr().out
    table = re.search(r"(?:^\|.*\n)+", text.split("## Results")[1], re.MULTILINE)[
        0
    ]  # the first; a study's parts may have others
    for variant in study.scales["smoke"].variants or study.axes:
        assert table.count(f"| {variant} |") == 1
    assert "failed" not in text or name.startswith("initialization")  # a loss that diverges is among its results
    shown = re.findall(r"\]\((\w+\.svg)\)", text)
    assert f"{name}.svg" in shown and all((tmp_path / "page" / picture).stat().st_size > 2000 for picture in shown)


@pytest.mark.slow
def test_killed_restarted_and_shared_by_two_processes_it_writes_the_same_page(tmp_path):
    def start(trials, page):
        command = [sys.executable, "-m", "experiments.weight_decay", "--scale", "smoke"]
        return subprocess.Popen(
            [*command, "--workdir", str(tmp_path / trials), "--out", str(tmp_path / page)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=FOLDER.parent,
        )  # fmt: skip

    def finish(*processes):
        outputs = [process.communicate(timeout=300)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes), outputs

    def finished():
        return {path.parent.name for path in (tmp_path / "shared").glob("*/DONE")}

    finish(start("alone", "alone_page"))
    killed = start("shared", "killed_page")
    while not finished() and killed.poll() is None:
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    done, variants = finished(), find("weight_decay").axes
    assert 0 < len(done) < len(variants) and not (tmp_path / "killed_page").exists()
    before = {name: (tmp_path / "shared" / name / "metrics.jsonl").stat().st_mtime_ns for name in done}

    finish(start("shared", "first_page"), start("shared", "second_page"))

    assert len(finished()) == len(variants)
    assert before == {name: (tmp_path / "shared" / name / "metrics.jsonl").stat().st_mtime_ns for name in done}
    whole = {path.name: path.read_bytes() for path in (tmp_path / "alone_page").iterdir()}
    assert {path.suffix for path in map(Path, whole)} == {".md", ".json", ".svg"}
    for name in ("first_page", "second_page"):
        assert {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} == whole
