"""Every study at its smallest: its trials run, and its page has a row a variant."""

import importlib
import pkgutil

import pytest

import cnnjax
import experiments
from experiments import study as shared

STUDIES = [
    module.name
    for module in pkgutil.iter_modules(experiments.__path__)
    if hasattr(importlib.import_module(f"experiments.{module.name}"), "STUDY")
]


@pytest.mark.parametrize("name", STUDIES)
def test_every_variant_of_every_scale_is_a_config_and_published_figures_are_of_variants(name):
    study = importlib.import_module(f"experiments.{name}").STUDY
    assert study.name == name and set(study.scales) == {"smoke", "small", "full"}
    variants = study.axes if isinstance(study.axes, dict) else {}
    assert set(study.published) <= set(variants)
    for scale in study.scales.values():
        for fields in variants.values():
            cnnjax.load_config(study.config, {**scale.fields, **fields})


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_smoke_scale_makes_a_page_and_a_plot(name, tmp_path, capsys):
    study = importlib.import_module(f"experiments.{name}").STUDY
    shared.main(study, ["--scale", "smoke", "--workdir", str(tmp_path / "trials"), "--out", str(tmp_path / "page")])
    text = (tmp_path / "page" / f"{name}.md").read_text()
    assert text in capsys.readouterr().out
    for variant in study.axes:
        assert text.count(f"| {variant} |") == 1
    assert "failed" not in text and (tmp_path / "page" / f"{name}.png").stat().st_size > 2000
