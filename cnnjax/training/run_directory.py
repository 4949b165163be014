"""The run directory: its files, and the checks before it is written.

config.json       the resolved config
environment.json  versions, devices, settings, git commit, implementations of the operations
dataset.json      label names, image shape, the training split's statistics, fingerprint
metrics.jsonl     one JSON object per line
checkpoints/      Orbax
tensorboard/      event files
files/            copies of the user's own files that the config names, and of the files these import
trackers.json     the ids of this run's W&B and MLflow runs if callbacks log to them, and the last logged step
DONE              written last
"""

import contextlib
import dataclasses
import difflib
import hashlib
import importlib.metadata
import json
import logging
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cnnjax.core import files, locate, runtime
from cnnjax.data.datasets import Dataset
from cnnjax.data.transforms import Statistics
from cnnjax.ops import choice

logger = logging.getLogger(__name__)

CONFIG, ENVIRONMENT, DATASET, METRICS, DONE = "config.json", "environment.json", "dataset.json", "metrics.jsonl", "DONE"
CHECKPOINTS, TENSORBOARD, REPORT, LOCK = "checkpoints", "tensorboard", "report", ".lock"
COPIES, TRACKERS = locate.COPIES, "trackers.json"
OWN = {CONFIG, ENVIRONMENT, DATASET, METRICS, DONE, CHECKPOINTS, TENSORBOARD, REPORT, LOCK, COPIES, TRACKERS}


REMEDY = "restore it from a copy, or train again in another --workdir"


def is_run(workdir: Path) -> bool:
    """Whether a directory holds a run."""
    return (workdir / CONFIG).is_file()


def has_checkpoints(workdir: Path) -> bool:
    """Whether a run has a complete checkpoint."""
    return any((workdir / CHECKPOINTS).glob("[0-9]*/commit_success.txt"))  # Orbax writes this file last


def has_records(workdir: Path) -> bool:
    """Whether a run has written a line of `metrics.jsonl` or a checkpoint."""
    path = workdir / METRICS
    return has_checkpoints(workdir) or (path.exists() and path.stat().st_size > 0)


@contextlib.contextmanager
def in_use(workdir: Path) -> Iterator[None]:
    """Creates the directory if absent and locks it against other processes.

    A run that fails within the block before a line or a checkpoint was written is deleted.

    Raises:
      files.InUseError: another process is using the directory.
      OSError: the directory cannot be created or written.
    """
    made = [path for path in (workdir, *workdir.parents) if not path.exists()]
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with files.locked(workdir / LOCK, f"run directory {workdir}"):
            try:
                yield
            except BaseException:
                if is_run(workdir) and not has_records(workdir):
                    with contextlib.suppress(OSError, ValueError):  # contains files of a callback: the run is kept
                        clear(workdir)
                raise
            finally:
                if not is_run(workdir):  # no run was started: remove the lock file
                    with contextlib.suppress(PermissionError):  # Windows cannot delete an open file
                        (workdir / LOCK).unlink(missing_ok=True)
    except NotADirectoryError as error:
        raise NotADirectoryError(f"run directory {workdir}: {error.filename} is a file") from None
    except FileExistsError:
        raise FileExistsError(f"run directory {workdir} is a file: choose another --workdir") from None
    except PermissionError as error:
        raise PermissionError(
            f"run directory {workdir} cannot be written ({error.strerror}): choose another --workdir"
        ) from None
    except OSError as error:
        if error.errno not in files.DISK_ERRORS:
            raise
        raise OSError(
            f"run directory {workdir} cannot be written ({error.strerror}): checkpoints are kept; free some disk space and run "
            "the same command again"
        ) from error
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # not empty because it holds the run
                path.rmdir()


def write_environment(
    workdir: Path, devices: list[jax.Device], user_files: Mapping[str, Path], runs: Mapping[str, str]
) -> None:
    """Records the environment on which results may depend.

    Args:
      workdir: the run directory.
      devices: the devices on which the run is trained.
      user_files: the user's own files, by name.
      runs: the fingerprints of the runs that components read, by field.
    """
    packages = ("cnnjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
    content = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "devices": [{"platform": device.platform, "kind": device.device_kind} for device in devices],
        "processes": jax.process_count(),
        "settings": {setting.name: setting.value for setting in runtime.in_force() if setting.applied},
        "git_commit": git_commit(),
        "files": {name: locate.digest(path) for name, path in user_files.items()},
        "runs": dict(runs),
        "command": sys.argv,
    }
    files.write_json(workdir / ENVIRONMENT, content)


