"""Studies: a config, what is varied, and a folder -> a table."""

import dataclasses
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cnnjax import runs
from cnnjax.ablation import strategies
from cnnjax.ablation import trials as folders
from cnnjax.ablation.metrics import Metrics, known_metrics
from cnnjax.ablation.progress import Progress
from cnnjax.ablation.spaces import Variant, make_variants
from cnnjax.ablation.strategies import Unit, plan
from cnnjax.ablation.table import Table
from cnnjax.ablation.together import train_group
from cnnjax.ablation.trials import Trial, claimed, make_trials, seed_list
from cnnjax.config import flatten, load_config, to_json
from cnnjax.core import files
from cnnjax.core.options import unknown
from cnnjax.core.runtime import make_deterministic
from cnnjax.data.datasets import Dataset
from cnnjax.training import processes, run_directory
from cnnjax.training.checkpoints import CheckpointError
from cnnjax.training.experiment import build, state_shapes
from cnnjax.training.logs import training_seconds
from cnnjax.training.parallel import choose_devices

# How often trials that other processes hold are looked at again.
WAIT_SECONDS = 0.5
# JAX keeps every program it compiled, some 10 MB a trial: after this many they are released.
KEPT_PROGRAMS = 16

# Trials say nothing themselves.
QUIET = {"log.progress": "off"}


def ablate(
    config: ConfigDict | Mapping[str, Any] | str | Path,
    axes: Any,
    seeds: int | Iterable[int] = 1,
    workdir: str | Path | None = None,
    *,
    metric: str | None = None,
    baseline: str | None = None,
    strategy: str = "auto",
    seed_fields: Sequence[str] = ("seed",),
    dataset: Dataset | None = None,
) -> Table:
    """Trains every variant of a config with every seed, and compares them.

    Each trial is an ordinary run directory in `workdir`, named by its resolved config: `cnnjax.load_run` reads it. A trial
    that has finished is never run again, not by another study in the same folder either; one that was interrupted is resumed;
    one that failed is a row that says why. A loss that diverged stays a failure; after any other error the trial is tried once more by
    the next call. Any number of processes may be started with the same `workdir`, on machines that share it: each takes what
    no other is at work on, waits for the rest, takes over from those that died, and returns the whole table.

    Args:
      config: from `load_config`, or anything it takes.
      axes: what is varied. {field: values} is every combination; a tuple of fields with tuples of values is varied
        together; a list of {field: value} is a variant each; {name: {field: value}} names them too. The functions of
        `cnnjax.ablation.spaces` make such lists, random ones among them.
      seeds: how many, from 0 on, or a list of them.
      workdir: the study's folder; None is `runs/<model>_<data set>-ablation`.
      metric: what the table shows by default: "test/accuracy", "valid/loss", "time/seconds", ...; None is the test split's metric
        that the best checkpoint follows on the validation split.
      baseline: the variant that the others are compared with; None is the first.
      strategy: `serial`, `vmap`, `devices` or `auto`, as `cnnjax.ablation.strategies` has them. Trials that differ only in
        numbers are then one program; each one's results are the same up to the order of floating-point sums. Trials that
        were begun keep their strategy.
      seed_fields: the fields that a seed is put into; ("seed", "dataset.split_seed") draws other training images too.
      dataset: the data set in the place of the config's, as `from_arrays` makes it; every call for the same `workdir` gives it.
        Trials of other data are other trials.

    Raises:
      ValueError: an unknown field, metric or baseline, a bad value, two equal variants, or a folder that holds something
        else; nothing was written.
      TypeError: a value of the wrong type.
      Interrupted: SIGINT or SIGTERM came; the same call resumes.
    """
    data = folders.data_mark(dataset)
    config, _ = runs.with_objects(load_config(config), dataset)
    variants = make_variants(config, axes)
    trials = make_trials(config, variants, seed_list(seeds), seed_fields, data)
    names = [variant.name for variant in variants]
    baseline = names[0] if baseline is None else baseline
    if baseline not in names:
        raise ValueError(unknown("baseline", baseline, names))
    known = known_metrics([config, *(trial.config for trial in trials)])
    metric = known.check(metric or f"test/{known.followed}")
    prepare_process([trial.config for trial in trials])
    strategies.check_strategy(strategy, [trial.config for trial in trials])
    folder = study_folder(config, workdir, "ablation")
    definition = {
        "config": to_json(config),
        "variants": [{"name": variant.name, "fields": dict(variant.fields)} for variant in variants],
        "seeds": seed_list(seeds),
        "seed_fields": list(seed_fields),
        "metric": metric,
        "baseline": baseline,
    }
    folders.record_study(folder, definition, trials)
    run_trials(folder, trials, config.log.progress, metric, strategy, dataset)
    return make_table(folder, variants, trials, metric, baseline, known, dataset)


