"""The command line as a user meets it: what it prints, one line on what was wrong, and its exit code."""

import contextlib
import csv
import json
import logging
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import stats

import cnnjax
from cnnjax import cli
from cnnjax.commands import train
from cnnjax.commands.arguments import exploration_folder
from cnnjax.data.datasets import DatasetOptions, load_dataset
from cnnjax.training import run_directory

QUICK = ["--config.train.epochs=1", "--config.log.tensorboard=False", "--config.devices=1"]


@pytest.fixture(autouse=True)
def process_as_it_was():
    """A command sets up its process; in the tests' it is undone."""
    handler, hook = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    levels = {name: logging.getLogger(name).level for name in ("absl", "asyncio")}
    yield
    signal.signal(signal.SIGTERM, handler)
    sys.unraisablehook = hook
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def run(capsys, *arguments):
    """(exit code, output lines, error lines) of a command run in this process."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    code = caught.value.code
    return code, captured.out.splitlines(), captured.err.splitlines()


@pytest.fixture
def pictures(tmp_path):
    """Three test digits as files, in two folders, with their classes."""
    test = load_dataset(DatasetOptions()).splits["test"]
    paths = [
        tmp_path / "pictures" / "a" / "0.png",
        tmp_path / "pictures" / "a" / "1.png",
        tmp_path / "pictures" / "b" / "2.bmp",
    ]
    for index, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(test.images[index, ..., 0]).save(path)
    return paths


def test_train_says_where_the_run_is_and_what_to_do_next(capsys, tmp_path):
    workdir = tmp_path / "run"
    code, out, _ = run(capsys, "train", "--config", "quickstart", *QUICK, "--workdir", workdir)
    assert code == 0 and out[0] == f"run directory: {workdir}"
    assert any(line.startswith("compiled the training step in") for line in out)
    title = out.index("epoch  train loss  accuracy  valid loss  accuracy      rate  images/s  best")
    cells = out[title + 1].split()
    assert cells[0] == "1/1" and cells[-1] == "*" and len(cells) == 8 and len(out) == title + 5
    assert out[-3].startswith("test accuracy 0.") and f"cnnjax evaluate --workdir {workdir}" in out[-2]
    again = run(capsys, "train", "--workdir", workdir)
    assert again[0] == 0 and again[1][-3] == out[-3] and not any("epoch" in line for line in again[1])
    longer = run(capsys, "train", "--workdir", workdir, "--config.train.epochs=2")
    assert "resuming at step 81 of 162" in longer[1]


def test_the_default_directory_is_named_after_the_config(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, out, _ = run(capsys, "train", "--config", "quickstart", *QUICK)
    assert out[0] == "run directory: runs/quickstart"
    _, out, _ = run(capsys, "train", "--config", "quickstart", *QUICK, "--config.seed=1")
    assert out[0] == "run directory: runs/quickstart-2"


def test_evaluate_prints_what_was_recorded(capsys, finished_run):
    code, out, _ = run(capsys, "evaluate", "--workdir", finished_run.workdir)
    metrics = finished_run.metrics
    assert code == 0
    assert out == [
        f"{finished_run.workdir}: test accuracy {metrics['test/accuracy']:.4f}, loss {metrics['test/loss']:.4f}, "
        f"negative log-likelihood {metrics['test/nll']:.4f}"
    ]
    _, out, _ = run(capsys, "evaluate", "--split", "valid", "--workdir", finished_run.workdir, finished_run.workdir)
    assert out[0].startswith("ensemble of 2: valid accuracy")


def test_predict_names_the_classes_of_files_and_folders(capsys, finished_run, pictures, tmp_path):
    images = load_dataset(DatasetOptions()).splits["test"].images[:3]
    probabilities = finished_run.predict(images)
    code, out, _ = run(capsys, "predict", "--workdir", finished_run.workdir, tmp_path / "pictures", "--topk", 2)
    assert code == 0
    for path, row, line in zip(pictures, probabilities, out, strict=True):
        first, second = np.argsort(-row)[:2]
        assert line == f"{path}  {first} {row[first]:.4f}  {second} {row[second]:.4f}"
    table = tmp_path / "table.csv"
    code, out, _ = run(capsys, "predict", "--workdir", finished_run.workdir, *pictures[::-1], "--csv", table)
    assert code == 0 and out == [f"3 predictions in {table}"]
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["path"] for row in rows] == [str(path) for path in pictures[::-1]]
    assert [int(row["label_1"]) for row in rows] == probabilities.argmax(-1)[::-1].tolist()
    np.testing.assert_allclose([float(row["probability_1"]) for row in rows], probabilities.max(-1)[::-1], atol=1e-6)


def test_pictures_of_another_size_are_classified_and_it_is_said_once(capsys, finished_run, tmp_path):
    """Digits four times as large, then with dark and bright exchanged as a photograph of ink on paper has them."""
    test = load_dataset(DatasetOptions()).splits["test"]
    for name, images in (("large", test.images[:8]), ("ink", 255 - test.images[:8])):
        (tmp_path / name).mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image[..., 0]).resize((128, 128)).save(tmp_path / name / f"{index}.png")
    code, out, err = run(capsys, "predict", "--workdir", finished_run.workdir, tmp_path / "large")
    expected = finished_run.predict(test.images[:8]).argmax(-1)
    assert code == 0 and [int(line.split("  ")[1].split()[0]) for line in out] == expected.tolist()
    resized = "8 of 8 images (the first: {}): resized to 32x32 by the shorter side and the central crop"
    assert err == ["cnnjax: " + resized.format(tmp_path / "large" / "0.png")]
    code, _, err = run(capsys, "predict", "--workdir", finished_run.workdir, tmp_path / "ink")
    assert (
        code == 0
        and len(err) == 2
        and "brighter than every training image (their means are 56 to 108 of 255)" in err[1]
    )


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


def test_names_are_neither_obeyed_by_a_terminal_nor_run_by_a_spreadsheet(capsys, finished_run, pictures, tmp_path):
    folder, table = tmp_path / "pictures" / "c", tmp_path / "table.csv"
    folder.mkdir()
    for path, name in zip(pictures, ("\x1b]0;mine\x07.png", "two\nlines.png", "\x9b31m.png"), strict=True):
        path.rename(folder / name)
    code, out, _ = run(capsys, "predict", "--workdir", finished_run.workdir, folder)
    assert code == 0 and len(out) == 3
    assert {line.split("  ")[0].rpartition("/")[2] for line in out} == {
        r"\x1b]0;mine\x07.png", r"two\nlines.png", r"\x9b31m.png"
    }  # fmt: skip
    (folder / "two\nlines.png").rename(tmp_path / "=cmd.png")
    with contextlib.chdir(tmp_path):
        assert run(capsys, "predict", "--workdir", finished_run.workdir, "=cmd.png", "--csv", table)[0] == 0
    assert table.read_text().splitlines()[1].startswith("'=cmd.png,")


def test_a_csv_that_cannot_be_written_is_refused_before_anything_is_computed(
    capsys, finished_run, pictures, tmp_path, monkeypatch
):
    def computed(*_):
        raise AssertionError("computed for nothing")

    monkeypatch.setattr(cnnjax.runs.Run, "predict_prepared", computed)
    arguments = ["predict", "--workdir", finished_run.workdir, pictures[0]]
    code, _, err = run(capsys, *arguments, "--csv", tmp_path / "nowhere" / "table.csv")
    assert code == 1 and len(err) == 1 and "there is no folder" in err[0]
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.png"))
    pictures[1].rename(odd)
    code, _, err = run(capsys, *arguments, odd, "--csv", tmp_path / "table.csv")
    assert code == 1 and len(err) == 1 and r"odd\xff.png' is not UTF-8: rename it" in err[0]
    assert not (tmp_path / "table.csv").exists()
    monkeypatch.undo()
    code, out, _ = run(capsys, *arguments, odd)
    assert code == 0 and r"odd\xff.png  " in out[1]


def test_files_that_cannot_be_classified_are_named_and_counted(capsys, finished_run, pictures, tmp_path):
    (tmp_path / "pictures" / "notes.txt").write_text("hello")
    Image.fromarray(np.zeros((20, 10), np.uint8)).save(tmp_path / "pictures" / "small.png")
    bad = [tmp_path / "pictures" / "notes.txt", tmp_path / "pictures" / "small.png"]
    table = tmp_path / "table.csv"
    arguments = ["predict", "--workdir", finished_run.workdir, *pictures, *bad, "--csv", table, "--resize", "refuse"]
    code, out, err = run(capsys, *arguments)
    assert code == 1 and not out and len(err) == 1 and not table.exists()
    assert "2 of 5 files cannot be classified" in err[0] and "notes.txt: not an image" in err[0]
    assert "small.png: the image is 20x10, the network takes 32x32" in err[0]
    code, out, err = run(capsys, *arguments, "--skip-unreadable")
    assert code == 0 and len(table.read_text().splitlines()) == 4 and "2 of 5 files" in err[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "no config: give --config FILE"),
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
def test_what_is_wrong_is_said_in_one_line(capsys, tmp_path, monkeypatch, finished_run, pictures, arguments, message):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    places = {"RUN": finished_run.workdir, "EMPTY": tmp_path / "empty", "PICTURE": pictures[0]}
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


def test_alone_it_says_what_there_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run(capsys)
    assert code == 0 and not err and max(map(len, out)) <= 80
    titles = [place for place, line in enumerate(out) if line.endswith(":") and not line.startswith(("options", " "))]
    assert [out[place] for place in titles] == [
        "train and use:", "compare:", "look inside:", "before training:", "what there is:"
    ]  # fmt: skip
    listed = [line.split()[0] for line in out[titles[0] :] if line.startswith("  ")]
    assert len(listed) == len(set(listed)) == 19 and {"train", "ablate", "find-lr", "doctor"} <= set(listed)
    code, out, _ = run(capsys, "fields", "optimizer.sgd")
    assert code == 0 and {line.split("\t")[0].partition(".")[0] for line in out[1:]} == {"optimizer"}
    code, _, err = run(capsys, "fields", "optimiser")
    assert code == 1 and err == ["cnnjax: unknown section 'optimiser': did you mean 'optimizer'?"]


def test_what_is_seen_before_training_lies_beside_each_other(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def get_config(name='digits'):\n    return {'dataset': {'name': name}}\n")
    code, out, _ = run(capsys, "preview", "--config", "quickstart", "--config.model.name=mlp")
    assert code == 0 and out == ["picture: exploration/quickstart/preview.png"]
    for source, folder in (("digits", "digits"), ("mine.py:digits", "mine")):
        code, out, _ = run(capsys, "explore", source)
        assert code == 0 and out[-1] == f"page: exploration/{folder}/index.html"
    assert run(capsys, "find-lr", "--config", "quickstart", "--steps", "1")[0] == 1  # nothing is left of it
    assert sorted(map(str, Path().glob("exploration/*/*"))) == [
        "exploration/digits/index.html", "exploration/mine/index.html", "exploration/quickstart/preview.png"
    ]  # fmt: skip
    for source, name in (("emnist/balanced", "emnist_balanced"), (".", tmp_path.name), ("runs/a/config.json", "a")):
        assert exploration_folder(source) == Path("exploration", name)


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


def test_summary_of_a_model(capsys):
    code, out, _ = run(capsys, "summary", "lenet5_1998")
    assert code == 0 and out[1].split("\t")[:4] == ["c1", "conv 5x5", "28x28x6", "(32 - 5 + 2*0)/1 + 1 = 28"]
    _, out, _ = run(capsys, "summary", "vgg16", "--input", "64,64,1", "--classes", "7", "--format", "json")
    assert json.loads("\n".join(out))["layers"][-1]["output_shape"] == [7]
    code, _, err = run(capsys, "summary", "vgg16", "--input", "16,16,3")
    assert code == 1 and "pool5: a 2x2 window does not fit its 1x1 input" in err[0]
    code, _, err = run(capsys, "summary", "vgg16", "--classes", "0")
    assert code == 1 and "num_classes=0: expected a whole number of at least 1" in err[0]
    code, out, _ = run(capsys, "summary", "alexnet", "--config.model.towers=1")
    assert code == 0 and out[-1].split("\t")[4] == "62,378,344"
    code, _, err = run(capsys, "summary", "alexnet", "--config.model.tower=1")
    assert code == 1 and "unknown option of model alexnet 'tower': did you mean 'towers'" in err[0]
    code, _, err = run(capsys, "summary", "alexnet", "--config.seed=1")
    assert code == 1 and "--config.seed: expected an option of the model" in err[0]
    code, _, err = run(capsys, "summary", "vgg16", "--input", "16,16")
    assert code == 2 and "expected height,width,channels" in err[-1]


def test_summary_of_a_run_and_of_blocks(capsys, finished_run, tmp_path):
    code, out, _ = run(capsys, "summary", finished_run.workdir)
    count = sum(leaf.size for leaf in jax.tree.leaves(finished_run.state.params))
    assert code == 0 and out[-1].split("\t")[4] == f"{count:,}"
    code, _, err = run(capsys, "summary", tmp_path)
    assert code == 1 and "holds no run" in err[0]
    code, _, err = run(capsys, "summary", finished_run.workdir, "--classes", "3")
    assert code == 1 and "leave out --config and --classes" in err[0]
    code, out, _ = run(capsys, "summary", "resnet18", "--depth", "1", "--input", "64,64,3")
    assert code == 0 and [row.split("\t")[:3] for row in out if row.startswith("conv2_")] == [
        ["conv2_1", "4 layers", "16x16x64"], ["conv2_2", "4 layers", "16x16x64"]
    ]  # fmt: skip
    code, _, err = run(capsys, "summary", "resnet18", "--depth", "0")
    assert code == 1 and err == ["cnnjax: depth=0: expected at least 1"]


def test_debug_shows_where(capsys):
    with pytest.raises(ValueError, match="no config"):
        cli.main(["train", "--debug"])


def test_tables_are_tab_separated_for_programs(capsys):
    _, out, _ = run(capsys, "models")
    assert [line.split("\t")[0] for line in out[1:]] == cnnjax.list_models()
    figures = {line.split("\t")[0]: line.split("\t")[1:5] for line in out[1:]}
    assert figures["vgg16"] == ["138,357,544", "15,470,264,320", "224x224x3", "vgg16"]
    assert figures["resnet50"][3] == "-" and figures["resnet50_torchvision"][3] == "resnet50"
    _, out, _ = run(capsys, "models", "mlp")
    assert any(line.split("\t")[:2] == ["features", "(800,)"] for line in out)
    _, out, _ = run(capsys, "datasets")
    assert len(out) > 15 and out[1].split("\t")[:6] == ["digits", "1,442", "355", "10", "32x32x1", "cached"]
    _, out, _ = run(capsys, "fields")
    assert any(line.split("\t")[:2] == ["train.batch_size", "128"] for line in out)
    _, out, _ = run(capsys, "doctor")
    names = {line.split("\t")[0] for line in out}
    assert {"malloc", "jax", "train.ops=fast", "xla_cpu_experimental_ynn_fusion_type"} <= names


COMMAND = [sys.executable, "-m", "cnnjax"]


def test_a_terminal_gets_a_live_display(tmp_path):
    """In a pseudo-terminal of 80 columns: a bar that is gone in the end, and the epochs' rows that stay."""
    leader, follower = pty.openpty()
    command = [
        *COMMAND,
        "train",
        "--config",
        "quickstart",
        "--config.train.epochs=2",
        "--workdir",
        str(tmp_path / "run"),
    ]
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
def test_a_signal_saves_and_prints_how_to_go_on(tmp_path, number, code):
    workdir = tmp_path / "run"
    command = [*COMMAND, "train", "--config", "quickstart", "--config.train.epochs=1000", "--workdir", str(workdir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (workdir / "checkpoints").exists():
            time.sleep(0.01)
        time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    name = signal.Signals(number).name
    assert process.returncode == code
    assert f"stopped by {name} at step" in err and f"cnnjax train --workdir {workdir}" in err
    assert int(cnnjax.load_run(workdir).state.step) == int(err.split("at step ")[1].split(",")[0])


def test_two_processes_cannot_train_in_one_directory(tmp_path):
    workdir = tmp_path / "run"
    command = [*COMMAND, "train", "--config", "quickstart", "--config.train.epochs=1000", "--workdir", str(workdir)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while not (workdir / "checkpoints").exists():
            time.sleep(0.01)
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        first.kill()
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1].startswith(
        f"cnnjax: run directory {workdir} is in use by another process (process {first.pid}"
    )


def test_a_full_disk_is_said_and_the_checkpoints_before_it_are_kept(tmp_path):
    """A limit on file size stands in for a full disk: every write beyond it fails in the same way."""
    workdir = tmp_path / "run"
    flags = ["train", "--config", "quickstart", "--config.train.epochs=2", "--workdir", str(workdir)]
    subprocess.run([*COMMAND, *flags], check=True, capture_output=True)
    flags[3] = "--config.train.epochs=4"
    limited = ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *COMMAND]  # 20 KiB a file
    done = subprocess.run([*limited, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "cannot be written" in done.stderr and "File too large" in done.stderr and len(done.stderr.splitlines()) == 1
    assert int(cnnjax.load_run(workdir).state.step) == 162
    done = subprocess.run([*COMMAND, *flags], capture_output=True, text=True, check=True)
    assert int(cnnjax.load_run(workdir).state.step) == 324


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


def test_weights_are_imported_and_predict(capsys, tmp_path):
    from safetensors.numpy import save_file

    from tests.transfer.test_torchvision import weights

    file, labels, photo = tmp_path / "weights.safetensors", tmp_path / "names.txt", tmp_path / "photo.png"
    save_file(weights("resnet18"), file)
    labels.write_text("".join(f"thing {index}\n" for index in range(1000)))
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 60, 3)).astype(np.uint8)).save(photo)
    command = "import-weights", file, "--model", "resnet18", "--workdir"
    size = "--config.dataset.resize=(72, 72)", "--config.dataset.crop=(64, 64)"
    code, out, _ = run(capsys, *command, tmp_path / "run", "--labels", labels, *size)
    assert code == 0 and out[0] == "resnet18: 1000 classes, images of 64x64x3"
    code, out, _ = run(capsys, "predict", "--workdir", tmp_path / "run", photo)
    assert code == 0 and out[0].startswith(f"{photo}  thing ")
    file.write_bytes(b"nonsense")
    code, _, errors = run(capsys, *command, tmp_path / "other")
    assert code == 1 and len(errors) == 1 and str(file) in errors[0]
    assert not (tmp_path / "other").exists()


