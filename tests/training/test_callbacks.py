"""Callbacks: which events they are told of, in which order, and that one that fails stops the run, saved."""

import json
import subprocess

import jax
import numpy as np
import pytest

import cnnjax
from tests.test_processes import COMMAND, FIELDS, finish
from tests.test_runs import measured

LOGGED = {"log.every_steps": 5, "checkpoint.every_steps": 4}


def expected(first=0):
    """The events of two epochs of 12 steps from a step on: each line within an epoch before the checkpoint of its step."""
    events = [("begin", first)]
    for step in range(first + 1, 25):
        kinds = {"step": step % 5 == 0, "saved": step % 4 == 0} if step % 12 else {"epoch": True, "saved": True}
        events += [(kind, step) for kind, due in kinds.items() if due]
    return [*events, ("end", 24)]


@pytest.fixture(scope="module")
def config(digits_config):
    small = {"name": "digits", "examples_per_class": 20}
    base = {**digits_config, "dataset": small, "train": {"batch_size": 16, "epochs": 2}}
    return cnnjax.load_config(base, LOGGED)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """(an undisturbed run, its events)"""
    events = []
    return cnnjax.train(config, tmp_path_factory.mktemp("whole") / "run", callbacks=[events.append]), events


def fail_at(kind, step):
    def callback(event):
        if (event.kind, event.step) == (kind, step):
            raise LookupError(f"{kind} at {step}")

    return callback


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a.state), jax.device_get(b.state))
    assert measured(a.history) == measured(b.history)


def test_the_events_come_in_order_with_what_was_measured(whole):
    run, events = whole
    assert [(event.kind, event.step) for event in events] == expected()
    assert {event.workdir for event in events} == {run.workdir}
    assert all(event.config.train.epochs == 2 for event in events)
    told = [event.line for event in events if event.line]
    assert told == [*run.history] and told[-1].keys() >= {"test/accuracy", "test/loss"}
    for event in events:
        assert bool(event.line) == (event.kind in ("step", "epoch", "end"))
        done = [line for line in event.history if "train/loss" in line]
        assert len(done) == sum(1 for other in events[: events.index(event) + 1] if other.kind == "epoch")


def test_a_finished_run_has_nothing_to_tell(config, whole):
    cnnjax.train(config, whole[0].workdir, callbacks=[fail_at("begin", 24), fail_at("end", 24)])


@pytest.mark.parametrize(
    ("kind", "step", "saved"),
    [("begin", 0, 0), ("step", 5, 5), ("saved", 8, 8), ("epoch", 12, 12), ("step", 20, 20), ("end", 24, 24)],
)  # fmt: skip
def test_an_exception_stops_the_run_saved_and_the_same_command_resumes_to_the_same_bits(
    config, whole, kind, step, saved, tmp_path
):
    with pytest.raises(LookupError, match=f"{kind} at {step}"):
        cnnjax.train(config, tmp_path / "run", callbacks=[fail_at(kind, step)])
    if saved:
        assert (tmp_path / f"run/checkpoints/{saved:08}").is_dir()
    assert not (tmp_path / "run/DONE").exists()
    events = []
    resumed = cnnjax.train(config, tmp_path / "run", callbacks=[events.append])
    assert [(event.kind, event.step) for event in events] == expected(saved)
    assert_same(whole[0], resumed)


SCRIPT = """
import json, sys, cnnjax
from cnnjax.training import processes

port, number, workdir, fields = sys.argv[1], int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
cnnjax.configure_runtime(cpu_devices=2)
processes.start(f"localhost:{port}", 2, number)
told = []
cnnjax.train(cnnjax.load_config("quickstart", fields), workdir, callbacks=[lambda event: told.append(event.kind)])
print("told", json.dumps(told))
"""


@pytest.mark.slow
def test_of_two_processes_the_first_alone_is_told(tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    fields = json.dumps(FIELDS | {"train.epochs": 1, "log.progress": "off"})
    command = [COMMAND[0], "-c", SCRIPT, str(port)]
    started = [
        subprocess.Popen(
            [*command, str(number), str(tmp_path / "run"), fields],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    codes, outputs = finish(started)
    assert codes == [0, 0], outputs
    told = [json.loads(output.rpartition("told ")[2]) for output in outputs]
    assert told == [["begin", "epoch", "saved", "end"], []]
