"""Runs: a config and a directory -> a trained run; a directory -> the run again."""

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import numpy as np
import optax
from jaxtyping import Float, Num, UInt8
from ml_collections import ConfigDict
from PIL import Image

from cnnjax.config import OBJECT, differences, is_resumable, load_config, referenced_runs, to_json, user_files
from cnnjax.core import files
from cnnjax.core.options import declared, unknown
from cnnjax.core.runtime import make_deterministic
from cnnjax.core.terminal import say
from cnnjax.data import fitting, transforms
from cnnjax.data.augment import AugmentOptions, output_shape
from cnnjax.data.catalogue import imagenet_label_names
from cnnjax.data.datasets import SPLITS, Dataset, DatasetOptions, Split, load_dataset, select
from cnnjax.data.fitting import Fitted, Resize
from cnnjax.data.views import central_view
from cnnjax.models import MODELS
from cnnjax.tasks.task import Task
from cnnjax.training import evaluation, processes, rate_finder, run_directory
from cnnjax.training.callbacks import Callback
from cnnjax.training.checkpoints import CheckpointError, CheckpointOptions, Checkpoints
from cnnjax.training.experiment import (
    DataFacts,
    Given,
    build,
    check_batch_size,
    data_facts,
    predicting_step,
    prepared_views,
    state_shapes,
)
from cnnjax.training.loop import run_training
from cnnjax.training.parallel import choose_devices, program_over_devices, replicate, unused_gpu
from cnnjax.training.program import compile_program
from cnnjax.training.rate_finder import RateTest
from cnnjax.training.record import RunRecord
from cnnjax.training.state import State, start_from
from cnnjax.training.step import (
    evaluation_inputs,
    evaluation_step,
    feature_step,
    layer_input,
    layer_output,
)
from cnnjax.transfer.initial import layer_order
from cnnjax.transfer.torchvision import NETWORKS, load_torchvision

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    pass


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run, from its directory.

    Attributes:
      workdir: the directory.
      config: the resolved config.
      model: the network; `model.apply(state.variables, images)` gives its outputs.
      task: what it was trained for, with the config's loss.
      state: the state training ended with.
      history: the lines of `metrics.jsonl`.
      selected: the state that predictions and the test use, of the checkpoint that `evaluate.checkpoint` names.
      described: what `dataset.json` holds.
    """

    workdir: Path
    config: ConfigDict
    model: nn.Module
    task: Task = dataclasses.field(repr=False)
    state: State
    history: list[dict[str, Any]]
    selected: State = dataclasses.field(repr=False)
    described: Mapping[str, Any] = dataclasses.field(repr=False)

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of everything measured: metrics["test/accuracy"]."""
        latest: dict[str, float] = {}
        for line in self.history:
            latest |= line
        return latest

    @property
    def probabilities(self) -> Callable[[jax.Array], jax.Array]:
        """Logits -> probabilities of the classes, of a classification."""
        return self.task.criterion.probabilities

    @property
    def facts(self) -> DataFacts:
        """What the network and the loss were built for."""
        return stored_facts(self.config, self.described)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes' names, in the order of the logits."""
        return tuple(self.described["label_names"])

    @cached_property
    def _predict(self) -> Any:
        devices = choose_devices(None)  # all there are, which need not be those of the training
        self.task.prepare()
        statistics, shape = run_directory.read_statistics(self.described), tuple(self.described["image_shape"])
        step = predicting_step(self.config, self.model, self.task, statistics, self.facts, shape)
        compiled = program_over_devices(step, self.config.train.ops, devices)
        variables = replicate(self.selected.variables, devices)
        return lambda split: evaluation.predict(compiled, variables, split, self.config.evaluate.batch_size, devices)

    @property
    def _normalize(self) -> Callable[[jax.Array], jax.Array]:
        statistics = run_directory.read_statistics(self.described)
        return partial(transforms.normalize, options=DatasetOptions(**self.config.dataset), statistics=statistics)

    @property
    def inputs(self) -> Callable[[jax.Array], jax.Array]:
        """Prepared images, 0 to 255 -> what the network takes: the central crop, normalised. Differentiable."""
        return central_view(self._crop, self._normalize)

    @property
    def _crop(self) -> tuple[int, int] | None:
        return AugmentOptions(**self.config.augment).crop

    def fit(
        self,
        image: UInt8[np.ndarray, "height width *channel"] | Image.Image,
        name: str = "image",
        resize: Resize = "auto",
    ) -> Fitted:
        """One picture as the network's data were prepared, with remarks on what the training does not do; see `fitting.fit`.

        Raises:
          ValueError: it is no image of uint8, or `resize` is "refuse" and its size does not fit.
        """
        if not isinstance(image, Image.Image):
            array = np.asarray(image)
            if (
                array.dtype != np.uint8
                or array.ndim not in (2, 3)
                or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4))
            ):
                raise ValueError(
                    f"{name}: expected uint8 of (height, width) or (height, width, channel), got {array.dtype} of {array.shape}"
                )
            image = Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)
        statistics = run_directory.read_statistics(self.described)
        options = DatasetOptions(**self.config.dataset)
        return fitting.fit(image, name, options, tuple(self.described["image_shape"]), statistics, resize)

    def prepare(
        self,
        image: UInt8[np.ndarray, "height width *channel"] | Image.Image,
        name: str = "image",
        resize: Resize = "auto",
    ) -> UInt8[np.ndarray, "height width channel"]:
        """One picture as the network's data were prepared: colour space, size, padding. Arguments as in `fit`.

        What the training does not do, such as resizing where the config resizes nothing, is logged as a warning.

        Raises:
          ValueError: it is no image of uint8, or `resize` is "refuse" and its size does not fit.
        """
        fitted = self.fit(image, name, resize)
        _warn([(name, fitted.remarks)])
        return fitted.pixels

    def prepare_all(
        self, images: Sequence[Any] | np.ndarray, resize: Resize = "auto"
    ) -> UInt8[np.ndarray, "image height width channel"]:
        """Pictures as `prepare` makes them, as one array; each warning once, with how many it concerns.

        Raises:
          ValueError: as `prepare`; the message says which image.
        """
        names = [f"image {index}" for index in range(len(images))]
        fitted = [self.fit(image, name, resize) for name, image in zip(names, images, strict=True)]
        _warn([(name, one.remarks) for name, one in zip(names, fitted, strict=True)])
        return np.stack([one.pixels for one in fitted])

    def predict(self, images: Sequence[Any] | np.ndarray, resize: Resize = "auto") -> Any:
        """What the task predicts of each image, (image, ...), which are prepared as the training data were.

        Of a classification these are the probabilities of the classes; of a multi-label classification each class's own; of a
        regression the numbers.

        Args:
          images: uint8 arrays (height, width) or (height, width, channel), or Pillow images.
          resize: "auto" makes images of another size fit, and logs that; "refuse" raises ValueError.

        Raises:
          ValueError: an image is of the wrong type or size; the message says which.
        """
        if not len(images):
            one = np.zeros((1, *self.described["image_shape"]), np.uint8)
            return jax.tree.map(lambda array: array[:0], self.predict_prepared(one))
        return self.predict_prepared(self.prepare_all(images, resize))

    def predict_prepared(self, pixels: Num[np.ndarray, "image height width channel"]) -> Any:
        """The predictions for images that are prepared already: a data set's split, or what `prepare` returned."""
        return self._predict(self._unlabelled(pixels))

    def _unlabelled(self, pixels: np.ndarray) -> Split:
        """Images with labels of the right shape that mean nothing."""
        shape, dtype = self.described.get("label_shape", ()), self.described.get("label_dtype", "int32")
        return Split(pixels, np.zeros((len(pixels), *shape), dtype))

    def measure(self, split: Split) -> dict[str, float]:
        """The task's metrics of a split, the config's loss among them, by the central view of each image."""
        devices = choose_devices(None)
        self.task.prepare()
        statistics, shape = run_directory.read_statistics(self.described), tuple(self.described["image_shape"])
        [central] = prepared_views(self.config, statistics, self.facts.outputs, shape, "one")
        inputs = evaluation_inputs(self.task, central, self.config.seed)
        step = evaluation_step(self.model, self.task, inputs)
        compiled = program_over_devices(step, self.config.train.ops, devices)
        variables = replicate(self.selected.variables, devices)
        sums = evaluation.evaluate(compiled, variables, split, self.config.evaluate.batch_size, devices)
        return evaluation.checked_metrics(self.task.summarize(sums), self.task)

    def network_inputs(
        self, pixels: UInt8[np.ndarray, "image height width channel"]
    ) -> Float[np.ndarray, "image height width channel"]:
        """What the network takes for images that are prepared already: their central crop, normalised.

        Args:
          pixels: a data set's images, or what `prepare` returned.

        Raises:
          ValueError: they are of another type or size, or there are none.
        """
        expected = tuple(self.described["image_shape"])
        if getattr(pixels, "dtype", None) != np.uint8 or not len(pixels) or pixels.shape[1:] != expected:
            shape = getattr(pixels, "shape", "no array")
            raise ValueError(
                f"images of shape {shape}: expected uint8 of (images, {', '.join(map(str, expected))}), a data set's or "
                "what run.prepare returned, and at least one"
            )
        return np.asarray(self._compiled_inputs(pixels))

    @cached_property
    def _compiled_inputs(self) -> Callable[[np.ndarray], jax.Array]:
        return jax.jit(self.inputs)

    def features(self, images: Sequence[Any] | np.ndarray, layer: str) -> Float[np.ndarray, "image *shape"]:
        """What a layer puts out for each image, before the activation that follows it: to train or to compare on.

        Args:
          images: as for `predict`; the central crop is looked at.
          layer: its path, such as "fc7" or "conv4_1/bn2".

        Raises:
          ValueError: there is no such layer, or an image does not fit.
        """
        self.check_layer(layer)
        if not len(images):
            raise ValueError("features: no images were given")
        pixels = self.prepare_all(images)
        return self._reader(layer_output(self.model, layer))(pixels)

    def vectors(
        self, pixels: UInt8[np.ndarray, "image height width channel"], layer: str | None = None
    ) -> Float[np.ndarray, "image feature"]:
        """One vector for each image that is prepared already: a data set's split, or what `prepare` returned.

        Args:
          pixels: the central crop is looked at.
          layer: whose output is taken, a map's mean over its positions; None is the last layer's input, what the
            network's classifier sees.

        Raises:
          ValueError: there is no such layer.
        """
        if layer is not None:
            self.check_layer(layer)
        return self._vectors(layer)(pixels)

    @cached_property
    def _vectors(self) -> Callable[[str | None], Callable[[np.ndarray], np.ndarray]]:
        def of(layer: str | None) -> Callable[[np.ndarray], np.ndarray]:
            read = layer_input(self.model, self.layers[-1]) if layer is None else layer_output(self.model, layer)
            return self._reader(lambda variables, images: mean_over_positions(read(variables, images)))

        return functools.cache(of)  # each layer's program is compiled once

    @cached_property
    def layers(self) -> list[str]:
        """The paths of the layers that have parameters, in the order in which an image meets them."""
        shape = network_shape(self.config, self.described["image_shape"])
        return layer_order(self.model, jax.ShapeDtypeStruct((1, *shape), np.float32))

    def check_layer(self, layer: str) -> None:
        """Raises ValueError, with the nearest names, if the network has no such layer."""
        if layer not in self.layers:
            raise ValueError(unknown("layer", layer, self.layers))

    def _reader(self, read: Callable[[Mapping[str, Any], jax.Array], jax.Array]) -> Callable[[np.ndarray], np.ndarray]:
        """Prepared images -> what `read` finds in the network for each."""
        devices = choose_devices(None)
        compiled = program_over_devices(feature_step(read, self.inputs), self.config.train.ops, devices)
        variables = replicate(self.selected.variables, devices)
        size = self.config.evaluate.batch_size
        return lambda pixels: evaluation.predict(compiled, variables, self._unlabelled(pixels), size, devices)


