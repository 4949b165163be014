"""What README and docs/ show a reader: their commands and Python run, and their Python type-checks as an editor reads it."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands.shell import run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
DIGIT = "cnnjax/data/builders/digit.png"
# Pages whose Python stands for itself; those of docs/extending.md are run by test_extending.
PAGES = [
    "README.md",
    "docs/start.md",
    *(
        path.relative_to(ROOT).as_posix()
        for folder in ("howto", "explanation")
        for path in sorted((ROOT / "docs" / folder).glob("*.md"))
    ),
]
# Pages whose commands run offline, one after the other, in a folder with photographs and the sample digit.
RUN = ["README.md", "docs/start.md", "docs/howto/own_photographs.md", "docs/howto/export.md"]
SHORT = [
    f"--config.{field}"
    for field in (
        "train.epochs=1",
        "train.batch_size=8",
        "evaluate.batch_size=72",
        "devices=1",
        "log.progress=off",
        "log.tensorboard=False",
    )
]


def blocks(page):
    """The (language, text) of a page's blocks of code, in order."""
    return re.findall(r"^```(python|sh)\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)


def file_name(text):
    """The file that a block stands for, by its first line; None for what is typed."""
    found = re.match(r"# (\w+\.py)\n", text)
    return found and found[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A reader's folder: photographs by class, some new ones, and the sample digit where the checkout has it."""
    numbers = np.random.default_rng(0)
    for place, count in (("photos/daisy", 24), ("photos/rose", 24), ("photos/tulip", 24), ("new_photos", 2)):
        (tmp_path / place).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(numbers.integers(0, 256, (80, 100, 3), np.uint8)).save(tmp_path / place / f"{index}.jpg")
    (tmp_path / DIGIT).parent.mkdir(parents=True)
    shutil.copy(ROOT / DIGIT, tmp_path / DIGIT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", RUN)
def test_the_commands_and_the_python_of_a_page_run(page, folder, capsys):
    ran = 0
    for language, text in blocks(page):
        if file_name(text):
            (folder / file_name(text)).write_text(text, "utf-8")
        elif language == "python":
            exec(compile(text, page, "exec"), {"__name__": "__main__"})
        else:
            for line in text.splitlines():
                command, *words = shlex.split(line, comments=True)
                if command != "cnnjax":
                    assert command in ("make", "pip")  # .ci/run gives these
                    continue
                if words[-1].endswith(".html") and words[0] == "export" and not shutil.which("npm"):
                    continue  # the browser's runtime is npm's
                short = SHORT if words[0] in ("train", "ablate") else []
                code, _, errors = run(capsys, *words, *short)
                assert code == 0, (line, errors)
                ran += 1
    assert ran >= 4


def test_the_errors_of_the_page_on_troubleshooting_are_what_the_commands_say(folder, capsys):
    for index, path in enumerate(sorted((folder / "photos").rglob("*.jpg"))):
        Image.new("RGB", (50, 40 + index)).save(path)
    page = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
    shown = re.findall(r"^```sh\n([^`]*)```\n\n```text\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)
    assert len(shown) >= 4
    for commands, message in shown:
        for line in commands.splitlines():
            words = shlex.split(line)[1:]
            code, _, errors = run(capsys, *words, *(SHORT if words[0] == "train" else []))
        assert code == 1
        anywhere = re.sub(r"\d+x50", "SIZE", message), re.sub(r"\d+x50", "SIZE", errors[-1])
        assert anywhere[0] in anywhere[1], errors


def test_the_python_of_the_pages_type_checks(tmp_path):
    """Files each for themselves, a page's rest as one script: later snippets use the names of earlier ones."""
    written = {}
    for page in PAGES:
        snippets = [text for language, text in blocks(page) if language == "python"]
        files = [text for text in snippets if file_name(text) or text.startswith("def get_config")]
        script = [text for text in snippets if text not in files]
        for number, text in enumerate([*files, "\n".join(script)] if script else files):
            written[f"{page.removesuffix('.md').replace('/', '_')}_{number}.py"] = text
    assert len(written) > 10
    for name, text in written.items():
        (tmp_path / name).write_text(text, "utf-8")
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
    wrong = [(item["file"], item["message"], item["range"]["start"]["line"]) for item in found["generalDiagnostics"]]
    assert found["summary"]["filesAnalyzed"] == len(written) and not wrong


def test_the_readme_is_short_and_has_its_parts():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150 and text.count("![") == 1
    for figure in re.findall(
        r"^\| (?:`|[A-Z]).*$", text, re.MULTILINE
    ):  # each figure stands in docs/ with its hardware
        name, *values = [cell.strip() for cell in figure.strip("|").split("|")]
        page = (ROOT / "docs/explanation" / ("results.md" if "`" in name else "speed.md")).read_text("utf-8")
        row = next(
            line for line in page.splitlines() if line.startswith(f"| {name.split(' (')[0].split(' images')[0]} ")
        )
        assert all(value in row for value in values), figure
