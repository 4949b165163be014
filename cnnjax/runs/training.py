"""A config and a directory -> a trained run."""

import contextlib
import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import optax
from ml_collections import ConfigDict

from cnnjax.config import differences, is_resumable, load_config, referenced_runs, to_json, user_files
from cnnjax.core import files
from cnnjax.core.locate import OBJECT
from cnnjax.core.runtime import make_deterministic
from cnnjax.data import transforms
from cnnjax.data.datasets import Dataset, DatasetOptions, load_dataset
from cnnjax.data.sequences import as_dataset, name_of
from cnnjax.runs.loading import load_run, missing_objects, stored_config
from cnnjax.runs.run import Run, reporter
from cnnjax.tasks.task import Task
from cnnjax.training import processes, run_directory
from cnnjax.training.callbacks import Callback
from cnnjax.training.check import check_steps
from cnnjax.training.experiment import (
    DataFacts,
    Experiment,
    Given,
    build,
    check_batch_size,
    data_facts,
)
from cnnjax.training.loop import run_training
from cnnjax.training.parallel import choose_devices, unused_gpu
from cnnjax.training.program import compile_program
from cnnjax.training.record import RunRecord
from cnnjax.training.state import State
from cnnjax.transfer.torchvision import NETWORKS, load_torchvision

logger = logging.getLogger(__name__)


def train(
    config: ConfigDict | Mapping[str, Any] | str | Path,
    workdir: str | Path | None = None,
    *,
    dataset: Any = None,
    model: nn.Module | None = None,
    task: Task | None = None,
    optimizer: optax.GradientTransformation | None = None,
    callbacks: Sequence[Callback] = (),
    check_replicas: bool = False,
    overwrite: bool = False,
    allow_changed_files: bool = False,
) -> Run:
    """Trains a config in a directory, or resumes a training that was stopped.

    Args:
      config: from `load_config`, or anything it takes.
      workdir: the run directory; None is `runs/<model>_<data set>`, numbered where that holds another config.
      dataset: the data set in the place of the config's: what `from_arrays`, `from_csv` or `from_sequence` makes, a sequence, or
        a tuple of those for train, valid and test.
      model: a Linen module in the place of the config's, with its number of outputs.
      task: in the place of the config's.
      optimizer: an optax transformation in the place of the config's, its learning rate included.
      callbacks: functions of an event of training, see `training.callbacks`; called on the first process.
      check_replicas: a debugging aid for new layers: after each epoch, compare the devices' copies of the state.
      overwrite: delete the run that is there.
      allow_changed_files: resume though the user's own files, or a run that a component reads, have changed since.

    Raises:
      ValueError: a config that cannot be run, or the directory holds a run of another config.
      files.InUseError: another process is using the directory.
      FloatingPointError: the loss is no longer finite.
      Interrupted: SIGINT or SIGTERM came; the run is saved.
    """
    config, given = with_objects(load_config(config), dataset, Given(model, task, optimizer))
    if workdir is None:
        workdir = free_directory(short_name(config), config)
    workdir = Path(workdir).expanduser()
    processes.start()
    if config.train.deterministic:
        make_deterministic()
    devices = choose_devices(config.devices)
    workdir = processes.share(workdir)
    if warning := unused_gpu(devices):
        logger.warning(warning)
    check_batch_size(config.train.batch_size, len(devices) * processes.count())
    dataset = chosen_dataset(config, dataset)
    # What would not fit is said now, before anything is written.
    transforms.check_images(DatasetOptions(**config.dataset), dataset.image_shape, dataset.image_dtype)
    experiment = build(config, data_facts(config, dataset, given), given)
    # Once something is saved, what the run started from may be gone.
    source = None if run_directory.has_checkpoints(workdir) and not overwrite else initial_variables(config)
    program = compile_program(config, experiment, dataset, devices, source, workdir)
    if overwrite or not run_directory.has_checkpoints(workdir):
        _check_own(config, experiment, dataset, program.shapes)
    with contextlib.ExitStack() as stack:
        begins = None
        if processes.is_first():
            try:
                stack.enter_context(run_directory.in_use(workdir))
                if overwrite:
                    run_directory.clear(workdir)
                begins = begin(config, workdir, dataset, experiment.facts, devices, allow_changed_files)
            except BaseException:
                processes.share(None)
                raise
        begins = processes.share(begins)
        if begins is None:
            raise RuntimeError("the first process could not begin; its message says why")
        if begins:
            record = RunRecord(workdir, config, experiment, callbacks)
            progress = config.log.progress if processes.is_first() else "off"
            run_training(config, [experiment], program, record, devices, progress, check_replicas)
            record.done()
        processes.largest(0)  # wait for one another: the first has written all
    return load_run(workdir, model=model, task=task, optimizer=optimizer)