def _warn(remarks: Sequence[tuple[str, Sequence[str]]]) -> None:
    for line in fitting.summarize(remarks):
        logger.warning(line)


def mean_over_positions(features: Float[jax.Array, "image *position feature"]) -> Float[jax.Array, "image feature"]:
    """A map's mean over its positions, as global average pooling; vectors stay as they are. In float32."""
    return features.astype(np.float32).mean(range(1, features.ndim - 1))


def train(
    config: ConfigDict | Mapping[str, Any] | str | Path,
    workdir: str | Path | None = None,
    *,
    dataset: Dataset | None = None,
    model: nn.Module | None = None,
    task: Task | None = None,
    optimizer: optax.GradientTransformation | None = None,
    callbacks: Sequence[Callback] = (),
    check_replicas: bool = False,
    overwrite: bool = False,
    allow_changed_files: bool = False,
) -> Run:
    """Trains a config in a directory, and goes on where an earlier call was stopped.

    Args:
      config: from `load_config`, or anything it takes.
      workdir: the run directory; None is `runs/<model>_<data set>`, numbered where that holds another config.
      dataset: in the place of the config's, as `from_arrays` makes it.
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
        name = f"{_short(config.model.name)}_{_short(Path(config.dataset.name).name)}"
        workdir = free_directory(name, config)
    workdir = Path(workdir).expanduser()
    processes.start()
    if config.train.deterministic:
        make_deterministic()
    devices = choose_devices(config.devices)
    workdir = processes.share(workdir)
    if warning := unused_gpu(devices):
        logger.warning(warning)
    check_batch_size(config.train.batch_size, len(devices) * processes.count())
    options = DatasetOptions(**config.dataset)
    dataset = load_dataset(options, reporter(config)) if dataset is None else select(dataset, options)
    # What would not fit is said now, before anything is written.
    transforms.check_channels(DatasetOptions(**config.dataset), dataset.image_shape[-1])
    experiment = build(config, data_facts(config, dataset, given), given)
    # Once something is saved, what the run started from may be gone.
    source = None if run_directory.has_checkpoints(workdir) and not overwrite else initial_variables(config)
    program = compile_program(config, experiment, dataset, devices, source, workdir)
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


def with_objects(config: ConfigDict, dataset: Dataset | None, given: Given) -> tuple[ConfigDict, Given]:
    """The config with the names of objects that were given in its components' places, as a run records them."""
    names = {section: value for section, value in given._asdict().items() if value is not None}
    overrides = {f"{section}.name": f"{OBJECT}{_object_name(value)}" for section, value in names.items()}
    if dataset is not None:
        overrides["dataset.name"] = f"{OBJECT}{dataset.name}"
    if not overrides:
        return config, given
    if given.task is not None and given.task.criterion is None and config.loss.name == "cross_entropy":
        overrides["loss.name"] = given.task.default_loss
    return load_config(config, overrides), given


