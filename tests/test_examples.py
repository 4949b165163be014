"""The files in `examples/`, which are what a researcher would have in a folder of their own, run as their first lines say.

They are copied to a folder outside the checkout. Those commands that only train are given fewer epochs.
"""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.core import files
from tests.commands.shell import COMMAND, QUICK, run
from tests.test_runs import measured

EXAMPLES = Path(__file__).parent / "examples"
QUIET = ["--config.log.progress=off", "--config.log.tensorboard=False"]
# Three batches of 32 an epoch, and a network that is traced quickly.
FEW = ["--config.dataset.examples_per_class=10"]
SMALL = ["--config.model.name=mlp", "--config.model.features=(32,)"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the examples, in which the commands are given."""
    folder = tmp_path / "research"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(folder)
    return folder


def train(capsys, config, workdir, *options):
    """A run that the command line has trained in one short epoch, unless the options say otherwise."""
    code, _, errors = run(capsys, "train", "--config", config, "--workdir", workdir, *QUICK, *options)
    assert code == 0, errors
    return cnnjax.load_run(workdir)


def same_bits(first, second):
    return all(map(np.array_equal, jax.tree.leaves(jax.device_get(first)), jax.tree.leaves(jax.device_get(second))))


# --- mynet.py


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_a_network_of_ones_own_is_killed_and_resumed_to_the_same_bits():
    def command(workdir):
        options = ["--config.train.epochs=3", "--config.checkpoint.every_steps=5", "--config.devices=1", *QUIET]
        return [*COMMAND, "train", "--config", "mynet.py", "--workdir", workdir, *options]

    killed = Path("runs/killed/checkpoints")
    with subprocess.Popen(command("runs/killed"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while not any(path.name >= "00000045" for path in killed.glob("[0-9]*[0-9]")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    for workdir in ("runs/whole", "runs/killed"):
        done = subprocess.run(command(workdir), check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    whole, resumed = cnnjax.load_run("runs/whole"), cnnjax.load_run("runs/killed")
    assert same_bits(whole.state, resumed.state) and same_bits(whole.selected, resumed.selected)
    assert measured(whole.history) == measured(resumed.history)


@pytest.mark.slow
def test_a_run_needs_the_file_of_its_network_no_more(folder, capsys, monkeypatch):
    trained = train(capsys, "mynet.py", "runs/mynet", *FEW)
    elsewhere = folder.parent / "elsewhere"
    shutil.copytree("runs/mynet", elsewhere / "moved")
    monkeypatch.chdir(elsewhere)
    shutil.rmtree(folder)
    evaluate = [*COMMAND, "evaluate", "--workdir", "moved"]
    done = subprocess.run(evaluate, check=False, capture_output=True, text=True)
    assert f"test accuracy {trained.metrics['test/accuracy']:.4f}" in done.stdout, done.stderr
    code, lines, errors = run(capsys, "train", "--workdir", "moved", "--config.train.epochs=2")
    assert code == 0 and "resuming at step 3 of 6" in lines, errors
    assert cnnjax.load_run("moved").history[-1]["epoch"] == 2


def test_a_file_that_has_changed_is_shown_on_resume(folder, capsys):
    train(capsys, "mynet.py", "runs/mynet", *FEW)
    text = (folder / "mynet.py").read_text()
    (folder / "mynet.py").write_text(text.replace("nn.Dropout(0.2", "nn.Dropout(0.3"))
    again = ["train", "--config", "mynet.py", "--workdir", "runs/mynet", *QUICK, *FEW, "--config.train.epochs=2"]
    code, _, errors = run(capsys, *again)
    assert code == 1 and "started with another mynet.py" in errors[-1] and "+ x = nn.Dropout(0.3" in errors[-1]
    code, _, errors = run(capsys, *again, "--allow-changed-files")
    assert code == 0, errors
    assert "nn.Dropout(0.3" in (folder / "runs" / "mynet" / "files" / "mynet.py").read_text()


@pytest.mark.usefixtures("folder")
def test_a_network_of_ones_own_is_summarised_and_its_fields_are_listed_and_set(capsys):
    code, lines, _ = run(capsys, "summary", "./mynet.py:MyNet", "--input", "32,32,1", "--classes", "10")
    assert code == 0 and any(line.startswith("total") and "5,178" in line for line in lines)
    code, lines, _ = run(capsys, "fields", "model", "--config", "mynet.py", "--config.model.width=32")
    assert code == 0 and any("model.width" in line and "32" in line for line in lines)
    wider = train(capsys, "mynet.py", "runs/wider", "--config.model.width=4", *FEW)
    assert wider.config.model.to_dict() == {"name": "./mynet.py:MyNet", "width": 4}
    assert wider.selected.params["Conv_0"]["kernel"].shape == (3, 3, 1, 4)
    assert cnnjax.summarize("./mynet.py:MyNet", (32, 32, 1), 10, width=4).total_parameters == 438


@pytest.mark.usefixtures("folder")
@pytest.mark.slow
def test_a_network_of_ones_own_is_ablated_against_ours(capsys):
    vary = ["--vary", "model.name=./mynet.py:MyNet,mlp", "--vary", "optimizer.learning_rate=0.01,0.05"]
    options = [*vary, *QUICK, *FEW, "--workdir", "runs/ablation"]
    code, lines, errors = run(capsys, "ablate", "--config", "mynet.py", *options)
    assert code == 0, errors
    assert sum(line.startswith(("model=./mynet.py:MyNet,", "model=mlp,")) for line in lines) == 4


# --- parts.py


@pytest.mark.usefixtures("folder")
def test_a_loss_an_optimizer_a_schedule_an_augmentation_and_a_metric_of_ones_own(capsys):
    trained = train(capsys, "parts.py", "runs/parts", *SMALL, "--config.train.epochs=3")
    assert trained.metrics["test/macro_f1"] > 0.8
    f1 = [line["valid/macro_f1"] for line in trained.history if "valid/macro_f1" in line]
    assert trained.metrics["checkpoint"] == 40 * (1 + int(np.argmax(f1)))
    evaluated = cnnjax.evaluate([trained])
    assert evaluated["macro_f1"] == trained.metrics["test/macro_f1"] and evaluated["loss"] != evaluated["nll"]
    assert set(files.read_json(trained.workdir / "environment.json")["files"]) >= {"parts.py"}


@pytest.mark.usefixtures("folder")
def test_options_of_ones_own_parts_are_varied(capsys):
    vary = ["--vary", "loss.gamma=0,2", "--vary", "optimizer.b2=0.99", "--metric", "valid/macro_f1"]
    options = [*vary, *QUICK, *FEW, *SMALL, "--workdir", "runs/study"]
    code, lines, errors = run(capsys, "ablate", "--config", "parts.py", *options)
    assert code == 0, errors
    assert sum(line.startswith("gamma=") for line in lines) == 2


# --- pixels.py


@pytest.mark.slow
def test_segmentation_finds_the_ink(folder):
    done = subprocess.run([sys.executable, "pixels.py"], check=False, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr


def test_segmentation_by_objects_is_trained_and_loaded_with_them(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    import pixels

    splits = {split: [part[:64] for part in pixels.composed(split, 0)] for split in ("train", "valid", "test")}
    data = cnnjax.from_arrays(**{split: tuple(parts) for split, parts in splits.items()})
    config = {"train": {"batch_size": 32, "epochs": 1}, "devices": 1, "log": {"progress": "off", "tensorboard": False}}
    objects = {"model": pixels.Ink(), "task": pixels.Segmentation()}
    trained = cnnjax.train(config, "runs/pixels", dataset=data, **objects)
    assert 0 < trained.metrics["test/iou"] <= 1
    with pytest.raises(
        ValueError, match=r"pass them again, as in load_run\('runs/pixels', model=\.\.\. \(Ink\), task="
    ):
        cnnjax.load_run("runs/pixels")
    predicted = cnnjax.load_run("runs/pixels", **objects).predict(data.splits["test"].images[:3])
    assert predicted.shape == (3, 32, 32)


# --- simclr.py


@pytest.mark.usefixtures("folder")
@pytest.mark.slow
def test_simclr_is_trained_and_a_classifier_starts_from_it(capsys):
    pretrained = train(capsys, "simclr.py", "runs/simclr", "--config.train.epochs=2")
    assert pretrained.predict_prepared(np.zeros((5, 32, 32, 1), np.uint8)).shape == (5, 32 * 8 * 8)
    losses = [line["train/loss"] for line in pretrained.history if "train/loss" in line]
    assert losses[1] < losses[0] < np.log(128)
    few = train(capsys, "simclr.py:finetune", "runs/few", "--config.train.epochs=8")
    assert few.metrics["test/accuracy"] > 0.6


# --- methods.py


@pytest.mark.usefixtures("folder")
def test_adversarial_training_measures_its_robustness(capsys):
    trained = train(capsys, "methods.py:fgsm", "runs/fgsm", *SMALL)
    assert 0.3 < trained.metrics["test/robust_accuracy"] < trained.metrics["test/accuracy"]


@pytest.mark.usefixtures("folder")
def test_a_gan_is_one_module_and_one_task(capsys):
    trained = train(capsys, "methods.py:gan", "runs/gan")
    assert 0 <= trained.metrics["valid/fooled"] <= 1
    assert trained.predict_prepared(np.zeros((3, 32, 32, 1), np.uint8)).shape == (3, 32, 32, 1)


@pytest.mark.usefixtures("folder")
@pytest.mark.slow
def test_a_student_learns_from_a_run_which_must_stay_as_it_was(capsys):
    train(capsys, "quickstart", "runs/teacher", *SMALL)
    student = train(capsys, "methods.py:distil", "runs/student")
    assert student.metrics["test/accuracy"] > 0.9
    assert student.config.task.teacher == str(Path("runs/teacher").resolve())
    train(capsys, "quickstart", "runs/teacher", *SMALL, "--config.train.epochs=2")  # longer
    again = ["train", "--config", "methods.py:distil", "--workdir", "runs/student", *QUICK, "--config.train.epochs=2"]
    code, _, errors = run(capsys, *again)
    assert code == 1 and "started with other checkpoints of the run that task.teacher names" in errors[-1]
    code, _, errors = run(capsys, *again, "--allow-changed-files")
    assert code == 0, errors
    code, _, errors = run(
        capsys, "train", "--config", "methods.py:distil", "--config.task.teacher=gone", "--workdir", "runs/none"
    )
    assert code == 1 and "gone holds no run" in errors[-1] and not Path("runs/none").exists()
