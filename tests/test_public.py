"""The promises of the public interface."""

import ast
import importlib
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import cnnjax

ROOT = Path(__file__).parent.parent


def test_every_public_name_exists_and_is_listed_for_type_checkers():
    tree = ast.parse(Path(cnnjax.__file__).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    for_checkers = {alias.asname for node in checked.body for alias in node.names}
    assert for_checkers == set(cnnjax._PUBLIC)
    for name, (module, attribute) in cnnjax._PUBLIC.items():
        assert getattr(cnnjax, name) is getattr(importlib.import_module(module), attribute)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = cnnjax.nothing


def test_every_public_name_of_the_analysis_exists_and_is_listed_for_type_checkers():
    from cnnjax import analysis

    tree = ast.parse(Path(analysis.__file__).read_text())
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    listed = {alias.asname: node.module for node in checked.body for alias in node.names}
    assert listed == {name: f"cnnjax.analysis.{module}" for name, module in analysis._PUBLIC.items()}
    for name, module in listed.items():
        assert getattr(analysis, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = analysis.nothing


def test_every_package_travels_in_the_wheel():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("cnnjax/**/*.py")}
    assert listed == present | {"cnnjax.configs"}


def test_help_answers_in_under_half_a_second():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cnnjax", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5