def _object_name(value: Any) -> str:
    return "optax" if isinstance(value, optax.GradientTransformation) else type(value).__name__


def _short(name: str) -> str:
    """A component's name as a folder can have it: "./mynet.py:MyNet" -> "MyNet"."""
    return name.rpartition(":")[2]


def stored_facts(config: ConfigDict, described: Mapping[str, Any]) -> DataFacts:
    """What a run was built for, from its `dataset.json`. Imported weights have no training split: any number does."""
    outputs = described.get("outputs", {"num_classes": len(described["label_names"])})  # an older run has none
    counts = described["class_counts"] or ([1] * len(described["label_names"]) if described["label_names"] else None)
    return DataFacts(outputs, described["examples"].get("train", config.train.batch_size), counts)


def begin(
    config: ConfigDict,
    workdir: Path,
    dataset: Dataset,
    facts: DataFacts,
    devices: list[jax.Device],
    allow_changed_files: bool = False,
) -> bool:
    """Makes a directory that is in use by this process ready for training; False if its run has ended.

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


def reporter(config: ConfigDict) -> Any:
    quiet = config.log.progress == "off" or not processes.is_first()
    return (lambda line: None) if quiet else say


def network_shape(config: ConfigDict, image_shape: Sequence[int]) -> tuple[int, int, int]:
    """The shape of a prepared image as the network takes it: cropped, where the config says so."""
    return output_shape(tuple(image_shape), AugmentOptions(**config.augment))


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


def stored_config(workdir: Path) -> ConfigDict:
    """A run's own config.

    Raises:
      ValueError: `config.json` is damaged.
    """
    given = files.read_json(workdir / run_directory.CONFIG)
    if not isinstance(given, dict) or not {"seed", "dataset", "model", "train"} <= given.keys():
        raise ValueError(f"{workdir / run_directory.CONFIG} is damaged: {run_directory.REMEDY}")
    copies = workdir.resolve() / run_directory.COPIES
    return load_config({**given, "folder": str(copies)} if copies.is_dir() else given)


def load_run(
    workdir: str | Path,
    *,
    model: nn.Module | None = None,
    task: Task | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> Run:
    """A run from its directory: `run.config`, `run.model`, `run.state`, `run.history`, `run.predict(images)`.

    An unfinished run is read up to its last checkpoint.

    Args:
      workdir: the run directory.
      model: the module that it was trained with, where `train` was given one.
      task: likewise the task.
      optimizer: likewise the optax transformation.

    Raises:
      FileNotFoundError: the directory holds no run.
      ValueError: it was trained with objects that are not given.
      CheckpointError: it has no checkpoint, or none that can be read.
    """
    workdir = Path(workdir).expanduser()
    if not run_directory.is_run(workdir):
        raise FileNotFoundError(
            f"{workdir} holds no run ({run_directory.CONFIG} is missing): train one with `cnnjax train`"
        )
    given = Given(model, task, optimizer)
    described, history = run_directory.read_description(workdir), run_directory.read_history(workdir)
    return restore(workdir, stored_config(workdir), described, history, given)


def check_given(config: ConfigDict, given: Given, workdir: Path) -> None:
    """Raises ValueError for what a run was trained with as an object, and is not given."""
    missing = [
        f"{section}=... ({config[section].name.removeprefix(OBJECT)})"
        for section in Given._fields
        if config[section].name.startswith(OBJECT) and getattr(given, section) is None
    ]
    if missing:
        raise ValueError(
            f"{workdir} was trained with objects that are no names: give them again, as in load_run({str(workdir)!r}, "
            f"{', '.join(missing)})"
        )


def restore(
    workdir: Path,
    config: ConfigDict,
    described: Mapping[str, Any],
    history: list[dict[str, Any]],
    given: Given = Given(),  # noqa: B008
) -> Run:
    """What `load_run` returns, of a directory whose files but the checkpoints are read already.

    Raises:
      CheckpointError: it has no checkpoint, or none that can be read.
    """
    check_given(config, given, workdir)
    experiment = build(config, stored_facts(config, described), given)
    shapes = state_shapes(experiment, network_shape(config, described["image_shape"]))
    folder = workdir / run_directory.CHECKPOINTS
    if not folder.is_dir():
        raise CheckpointError(f"{workdir} has no checkpoint yet: train on with `cnnjax train --workdir {workdir}`")
    options = CheckpointOptions(**config.checkpoint)
    with Checkpoints(folder, options, experiment.metric, experiment.mode, read_only=True) as checkpoints:
        latest = checkpoints.latest(shapes)
        if latest is None:
            raise CheckpointError(f"{workdir} has no checkpoint yet: train on with `cnnjax train --workdir {workdir}`")
        selected = (checkpoints.best(shapes) if config.evaluate.checkpoint == "best" else None) or latest
    return Run(
        workdir=workdir,
        config=config,
        model=experiment.model,
        task=experiment.task,
        state=latest.state,
        history=history,
        selected=selected.state,
        described=described,
    )


def evaluate(runs: Sequence[Run], split: str = "test", dataset: Dataset | None = None) -> dict[str, float]:
    """Metrics of a run, or of several runs' mean predictions, on a split.

    Of one run there are the task's sums, the config's loss among them, of the central view of each image; and, of one or
    several, what the task scores of the predictions, which are averaged over `evaluate.views` and runs. A classification's
    are `accuracy`; `nll`, the negative log-likelihood: the mean of -log p(label), in nats; `calibration_error`; with more
    than five classes `top5_accuracy`.

    Args:
      runs: of the same data set and task.
      split: train, valid or test.
      dataset: the runs', where `train` was given one.

    Raises:
      ValueError: an unknown split, or runs of different data.
    """
    return judge_split(runs, split, dataset)[0]


def judge_split(
    runs: Sequence[Run], split: str = "test", dataset: Dataset | None = None
) -> tuple[dict[str, float], Any, np.ndarray]:
    """What `evaluate` returns, and the predictions and labels that it is of; arguments and errors as there."""
    predictions, labels = predict_split(runs, split, dataset)
    task = runs[0].task
    scored = task.score(predictions, Split(np.zeros(len(labels)), labels)) | task.score_in_detail(predictions, labels)
    if len(runs) > 1:
        return scored, predictions, labels
    [run] = runs
    likely = run.config.evaluate.views == "one" and run.task.score_of_metrics({"loss": scored.get("nll", 0.0)})
    if likely and likely.get("nll") == scored.get("nll"):  # the loss is the score
        measured = {"loss": scored["nll"]}
    else:
        measured = run.measure(load_split(run, split, dataset))
    return {**measured, **scored}, predictions, labels


def load_split(run: Run, split: str = "test", dataset: Dataset | None = None) -> Split:
    """A split of the data that a run was trained on.

    Args:
      run: loaded.
      split: train, valid or test.
      dataset: the run's, where `train` was given one.

    Raises:
      ValueError: an unknown split, the data have changed since, or they were given from Python and are not here.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: expected train, valid or test")
    if dataset is None and run.config.dataset.name.startswith(OBJECT):
        raise ValueError(
            f"run {run.workdir}: its data set ({run.config.dataset.name.removeprefix(OBJECT)}) was given from Python and has no name: "
            "give it again, as in cnnjax.evaluate([run], dataset=...)"
        )
    # Of imported weights there is no more to compare than the one split.
    needed = (split,) if run.described.get("imported") else SPLITS
    dataset = dataset or load_dataset(DatasetOptions(**run.config.dataset), reporter(run.config), needed)
    run_directory.check_same_data(run.described, dataset, f"run {run.workdir}")
    return dataset.splits[split]


