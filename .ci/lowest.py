"""Prints pip's constraints for the lowest version of everything that pyproject.toml asks for."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
    bound, semicolon, marker = requirement.partition(";")
    print(re.sub(r"(\[.*\])?>=", "==", bound) + semicolon + marker)