def prepare_process(configs: Sequence[ConfigDict]) -> None:
    """Does what must precede JAX's start, for all configs: several CPU devices, the same bits every time on a GPU.

    Raises:
      ValueError: several processes were started together, or there are fewer devices than a config asks for.
      RuntimeError: it is too late for what a config asks for.
    """
    processes.check_alone("a study", "start it as a job array, one task each, with the same workdir")
    if any(config.train.deterministic for config in configs):
        make_deterministic()
    choose_devices(max((config.devices for config in configs if config.devices), default=None))


def study_folder(config: ConfigDict, workdir: str | Path | None, kind: str) -> Path:
    """The folder asked for, or `runs/<model>_<data set>-<kind>`.

    Raises:
      ValueError: it holds something other than a study.
    """
    if workdir is None:
        workdir = Path("runs") / f"{runs.short_name(config)}-{kind}"
    folder = Path(workdir).expanduser()
    folders.check_folder(folder)
    return folder


# --- running trials -------------------------------------------------------------------------------------------------


def run_trials(
    folder: Path,
    trials: Sequence[Trial],
    progress: str,
    metric: str,
    strategy: str = "auto",
    dataset: Dataset | None = None,
) -> None:
    """Runs what is left of some trials, together with whichever processes are at it too; returns when all have ended.

    Args:
      folder: the study's.
      trials: in the order they are to be run.
      progress: what is shown of it: `LogOptions.progress`.
      metric: what is shown of each trial that ends.
      strategy: how.
      dataset: the study's, where it was given one in the place of a name.
    """
    retried = folders.old_failures(folder, trials)
    left = [trial for trial in trials if not folders.has_ended(folder, trial, retried)]
    with Progress(progress, trials, len(left), metric) as display:
        display.note(f"study {folder}: {len(trials)} trials, {len(left)} to run")
        units, ran = plan(folder, left, strategy, dataset) if left else [], 0
        while units:
            held = []
            for unit in units:
                try:
                    with claimed(folder, [trial.directory for trial in unit.trials]):
                        todo = [t for t in unit.trials if not folders.has_ended(folder, t, retried)]
                        if todo:
                            display.begins(todo)
                            run_unit(folder, unit, todo, dataset)
                            ran += 1
                            if ran % KEPT_PROGRAMS == 0:
                                jax.clear_caches()
                except files.InUseError:
                    held.append(unit)
                else:
                    for trial in unit.trials:
                        display.ended(trial, read_record(folder, trial) if trial in todo else None)
            if len(held) == len(units):
                time.sleep(WAIT_SECONDS)
            units = held


def run_unit(folder: Path, unit: Unit, todo: Sequence[Trial], dataset: Dataset | None = None) -> None:
    """Trains trials that this process has claimed, or resumes them; errors are noted.

    Args:
      folder: the study's.
      unit: a trial or a group.
      todo: those of its trials that have not ended.
      dataset: the study's, where it was given one in the place of a name.

    Raises:
      files.InUseError: a run directory itself is in use, by a `cnnjax train` say.
      Interrupted: a signal came; what was done is saved.
    """
    quiet = [dataclasses.replace(trial, config=load_config(trial.config, QUIET)) for trial in unit.trials]
    directories = [trial.directory for trial in todo]
    failures: dict[str, Exception] = {}
    try:
        if unit.group is None:
            workdir = folder / directories[0]
            runs.train(quiet[0].config, workdir, dataset=dataset)
            folders.record_strategy(workdir, unit.strategy, None)
        else:
            failures = train_group(folder, unit.group, unit.strategy, quiet, directories, dataset)
    except files.InUseError:
        raise
    except Exception as error:
        failures = dict.fromkeys(directories, error)
        if unit.group is not None:
            strategies.forget_group(folder, unit.group)
    for directory in directories:
        if directory in failures:
            folders.record_failure(folder, directory, failures[directory])
        else:
            folders.forget_failure(folder, directory)