def test_a_learning_rate_is_found_and_drawn(capsys, tmp_path):
    command = "find-lr", "--config", "quickstart", *QUICK[:1], "--config.devices=1", "--steps", "15", "--lowest", "1e-3"
    code, out, _ = run(capsys, *command, "--out", tmp_path / "rates.png")
    assert code == 0 and "steepest fall at" in out[-2] and out[-1] == f"plot: {tmp_path / 'rates.png'}"
    with Image.open(tmp_path / "rates.png") as picture:
        assert picture.width > 500
    code, _, errors = run(capsys, *command, "--out", tmp_path / "nowhere" / "rates.png")
    assert code == 1 and "there is no folder" in errors[-1]


def test_augmented_images_are_drawn(capsys, tmp_path):
    command = "preview", "--config", "quickstart", "--config.augment.rotation=20", "--out"
    code, out, _ = run(capsys, *command, tmp_path / "preview.png")
    assert code == 0 and out == [f"picture: {tmp_path / 'preview.png'}"]
    with Image.open(tmp_path / "preview.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    code, _, errors = run(capsys, *command, tmp_path / "preview.jpg")
    assert code == 1 and "expected a name that ends in .png" in errors[0]
    code, _, errors = run(capsys, *command, tmp_path / "p.png", "--config.augment.hue=0.1")
    assert code == 1 and errors == ["cnnjax: config: augment.hue changes colours, and the images have 1 channel(s)"]


def test_an_evaluation_in_detail(capsys, finished_run):
    code, out, _ = run(capsys, "evaluate", "--workdir", finished_run.workdir, "--details")
    assert code == 0 and out[2].startswith("top-5 accuracy") and out[3].startswith("calibration error")
    hits = round(355 * finished_run.metrics["test/accuracy"])
    ends = stats.binomtest(hits, 355).proportion_ci(method="wilson")
    assert out[1] == (f"right {hits} of 355, 95 % interval of the accuracy {ends.low:.4f} to {ends.high:.4f} (Wilson)")
    rows = [line.split("\t") for line in out[5:]]
    assert out[4].split("\t")[:5] == ["class", "examples", "precision", "recall", "F1"] and len(rows) == 10
    assert sum(int(row[1]) for row in rows) == 355
    recalled = sum(int(row[1]) * float(row[3]) for row in rows) / 355
    assert recalled == pytest.approx(finished_run.metrics["test/accuracy"], abs=1e-3)