def copy_files(workdir: Path, user_files: Mapping[str, Path]) -> None:
    """Copies the user's own files into the run, where later commands load them."""
    for name, path in user_files.items():
        copy = workdir / COPIES / name
        if path.suffix == ".py" and name.endswith(".py") and path.resolve() != copy.resolve():
            copy.parent.mkdir(parents=True, exist_ok=True)
            files.write_atomically(copy, path.read_text(encoding="utf-8"))


def check_same_files(workdir: Path, user_files: Mapping[str, Path], allow_changed: bool = False) -> None:
    """Checks that the user's files have not changed since the run was started.

    Raises:
      ValueError: a file has changed; the message shows the difference.
    """
    path = workdir / ENVIRONMENT
    recorded = files.read_json(path).get("files", {}) if path.exists() else {}
    changed = [name for name in recorded | dict(user_files) if _digest(user_files.get(name)) != recorded.get(name)]
    if not changed or allow_changed:
        return
    copy = workdir / COPIES / changed[0]
    old = copy.read_text(encoding="utf-8").splitlines() if copy.is_file() else []
    new = user_files[changed[0]].read_text(encoding="utf-8").splitlines() if changed[0] in user_files else []
    lines = [
        line for line in difflib.unified_diff(old, new, lineterm="", n=0) if not line.startswith(("---", "+++", "@@"))
    ]
    shown = (
        ("; ".join(lines[:4]) + (f"; {len(lines) - 4} lines more" if len(lines) > 4 else "")) if copy.is_file() else ""
    )
    raise ValueError(
        f"run directory {workdir} was started with another {', '.join(changed)}{f' ({shown})' if shown else ''}: choose another "
        "--workdir, --overwrite, or --allow-changed-files to resume with the changed files"
    )


def fingerprint(workdir: Path, field: str) -> str:
    """The SHA-256 of a run's checkpoints.

    Raises:
      FileNotFoundError: the directory that the config field names has no run with a checkpoint.
    """
    if not is_run(workdir) or not has_checkpoints(workdir):
        raise FileNotFoundError(f"config: {field}: {workdir} has no run with a checkpoint: train it first")
    content = hashlib.sha256()
    for path in sorted(path for path in (workdir / CHECKPOINTS).rglob("*") if path.is_file()):
        content.update(f"{path.relative_to(workdir)} {locate.digest(path)}\n".encode())
    return content.hexdigest()


def check_same_runs(workdir: Path, runs: Mapping[str, str], allow_changed: bool = False) -> None:
    """Checks that the runs that components read have not changed since the run was started.

    Args:
      workdir: the run directory.
      runs: the fingerprints of the runs that are read, by config field.
      allow_changed: whether changes are allowed.

    Raises:
      ValueError: one of the runs has changed.
    """
    path = workdir / ENVIRONMENT
    recorded = files.read_json(path).get("runs", {}) if path.exists() else {}
    changed = [field for field, now in runs.items() if recorded.get(field, now) != now]
    if changed and not allow_changed:
        raise ValueError(
            f"run directory {workdir} was started with other checkpoints of the run that {', '.join(changed)} names: restore "
            "them, choose another --workdir, --overwrite, or --allow-changed-files to resume with the changed checkpoints"
        )


def _digest(path: Path | None) -> str | None:
    return None if path is None else locate.digest(path)


def record_operations(workdir: Path, implementations: Mapping[str, str], ops: choice.Ops) -> None:
    """Adds the implementation of each convolution and average-pooling in the training step to environment.json (`ops.choice`)."""
    content = json.loads((workdir / ENVIRONMENT).read_text(encoding="utf-8"))
    content["operations"] = {"formulations": dict(implementations), "compiler_options": choice.compiler_options(ops)}
    files.write_json(workdir / ENVIRONMENT, content)


