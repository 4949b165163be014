"""`--json`: JSON on the output stream, and nothing else there."""

import argparse
import json

import numpy as np
import pytest

import cnnjax
from cnnjax.cli import COMMANDS, build_parser
from cnnjax.core import html
from cnnjax.core.terminal import print_json
from tests.commands.shell import run


def printed(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads("\n".join(out), parse_constant=pytest.fail)


def test_tables_of_what_there_is(capsys):
    models = {row["model"]: row for row in printed(capsys, "models")}
    assert list(models) == cnnjax.list_models() and models["vgg16"]["parameters"] == 138357544
    assert models["vgg16"]["image"] == [224, 224, 3] and models["resnet50"]["torchvision_weights"] is None
    options = {row["option"]: row["default"] for row in printed(capsys, "models", "mlp")}
    assert options["features"] == [800]
    sets = {row["data_set"]: row for row in printed(capsys, "datasets")}
    assert (sets["digits"]["train"], sets["digits"]["classes"], sets["digits"]["shape"]) == (1442, 10, [32, 32, 1])
    [field] = printed(capsys, "fields", "train.batch_size")
    assert (field["field"], field["default"]) == ("train.batch_size", 128)
    found = printed(capsys, "doctor")
    assert found["versions"]["cnnjax"] and "cpu" in found["devices"]["0"]
    whole = printed(capsys, "summary", "resnet18", "--input", "64,64,3")
    assert len(whole["layers"]) == 43 and whole["total_parameters"] == 11689512


def test_what_is_found_in_a_run(capsys, finished_run, tmp_path):
    metrics = printed(capsys, "evaluate", "--workdir", finished_run.workdir)["metrics"]
    assert metrics["accuracy"] == pytest.approx(finished_run.metrics["test/accuracy"])
    details = printed(capsys, "evaluate", "--workdir", finished_run.workdir, "--details")["details"]
    assert [row["class"] for row in details["rows"]] == list("0123456789")
    [diagnosed] = printed(capsys, "diagnose", finished_run.workdir)
    assert diagnosed["run"] == str(finished_run.workdir) and isinstance(diagnosed["findings"], list)
    image = tmp_path / "digit.png"
    picture = cnnjax.load_dataset("digits").splits["test"].images[0]
    image.write_bytes(html.png(picture))
    [row] = printed(capsys, "predict", image, "--workdir", finished_run.workdir)["predictions"]
    assert row["path"] == str(image) and len(row) > 1
    code, _, err = run(
        capsys, "predict", image, "--workdir", finished_run.workdir, "--json", "--csv", tmp_path / "a.csv"
    )
    assert code == 1 and err == ["cnnjax: --json prints the predictions: leave out --csv, --npz, --masks and --boxes"]


def test_a_study_prints_its_table_and_its_progress_is_a_message(capsys, tmp_path):
    config = tmp_path / "tiny.py"
    config.write_text(
        "import cnnjax\n\ndef get_config():\n    return cnnjax.load_config({'dataset': {'name': 'digits', 'examples_per_class': 4},"
        "'model': {'name': 'mlp', 'features': (4,)}, 'train': {'batch_size': 8, 'epochs': 1}, 'evaluate': {'batch_size': 72}, 'devices': 1,"
        "'log': {'tensorboard': False}})\n"
    )
    vary = ["--vary", "optimizer.learning_rate=0.01,0.1", "--seeds", "2", "--workdir", tmp_path / "study"]
    found = printed(capsys, "ablate", "--config", config, *vary)
    assert found["metric"] == "test/accuracy" and [row["trials"] for row in found["variants"]] == [2, 2]
    assert len(found["trials"]) == 4 and found["variants"][1]["difference"]["count"] == 2
    assert printed(capsys, "ablate", "--config", config, *vary)["trials"] == found["trials"]


def test_every_command_that_prints_a_table_has_it():
    parsers = next(action for action in build_parser(None)._actions if isinstance(action, argparse._SubParsersAction))
    having = {name for name in parsers.choices if "--json" in parsers.choices[name]._option_string_actions}
    assert having == {
        "evaluate", "predict", "ablate", "search", "diagnose", "summary", "similar", "find-lr", "explore", "datasets", "models",
        "fields", "doctor", "export", "compile",
    }  # fmt: skip
    assert having < {name for group in COMMANDS.values() for name in group}


def test_an_error_prints_no_json(capsys):
    code, out, err = run(capsys, "summary", "lenet9", "--json")
    assert code == 1 and out == [] and len(err) == 1


def test_numbers_that_are_not_finite_are_null(capsys):
    print_json({"a": [np.float32(1.5), float("inf")], "b": np.arange(2), (1, 2): argparse.Namespace})
    found = json.loads(capsys.readouterr().out)
    assert found["a"] == [1.5, None] and found["b"] == [0, 1] and len(found) == 3
