"""`cnnjax ablate` as a user meets it."""

import csv
import signal
import subprocess
import sys
import time

import pytest

from cnnjax import runs
from cnnjax.ablation import study
from tests.commands.shell import run

QUICK = [
    "--config", "quickstart", "--config.train.epochs=1", "--config.log.tensorboard=False", "--config.devices=1",
    "--config.dataset.examples_per_class=8", "--config.evaluate.batch_size=72", "--config.model.name=mlp",
    "--config.model.features=(16,)",
]  # fmt: skip


def test_ablate_trains_prints_and_writes_the_table_and_does_it_once(capsys, tmp_path, monkeypatch):
    folder, files = tmp_path / "study", [tmp_path / name for name in ("t.md", "t.tex", "t.csv", "t.png")]
    command = ["ablate", *QUICK, "--vary", "optimizer.learning_rate=0.01,0.05", "--seeds", 2, "--workdir", folder]
    written = [word for flag, path in zip(("--markdown", "--latex", "--csv", "--plot"), files, strict=True) for word in (flag, path)]  # fmt: skip
    code, out, err = run(capsys, *command, *written)
    assert code == 0 and not err
    assert out[0] == f"study {folder}: 4 trials, 4 to run"
    assert out[1] == "learning_rate  seed  test/accuracy  seconds"
    assert sorted(line.split()[:2] for line in out[2:6]) == [["0.01", "0"], ["0.01", "1"], ["0.05", "0"], ["0.05", "1"]]
    assert out[6].split("\t")[:2] == ["variant", "test/accuracy"]
    assert files[0].read_text().splitlines()[2].startswith("| learning_rate=0.01 | 0.")
    assert files[1].read_text().startswith(r"\begin{tabular}")
    assert len(list(csv.DictReader(files[2].read_text().splitlines()))) == 4
    assert files[3].read_bytes().startswith(b"\x89PNG")

    monkeypatch.setattr(runs, "train", None)
    code, again, _ = run(capsys, *command)
    assert code == 0 and again[0].endswith("4 trials, 0 to run") and again[1:] == out[6:]
    code, other, _ = run(capsys, *command, "--metric", "valid/loss", "--baseline", "learning_rate=0.05")
    assert code == 0 and other[1].startswith("variant\tvalid/loss\t95 % interval\tdifference from learning_rate=0.05")


def test_a_config_files_own_sweep_is_run(capsys, tmp_path):
    config = tmp_path / "own.py"
    config.write_text(
        "def get_config():\n    return {'dataset': {'examples_per_class': 8}, 'model': {'name': 'mlp', 'features': (8,)},\n"
        "            'train': {'epochs': 1}, 'log': {'tensorboard': False}, 'devices': 1}\n"
        "def get_hyper(hyper):\n    return hyper.product([hyper.sweep('config.train.batch_size', [40, 500]),\n"
        "                          hyper.sweep('config.seed', [5])])\n"
    )
    code, out, err = run(capsys, "ablate", "--config", config, "--workdir", tmp_path / "study")
    assert code == 0 and out[2].startswith("40             5         0.")
    assert out[3].startswith("500            5  failed: ValueError: config: train.batch_size=500")
    assert out[-1].split("\t")[-1] == "1 of 1"
    assert len(err) == 1 and err[0].startswith("failed: batch_size=500, seed 5: ValueError")


def test_fields_are_spelled_with_hyphens_or_underscores(capsys, tmp_path, monkeypatch):
    asked = []

    def refuse(config, axes, seeds, **settings):
        asked.append((axes, settings["seed_fields"]))
        raise ValueError("enough")

    monkeypatch.setattr(study, "ablate", refuse)
    for hyphen in "-_":
        flags = ["--vary", f"train.batch{hyphen}size=8,-16", f"--vary=optimizer.learning{hyphen}rate=1e-2"]
        code, _, err = run(capsys, "ablate", *QUICK, *flags, f"--seed-fields=seed,dataset.split{hyphen}seed")
        assert code == 1 and err == ["cnnjax: enough"]
    axes = {"train.batch_size": [8, -16], "optimizer.learning_rate": [0.01]}
    assert asked == [(axes, ("seed", "dataset.split_seed"))] * 2


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--vary", "optimizer.learning_rat=1"], 1, "unknown field 'optimizer.learning_rat': did you mean 'optimizer.learning_rate'"),
        (["--vary", "optimizer.learning_rate"], 1, "--vary optimizer.learning_rate: expected FIELD=VALUE,VALUE..., such as"),
        (["--vary", "train.epochs=1", "--vary", "train.epochs=2"], 1, "--vary: train.epochs is given twice: use it once"),
        (["--vary", "train.epochs=1,two"], 1, "train.epochs: expected a whole number, got 'two'"),
        (["--seeds", "0"], 1, "seeds: expected a number of seeds, or a list of different whole numbers; got 0"),
        (["--seeds", "many"], 2, "'many': expected a number of seeds, such as 5, or a list, such as 0,3,7"),
        (["--metric", "accuracy"], 1, "unknown metric 'accuracy'"),
        (["--markdown", "nowhere/t.md"], 1, "nowhere/t.md: there is no folder nowhere"),
        (["--variants", "3"], 2, "unrecognized argument: --variants"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_leave_nothing_behind(capsys, tmp_path, monkeypatch, flags, code, message):
    monkeypatch.chdir(tmp_path)
    got, out, err = run(capsys, "ablate", *QUICK, *flags)
    assert got == code and not out and message in err[-1]
    assert not list(tmp_path.iterdir())


def test_a_signal_ends_it_with_the_command_to_resume(tmp_path):
    flags = ["--config.train.epochs=500", "--config.devices=2", "--workdir", str(tmp_path / "s")]
    command = [sys.executable, "-m", "cnnjax", "ablate", *QUICK, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        end = time.time() + 60
        while not list(tmp_path.glob("s/*/metrics.jsonl")) and time.time() < end:
            time.sleep(0.1)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert err.startswith("cnnjax: stopped by SIGTERM at step") and err.endswith("; resume with the same command\n")