def git_commit() -> str | None:
    """The commit of the checkout that cnnjax runs from, with "-dirty" if files have changed; None outside a checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or not shutil.which("git"):
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    done = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False)
    return done.stdout.strip() or None


def describe_dataset(dataset: Dataset, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of `dataset.json`; `outputs` are the model fields that depend on the data."""
    labels = dataset.splits["train"].labels
    return {
        "name": dataset.name,
        "label_names": list(dataset.label_names),
        "image_shape": list(dataset.image_shape),
        "image_dtype": str(dataset.image_dtype),
        "examples": {name: len(split) for name, split in dataset.splits.items()},
        "class_counts": dataset.class_counts,
        "label_shape": list(labels.shape[1:]),
        "label_dtype": str(labels.dtype),
        "outputs": dict(outputs),
        "statistics": dataset.statistics and dataclasses.asdict(dataset.statistics),
        "fingerprint": dataset.fingerprint,
    }


def describe_import(
    model: str, source: str | Path | Mapping[str, Any], label_names: Sequence[str], image_shape: tuple[int, ...]
) -> dict[str, Any]:
    """The contents of `dataset.json` for imported weights, whose training data are not available."""
    return {
        "name": None,
        "label_names": list(label_names),
        "image_shape": list(image_shape),
        "examples": {},
        "class_counts": [],
        "statistics": None,
        "fingerprint": None,
        "imported": {"model": model, "file": str(source) if isinstance(source, str | Path) else None},
    }


def check_not_imported(workdir: Path) -> None:
    """Raises ValueError if a directory holds imported weights, which cannot be trained further."""
    if imported := read_description(workdir).get("imported"):
        raise ValueError(
            f"{workdir} holds the imported weights of {imported['model']}, which are not changed: choose another --workdir"
        )


def read_statistics(described: dict[str, Any]) -> Statistics | None:
    """The training split's statistics from `dataset.json`; None for imported weights."""
    if described["statistics"] is None:
        return None
    return Statistics(**{name: tuple(values) for name, values in described["statistics"].items()})


