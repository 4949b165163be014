"""Killed before any of its file operations, or with a full disk, a run resumes to the same bits.

A kill loses nothing that the operating system has taken, so what it leaves is the run directory as it is at that moment:
one process trains, and copies its directory before each operation that Python's audit events announce. Orbax writes arrays
through TensorStore, whose operations in C++ raise no such event: those are copied wherever they happen to be.
"""

import dataclasses
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import cnnjax
from cnnjax.config import to_json
from cnnjax.runs import training
from cnnjax.training.program import compile_program

pytestmark = pytest.mark.slow

# Each event's place of the folder's descriptor, relative to which a path may be given.
OPERATIONS = {
    "open": None, "os.rename": 2, "os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.link": 2, "os.symlink": 2,
    "os.truncate": None, "os.chmod": 2,
}  # fmt: skip


def changed(event, arguments):
    """The path that an audit event is about to change; None for any other event."""
    if event not in OPERATIONS or not isinstance(arguments[0], str | bytes | os.PathLike):
        return None
    if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return None
    path, place = os.fsdecode(arguments[0]), OPERATIONS[event]
    if place is not None and arguments[place] >= 0:
        path = os.path.join(os.readlink(f"/proc/self/fd/{arguments[place]}"), path)
    return Path(os.path.abspath(path))


def train_with_copies(config, workdir, copies):
    """Trains; before each file operation in the run directory it is copied to `copies`, numbered."""
    cnnjax.configure_runtime(cpu_devices=8)  # as in the tests' own process
    one_at_a_time = threading.Lock()

    def copy(event, arguments):
        path = changed(event, arguments)
        if path and path.is_relative_to(workdir):
            with one_at_a_time:
                copied = copies / f"{len(list(copies.iterdir())):03d}"
                if workdir.exists():
                    shutil.copytree(workdir, copied, copy_function=copy_if_there, dirs_exist_ok=True)

    sys.addaudithook(copy)
    cnnjax.train(config, workdir)


def copy_if_there(source, target):
    """TensorStore renames files meanwhile."""
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        return


TINY = {
    "dataset": {"name": "digits"},
    "devices": 1,
    "log": {"progress": "off", "tensorboard": False, "probes": True},
    "model": {"name": "mlp", "features": (8,)},
    "train": {"batch_size": 512, "epochs": 2},  # of 2 steps
    "evaluate": {"batch_size": 72},
    "checkpoint": {"every_steps": 1, "keep": 1},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Of a run that starts from another one's weights, one layer of which stays as it is."""
    first = tmp_path_factory.mktemp("kills") / "first"
    cnnjax.train({**TINY, "seed": 1, "train": {"batch_size": 512, "epochs": 1}}, first)
    return {**TINY, "initial": {"run": str(first), "frozen": ("hidden1",)}}


def contents(workdir):
    """What a run holds and does not depend on the clock; checkpoints by their notes, which have a checksum of the state."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    notes = {path.parts[-3]: json.loads(path.read_text()) for path in workdir.glob("checkpoints/*/notes/metadata")}
    for note in notes.values():
        del note["lines"]  # as above
    return (
        {path.name for path in workdir.iterdir()},
        [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines],
        {step: notes[step] for step in sorted(notes)[-1:]},  # deleting the ones before may have been interrupted
    )


def distinct(folders):
    """The folders without those that hold what an earlier one holds, as after an operation that changed no file."""
    found = {}
    for folder in folders:
        paths = sorted(folder.rglob("*"))
        held = tuple((path.relative_to(folder), path.read_bytes() if path.is_file() else None) for path in paths)
        found.setdefault(held, folder)
    return list(found.values())


@pytest.fixture
def compiled_once(monkeypatch):
    """Runs of one config and data set in this process have one program: what they find on disk is what is tested."""
    programs = {}

    def shared(config, experiment, dataset, devices, source=None, workdir=None):
        key = json.dumps(to_json(config))
        if key not in programs:
            programs[key] = compile_program(config, experiment, dataset, devices, source, workdir)
        return dataclasses.replace(programs[key], source=source, workdir=workdir)

    monkeypatch.setattr(training, "compile_program", shared)


@pytest.mark.usefixtures("compiled_once")
def test_killed_before_any_file_operation_it_resumes_to_the_same_bits(config, tmp_path):
    workdir, copies = tmp_path / "run", tmp_path / "copies"
    copies.mkdir()
    child = multiprocessing.get_context("spawn").Process(target=train_with_copies, args=(config, workdir, copies))
    child.start()
    child.join()
    assert child.exitcode == 0
    made = sorted(copies.iterdir())
    expected, killed = contents(workdir), distinct(made)
    assert len(made) > 100 and len(killed) > 80
    differing = {}
    for copied in killed:
        before = sorted(str(path.relative_to(copied)) for path in copied.glob("checkpoints/*/*"))
        try:
            cnnjax.train(config, copied)
            if contents(copied) != expected:
                differing[copied.name] = "other contents", before
        except Exception as error:
            differing[copied.name] = repr(error)[:300], before
    assert not differing, f"of {len(killed)}: {differing}"


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, and what makes the disk of another size."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "cnnjax-test", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield disk, lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of threads that could not write
@pytest.mark.parametrize("size", ["64k", "300k"])
def test_a_disk_that_was_full_costs_nothing_once_there_is_room(config, small_disk, tmp_path, size):
    disk, resize = small_disk
    resize(size)
    bigger = {**TINY, "model": {"name": "mlp", "features": (24,)}}  # a checkpoint takes some 200k
    cnnjax.train({**bigger, "seed": 1, "train": {"batch_size": 512, "epochs": 1}}, tmp_path / "first")
    bigger["initial"] = {**config["initial"], "run": str(tmp_path / "first")}
    cnnjax.train(bigger, tmp_path / "whole")
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\)"):
        cnnjax.train(bigger, disk / "run")
    assert not (disk / "run" / "DONE").exists()
    resize("16m")
    cnnjax.train(bigger, disk / "run")
    assert contents(disk / "run") == contents(tmp_path / "whole")
