"""The README's Python, read by a type checker as its reader's editor reads it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


def test_the_readmes_snippets_type_check(tmp_path):
    """Config files each for themselves, the rest as one script: later snippets use the names of earlier ones."""
    snippets = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    configs = [snippet for snippet in snippets if snippet.startswith("def get_config")]
    script = [snippet for snippet in snippets if snippet not in configs]
    assert configs and len(script) >= 3
    for number, text in enumerate([*configs, "\n".join(script)]):
        (tmp_path / f"snippet_{number}.py").write_text(text)
    settings = {"typeCheckingMode": "basic", "extraPaths": [str(ROOT)], "reportUnusedExpression": False}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [
        sys.executable,
        "-m",
        "basedpyright",
        "--pythonpath",
        sys.executable,
        "--outputjson",
        "-p",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    wrong = [(item["message"], item["range"]["start"]["line"]) for item in found["generalDiagnostics"]]
    assert found["summary"]["filesAnalyzed"] == len(configs) + 1 and not wrong
