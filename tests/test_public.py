"""The promises of the public interface."""

import ast
import importlib
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("package", ["cnnjax", "cnnjax.analysis", "cnnjax.report", "cnnjax.training"])
def test_every_public_name_is_found_where_the_type_checkers_read_it(package):
    module = importlib.import_module(package)
    stub = ast.parse(Path(module.__file__).with_suffix(".pyi").read_text())
    listed = {alias.name: line.module for line in stub.body for alias in line.names}
    assert sorted(listed) == sorted(module.__all__)
    for name, source in listed.items():
        assert getattr(module, name) is getattr(importlib.import_module(f"{package}.{source}"), name)
    with pytest.raises(AttributeError, match="attribute .?nothing"):
        _ = module.nothing


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
