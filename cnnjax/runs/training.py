"""Trains a config in a directory."""

import contextlib
import itertools
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from jaxtyping import UInt8
from ml_collections import ConfigDict

from cnnjax.config import differences, is_resumable, load_config, referenced_runs, to_json, user_files
from cnnjax.core import files
from cnnjax.core.locate import OBJECT
from cnnjax.core.runtime import make_deterministic
from cnnjax.data import transforms
from cnnjax.data.augment import AugmentOptions, output_shape
from cnnjax.data.batches import fetch, numbered, training_order
from cnnjax.data.datasets import Dataset, DatasetOptions, load_dataset
from cnnjax.data.displayed import displayed
from cnnjax.data.sequences import as_dataset, name_of
from cnnjax.models import MODELS
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
    prepared_in_training,
    streamed_crop,
)
from cnnjax.training.loop import run_training
from cnnjax.training.parallel import choose_devices, unused_gpu
from cnnjax.training.program import compile_program
from cnnjax.training.record import RunRecord
from cnnjax.training.state import State
from cnnjax.training.step import training_inputs
from cnnjax.transfer import keras
from cnnjax.transfer.published_weights import PREFIX
from cnnjax.transfer.torchvision import NETWORKS, load_torchvision, read_state_dict

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
      config: a config from `load_config`, or anything that it accepts.
      workdir: the run directory; None is `runs/<model>_<data set>`, with a number if that holds another config.
      dataset: a data set that replaces the config's: a result of `from_arrays`, `from_csv` or `from_sequence`, a sequence, or
        a tuple of sequences for train, valid and test.
      model: a Linen module that replaces the config's, with its own number of outputs.
      task: a task that replaces the config's.
      optimizer: an optax transformation that replaces the config's optimiser and learning rate.
      callbacks: functions that are called with events of the training on the first process; see `training.callbacks`.
      check_replicas: whether to compare the devices' copies of the state after each epoch, for debugging new layers.
      overwrite: whether to delete an existing run in the directory.
      allow_changed_files: whether to resume although the user's files, or a run that a component reads, have changed.

    Raises:
      ValueError: the config cannot be trained, or the directory holds a run of another config.
      files.InUseError: another process is using the directory.
      FloatingPointError: the loss is no longer finite.
      Interrupted: SIGINT or SIGTERM was received; the run is saved.
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
    # Data that do not fit are reported before anything is written.
    transforms.check_images(DatasetOptions(**config.dataset), dataset.image_shape, dataset.image_dtype)
    experiment = build(config, data_facts(config, dataset, given), given)
    # A run with checkpoints no longer needs its initial weights, which may have been deleted.
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
            raise RuntimeError("the first process could not start; see its message")
        if begins:
            shown = partial(network_images, config, experiment, dataset) if config.log.images else None
            record = RunRecord(workdir, config, experiment, callbacks, shown)
            progress = config.log.progress if processes.is_first() else "off"
            run_training(config, [experiment], program, record, devices, progress, check_replicas)
            record.done()
        processes.largest(0)  # a barrier: after it, the first process has written everything
    return load_run(workdir, model=model, task=task, optimizer=optimizer)


# The images of the first batch that TensorBoard is given.
IMAGES = 16


def network_images(
    config: ConfigDict, experiment: Experiment, dataset: Dataset
) -> UInt8[np.ndarray, "image height width channel"]:
    """The images of the first batch as the network gets them, augmented and normalised, as pictures."""
    train = dataset.splits["train"]
    repeats = config.augment.repeats
    drawn = training_order(config.seed, 0, config.dataset.balanced, train.labels, repeats)
    drawn = np.asarray(drawn[: min(IMAGES, config.train.batch_size)], np.int32)
    mask = np.ones(len(drawn), np.float32)
    facts = experiment.facts
    crop = streamed_crop(config, output_shape(dataset.image_shape, AugmentOptions(**config.augment)), 0)
    batch = fetch(train, {**numbered(drawn, len(train), repeats > 1), "mask": mask}, crop)
    prepared = prepared_in_training(config, dataset.statistics, facts.outputs, config.seed, facts.image_dtype)
    inputs = jax.jit(training_inputs(experiment.task, prepared, config.seed, experiment.steps_per_epoch))
    return displayed(np.asarray(inputs(batch, 0)["image"], np.float32))


def chosen_dataset(config: ConfigDict, given: Any = None) -> Dataset:
    """The data set that a config names, or a data set passed from Python with the config's options applied.

    Raises:
      ValueError: there is no such data set, or a field of the section does not apply to the passed data set.
    """
    options = DatasetOptions(**config.dataset)
    report = reporter(config)
    return load_dataset(options, report, folder=config.folder) if given is None else as_dataset(given, options, report)


def with_objects(
    config: ConfigDict,
    dataset: Any,
    given: Given = Given(),  # noqa: B008
) -> tuple[ConfigDict, Given]:
    """The config with recorded names for objects that were passed from Python instead of named.

    Raises:
      ValueError: the config is that of a run with an object that is not passed.
    """
    if missing := missing_objects(config, {"dataset": dataset, **given._asdict()}):
        raise ValueError(
            f"the config is that of a run with objects from Python: pass them again, {missing}, or name them, as in "
            "./file.py:Attribute"
        )
    names = {section: value for section, value in given._asdict().items() if value is not None}
    overrides = {f"{section}.name": f"{OBJECT}{_object_name(value)}" for section, value in names.items()}
    if given.optimizer is not None:  # the transformation has its own learning rate
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
    """The names of model and data set for a folder name: "./mynet.py:MyNet" and "object:digits" -> "MyNet_digits"."""
    names = config.model.name, Path(config.dataset.name).name
    return "_".join(name.rpartition(":")[2] for name in names)


