"""`cnnjax train` as a user meets it."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax.data.datasets import DatasetOptions, load_dataset
from cnnjax.training import run_directory
from tests.commands.shell import COMMAND, QUICK, run

# Five steps an epoch, of a network that is traced quickly.
SMALL = ["--config.dataset.examples_per_class=8", "--config.model.name=mlp", "--config.model.features=(16,)"]


def test_train_says_where_the_run_is_and_what_to_do_next(capsys, tmp_path):
    workdir = tmp_path / "run"
    code, out, _ = run(capsys, "train", "--config", "quickstart", *QUICK, *SMALL, "--workdir", workdir)
    assert code == 0 and out[0] == f"run directory: {workdir}"
    assert any(line.startswith("compiled the training step in") for line in out)
    title = out.index("epoch  train loss  accuracy  valid loss  accuracy      rate  images/s  best")
    cells = out[title + 1].split()
    assert cells[0] == "1/1" and cells[-1] == "*" and len(cells) == 8 and len(out) == title + 6
    assert out[-4].startswith("test accuracy 0.") and f"cnnjax evaluate --workdir {workdir}" in out[-2]
    assert out[-3].startswith("next:") and out[-3].endswith(f"cnnjax report {workdir}")
    again = run(capsys, "train", "--workdir", workdir)
    assert again[0] == 0 and again[1][-4:] == out[-4:] and not any("epoch" in line for line in again[1])
    longer = run(capsys, "train", "--workdir", workdir, "--config.train.epochs=2")
    assert "resuming at step 5 of 10" in longer[1]


def test_the_default_directory_is_named_after_the_config(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, out, _ = run(capsys, "train", "--config", "quickstart", *QUICK, *SMALL)
    assert out[0] == "run directory: runs/quickstart"
    _, out, _ = run(capsys, "train", "--config", "quickstart", *QUICK, *SMALL, "--config.seed=1")
    assert out[0] == "run directory: runs/quickstart-2"


@pytest.mark.parametrize("start", [pytest.param(["cnnjax"], marks=pytest.mark.slow), [sys.executable, "-m", "cnnjax"]])
def test_the_next_step_that_training_prints_works_as_printed(finished_run, tmp_path, start):
    """In a shell, in a folder of its own whose name has a space, with and without `cnnjax` on the PATH."""
    (tmp_path / "my work").mkdir()
    shutil.copytree(finished_run.workdir, tmp_path / "my work" / "a run")
    scripts = str(Path(sys.executable).parent)
    path = os.pathsep.join([scripts, os.environ["PATH"]] if start == ["cnnjax"] else ["/usr/bin", "/bin"])
    settings = {"cwd": tmp_path / "my work", "env": {**os.environ, "PATH": path}, "capture_output": True, "text": True}
    trained = subprocess.run([*start, "train", "--workdir", "a run"], check=True, **settings)
    evaluate, predict = (line.removeprefix("next:").strip() for line in trained.stdout.splitlines()[-2:])
    assert evaluate.endswith("cnnjax evaluate --workdir 'a run'")
    done = subprocess.run(predict, shell=True, check=True, **settings)
    assert done.stdout.split("digit.png  ")[1].split()[0] == "5" and "resized to 32x32" in done.stderr


def test_a_terminal_gets_a_live_display(tmp_path):
    """In a pseudo-terminal of 80 columns: a bar that is gone in the end, and the epochs' rows that stay."""
    leader, follower = pty.openpty()
    workdir = str(tmp_path / "run")
    command = [*COMMAND, "train", "--config", "quickstart", "--config.train.epochs=2", "--workdir", workdir]
    with subprocess.Popen(
        command, stdout=follower, stderr=follower, stdin=follower, env={**os.environ, "COLUMNS": "80"}
    ) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part
    os.close(leader)
    text = shown.decode()
    assert process.returncode == 0 and "\x1b[" in text
    for expected in (
        "compiling the training step",
        "compiled the training step in",
        "epoch  train loss  accuracy  valid loss  accuracy      rate  images/s  best",
        "epoch 2/2 \x1b[",  # the bar, in colour
        "test accuracy",
    ):
        assert expected in text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_prints_the_command_to_resume(tmp_path, number, code):
    workdir = tmp_path / "run"
    fields = ["--config.train.epochs=10000", *SMALL]
    command = [*COMMAND, "train", "--config", "quickstart", *fields, "--workdir", str(workdir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (workdir / "checkpoints").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    name = signal.Signals(number).name
    assert process.returncode == code
    assert f"stopped by {name} at step" in err and f"cnnjax train --workdir {workdir}" in err
    assert int(cnnjax.load_run(workdir).state.step) == int(err.split("at step ")[1].split(",")[0])


@pytest.mark.slow
def test_two_processes_cannot_train_in_one_directory(tmp_path):
    workdir = tmp_path / "run"
    fields = ["--config.train.epochs=10000", *SMALL]
    command = [*COMMAND, "train", "--config", "quickstart", *fields, "--workdir", str(workdir)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while not (workdir / "checkpoints").exists():
            assert first.poll() is None
            time.sleep(0.01)
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        first.kill()
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1].startswith(
        f"cnnjax: run directory {workdir} is in use by another process (process {first.pid}"
    )


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_checkpoints_before_it_are_kept(tmp_path):
    """A limit on file size stands in for a full disk: every write beyond it fails in the same way."""
    workdir = tmp_path / "run"
    # Ten steps an epoch.
    small = {"model.name": "mlp", "dataset.examples_per_class": 16, "devices": 1, "log.tensorboard": False}
    cnnjax.train(cnnjax.load_config("quickstart", small | {"train.epochs": 2, "log.progress": "off"}), workdir)
    changed = [f"--config.{field}={value}" for field, value in (small | {"train.epochs": 4}).items()]
    flags = ["train", "--config", "quickstart", *changed, "--workdir", str(workdir)]
    limited = ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *COMMAND]  # 20 KiB a file
    done = subprocess.run([*limited, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "cannot be written" in done.stderr and "File too large" in done.stderr and len(done.stderr.splitlines()) == 1
    assert int(cnnjax.load_run(workdir).state.step) == 20
    resumed = cnnjax.train(
        cnnjax.load_config("quickstart", small | {"train.epochs": 4, "log.progress": "off"}), workdir
    )
    assert int(resumed.state.step) == 40


def test_directories_that_cannot_be_written_are_said(monkeypatch):
    nobody = 65534
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o555)
        try:
            if os.geteuid() == 0:
                os.seteuid(nobody)
            workdir = Path(folder, "run")
            with (
                pytest.raises(
                    PermissionError, match=r"run cannot be written \(Permission denied\): choose another --workdir"
                ),
                run_directory.in_use(workdir),
            ):
                pass
            monkeypatch.setenv("CNNJAX_CACHE_DIR", f"{folder}/cache")
            with pytest.raises(
                PermissionError, match=r"the cache .* cannot be written \(Permission denied\).*CNNJAX_CACHE_DIR"
            ):
                load_dataset(DatasetOptions())
        finally:
            if os.getuid() == 0:
                os.seteuid(0)


def test_a_folder_of_photographs_is_trained_by_its_path(capsys, tmp_path, monkeypatch):
    """Of ten photographs of two classes whose names have spaces and umlauts, and their kinds: colour, grey, opaque RGBA, damaged."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0)
    for name in ("Kätzchen", "Tasse Kaffee"):
        (tmp_path / "my photos" / name).mkdir(parents=True)
        for index, mode in enumerate(("RGB", "L", "RGBA", "RGB", "RGB")):
            picture = Image.fromarray(pixels.integers(0, 256, (30 + index, 40, 3), np.uint8)).convert(mode)
            picture.save(tmp_path / "my photos" / name / f"bild {index}.png")
    (tmp_path / "my photos" / "Kätzchen" / "broken.jpg").write_bytes(b"\xff\xd8")
    small = "--config.dataset.resize=(20, 20)", "--config.augment.crop=(16, 16)", "--config.model.plan=conv 4 pool"
    code, out, errors = run(capsys, "train", "--data", "my photos", *small, *QUICK)
    assert code == 0, errors
    assert out[0] == "run directory: runs/my photos" and any("broken.jpg: not an image" in line for line in out)
    trained = cnnjax.load_run("runs/my photos")
    assert trained.label_names == ("Kätzchen", "Tasse Kaffee") and trained.config.model.name == "pattern"
    code, out, _ = run(capsys, "predict", "--workdir", "runs/my photos", "my photos/Kätzchen/bild 0.png")
    assert code == 0 and out[0].split("  ")[1].rpartition(" ")[0] in trained.label_names
    code, out, _ = run(capsys, "train", "--data", "my photos/", *small, *QUICK)
    assert code == 0 and out[0] == "run directory: runs/my photos"


def test_absent_data_are_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, errors = run(capsys, "train", "--data", "photos")
    assert code == 1 and errors[0].startswith(f"cnnjax: --data photos: there is no such folder or file in {tmp_path}")
