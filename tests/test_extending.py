"""The page on extending: its files and commands, as a reader would type them in a folder of their own."""

import re
import shlex
import sys
from pathlib import Path

import pytest

import cnnjax
from tests.commands.shell import run

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(
    r"^```(python|sh)\n(.*?)^```$", (ROOT / "docs/extending.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
)
FILES = {found[1]: text for kind, text in BLOCKS if kind == "python" and (found := re.match(r"# (\w+\.py)\n", text))}
SCRIPTS = [text for kind, text in BLOCKS if kind == "python" and text not in FILES.values()]
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
TRAININGS = {re.search(r"--workdir runs/(\w+)", line)[1]: line for line in COMMANDS if " train " in line}
SHORT = [
    f"--config.{field}"
    for field in (
        "train.epochs=1",
        "train.batch_size=64",
        "evaluate.batch_size=72",
        "devices=1",
        "log.progress=off",
        "log.tensorboard=False",
    )
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The page's files, in which its commands are given."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_the_page_has_a_block_of_each_kind():
    assert len(FILES) >= 7 and len(SCRIPTS) >= 4 and len(TRAININGS) >= 7
    assert len(COMMANDS) == len(TRAININGS) + 2  # evaluate
    assert "docs/extending.md" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", TRAININGS)
def test_a_component_is_trained_and_its_run_read_back(name, capsys):
    code, _, errors = run(capsys, *shlex.split(TRAININGS[name])[1:], *SHORT)
    assert code == 0, errors
    trained = cnnjax.load_run(f"runs/{name}")
    assert trained.metrics["test/loss"] > 0
    for command in COMMANDS:
        if "train" not in command and f"runs/{name}" in command.split():
            code, output, errors = run(capsys, *shlex.split(command)[1:])
            assert code == 0 and any("accuracy" in line for line in output), errors


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "text", SCRIPTS, ids=lambda text: re.search(r"check_model|dataset=|\w+_callback|\bbuild\b", text)[0]
)
def test_a_script_runs(text, capsys):
    wandb = pytest.importorskip("wandb") if "wandb" in text else None
    exec(compile(text, "docs/extending.md", "exec"), {"__name__": "__main__"})
    if wandb:
        wandb.finish()  # the training was stopped
    assert "callback" not in text or float(capsys.readouterr().out.splitlines()[-1]) > 0.8