# --- the table ------------------------------------------------------------------------------------------------------


def make_table(
    folder: Path,
    variants: Sequence[Variant],
    trials: Sequence[Trial],
    metric: str,
    baseline: str,
    known: Metrics,
    dataset: Dataset | None = None,
) -> Table:
    """The table of trials that have all ended; `dataset` is the one that they were given."""
    varied = list(dict.fromkeys(path for variant in variants for path in variant.fields))
    records, ensembles = [], {}
    for variant in variants:
        own = [trial for trial in trials if trial.variant == variant.name]
        read = [read_record(folder, trial, varied) for trial in own]
        parameters = next((count for trial in own if (count := count_parameters(folder, trial)) is not None), None)
        records += [record | {"parameters": parameters} for record in read]
        finished = [record["directory"] for record in read if record["status"] == "finished"]
        if ensemble := ensemble_figures(folder, finished, dataset):
            ensembles[variant.name] = ensemble
    return Table(tuple(records), ensembles, metric, baseline, known)


def read_record(folder: Path, trial: Trial, varied: Sequence[str] = ()) -> dict[str, Any]:
    """What is known of a trial that has ended: see `Table.trials`.

    Args:
      folder: the study's.
      trial: of the study.
      varied: the config's fields to show.
    """
    fields = flatten(trial.config)
    record = {
        "variant": trial.variant,
        "seed": trial.seed,
        **{path: fields.get(path) for path in varied},
        "directory": trial.directory,
        "status": "failed",
        "error": "",
    }
    workdir = folder / trial.directory
    if not folders.is_finished(folder, trial):
        failure = folders.read_failure(folder, trial.directory)
        return record | {"error": f"{failure['kind']}: {failure['error']}" if failure else "not run to its end"}
    if (begun := folders.epochs_begun(folder, trial)) > trial.config.train.epochs:
        return record | {"error": f"its run has been trained on, to {begun} epochs"}
    try:
        strategy = folders.read_strategy(workdir)
    except (ValueError, OSError) as error:  # damaged since it finished
        return record | {"error": " ".join(str(error).split())}
    *epochs, tested = [line for line in run_directory.read_history(workdir) if "train/batch_loss" not in line]
    measured = next(line for line in epochs if line["step"] == tested["checkpoint"])
    return record | {
        "status": "finished",
        **strategy,
        **{name: value for name, value in (measured | tested).items() if not name.startswith("time/")},
        "time/seconds": training_seconds(epochs, trial.config.train.batch_size),
    }


def count_parameters(folder: Path, trial: Trial) -> int | None:
    """How many parameters a trial's network has; None where its run has not begun, or its description is damaged."""
    try:
        described = run_directory.read_description(folder / trial.directory)
    except ValueError:
        return None
    experiment = build(trial.config, runs.stored_facts(trial.config, described))
    shape = runs.network_shape(trial.config, described["image_shape"])
    return sum(leaf.size for leaf in jax.tree.leaves(state_shapes(experiment, shape).params))


def ensemble_figures(
    folder: Path, directories: Sequence[str], dataset: Dataset | None = None
) -> dict[str, float] | None:
    """The test figures of the mean of some trials' predictions, computed once and kept; None of fewer than two trials.

    None too where they cannot be averaged: their test splits are others (kept), or a run's checkpoints cannot be read (not
    kept: the next call looks again).
    """
    if len(directories) < 2:
        return None
    path = folder / folders.ENSEMBLES / f"{folders.digest(list(directories))}.json"
    with files.locked(folder / folders.LOCKS / "ensembles", "the ensembles", wait=True):
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            try:
                members = [runs.load_run(folder / directory) for directory in directories]
                figures = runs.evaluate(members, dataset=dataset)
                content = {f"test/{name}": value for name, value in figures.items()}
            except ValueError as error:
                content = {"error": str(error)}
            except CheckpointError as error:
                warnings.warn(f"no ensemble of {len(directories)} trials: {error}", stacklevel=2)
                return None
            files.write_json(path, {"trials": list(directories), **content})
            jax.clear_caches()  # a program of each run
    content = files.read_json(path)
    named = {"test/loss": "test/nll"}  # as version 0.1.0 wrote it
    return None if "error" in content else {named.get(name, name): v for name, v in content.items() if name != "trials"}
