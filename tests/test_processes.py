"""Several processes on this machine: the same training, one writer, all of them stopped and resumed together."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.training.processes import count, index, is_first, largest, share, start
from tests.test_runs import measured

FIELDS = {"train.epochs": 3, "train.batch_size": 64, "devices": 4, "log.tensorboard": False, "model.name": "lenet5_bn"}
# Five steps an epoch of a network that is traced quickly, with batch normalisation.
FEW = {
    "train.batch_size": 64, "devices": 4, "dataset.examples_per_class": 32, "evaluate.batch_size": 72, "log.tensorboard": False,
    "model.name": "pattern", "model.plan": "conv 4 pool | fc 8", "model.norm": "batch",
}  # fmt: skip
COMMAND = [sys.executable, "-m", "cnnjax", "train", "--config"]
OWN = Path(__file__).with_name("own_components.py")


def launch(workdir, epochs=3, options=(), config="quickstart", given=FIELDS):
    """Two processes of two devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    fields = [f"--config.{path}={value}" for path, value in (given | {"train.epochs": epochs}).items()]
    return [
        subprocess.Popen(
            [*COMMAND, config, *fields, "--workdir", str(workdir), "--coordinator", f"localhost:{port}", "--processes", "2",
             "--process-id", str(number), *options],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(2)
    ]  # fmt: skip


def finish(processes, timeout=120):
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def wait_for_epoch(workdir, epoch, processes, timeout=180):
    """Waits until a line of the epoch is written; processes that do not come so far are killed."""
    end = time.time() + timeout
    while time.time() < end:
        path = workdir / "metrics.jsonl"
        if path.exists() and f'"epoch": {epoch},' in path.read_text():
            return
        time.sleep(0.1)
    for process in processes:
        process.kill()
    raise AssertionError(f"epoch {epoch} was not reached in {timeout} s")


def test_two_processes_of_two_devices_train_as_one_of_four(tmp_path):
    codes, outputs = finish(launch(tmp_path / "two", epochs=2, given=FEW))
    assert codes == [0, 0], outputs
    assert "test accuracy" in outputs[0] and "test accuracy" not in outputs[1]
    together = cnnjax.load_run(tmp_path / "two")
    alone = cnnjax.train(
        cnnjax.load_config("quickstart", FEW | {"train.epochs": 2, "log.progress": "off"}), tmp_path / "one"
    )
    for a, b in zip(measured(alone.history), measured(together.history), strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            assert b[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert np.isclose(alone.metrics["test/loss"], together.metrics["test/loss"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["ByClass", "Contrast"])
def test_components_of_ones_own_are_trained_by_two_processes_as_by_one(tmp_path, task):
    """Of `Contrast`, each process's examples are compared with the other's."""
    config, given = f"{OWN}:{task}", {"devices": 4, "train.ema": 0.8}
    codes, outputs = finish(launch(tmp_path / "two", 2, config=config, given=given))
    assert codes == [0, 0], outputs
    together = cnnjax.load_run(tmp_path / "two")
    alone = cnnjax.train(cnnjax.load_config(config, given), tmp_path / "one")
    assert len(alone.history) == 3
    for a, b in zip(measured(alone.history), measured(together.history), strict=True):
        assert b == pytest.approx(a, rel=1e-5, abs=1e-6)
    for a, b in zip(jax.tree.leaves(alone.state), jax.tree.leaves(together.state), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5)


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_they_resume_to_the_same_run(tmp_path):
    whole = cnnjax.train(
        cnnjax.load_config("quickstart", FIELDS | {"train.epochs": 7, "log.progress": "off"}), tmp_path / "whole"
    )
    processes = launch(tmp_path / "run", epochs=7)
    wait_for_epoch(tmp_path / "run", 2, processes)
    processes[1].send_signal(signal.SIGTERM)
    codes, outputs = finish(processes)
    assert codes == [143, 143], outputs
    assert all("stopped by SIGTERM at step" in output for output in outputs)
    codes, outputs = finish(launch(tmp_path / "run", epochs=7))
    assert codes == [0, 0], outputs
    resumed = cnnjax.load_run(tmp_path / "run")
    for a, b in zip(measured(whole.history), measured(resumed.history), strict=True):
        for name, value in a.items():
            assert b[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_the_other_ends_and_says_so_and_a_restart_resumes(tmp_path, victim):
    processes = launch(tmp_path / "run", epochs=200)
    wait_for_epoch(tmp_path / "run", 2, processes)
    os.kill(processes[victim].pid, signal.SIGKILL)
    codes, outputs = finish(processes)
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] == 1, outputs
    assert outputs[1 - victim].splitlines()[-1].startswith("cnnjax: another process has died")
    processes = launch(tmp_path / "run", epochs=200)
    wait_for_epoch(tmp_path / "run", 4, processes)
    processes[0].send_signal(signal.SIGTERM)
    codes, outputs = finish(processes)
    assert codes == [143, 143] and "resuming at step" in outputs[0]


@pytest.mark.slow
@pytest.mark.parametrize("present", [0, 1])
def test_one_whose_partner_never_comes_says_so_in_one_line(tmp_path, present):
    processes = launch(tmp_path / "run", options=["--wait", "3"])
    processes[1 - present].kill()  # while it still imports JAX
    codes, outputs = finish(processes, timeout=30)
    assert codes[present] == 1 and len(outputs[present].splitlines()) == 1, outputs
    said = {0: "cnnjax: these of 2 processes did not connect within 3 s: 1.", 1: "cnnjax: process 0 was not found at"}
    assert outputs[present].startswith(said[present]) and "wait longer with --wait SECONDS" in outputs[present]
    assert not (tmp_path / "run").exists()


def test_alone_there_is_nothing_to_share():
    assert (count(), index(), is_first(), share({"a": 1}), largest(7)) == (1, 0, True, {"a": 1}, 7)
    start()  # no cluster: nothing happens
    with pytest.raises(
        ValueError, match="all three of --coordinator HOST:PORT, --processes N and --process-id I are needed"
    ):
        start("localhost:1", 2)
    with pytest.raises(ValueError, match="--process-id 2: expected 0 to 1"):
        start("localhost:1", 2, 2)
    with pytest.raises(ValueError, match="--wait 0: expected a number of seconds above 0"):
        start("localhost:1", 2, 1, 0)
