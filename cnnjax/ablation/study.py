"""Studies: a config, the axes that are varied, and a folder -> a table."""

import dataclasses
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cnnjax import runs
from cnnjax.ablation import strategies
from cnnjax.ablation import trials as folders
from cnnjax.ablation.hparams import write_hyperparameters
from cnnjax.ablation.metrics import Metrics, known_metrics
from cnnjax.ablation.progress import Progress
from cnnjax.ablation.spaces import Variant, make_variants
from cnnjax.ablation.strategies import TrialBatch, plan
from cnnjax.ablation.table import Table
from cnnjax.ablation.together import train_group
from cnnjax.ablation.trials import Trial, claimed, make_trials, seed_list
from cnnjax.config import flatten, load_config, to_json
from cnnjax.core import files
from cnnjax.core.options import unknown
from cnnjax.core.runtime import make_deterministic
from cnnjax.data.datasets import Dataset
from cnnjax.data.sequences import ReadOnce, read_once
from cnnjax.training import processes, run_directory
from cnnjax.training.checkpoints import CheckpointError
from cnnjax.training.experiment import build, state_shapes
from cnnjax.training.logs import training_seconds
from cnnjax.training.parallel import choose_devices

# Seconds between checks of trials that other processes are running.
WAIT_SECONDS = 0.5
# JAX keeps every compiled program, some 10 MB per trial; they are released after this many trials.
KEPT_PROGRAMS = 16

# Trials print nothing themselves.
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
    dataset: Any = None,
) -> Table:
    """Trains every variant of a config with every seed, and compares them.

    Each trial is an ordinary run directory in `workdir`, named by its resolved config, which `cnnjax.load_run` can read. A
    finished trial is never run again, even by another study in the same folder. An interrupted trial is resumed. A failed
    trial is reported in its row of the table; the next call tries it once more, unless its loss diverged. Any number of
    processes can share a `workdir`, on machines with a shared file system: each takes trials that no other process is
    running, waits for the rest, takes over trials of processes that died, and returns the whole table.

    Args:
      config: a config from `load_config`, or anything that it accepts.
      axes: the variants. {field: values} means every combination, where the fields of a tuple change together. A list of
        {field: value} has one variant per entry; {name: {field: value}} also names the variants. The functions of
        `cnnjax.ablation.spaces` make such lists, including random ones.
      seeds: the number of seeds, counted from 0, or a list of seeds.
      workdir: the folder of the study; None is `runs/<model>_<data set>-ablation`.
      metric: the metric that the table shows by default: "test/accuracy", "valid/loss", "time/seconds", ...; None is the test
        value of the metric that the best checkpoint follows on the validation split.
      baseline: the variant that the others are compared with; None is the first.
      strategy: `serial`, `vmap`, `devices` or `auto` (see `cnnjax.ablation.strategies`). With `vmap` and `devices`, trials that
        differ only in numbers become one program; their results are the same up to the order of floating-point sums. Trials
        that have been started keep their strategy.
      seed_fields: the fields that are set to the seed; ("seed", "dataset.split_seed") also draws other training images.
      dataset: a data set that replaces the config's: anything that `cnnjax.train` accepts. Every call for the same `workdir`
        must pass it. Trials with other data are different trials.

    Raises:
      ValueError: a field, metric or baseline is unknown, a value is not allowed, two variants are equal, or the folder holds
        something else; nothing was written.
      TypeError: a value has the wrong type.
      Interrupted: SIGINT or SIGTERM was received; the same call resumes.
    """
    dataset = read_once(dataset)
    config, _ = runs.with_objects(load_config(config), dataset)
    data = folders.data_mark(dataset, config)
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
    with Progress(f"study {folder}", config.log.progress, metric, partial(read_record, folder)) as display:
        run_trials(folder, trials, display, strategy, dataset)
    return make_table(folder, variants, trials, metric, baseline, known, dataset)


def prepare_process(configs: Sequence[ConfigDict]) -> None:
    """Makes the settings of all configs that must precede the start of JAX: several CPU devices, deterministic GPU operations.

    Raises:
      ValueError: several processes were started together, or a config needs more devices than there are.
      RuntimeError: JAX has already started with other settings.
    """
    processes.check_alone("a study", "start it as a job array with one task per process and the same workdir")
    if any(config.train.deterministic for config in configs):
        make_deterministic()
    choose_devices(max((config.devices for config in configs if config.devices), default=None))