def chosen_dataset(config: ConfigDict, given: Any = None) -> Dataset:
    """The data set that a config names, or what it takes of one that was given from Python.

    Raises:
      ValueError: there is none of that name, or a field of the section has no meaning for the one that was given.
    """
    options = DatasetOptions(**config.dataset)
    report = reporter(config)
    return load_dataset(options, report, folder=config.folder) if given is None else as_dataset(given, options, report)


def with_objects(
    config: ConfigDict,
    dataset: Any,
    given: Given = Given(),  # noqa: B008
) -> tuple[ConfigDict, Given]:
    """The config with the names of objects that were given in its components' places, as a run records them.

    Raises:
      ValueError: the config is of a run that had an object which is not given.
    """
    if missing := missing_objects(config, {"dataset": dataset, **given._asdict()}):
        raise ValueError(
            f"the config is of a run with objects that are no names: give them again from Python, {missing}, or name them, as in "
            "./file.py:Attribute"
        )
    names = {section: value for section, value in given._asdict().items() if value is not None}
    overrides = {f"{section}.name": f"{OBJECT}{_object_name(value)}" for section, value in names.items()}
    if given.optimizer is not None:  # its own learning rate is all there is
        overrides["optimizer.learning_rate"] = 1.0
    if dataset is not None:
        overrides["dataset.name"] = f"{OBJECT}{name_of(dataset)}"
    if not overrides:
        return config, given
    if given.task is not None and given.task.criterion is None and config.loss.name == "cross_entropy":
        overrides["loss.name"] = given.task.default_loss
    return load_config(config, overrides), given


def _object_name(value: Any) -> str:
    return "optax" if isinstance(value, optax.GradientTransformation) else type(value).__name__


def short_name(config: ConfigDict) -> str:
    """The model's and data set's names as a folder can have them: "./mynet.py:MyNet" and "object:digits" -> "MyNet_digits"."""
    names = config.model.name, Path(config.dataset.name).name
    return "_".join(name.rpartition(":")[2] for name in names)


def _check_own(config: ConfigDict, experiment: Experiment, dataset: Dataset, shapes: State) -> None:
    """Raises ValueError for what is wrong with components of one's own, before anything is written."""
    # Names with a colon are the user's, as references or objects; an optimiser's update has nothing to trace beforehand.
    own = config.augment.extra or any(":" in config[section].name for section in ("task", "model", "loss"))
    if (own or config.evaluate.metric) and not config.dataset.streaming:
        check_steps(config, experiment, dataset, shapes)


