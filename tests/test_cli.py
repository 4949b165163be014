"""The command line: what it lists, how it reads flags, one line on what was wrong, its exit code."""

import importlib
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cnnjax import cli, commands
from cnnjax.commands import train
from tests.commands.shell import process_as_it_was, run

LISTED = [name for group in cli.COMMANDS.values() for name in group]
FILES = [file.name for file in pkgutil.iter_modules(commands.__path__)]
# The rest is what commands share: it has no HELP.
COMMAND_FILES = {name for name in FILES if hasattr(importlib.import_module(f"cnnjax.commands.{name}"), "HELP")}
HEAVY = {"jax", "flax", "numpy", "matplotlib", "tensorflow_datasets", "ml_collections", "cnnjax.config"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "no config: use --config FILE"),
        (["train", "--config", "quikstart"], "unknown config file 'quikstart': did you mean 'quickstart'"),
        (
            ["train", "--config", "quickstart", "--config.model.name=lenet"],
            "unknown model.name 'lenet': did you mean 'lenet5'",
        ),
        (
            ["train", "--config", "quickstart", "--config.train.epoch=3"],
            "unknown field 'train.epoch': did you mean 'train.epochs'",
        ),
        (
            ["train", "--config", "quickstart", "--config.train.epochs=x"],
            "train.epochs: expected a whole number, got 'x'",
        ),
        (["train", "--config", "quickstart", "--config.dataset.name=digit"], "unknown data set 'digit'"),
        (["train", "--config", "quickstart", "--config.dataset.name=./nowhere"], "nowhere does not exist"),
        (["train", "--config", "quickstart", "--config.train.batch_size=30", "--config.devices=4"], "choose 28 or 32"),
        (["train", "--config", "quickstart", "--config.optimizer.learning_rate=1e38"], "the loss became"),
        (["evaluate", "--workdir", "nowhere"], "nowhere holds no run"),
        (["predict", "--workdir", "RUN", "nothing.png"], "nothing.png does not exist"),
        (["predict", "--workdir", "RUN", "EMPTY"], "has no images"),
        (["predict", "--workdir", "RUN", "--topk", "11", "PICTURE"], "--topk 11: the run has 10 classes"),
        (["predict", "--workdir", "RUN", "--csv", "nowhere/x.csv", "PICTURE"], "there is no folder nowhere"),
        (["models", "lenet"], "unknown model 'lenet'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, tmp_path, monkeypatch, finished_run, arguments, message):
    (tmp_path / "empty").mkdir()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    places = {"RUN": finished_run.workdir, "EMPTY": tmp_path / "empty", "PICTURE": tmp_path / "picture.png"}
    code, _, err = run(capsys, *(places.get(argument, argument) for argument in arguments))
    assert code == 1 and len(err) == 1, err
    assert err[0].startswith("cnnjax: ") and message in err[0]


def test_wrong_usage_is_answered_with_the_usage(capsys):
    for arguments in (
        ["trian"],
        ["train", "--nonsense"],
        ["evaluate", "--workdir", "x", "--config.seed=1"],
        ["train", "--config.seed"],
    ):
        code, _, err = run(capsys, *arguments)
        assert code == 2 and err[0].startswith("usage: cnnjax")
    assert run(capsys, "trian")[2][-1] == "cnnjax: error: unknown command 'trian': did you mean 'train'?"


def test_alone_it_says_what_there_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run(capsys)
    assert code == 0 and not err and max(map(len, out)) <= 80
    titles = [place for place, line in enumerate(out) if line.endswith(":") and not line.startswith(("options", " "))]
    assert [out[place] for place in titles] == [
        "train and use:", "compare:", "look inside:", "before training:", "information:"
    ]  # fmt: skip
    listed = [line.split()[0] for line in out[titles[0] :] if line.startswith("  ")]
    assert listed == LISTED and {"train", "ablate", "find-lr", "doctor"} <= set(listed)


def test_every_command_that_has_a_file_is_listed_once():
    assert sorted(name.replace("-", "_") for name in LISTED) == sorted(COMMAND_FILES)


@pytest.mark.parametrize("words", [*([name] for name in LISTED), ["animate", "convolution"], ["animate", "filter"]])
def test_every_command_has_help(capsys, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run(capsys, *words, "--help")
    assert code == 0 and not err
    assert out[0].startswith(f"usage: cnnjax {' '.join(words)} [-h]") and any("--debug" in line for line in out)
    if len(words) == 1:
        command = importlib.import_module(f"cnnjax.commands.{words[0].replace('-', '_')}")
        assert command.HELP in " ".join(out)
        assert len(command.HELP) <= 62  # one line of the list


@pytest.mark.parametrize(("arguments", "imported"), [([], COMMAND_FILES), (["ablate"], {"ablate"})])
def test_help_imports_no_library_and_only_the_files_it_needs(arguments, imported):
    code = "import atexit, sys\natexit.register(lambda: print('IMPORTED', *sys.modules))\nfrom cnnjax import cli\ncli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--help"], capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.partition("IMPORTED ")[2].split())
    assert "cnnjax.cli" in modules and not modules & HEAVY
    assert {name for name in COMMAND_FILES if f"cnnjax.commands.{name}" in modules} == imported


def test_flags_are_spelled_with_hyphens_and_understood_with_underscores(capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(train, "run", asked.append)
    for hyphen in "-_":
        flags = f"--check{hyphen}replicas", f"--process{hyphen}id=3", f"--config.train.batch{hyphen}size=8"
        assert (
            run(capsys, "train", "--config", "my_config-2.py", *flags, f"--config.evaluate.batch{hyphen}size", "9")[0]
            == 0
        )
    for options in asked:
        assert options.check_replicas and options.process_id == 3 and options.config == "my_config-2.py"
        assert options.overrides == {"train.batch_size": 8, "evaluate.batch_size": 9}
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    shown = capsys.readouterr().out
    assert "--check-replicas" in shown and "--check_replicas" not in shown


def test_debug_shows_where():
    with process_as_it_was(), pytest.raises(ValueError, match="no config"):
        cli.main(["train", "--debug"])
