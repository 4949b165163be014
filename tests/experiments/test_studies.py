"""Every study at its smallest: its trials run, and its page has a row a variant."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import cnnjax
import experiments
from cnnjax.ablation.metrics import known_metrics
from cnnjax.ablation.table import Table
from cnnjax.config import load_config
from experiments import study as shared
from experiments.study import Part, Scale, Study, difference, markdown, page, spread

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
    assert study.name == name and set(study.scales) == {"smoke", "small", "full"}
    variants = study.axes if isinstance(study.axes, dict) else {}
    assert set(study.published) <= set(variants)
    for scale in study.scales.values():
        for fields in variants.values():
            cnnjax.load_config(study.config, {**scale.fields, **fields})


@pytest.mark.parametrize("name", STUDIES)
def test_the_index_knows_it(name):
    assert (f"(results/{name}.md)" if name in RUN else f"`{name}`") in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("name", RUN)
def test_the_committed_page_is_the_studys(name):
    study, text = find(name), (FOLDER / "results" / f"{name}.md").read_text()
    assert text.startswith(f"# {study.title}\n") and f"experiments.{name} --scale small" in text
    assert len(study.findings.strip().split("\n\n")) == 2 and text.endswith(f"{study.findings.strip()}\n")
    for variant in study.axes:
        assert f"| {variant} |" in text
    for picture in re.findall(r"\]\((.*?\.png)\)", text):
        assert (FOLDER / "results" / picture).stat().st_size > 2000


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
        "name", "Title", {}, {"plain": {}, "a|b": {}}, {"small": Scale("words", {}, 2)}, {"plain": "48 % (them)"}, "\nFound.\n"
    )  # fmt: skip
    text = page(study, "small", TABLE, [Part("more", "Text of it.", Figure()), Part("words_alone", "No picture.")])
    plain, other = (line for line in text.splitlines() if line.startswith(("| plain", "| a")))
    assert plain.endswith("| 1.0000 | 48 % (them) | words |") and "0.5100 ± 0.0141" in plain
    assert other.startswith(r"| a\|b |") and other.endswith("| 1.0000 |  | words |")
    assert "seconds" not in text
    assert re.search(
        r"!\[.*\]\(name.png\)\n\nText of it.\n\n!\[more\]\(name_more.png\)\n\nNo picture.\n\nFound.\n$", text
    )


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
    table = text.split("\n![")[0]
    for variant in study.axes:
        assert table.count(f"| {variant} |") == 1
    assert "failed" not in text or name.startswith("initialization")  # a loss that bursts is among its results
    shown = re.findall(r"\]\((.*?\.png)\)", text)
    assert f"{name}.png" in shown and all((tmp_path / "page" / picture).stat().st_size > 2000 for picture in shown)
