"""Trials: one variant with one seed, each an ordinary run directory whose name follows from its config.

What a study keeps in its folder, beside the trials' directories:

study.json    what was asked for last: variants, seeds, and which directory is which trial
failures/     why a trial failed, a file each
groups/       the trials that are trained as one program, and their checkpoints while they are
ensembles/    the figures of the mean of a variant's probabilities
locks/        whoever holds a trial's file is at work on it
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
from cnnjax.data.datasets import Dataset
from cnnjax.training import run_directory

STUDY, FAILURES, GROUPS, ENSEMBLES, LOCKS = "study.json", "failures", "groups", "ensembles", "locks"

# No write takes so long: a temporary file as old as this is what a killed one has left.
LEFTOVER_SECONDS = 3600


@dataclasses.dataclass(frozen=True)
class Trial:
    """A variant trained with one seed.

    Attributes:
      variant: its name.
      seed: what the seed's fields are set to.
      config: resolved.
      directory: the run directory's name in the study's folder.
    """

    variant: str
    seed: int
    config: ConfigDict
    directory: str


def identity(config: ConfigDict, but: Sequence[str] = (), data: str | None = None) -> str:
    """A name that follows from everything in a resolved config that its numbers depend on: 16 hexadecimal digits.

    Devices, progress, checkpoints to keep and where data are play no part; neither do the fields in `but`, nor options that are off
    by default and off here (None, false, 0, empty): an option that a later version adds is such a one, and must not make
    finished trials unknown. `data` is the fingerprint of a data set that was given from Python, of which the config has only
    the name.
    """
    values = flatten(config)
    off = {path for path, option in options_of(config).items() if not values[path] and values[path] == option.default}
    telling = {
        path: value
        for path, value in flatten(to_json(config)).items()
        if (path == "train.epochs" or not is_resumable(path)) and path not in off and path not in but
    }
    return digest(telling if data is None else {**telling, "data": data})


def data_mark(dataset: Any) -> str | None:
    """The fingerprint of a data set that was given from Python; None where none was.

    Raises:
      TypeError: it is no data set.
    """
    if dataset is not None and not isinstance(dataset, Dataset):
        raise TypeError(
            f"dataset: expected what cnnjax.from_arrays or cnnjax.from_sequence returns, got {type(dataset).__name__}: "
            "give your arrays to one of them"
        )
    return None if dataset is None else dataset.fingerprint


def digest(content: Any) -> str:
    """16 hexadecimal digits that follow from JSON content alone."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def make_trials(
    config: ConfigDict,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    seed_fields: Sequence[str] = ("seed",),
    data: str | None = None,
) -> list[Trial]:
    """Every variant with every seed: all variants' first seed, then all variants' second; `data` as in `identity`.

    Raises:
      ValueError: a seed that is not allowed, a seed's field that is also varied or is unknown, two variants that are the
        same run, or a variant of another data set than the one that was given.
    """
    for variant in variants:
        if data is not None and "dataset.name" in variant.fields:
            raise ValueError("axes: dataset.name is varied, and a data set is given: leave one of them out")
        if twice := set(seed_fields) & variant.fields.keys():
            raise ValueError(
                f"axes: {min(twice)} is set by the seeds: give those by `seeds`, or choose other `seed_fields`"
            )
    made: dict[str, Trial] = {}
    for seed in seeds:
        for variant in variants:
            resolved = load_config(config, {**variant.fields, **dict.fromkeys(seed_fields, seed)})
            trial = Trial(variant.name, seed, resolved, identity(resolved, data=data))
            if (same := made.setdefault(trial.directory, trial)) is not trial:
                raise ValueError(
                    f"axes: {same.variant} and {trial.variant} differ only in what changes no result: leave one out"
                )
    return list(made.values())