def begin(
    config: ConfigDict,
    workdir: Path,
    dataset: Dataset,
    facts: DataFacts,
    devices: list[jax.Device],
    allow_changed_files: bool = False,
) -> bool:
    """Makes a directory that is in use by this process ready for training; False if its run has ended.

    Args:
      config: the resolved config.
      workdir: the run directory, held by `training.in_use`.
      dataset: the loaded data set, which is described there.
      facts: what was built depends on these of the data set (`Experiment.facts`).
      devices: the devices that the run is trained on, which are recorded.
      allow_changed_files: resume though the user's own files, or a run that a component reads, have changed since.

    Raises:
      ValueError: it holds another run, or other files.
    """
    read = {field: run_directory.fingerprint(path, field) for field, path in referenced_runs(config).items()}
    if run_directory.is_run(workdir) and run_directory.has_checkpoints(workdir):
        stored = stored_config(workdir)
        run_directory.check_not_imported(workdir)
        run_directory.read_history(workdir)  # a damaged one is refused before anything is written
        run_directory.check_resumable(workdir, config, stored, what_matters(stored, config))
        run_directory.check_same_data(run_directory.read_description(workdir), dataset, f"run directory {workdir}")
        run_directory.check_same_files(workdir, user_files(config), allow_changed_files)
        run_directory.check_same_runs(workdir, read, allow_changed_files)
        longer = config.train.epochs > stored.train.epochs
        if run_directory.is_finished(workdir) and not longer:
            return False
        if longer and config.schedule.name != "constant":
            reporter(config)(
                f"from here on the {config.schedule.name} schedule is that of {config.train.epochs} epochs"
            )
    elif run_directory.is_run(workdir):  # ended before it had saved anything: nothing is lost
        run_directory.clear(workdir)
    elif run_directory.foreign_files(workdir):
        raise ValueError(f"{workdir} holds other files and no run: choose another --workdir, or an empty folder")
    elif run_directory.has_checkpoints(workdir):
        raise ValueError(
            f"{workdir} holds checkpoints and no {run_directory.CONFIG}: restore it from a copy, choose another --workdir, or "
            "--overwrite"
        )
    run_directory.clear_temporaries(workdir)
    files.write_json(workdir / run_directory.DATASET, run_directory.describe_dataset(dataset, facts.outputs))
    own = user_files(config)
    run_directory.copy_files(workdir, own)
    run_directory.write_environment(workdir, devices, own, read)
    files.write_json(workdir / run_directory.CONFIG, to_json(config))
    return True


def initial_variables(config: ConfigDict) -> Mapping[str, Any] | None:
    """The variables that a config's training starts from; None where they are drawn."""
    if config.initial.run is not None:
        run = load_run(config.initial.run)
        changed = [
            f"{path} {old!r} there, {new!r} here"
            for path, (old, new) in differences(run.config, config).items()
            if path.startswith("model.")
        ]
        if changed:
            logger.warning("initial.run: its model is not quite this one (%s)", "; ".join(changed))
        return run.selected.variables
    if config.initial.weights is None:
        return None
    name = next((name for name, ours in NETWORKS.items() if ours == config.model.name), None)
    if name is None:
        raise ValueError(
            f"config: initial.weights: torchvision has no network that equals {config.model.name}: choose model.name from "
            f"{', '.join(sorted(NETWORKS.values()))}"
        )
    return load_torchvision(name, config.initial.weights)[1]


def what_matters(stored: ConfigDict, config: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """The fields in which two configs differ and that change a run's numbers."""
    return {path: values for path, values in differences(stored, config).items() if not is_resumable(path)}


def free_directory(name: str, config: ConfigDict) -> Path:
    """`runs/<name>`, or with a number (`runs/<name>-2`) where that holds a run of another config or other files.

    A run of more or fewer epochs is another one here: making a run longer is asked for by naming its directory.
    """
    candidates = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return next(workdir for workdir in candidates if _is_free(workdir, config))


def _is_free(workdir: Path, config: ConfigDict) -> bool:
    if not workdir.exists():
        return True
    if not run_directory.is_run(workdir):
        return not run_directory.foreign_files(workdir) and not run_directory.has_checkpoints(workdir)
    try:
        stored = stored_config(workdir)
    except (ValueError, TypeError):  # damaged, or of another version of cnnjax
        return False
    return not what_matters(stored, config) and stored.train.epochs == config.train.epochs