def read_history(workdir: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, without a last line that was truncated by a kill.

    Raises:
      ValueError: a line is not a JSON object with a step, or not UTF-8; the message has its number.
    """
    path = workdir / METRICS
    history: list[dict[str, Any]] = []
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError):
            if number != len(lines):
                raise ValueError(f"{path}, line {number}: not valid JSON: {REMEDY}") from None
            break
        if not isinstance(content, dict) or "step" not in content:
            shown = line[:50].decode(errors="replace")
            raise ValueError(f"{path}, line {number}: expected an object with a step, got {shown}: {REMEDY}")
        history.append(content)
    return history


def epoch_lines(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of epochs, including lines before the first step, without the lines of single steps and errors."""
    return [line for line in history if not {"train/batch_loss", "error"} & line.keys()]


def check_complete(workdir: Path, history: Sequence[Mapping[str, Any]], epochs: int) -> None:
    """Checks that a history covers all epochs up to its checkpoint, since plateaus and early stopping depend on it.

    Raises:
      ValueError: epochs are missing from the history.
    """
    missing = sorted(set(range(1, epochs + 1)) - {line["epoch"] for line in history if "train/loss" in line})
    if missing:
        raise ValueError(
            f"{workdir / METRICS} has lost epochs {', '.join(map(str, missing[:5]))}{', ...' if missing[5:] else ''} of the "
            f"{epochs} that its checkpoint has trained: {REMEDY}"
        )


def rewind_history(workdir: Path, step: int, lines: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """Drops lines after `step` and the test line from `metrics.jsonl`, and returns the remaining lines.

    Args:
      workdir: the run directory.
      step: the step of a checkpoint.
      lines: the epoch lines stored in the checkpoint; lines missing from the file are restored, with a warning.
    """
    kept = [
        line
        for line in read_history(workdir)
        if line["step"] <= step and not any(key.startswith("test/") for key in line)
    ]
    there = {line["step"] for line in epoch_lines(kept)}
    if lost := [line for line in lines if line["step"] not in there]:
        epochs = ", ".join(str(line["epoch"]) for line in lost)
        logger.warning("%s had lost the lines of epochs %s: restored from the checkpoint", workdir / METRICS, epochs)
        kept = sorted([*kept, *lost], key=lambda line: line["step"])
    files.write_atomically(workdir / METRICS, "".join(json.dumps(line) + "\n" for line in kept))
    return kept


def check_resumable(
    workdir: Path, config: ConfigDict, stored: ConfigDict, differing: dict[str, tuple[Any, Any]]
) -> None:
    """Checks that a run can be resumed with a config.

    Args:
      workdir: the run directory.
      config: the requested config.
      stored: the config of the run.
      differing: the fields that differ and must not.

    Raises:
      ValueError: such fields differ, or the requested number of epochs is smaller than that of the run.
    """
    if differing:
        shown = "; ".join(f"{path}: {old!r} in the run, {new!r} requested" for path, (old, new) in differing.items())
        raise ValueError(
            f"run directory {workdir} holds a run with another config ({shown}): choose another --workdir, or --overwrite"
        )
    if config.train.epochs < stored.train.epochs:
        raise ValueError(
            f"run directory {workdir} holds a run of {stored.train.epochs} epochs, but {config.train.epochs} were requested: "
            "a run can be extended, not shortened; choose another --workdir, or --overwrite"
        )


def check_same_data(described: Mapping[str, Any], dataset: Dataset, what: str) -> None:
    """Checks that the data of a run have not changed since it was started.

    For imported weights, whose data are not available, only the number of classes is compared.
    """
    if described.get("imported"):
        if len(described["label_names"]) != len(dataset.label_names):
            raise ValueError(
                f"{what} has {len(described['label_names'])} classes, data set {dataset.name} has {len(dataset.label_names)}: "
                "replace the head by transfer learning"
            )
        return
    if described["fingerprint"] != dataset.fingerprint:
        raise ValueError(
            f"{what}: data set {dataset.name} has changed since the run began (fingerprint {described['fingerprint']} then, "
            f"{dataset.fingerprint} now): restore the data, or train again in another --workdir"
        )


def read_description(workdir: Path) -> dict[str, Any]:
    """The contents of `dataset.json`.

    Raises:
      ValueError: the file is damaged or missing.
    """
    path = workdir / DATASET
    described = files.read_json(path) if path.exists() else None
    expected = {"name", "label_names", "image_shape", "examples", "statistics", "fingerprint"}
    if not isinstance(described, dict) or not expected <= described.keys():
        raise ValueError(f"{path} is {'damaged' if path.exists() else 'missing'}: {REMEDY}")
    return described


def is_finished(workdir: Path) -> bool:
    """Whether a run is finished and all its files are complete."""
    if not (workdir / DONE).exists() or not (workdir / CHECKPOINTS).is_dir():
        return False
    history = read_history(workdir)
    tested = [line.get("checkpoint") for line in history if "test/loss" in line]
    return bool(tested) and any(line["step"] == tested[-1] and "train/loss" in line for line in history)


def foreign_files(workdir: Path) -> list[str]:
    """The sorted names of files in a directory that do not belong to a run."""
    return sorted(path.name for path in workdir.iterdir() if path.name not in OWN and not _is_temporary(path))


def _is_temporary(path: Path) -> bool:
    """Whether a file is a temporary file left by an interrupted write: `.config.json.x1y2`."""
    return path.name.startswith(tuple(f".{mine}." for mine in OWN))


def clear_temporaries(workdir: Path) -> None:
    """Deletes the temporary files of interrupted writes in a directory that this process has locked."""
    for path in filter(_is_temporary, list(workdir.iterdir())):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def clear(workdir: Path) -> None:
    """Deletes the files of a run, except the directory itself and its lock.

    Raises:
      ValueError: the directory holds other files.
    """
    foreign = foreign_files(workdir)
    if foreign:
        raise ValueError(
            f"{workdir} is not overwritten: it holds files that do not belong to a run ({', '.join(foreign[:3])})"
        )
    # Checkpoints are deleted first and the config last, so that an interruption leaves a run without checkpoints.
    order = {CHECKPOINTS: 0, CONFIG: 2}
    for path in sorted(workdir.iterdir(), key=lambda path: order.get(path.name, 1)):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