def seed_list(seeds: int | Iterable[int]) -> list[int]:
    """So many seeds from 0 on, or these.

    Raises:
      ValueError: there is none, one is not a whole number, or one is given twice.

    >>> seed_list(3), seed_list([7, 8])
    ([0, 1, 2], [7, 8])
    """
    wanted = "seeds: expected how many, or a list of whole numbers, each once"
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
    """Refuses a folder that holds something other than a study.

    Raises:
      ValueError: it holds other files, or a run.
      OSError: it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: choose another --workdir")
    if not folder.exists() or (folder / STUDY).exists():
        return
    own = (STUDY, FAILURES, GROUPS, ENSEMBLES, LOCKS)
    foreign = [path.name for path in folder.iterdir() if not path.name.startswith((*own, f".{STUDY}."))]
    if foreign:
        what = "a run" if run_directory.is_run(folder) else f"other files ({', '.join(sorted(foreign)[:3])})"
        raise ValueError(f"{folder} holds {what} and no study: choose another --workdir, or an empty folder")


def record_study(folder: Path, definition: Mapping[str, Any], trials: Sequence[Trial]) -> None:
    """Writes `study.json`: the definition, and for each trial its directory, variant and seed.

    Another study of the same folder replaces it; the trials, whose names follow from their configs, serve both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (f".{STUDY}.*", f"{FAILURES}/.*", f"{ENSEMBLES}/.*"):  # what killed writes have left
        for path in folder.glob(name):
            with contextlib.suppress(FileNotFoundError):  # another process at the same study is quicker
                if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                    path.unlink()
    listed = {trial.directory: {"variant": trial.variant, "seed": trial.seed} for trial in trials}
    files.write_json(folder / STUDY, {**definition, "trials": listed})


@contextlib.contextmanager
def claimed(folder: Path, directories: Iterable[str]) -> Iterator[None]:
    """Keeps other processes of the study off some trials.

    Raises:
      files.InUseError: another is at work on one of them.
    """
    with contextlib.ExitStack() as stack:
        for directory in sorted(directories):
            stack.enter_context(files.locked(folder / LOCKS / directory, f"trial {folder / directory}"))
        yield


# --- how trials ended -----------------------------------------------------------------------------------------------


def record_strategy(workdir: Path, strategy: str, group: str | None) -> None:
    """Adds to a run's `environment.json` how a study trained it, and in which group."""
    path = workdir / run_directory.ENVIRONMENT
    files.write_json(path, {**files.read_json(path), "strategy": strategy, "group": group})


def read_strategy(workdir: Path) -> dict[str, str | None]:
    """How a run was trained: `strategy` and `group`; one that no study trained counts as `serial`."""
    environment = files.read_json(workdir / run_directory.ENVIRONMENT)
    return {"strategy": environment.get("strategy", "serial"), "group": environment.get("group")}


def epochs_begun(folder: Path, trial: Trial) -> int:
    """To how many epochs a trial's run was last asked to be trained; 0 where there is none."""
    workdir = folder / trial.directory
    try:
        return (
            files.read_json(workdir / run_directory.CONFIG)["train"]["epochs"] if run_directory.is_run(workdir) else 0
        )
    except (ValueError, KeyError, TypeError):  # damaged: whoever trains it says so
        return 0


def is_finished(folder: Path, trial: Trial) -> bool:
    """Whether a trial's run has been trained to its last epoch, or further."""
    epochs = epochs_begun(folder, trial)
    if epochs == trial.config.train.epochs:
        try:
            return run_directory.is_finished(folder / trial.directory)
        except ValueError:  # a damaged history: whoever trains it says so
            return False
    return epochs > trial.config.train.epochs


def record_failure(folder: Path, directory: str, error: Exception) -> None:
    """Notes that a trial ended by an error, and which."""
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
    """Takes back what `record_failure` noted."""
    (folder / FAILURES / f"{directory}.json").unlink(missing_ok=True)


def read_failure(folder: Path, directory: str) -> dict[str, Any] | None:
    """What `record_failure` noted of a trial, if anything."""
    try:
        return files.read_json(folder / FAILURES / f"{directory}.json")
    except FileNotFoundError:
        return None


def old_failures(folder: Path, trials: Sequence[Trial]) -> dict[str, Mapping[str, Any]]:
    """The failures to be tried once more by who starts now: all but a loss that diverged, which would diverge again."""
    found = {trial.directory: read_failure(folder, trial.directory) for trial in trials}
    return {name: failure for name, failure in found.items() if failure and failure["kind"] != "FloatingPointError"}


def has_ended(folder: Path, trial: Trial, retried: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether nothing is left to do for a trial: it finished, or failed and that failure is not one of `retried`."""
    if is_finished(folder, trial):
        return True
    failure = read_failure(folder, trial.directory)
    return failure is not None and failure != retried.get(trial.directory)