def study_folder(config: ConfigDict, workdir: str | Path | None, kind: str) -> Path:
    """The folder of a study, by default `runs/<model>_<data set>-<kind>`.

    Raises:
      ValueError: the folder holds something other than a study.
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
    display: Progress,
    strategy: str = "auto",
    dataset: Dataset | ReadOnce | None = None,
) -> None:
    """Runs the remaining trials, possibly together with other processes, and returns when all have ended.

    Args:
      folder: the folder of the study.
      trials: the trials, in the order in which they are run.
      display: the progress display.
      strategy: the strategy.
      dataset: the data set that was passed to the study, if any.
    """
    retried = folders.old_failures(folder, trials)
    left = [trial for trial in trials if not folders.has_ended(folder, trial, retried)]
    display.add(trials, left)
    batches, ran = plan(folder, left, strategy, dataset) if left else [], 0
    while batches:
        held = []
        for batch in batches:
            try:
                with claimed(folder, [trial.directory for trial in batch.trials]):
                    todo = [t for t in batch.trials if not folders.has_ended(folder, t, retried)]
                    if todo:
                        display.begins(todo)
                        run_batch(folder, batch, todo, dataset)
                        ran += 1
                        if ran % KEPT_PROGRAMS == 0:
                            jax.clear_caches()
            except files.InUseError:
                held.append(batch)
            else:
                for trial in batch.trials:
                    display.ended(trial, own=trial in todo)
        if len(held) == len(batches):
            time.sleep(WAIT_SECONDS)
        batches = held


def run_batch(
    folder: Path, batch: TrialBatch, todo: Sequence[Trial], dataset: Dataset | ReadOnce | None = None
) -> None:
    """Trains or resumes trials that this process has claimed, and records errors.

    Args:
      folder: the folder of the study.
      batch: a single trial or a group.
      todo: the trials of the batch that have not ended.
      dataset: the data set that was passed to the study, if any.

    Raises:
      files.InUseError: a run directory is in use, for example by `cnnjax train`.
      Interrupted: a signal was received; the progress is saved.
    """
    quiet = [dataclasses.replace(trial, config=load_config(trial.config, QUIET)) for trial in batch.trials]
    directories = [trial.directory for trial in todo]
    failures: dict[str, Exception] = {}
    try:
        if batch.group is None:
            workdir = folder / directories[0]
            runs.train(quiet[0].config, workdir, dataset=dataset)
            folders.record_strategy(workdir, batch.strategy, None)
        else:
            failures = train_group(folder, batch.group, batch.strategy, quiet, directories, dataset)
    except files.InUseError:
        raise
    except Exception as error:
        failures = dict.fromkeys(directories, error)
        if batch.group is not None:
            strategies.forget_group(folder, batch.group)
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
    dataset: Dataset | ReadOnce | None = None,
) -> Table:
    """The table of trials that have all ended; `dataset` is the data set that was passed to the study, if any."""
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
    table = Table(tuple(records), ensembles, metric, baseline, known)
    write_hyperparameters(folder, table, varied)
    return table


def read_record(folder: Path, trial: Trial, varied: Sequence[str] = ()) -> dict[str, Any]:
    """The record of a trial that has ended (see `Table.trials`).

    Args:
      folder: the folder of the study.
      trial: the trial.
      varied: the config fields to include.
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
        return record | {"error": f"{failure['kind']}: {failure['error']}" if failure else "not finished"}
    if (requested := folders.epochs_requested(folder, trial)) > trial.config.train.epochs:
        return record | {"error": f"its run was extended to {requested} epochs"}
    try:
        strategy = folders.read_strategy(workdir)
    except (ValueError, OSError) as error:  # files were damaged after the run had finished
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
    """The number of parameters of a trial's network; None if its run was not started or its description is damaged."""
    try:
        described = run_directory.read_description(folder / trial.directory)
    except ValueError:
        return None
    experiment = build(trial.config, runs.stored_facts(trial.config, described))
    shape = runs.network_shape(trial.config, described["image_shape"])
    return sum(leaf.size for leaf in jax.tree.leaves(state_shapes(experiment, shape).params))


def ensemble_figures(
    folder: Path, directories: Sequence[str], dataset: Dataset | ReadOnce | None = None
) -> dict[str, float] | None:
    """The test metrics of the averaged predictions of several trials, computed once and stored; None for fewer than two trials.

    The result is also None if the predictions cannot be averaged, because the test splits differ (this is stored) or because
    the checkpoints of a run cannot be read (not stored, so that the next call tries again).
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
            jax.clear_caches()  # releases the compiled program of each run
    content = files.read_json(path)
    named = {"test/loss": "test/nll"}  # the name in version 0.1.0
    return None if "error" in content else {named.get(name, name): v for name, v in content.items() if name != "trials"}