def predict_split(runs: Sequence[Run], split: str = "test", dataset: Dataset | None = None) -> tuple[Any, np.ndarray]:
    """The predictions, (example, ...), of a run, or the mean of several runs', for a split; and its labels.

    Args:
      runs: of the same data set and task.
      split: train, valid or test.
      dataset: the runs', where `train` was given one.

    Raises:
      ValueError: an unknown split, or runs of different data.
    """
    labels, total = None, None
    for run in runs:
        part = load_split(run, split, dataset)
        if labels is not None and (run.label_names != runs[0].label_names or not np.array_equal(part.labels, labels)):
            raise ValueError(
                f"{run.workdir} and {runs[0].workdir} cannot be averaged: their {split} splits have different examples or classes"
            )
        labels = part.labels
        predicted = jax.tree.map(lambda array: array.astype(np.float64), run.predict_prepared(part.images))
        total = predicted if total is None else jax.tree.map(np.add, total, predicted)
    return jax.tree.map(lambda array: array / len(runs), total), labels


def import_weights(
    source: str | Path | Mapping[str, Any],
    model: str,
    workdir: str | Path,
    label_names: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Run:
    """Makes a run of a torchvision network's weights, with torchvision's preprocessing for ImageNet.

    `evaluate`, `predict` and transfer learning take it as any other run. Its preprocessing is that of torchvision's
    first weights of every network: the shorter side to 256 pixels, the central 224 x 224, then ImageNet's mean and
    standard deviation by channel (GoogLeNet's own: 0.5 and 0.5). `overrides` change it.

    Args:
      source: a weight file, or the state dict: as `load_torchvision` takes it.
      model: torchvision's name, such as "resnet50".
      workdir: a directory that holds no run yet.
      label_names: of the classes, in order; None is ImageNet's where there are 1000, else "class 0", "class 1", ...
      overrides: {"dataset.resize": (232, 232)} for weights with other preprocessing; {"dataset.name": "photos/"} for
        other data to evaluate on.

    Raises:
      ValueError: weights that do not fit, label names of another number, or the directory is not empty.
    """
    workdir = Path(workdir).expanduser()
    network, variables = load_torchvision(model, source)
    if label_names is None:
        classes = range(network.num_classes)
        label_names = imagenet_label_names() if len(classes) == 1000 else [f"class {index}" for index in classes]
    if len(label_names) != network.num_classes:
        raise ValueError(
            f"{len(label_names)} label names were given and the weights have {network.num_classes} classes"
        )
    mean, std = ((0.5,) * 3, (0.5,) * 3) if model == "googlenet" else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    options = {key: getattr(network, key) for key in declared(MODELS[NETWORKS[model]].build)}
    preprocessing = {"resize": (256, 256), "crop": (224, 224), "normalize": "fixed", "mean": mean, "std": std}
    config = load_config(
        {
            "dataset": {"name": "imagenet2012", **preprocessing},
            "model": {"name": NETWORKS[model], **options},
            "optimizer": {"momentum": 0.0},  # nothing is trained: no momentum to store
        },
        overrides,
    )
    dataset = config.dataset
    size = dataset.pad or dataset.crop or dataset.resize
    if config.model.name != NETWORKS[model] or size is None or dataset.normalize == "dataset":
        raise ValueError(
            "imported weights: the config's model is given by the file; dataset.resize or dataset.crop must be set, and "
            "dataset.normalize cannot be 'dataset', for there is no training split"
        )
    channels = 1 if dataset.color_space == "grey" else 3
    transforms.check_channels(DatasetOptions(**dataset), channels)
    counts = [config.train.batch_size] * network.num_classes
    experiment = build(config, DataFacts({"num_classes": network.num_classes}, sum(counts), counts))
    state_shapes(experiment, network_shape(config, (*size, channels)))  # refuses images that are too small
    state = jax.device_get(start_from(variables["params"], variables.get("batch_stats", {}), experiment.optimizer))
    with run_directory.in_use(workdir):
        if run_directory.is_run(workdir) or run_directory.foreign_files(workdir):
            raise ValueError(f"{workdir} is not empty: choose another --workdir")
        with Checkpoints(workdir / run_directory.CHECKPOINTS, CheckpointOptions(**config.checkpoint)) as checkpoints:
            checkpoints.save(state, {"sums": None}, None)
        run_directory.write_environment(workdir, choose_devices(None), {})
        description = run_directory.describe_import(model, source, label_names, (*size, channels))
        files.write_json(workdir / run_directory.DATASET, description)
        files.write_json(workdir / run_directory.CONFIG, to_json(config))  # last: with it the directory is a run
    return load_run(workdir)


def find_learning_rate(
    config: ConfigDict | Mapping[str, Any] | str | Path, lowest: float = 1e-6, highest: float = 10.0, steps: int = 100
) -> RateTest:
    """The learning-rate range test of a config: its loss while the rate rises from `lowest` to `highest`.

    Args:
      config: from `load_config`, or anything it takes.
      lowest: rate of the first step.
      highest: of the last; the test ends before, where the loss bursts.
      steps: how many.

    Raises:
      ValueError: the config cannot be run, or the rates are not in order.
    """
    config = load_config(config)
    devices = choose_devices(config.devices)
    check_batch_size(config.train.batch_size, len(devices))
    dataset = load_dataset(DatasetOptions(**config.dataset), reporter(config))
    return rate_finder.find_learning_rate(config, dataset, devices, lowest, highest, steps)
