"""Trials: one variant with one seed, each an ordinary run directory whose name is derived from its config.

The files of a study in its folder, in addition to the directories of the trials:

study.json    the study requested last: variants, seeds, and the trial of each directory
failures/     the errors of failed trials, one file per trial
groups/       the groups of trials that are trained as one program, and their checkpoints during training
ensembles/    the metrics of each variant's averaged predictions
locks/        the locks of trials that a process is running
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cnnjax.ablation.spaces import Variant
from cnnjax.config import flatten, is_resumable, load_config, options_of, to_json
from cnnjax.core import files
from cnnjax.data.datasets import Dataset, DatasetOptions
from cnnjax.data.sequences import ReadOnce
from cnnjax.training import run_directory

STUDY, FAILURES, GROUPS, ENSEMBLES, LOCKS = "study.json", "failures", "groups", "ensembles", "locks"

# A temporary file older than this was left by a killed process, since no write takes so long.
LEFTOVER_SECONDS = 3600


@dataclasses.dataclass(frozen=True)
class Trial:
    """A variant trained with one seed.

    Attributes:
      variant: the name of the variant.
      seed: the value of the seed fields.
      config: the resolved config.
      directory: the name of the run directory in the study's folder.
    """

    variant: str
    seed: int
    config: ConfigDict
    directory: str


def identity(config: ConfigDict, but: Sequence[str] = (), data: str | None = None) -> str:
    """A digest of everything in a resolved config that affects results: 16 hexadecimal digits.

    It does not depend on devices, progress display, kept checkpoints or the location of data, nor on the fields in `but`. It
    also ignores options that are off by default and off here (None, false, 0, empty), so that trials remain valid when a later
    version adds such an option. `data` is the fingerprint of a data set passed from Python, of which the config has only the
    name.
    """
    values = flatten(config)
    off = {path for path, option in options_of(config).items() if not values[path] and values[path] == option.default}
    telling = {
        path: value
        for path, value in flatten(to_json(config)).items()
        if (path == "train.epochs" or not is_resumable(path)) and path not in off and path not in but
    }
    return digest(telling if data is None else {**telling, "data": data})


def data_mark(dataset: Dataset | ReadOnce | None, config: ConfigDict) -> str | None:
    """The fingerprint of a data set passed from Python and prepared as the config says, or None if there is none."""
    if isinstance(dataset, ReadOnce):
        dataset = dataset.dataset(DatasetOptions(**config.dataset))
    return None if dataset is None else dataset.fingerprint


def digest(content: Any) -> str:
    """A digest of JSON content: 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def make_trials(
    config: ConfigDict,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    seed_fields: Sequence[str] = ("seed",),
    data: str | None = None,
) -> list[Trial]:
    """Every variant with every seed, ordered by seed and then by variant; `data` as in `identity`.

    Raises:
      ValueError: a seed is not allowed, a seed field is unknown or also varied, two variants are the same run, or a variant
        sets the data set although one was passed.
    """
    for variant in variants:
        if data is not None and "dataset.name" in variant.fields:
            raise ValueError("axes: dataset.name is varied, but a data set is given too: leave one of them out")
        if twice := set(seed_fields) & variant.fields.keys():
            raise ValueError(
                f"axes: {min(twice)} is set by the seeds: use `seeds` for its values, or choose other `seed_fields`"
            )
    made: dict[str, Trial] = {}
    for seed in seeds:
        for variant in variants:
            resolved = load_config(config, {**variant.fields, **dict.fromkeys(seed_fields, seed)})
            trial = Trial(variant.name, seed, resolved, identity(resolved, data=data))
            if (same := made.setdefault(trial.directory, trial)) is not trial:
                raise ValueError(
                    f"axes: {same.variant} and {trial.variant} differ only in fields that do not affect results: leave one out"
                )
    return list(made.values())


def seed_list(seeds: int | Iterable[int]) -> list[int]:
    """The seeds as a list: a number of seeds, counted from 0, or the given seeds.

    Raises:
      ValueError: there are no seeds, a seed is not a whole number, or a seed is repeated.

    >>> seed_list(3), seed_list([7, 8])
    ([0, 1, 2], [7, 8])
    """
    wanted = "seeds: expected a number of seeds, or a list of different whole numbers"
    whole = isinstance(seeds, int) and not isinstance(seeds, bool)
    if not whole and (isinstance(seeds, str) or not isinstance(seeds, Iterable)):
        raise ValueError(f"{wanted}; got {seeds!r}")
    listed = list(range(seeds)) if whole else list(seeds)
    if not listed or any(isinstance(seed, bool) or not isinstance(seed, int) for seed in listed):
        raise ValueError(f"{wanted}; got {seeds!r}")
    if len(set(listed)) < len(listed):
        raise ValueError(f"{wanted}; got {seeds!r}")
    return listed


# --- the study's folder ---------------------------------------------------------------------------------------------


