"""The page on coming from other libraries: each field, command and call of ours that it shows is run."""

import ast
import re
import shlex
from pathlib import Path

import numpy as np
import optax
import pytest

import cnnjax
from cnnjax.cli import COMMANDS
from cnnjax.config import COMPONENTS, SECTIONS, describe_options
from cnnjax.training.state import initial_state
from cnnjax.transfer import published_weights
from tests.commands.shell import QUICK, run

PAGE = (Path(__file__).parents[1] / "docs/coming_from.md").read_text("utf-8")
ROWS = [re.split(r"(?<!\\)\|", line)[1:-1] for line in PAGE.splitlines() if line.startswith("| ")]
OURS = list(dict.fromkeys(code.replace("\\|", "|") for row in ROWS for code in re.findall(r"`([^`]+)`", row[1])))
SETTINGS = [code for code in OURS if re.match(r"(\w+\.\w+|devices|seed)=", code)]
CALLS = [code for code in OURS if re.match(r"(cnnjax|run)\.[\w.]+\(", code)]
LINES = [code for code in OURS if code.startswith("cnnjax ")]
# Names that stand alone: of fields and sections, and what is checked with the snippet or the sentence around it.
NAMES = [code for code in OURS if re.fullmatch(r"[a-z_]+(\.[a-z_]+)?", code) and not code.startswith("cnnjax")]
NET = """
import flax.linen as nn


class Net(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.num_classes)(x.mean((1, 2)))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A reader's folder with the file of a network."""
    (tmp_path / "net.py").write_text(NET, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_shows_something_of_each_kind():
    assert len(ROWS) > 50 and len(SETTINGS) > 15 and len(CALLS) >= 7 and len(LINES) >= 5 and len(NAMES) > 12


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_field_takes_the_value_that_is_shown(setting):
    field, _, text = setting.partition("=")
    value = ast.literal_eval(text)
    config = cnnjax.load_config({}, {field: value})
    for part in field.split("."):
        config = config[part]
    assert config == value


def test_an_optimiser_is_a_section_as_shown():
    [text] = [code for code in OURS if code.startswith("{")]
    assert cnnjax.load_config({"optimizer": ast.literal_eval(text)}).optimizer.weight_decay == 5e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_of_a_field_or_a_section(name):
    sections = {*SECTIONS, *COMPONENTS}
    methods = {"summarize"}  # of a task
    assert name in {field for field, _, _ in describe_options()} | sections | methods | {"seed"}


@pytest.mark.parametrize("line", LINES)
def test_a_command_is_one_of_ours(line):
    assert shlex.split(line)[1] in {name for group in COMMANDS.values() for name in group}


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_a_call_works(call, folder, monkeypatch):
    if "load_torchvision" in call:
        torch = pytest.importorskip("torch")
        model = cnnjax.create_model("resnet50_torchvision", num_classes=1000)
        variables = initial_state(model, optax.identity(), (64, 64, 3), 0).variables
        weights = cnnjax.export_torchvision("resnet50", variables)
        torch.save({name: torch.from_numpy(np.array(value)) for name, value in weights.items()}, "resnet50.pth")
        downloaded = {"resnet50": Path("resnet50.pth")}  # what torchvision publishes, without a network
        monkeypatch.setattr(published_weights, "fetch", lambda weights: downloaded[weights.network])
    if "load_keras" in call:
        from tests.transfer import test_keras

        test_keras.write(Path("densenet121.h5"), "DenseNet121")
    x, y = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8), np.arange(32) % 2
    settings = {"train.epochs": 1, "train.batch_size": 8, "devices": 1, "log.progress": "off", "log.tensorboard": False}
    config = cnnjax.load_config({"model": {"name": "./net.py:Net"}}, settings)
    names = {
        "cnnjax": cnnjax, "config": config, "x": x, "y": y, "images": x, "examples": list(zip(x, y.tolist(), strict=True)),
    }  # fmt: skip
    if call.startswith("run."):
        names["run"] = cnnjax.train(config, dataset=cnnjax.from_arrays(train=(x, y)))
    call = call.replace("valid=...", "valid=(x, y)").replace('"conv5_2"', '"Dense_0"')  # the layer of net.py
    assert eval(call, names) is not None


@pytest.mark.slow
def test_timms_training_command_works(folder, capsys):
    [line] = [line for line in LINES if line.startswith("cnnjax train")]
    code, _, errors = run(capsys, *shlex.split(line.replace("FILE", "quickstart"))[1:], *QUICK)
    assert code == 0, errors