def _check_own(config: ConfigDict, experiment: Experiment, dataset: Dataset, shapes: State) -> None:
    """Raises ValueError if a user's component does not work, or a network is for another task, before anything is written."""
    # Names with a colon are references to the user's components or objects. An optimiser needs no trace in advance.
    own = config.augment.extra or any(":" in config[section].name for section in ("task", "model", "loss"))
    network, others = MODELS.get(config.model.name), ("segmentation", "detection")
    other = network is not None and any((network.task == task) != (config.task.name == task) for task in others)
    if (own or other or config.evaluate.metric) and not config.dataset.streaming:
        check_steps(config, experiment, dataset, shapes)


def begin(
    config: ConfigDict,
    workdir: Path,
    dataset: Dataset,
    facts: DataFacts,
    devices: list[jax.Device],
    allow_changed_files: bool = False,
) -> bool:
    """Prepares a locked run directory for training; returns False if its run is finished.

    Args:
      config: the resolved config.
      workdir: the run directory, locked by `run_directory.in_use`.
      dataset: the loaded data set, whose description is written.
      facts: the facts about the data set (`Experiment.facts`).
      devices: the devices of the training, which are recorded.
      allow_changed_files: whether to resume although the user's files, or a run that a component reads, have changed.

    Raises:
      ValueError: the directory holds another run or other files.
    """
    read = {field: run_directory.fingerprint(path, field) for field, path in referenced_runs(config).items()}
    if run_directory.is_run(workdir) and run_directory.has_checkpoints(workdir):
        stored = stored_config(workdir)
        run_directory.check_not_imported(workdir)
        run_directory.read_history(workdir)  # raises an error for a damaged file before anything is written
        run_directory.check_resumable(workdir, config, stored, what_matters(stored, config))
        run_directory.check_same_data(run_directory.read_description(workdir), dataset, f"run directory {workdir}")
        run_directory.check_same_files(workdir, user_files(config), allow_changed_files)
        run_directory.check_same_runs(workdir, read, allow_changed_files)
        longer = config.train.epochs > stored.train.epochs
        if run_directory.is_finished(workdir) and not longer:
            return False
        if longer and config.schedule.name != "constant":
            reporter(config)(f"from now on the {config.schedule.name} schedule is for {config.train.epochs} epochs")
    elif run_directory.is_run(workdir):  # it ended without a checkpoint, so nothing is lost
        run_directory.clear(workdir)
    elif run_directory.foreign_files(workdir):
        raise ValueError(f"{workdir} holds other files, not a run: choose another --workdir, or an empty folder")
    elif run_directory.has_checkpoints(workdir):
        raise ValueError(
            f"{workdir} holds checkpoints but no {run_directory.CONFIG}: restore it from a copy, choose another --workdir, or "
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
    """The variables from which a config's training starts; None if they are drawn at random."""
    published = MODELS.get(config.model.name)
    encoder = published and (config.model.get("encoder") or published.encoder)
    if config.initial.run is not None:
        run = load_run(config.initial.run)
        if encoder and run.config.model.name == encoder:
            return {"encoder": run.selected.variables}
        changed = [
            f"{path} is {old!r} in that run, {new!r} here"
            for path, (old, new) in differences(run.config, config).items()
            if path.startswith("model.")
        ]
        if changed:
            logger.warning("initial.run: the model of that run differs from this one (%s)", "; ".join(changed))
        return run.selected.variables
    if config.initial.weights is None:
        return None
    if keras.is_keras_file(config.initial.weights):
        return _keras_variables(config.initial.weights, config.model.name, encoder)
    theirs = {ours: name for name, ours in NETWORKS.items()}
    if encoder in theirs and (config.model.name not in theirs or is_of_imagenet(config.initial.weights)):
        return {"encoder": load_torchvision(theirs[encoder], config.initial.weights, encoder=True)[1]}
    if config.model.name not in theirs:
        raise ValueError(
            f"config: initial.weights: torchvision has no network that equals {encoder or config.model.name}: choose "
            f"{'model.encoder' if encoder else 'model.name'} from {', '.join(sorted(NETWORKS.values()))}"
        )
    return load_torchvision(theirs[config.model.name], config.initial.weights)[1]


def _keras_variables(file: str, model: str, encoder: str | None) -> Mapping[str, Any]:
    """The variables of a network, or of its encoder, from a file of Keras's; the network takes RGB images."""
    theirs = {ours: name for name, ours in keras.NETWORKS.items()}
    ours = encoder or model
    if ours not in theirs:
        raise ValueError(
            f"config: initial.weights: {file} is Keras's, which has no network that equals {ours}: choose from {', '.join(sorted(theirs))}"
        )
    variables = keras.load_keras(theirs[ours], file, reverse_channels=MODELS[ours].keras.bgr)[1]
    return {"encoder": variables} if encoder else variables


def is_of_imagenet(weights: str) -> bool:
    """Whether weights, by torchvision's name for them or as a file, are of a network for classification."""
    if weights.startswith(f"{PREFIX}:"):
        return weights.startswith(f"{PREFIX}:IMAGENET")
    return weights != PREFIX and not any(name.startswith("backbone.") for name in read_state_dict(Path(weights)))


def what_matters(stored: ConfigDict, config: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """The fields in which two configs differ and that affect results."""
    return {path: values for path, values in differences(stored, config).items() if not is_resumable(path)}


def free_directory(name: str, config: ConfigDict) -> Path:
    """`runs/<name>`, or with a number (`runs/<name>-2`) if that holds a run of another config or other files.

    A config with another number of epochs counts as another config here: to extend a run, name its directory.
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
    except (ValueError, TypeError):  # damaged, or written by another version of cnnjax
        return False
    return not what_matters(stored, config) and stored.train.epochs == config.train.epochs