def check_folder(folder: Path) -> None:
    """Checks that a folder is new, empty or holds a study.

    Raises:
      ValueError: the folder holds other files or a run.
      OSError: the path is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: choose another --workdir")
    if not folder.exists() or (folder / STUDY).exists():
        return
    own = (STUDY, FAILURES, GROUPS, ENSEMBLES, LOCKS)
    foreign = [path.name for path in folder.iterdir() if not path.name.startswith((*own, f".{STUDY}."))]
    if foreign:
        what = "a run" if run_directory.is_run(folder) else f"other files ({', '.join(sorted(foreign)[:3])})"
        raise ValueError(f"{folder} holds {what}, not a study: choose another --workdir, or an empty folder")


def record_study(folder: Path, definition: Mapping[str, Any], trials: Sequence[Trial]) -> None:
    """Writes `study.json`: the definition, and the directory, variant and seed of each trial.

    Another study in the same folder overwrites the file; trials are shared, since their names depend only on their configs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (f".{STUDY}.*", f"{FAILURES}/.*", f"{ENSEMBLES}/.*"):  # left by killed processes
        for path in folder.glob(name):
            with contextlib.suppress(FileNotFoundError):  # another process of the study was faster
                if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                    path.unlink()
    listed = {trial.directory: {"variant": trial.variant, "seed": trial.seed} for trial in trials}
    files.write_json(folder / STUDY, {**definition, "trials": listed})


@contextlib.contextmanager
def claimed(folder: Path, directories: Iterable[str]) -> Iterator[None]:
    """Locks trials against other processes of the study.

    Raises:
      files.InUseError: another process is running one of the trials.
    """
    with contextlib.ExitStack() as stack:
        for directory in sorted(directories):
            stack.enter_context(files.locked(folder / LOCKS / directory, f"trial {folder / directory}"))
        yield


# --- how trials ended -----------------------------------------------------------------------------------------------


def record_strategy(workdir: Path, strategy: str, group: str | None) -> None:
    """Adds the strategy and group with which a study trained a run to the run's `environment.json`."""
    path = workdir / run_directory.ENVIRONMENT
    files.write_json(path, {**files.read_json(path), "strategy": strategy, "group": group})


def read_strategy(workdir: Path) -> dict[str, str | None]:
    """The `strategy` and `group` with which a run was trained; `serial` if it was not trained by a study."""
    environment = files.read_json(workdir / run_directory.ENVIRONMENT)
    return {"strategy": environment.get("strategy", "serial"), "group": environment.get("group")}


def epochs_requested(folder: Path, trial: Trial) -> int:
    """The number of epochs that was last requested for a trial's run; 0 if there is no run."""
    workdir = folder / trial.directory
    try:
        return (
            files.read_json(workdir / run_directory.CONFIG)["train"]["epochs"] if run_directory.is_run(workdir) else 0
        )
    except (ValueError, KeyError, TypeError):  # damaged: training the run reports it
        return 0


def is_finished(folder: Path, trial: Trial) -> bool:
    """Whether a trial's run has been trained to its last epoch, or further."""
    epochs = epochs_requested(folder, trial)
    if epochs == trial.config.train.epochs:
        try:
            return run_directory.is_finished(folder / trial.directory)
        except ValueError:  # a damaged history: training the run reports it
            return False
    return epochs > trial.config.train.epochs


def record_failure(folder: Path, directory: str, error: Exception) -> None:
    """Records the error with which a trial ended."""
    path = folder / FAILURES / f"{directory}.json"
    path.parent.mkdir(exist_ok=True)
    text = " ".join(str(error).split())
    content = {
        "kind": type(error).__name__,
        "error": text[:1000] or type(error).__name__,
        "process": f"{os.getpid()} on {socket.gethostname()}",
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
    }
    files.write_json(path, content)


def forget_failure(folder: Path, directory: str) -> None:
    """Deletes the error that `record_failure` recorded."""
    (folder / FAILURES / f"{directory}.json").unlink(missing_ok=True)


def read_failure(folder: Path, directory: str) -> dict[str, Any] | None:
    """The error that `record_failure` recorded for a trial, or None."""
    try:
        return files.read_json(folder / FAILURES / f"{directory}.json")
    except FileNotFoundError:
        return None


def old_failures(folder: Path, trials: Sequence[Trial]) -> dict[str, Mapping[str, Any]]:
    """The failed trials to retry once. Diverged trials are excluded, since they would diverge again."""
    found = {trial.directory: read_failure(folder, trial.directory) for trial in trials}
    return {name: failure for name, failure in found.items() if failure and failure["kind"] != "FloatingPointError"}


def has_ended(folder: Path, trial: Trial, retried: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a trial needs no more work: it has finished, or has failed with an error that is not in `retried`."""
    if is_finished(folder, trial):
        return True
    failure = read_failure(folder, trial.directory)
    return failure is not None and failure != retried.get(trial.directory)
