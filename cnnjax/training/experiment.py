"""Builds an experiment from a config and facts about its data: task, model, schedule, optimiser and their steps."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array
from ml_collections import ConfigDict

from cnnjax.core.locate import is_reference, locate
from cnnjax.core.options import TrainedAlone, fraction, positive
from cnnjax.core.randomness import key_for
from cnnjax.data.augment import AugmentOptions, augment_examples, changes, find_extra, mix, resized, training_size
from cnnjax.data.batches import Batch
from cnnjax.data.datasets import Dataset, DatasetOptions
from cnnjax.data.streaming import RandomCrop
from cnnjax.data.transforms import Statistics, normalize
from cnnjax.data.views import MIRRORED, central_map, views
from cnnjax.models import MODELS
from cnnjax.models.linen import build_model, has_field, with_train_argument
from cnnjax.ops import choice
from cnnjax.tasks.losses import LOSSES, make_criterion
from cnnjax.tasks.registry import TASKS
from cnnjax.tasks.task import Mode, Prepared, Task, as_it_is, monitored
from cnnjax.training import probes
from cnnjax.training.evaluation import evaluation_crop
from cnnjax.training.optimizers import OPTIMIZERS, l2_penalty, make_optimizer, takes_values
from cnnjax.training.parallel import Parallel, device_memory
from cnnjax.training.schedules import SCHEDULES, make_schedule
from cnnjax.training.state import State, initial_shapes
from cnnjax.training.step import (
    Inputs,
    Metrics,
    evaluation_inputs,
    evaluation_step,
    prediction_step,
    train_step,
    training_inputs,
)
from cnnjax.transfer.freezing import Frozen, nothing


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """The config's `train` section."""

    batch_size: Annotated[
        int, "examples per step, over all devices; the last incomplete batch of an epoch is dropped", positive
    ] = 128
    epochs: Annotated[
        int, "passes over the training split", lambda epochs: None if 1 <= epochs <= 1_000_000 else "1 to 1,000,000"
    ] = 10
    precision: Annotated[
        Literal["float32", "bfloat16"], "precision of the computation; parameters and statistics are always float32"
    ] = "float32"
    ema: Annotated[
        float,
        "decay of the exponential moving average of the weights, which is then used for evaluation; 0 for none",
        fraction,
    ] = 0.0
    early_stopping: Annotated[
        int | None,
        TrainedAlone,
        "stop after this number of evaluations without an improvement of the followed metric (`evaluate.metric`)",
        positive,
    ] = None
    ops: Annotated[
        choice.Ops,
        'implementations of convolution and pooling: "fast" ones where available, or JAX\'s "stock" ones',
    ] = "fast"
    deterministic: Annotated[bool, "bitwise reproducible results on a GPU too, at some cost in speed"] = False
    parallel: Annotated[
        Parallel, "the JAX function that maps a step over devices; results have the same bits, checkpoints serve both"
    ] = "pmap"


class Given(NamedTuple):
    """Objects passed from Python that replace the config's names; None where the name is used."""

    model: nn.Module | None = None
    task: Task | None = None
    optimizer: optax.GradientTransformation | None = None


class DataFacts(NamedTuple):
    """The facts about a data set that an experiment depends on.

    Attributes:
      outputs: the model fields that depend on the data, as defined by the task.
      train_examples: the number of training examples.
      class_counts: the number of training examples of each class; None if the labels are not classes.
      image_dtype: the type of the stored images.
    """

    outputs: Mapping[str, Any]
    train_examples: int
    class_counts: Sequence[int] | None = None
    image_dtype: str = "uint8"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The objects that a config describes, without the state and the data."""

    task: Task
    facts: DataFacts
    model: nn.Module
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    steps_per_epoch: int
    total_steps: int
    accumulate: int
    averaged: bool
    penalty: Callable[[Any], jax.Array] | None  # a function of the parameters that is added to the loss
    metric: str  # the validation metric that the best checkpoint, early stopping, plateau and search follow
    mode: Mode  # whether a small or large metric is better

    def learning_rate(self, step: int, scale: float = 1.0) -> float:
        """The learning rate of a step, counted from 1, times the scale that the plateau schedule has reached."""
        return float(self.schedule((step - 1) // self.accumulate)) * scale


def _named(config: ConfigDict, section: str, numbers: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and options of a section's component, with some options replaced by `numbers`."""
    fields = config[section].to_dict()
    fields |= {path.partition(".")[2]: value for path, value in numbers.items() if path.startswith(f"{section}.")}
    return fields.pop("name"), fields


def build_task(
    config: ConfigDict,
    class_counts: Sequence[int] | None = None,
    given: Given = Given(),  # noqa: B008
    numbers: Mapping[str, Any] | None = None,
) -> Task:
    """Builds the config's task, with the config's loss as its criterion."""
    task = _plain_task(config, given, numbers or {})
    if task.criterion is not None:
        return task
    name, options = _named(config, "loss", numbers or {})
    loss = locate("config: loss.name", name, LOSSES, config.folder)
    return dataclasses.replace(task, criterion=make_criterion(loss, class_counts, **options))


def _plain_task(config: ConfigDict, given: Given, numbers: Mapping[str, Any]) -> Task:
    """The config's task, without the config's loss."""
    name, options = _named(config, "task", numbers)
    return given.task or locate("config: task.name", name, TASKS, config.folder)(**options)


def data_facts(config: ConfigDict, dataset: Dataset, given: Given = Given()) -> DataFacts:  # noqa: B008
    """The facts about a data set that an experiment depends on.

    Raises:
      ValueError: the task does not fit the data.
    """
    task = _plain_task(config, given, {})
    outputs = task.outputs(dataset)
    counts = (
        task.class_counts(dataset)
        if "class_weights" in config.loss and config.loss.class_weights
        else dataset.class_counts
    )
    return DataFacts(outputs, len(dataset.splits["train"]), counts, str(dataset.image_dtype))


def build(
    config: ConfigDict,
    facts: DataFacts,
    given: Given = Given(),  # noqa: B008
    numbers: Mapping[str, jax.Array] | None = None,
) -> Experiment:
    """Builds the task, model, schedule and optimiser.

    Args:
      config: the resolved config.
      facts: the facts about the data.
      given: objects that replace the config's names.
      numbers: scalars that replace config fields, as {"optimizer.learning_rate": ...}; JAX may trace them, so that one program
        serves several values.

    Raises:
      ValueError: a batch is larger than the training split.
    """
    numbers = numbers or {}
    steps_per_epoch = facts.train_examples // config.train.batch_size
    if not steps_per_epoch:
        raise ValueError(
            f"config: train.batch_size={config.train.batch_size} and the training split has {facts.train_examples} examples: "
            f"choose at most {facts.train_examples}"
        )
    total_steps, accumulate = steps_per_epoch * config.train.epochs, config.optimizer.accumulate
    if accumulate > total_steps:
        raise ValueError(f"config: optimizer.accumulate={accumulate}: the run has only {total_steps} steps")
    task = build_task(config, facts.class_counts, given, numbers)
    task.check_config(config)
    if given.model is None and given.task is None:
        check_model_serves(config)
    metric, mode = monitored(task, config.evaluate.metric, config.evaluate.mode)
    name, options = _named(config, "optimizer", numbers)
    schedule_name, schedule_options = _named(config, "schedule", numbers)
    # The schedule counts updates.
    updates = max(total_steps // accumulate, 1), steps_per_epoch / accumulate
    found = locate("config: schedule.name", schedule_name, SCHEDULES, config.folder)
    schedule = make_schedule(found, options.pop("learning_rate"), *updates, **schedule_options)
    rule = given.optimizer or locate("config: optimizer.name", name, OPTIMIZERS, config.folder)
    return Experiment(
        task=task,
        facts=facts,
        model=_build_model(config, facts.outputs, given, numbers),
        schedule=schedule,
        optimizer=make_optimizer(rule, schedule, **options),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        accumulate=accumulate,
        averaged=config.train.ema > 0,
        penalty=l2_penalty(options),
        metric=metric,
        mode=mode,
    )


def check_model_serves(config: ConfigDict) -> None:
    """Raises ValueError if the config's model and its task, both ours, do not fit: maps, boxes, and one answer for an image."""
    name, task = config.model.name, config.task.name
    if name not in MODELS or task not in TASKS:
        return
    serves = MODELS[name].task
    if serves in ("segmentation", "detection") and task != serves:
        raise ValueError(
            f"config: model.name={name!r} is a network for {serves} and task.name={task!r}: set task.name={serves!r}, or "
            "another model.name (`cnnjax models` lists them)"
        )
    if task == "detection" != serves:
        raise ValueError(
            f"config: task.name='detection' and model.name={name!r}, which is no detector: set model.name='retinanet' and "
            f"model.encoder={name!r}, or another detector (`cnnjax models` lists them)"
        )


def validates_predictions(config: ConfigDict) -> bool:
    """Whether the config's task scores the predictions for the validation split."""
    return _plain_task(config, Given(), {}).validates_predictions


def takes_loss_values(config: ConfigDict) -> bool:
    """Whether the config's optimiser needs the loss's `value`, `grad` and `value_fn`."""
    name, options = _named(config, "optimizer", {})
    del options["learning_rate"]
    return takes_values(locate("config: optimizer.name", name, OPTIMIZERS, config.folder), options)


def _build_model(
    config: ConfigDict, outputs: Mapping[str, Any], given: Given, numbers: Mapping[str, jax.Array]
) -> nn.Module:
    name, options = _named(config, "model", numbers)
    if given.model is not None:
        return with_train_argument(given.model)
    component = locate("config: model.name", name, {key: model.build for key, model in MODELS.items()}, config.folder)
    outputs = {"num_classes": 0, **outputs} if name in MODELS else outputs
    return build_model(component, outputs, jnp.dtype(config.train.precision), options, name)


def model_with_classes(config: ConfigDict, experiment: Experiment, count: int) -> nn.Module | None:
    """The experiment's model with another number of classes; None if the model has no number of classes."""
    if has_field(experiment.model, "num_classes"):
        return experiment.model.clone(num_classes=count)
    if "num_classes" in experiment.facts.outputs and is_reference(config.model.name):  # a function may take the number
        return _build_model(config, {**experiment.facts.outputs, "num_classes": count}, Given(), {})
    return None


def check_batch_size(batch_size: int, devices: int) -> None:
    """Raises ValueError, with the nearest sizes that work, if the devices cannot share a batch equally."""
    if batch_size % devices:
        below = batch_size - batch_size % devices
        near = " or ".join(str(size) for size in (below, below + devices) if size)
        raise ValueError(
            f"config: train.batch_size={batch_size} cannot be shared equally by {devices} devices: choose {near}"
        )


def check_memory(shapes: State, device: jax.Device) -> None:
    """Checks that the state fits into memory, because XLA hangs instead of failing if a CPU lacks the memory.

    Raises:
      ValueError: parameters, gradients and optimiser state exceed the memory of the device.
    """
    state = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    gradients = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes.params))
    memory = device_memory(device)
    if state + gradients > memory:
        raise ValueError(
            f"the model's parameters, gradients and optimiser state need {(state + gradients) / 2**30:,.1f} GiB and the device "
            f"has {memory / 2**30:,.1f} GiB: make the model smaller"
        )


def state_shapes(experiment: Experiment, image_shape: tuple[int, ...]) -> State:
    """The shapes of the state for network inputs of the given shape, without computing anything.

    Raises:
      ValueError: the model does not accept images of that shape.
    """
    try:
        return initial_shapes(experiment.model, experiment.optimizer, image_shape, experiment.averaged)
    except ValueError as error:
        raise ValueError(
            f"model {type(experiment.model).__name__} on images of {'x'.join(map(str, image_shape))}: {error}"
        ) from error


# --- the steps, to be mapped over devices ---------------------------------------------------------------------------


def _crops_streamed_images(config: ConfigDict) -> bool:
    """Whether the threads that decode streamed images crop them at full resolution, instead of the device."""
    return config.dataset.streaming and config.augment.resized_crop is not None


def streamed_crop(config: ConfigDict, image_shape: Sequence[int], epoch: int) -> RandomCrop | None:
    """The random crop of streamed images in an epoch; None if images are cropped on the device, or not at all.

    Args:
      config: the resolved config.
      image_shape: the shape of the network's input image, channels last.
      epoch: the epoch, from 0.
    """
    if not _crops_streamed_images(config):
        return None
    return RandomCrop(config.augment.resized_crop, tuple(image_shape[:2]), config.seed, epoch)


def prepared_in_training(
    config: ConfigDict,
    statistics: Statistics | None,
    outputs: Mapping[str, Any],
    seed: int | Array,
    dtype: str = "uint8",
    epoch: float = 0,
) -> Callable[[Array], Prepared]:
    """A function from the step number to the preparation of training images: augmentation, normalisation, mixing.

    Args:
      config: the resolved config.
      statistics: the statistics of the training split, for normalisation.
      outputs: the model fields that depend on the data.
      seed: the seed, which JAX may trace.
      dtype: the type of the stored images.
      epoch: the epoch, which determines the size of the images in progressive resizing.
    """
    options, augmentation = DatasetOptions(**config.dataset), AugmentOptions(**config.augment)
    if _crops_streamed_images(config):
        augmentation = dataclasses.replace(augmentation, resized_crop=None, crop=None, pad=0)

    extra, size = find_extra(augmentation, config.folder), training_size(augmentation, epoch)

    def examples(batch: Batch, keys: Array, ignore: int | None = None, visible: float | None = None) -> Batch:
        if changes(augmentation):
            kept = {name: batch[name] for name in ("image", "label") if name in batch}
            batch = {**batch, **augment_examples(kept, keys, augmentation, extra, dtype, ignore, visible)}
        return batch if size is None else {**batch, "image": resized(batch["image"], size)}

    def augmented(images: Array, keys: Array) -> Array:
        return examples({"image": images}, keys)["image"]

    def prepared(step: Array) -> Prepared:
        def mixed(images: Array, targets: Array) -> tuple[Array, Array]:
            if not (augmentation.mixup or augmentation.cutmix):
                return images, targets
            return mix(images, targets, key_for(seed, "mix", step), augmentation)

        normalized = partial(normalize, options=options, statistics=statistics, dtype=dtype)
        return Prepared(augmented, examples, normalized, mixed, outputs)

    return prepared


def prepared_views(
    config: ConfigDict,
    statistics: Statistics | None,
    outputs: Mapping[str, Any],
    image_shape: tuple[int, ...],
    name: str,
    dtype: str = "uint8",
) -> list[Prepared]:
    """The preparation of images in evaluation, one for each of the named views (see `data.views`)."""
    normalized = partial(normalize, options=DatasetOptions(**config.dataset), statistics=statistics, dtype=dtype)
    crop = evaluation_crop(config)
    seen = partial(views, normalize=normalized, name=name, crop=crop)

    def examples(batch: Batch, keys: Array, ignore: int | None = None, visible: float | None = None) -> Batch:
        return batch if ignore is None else {**batch, "label": central_map(batch["label"], crop)}

    count = len(jax.eval_shape(seen, jax.ShapeDtypeStruct((1, *image_shape), jnp.dtype(dtype))))
    prepared = [as_it_is(lambda images, place=place: seen(images)[place], outputs) for place in range(count)]
    return [one._replace(augment_examples=examples) for one in prepared]


def training_step(
    config: ConfigDict,
    experiment: Experiment,
    statistics: Statistics | None,
    seed: int | jax.Array,
    frozen: Frozen = nothing,
    epoch: float = 0,
) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """The training step of an experiment.

    Args:
      config: the resolved config.
      experiment: the experiment built from the config.
      statistics: the statistics of the training split, for normalisation.
      seed: the config's seed, which JAX may trace.
      frozen: the selection of frozen parameters.
      epoch: the epoch, which determines the size of the images in progressive resizing.
    """
    dtype = experiment.facts.image_dtype
    prepared = prepared_in_training(config, statistics, experiment.facts.outputs, seed, dtype, epoch)
    step = train_step(
        experiment.model,
        experiment.optimizer,
        experiment.task,
        training_inputs(experiment.task, prepared, seed, experiment.steps_per_epoch),
        seed,
        penalty=experiment.penalty,
        average=config.train.ema,
        accumulate=experiment.accumulate,
        frozen=frozen,
    )
    return choice.traced_with(config.train.ops, step)


def _central_inputs(config: ConfigDict, experiment: Experiment, dataset: Dataset, seed: Any) -> Inputs:
    outputs, dtype = experiment.facts.outputs, experiment.facts.image_dtype
    [prepared] = prepared_views(config, dataset.statistics, outputs, dataset.image_shape, "one", dtype)
    return evaluation_inputs(experiment.task, prepared, seed)


def probing_step(
    config: ConfigDict, experiment: Experiment, dataset: Dataset, frozen: Frozen = nothing
) -> Callable[[State, Batch], probes.Measured]:
    """A step that measures the probes on one batch; arguments as in `training_step`."""
    # Rematerialised blocks hide their outputs from the probes.
    model = experiment.model
    model = model.clone(rematerialize=False) if has_field(model, "rematerialize") else model
    return probes.probe_step(
        model, experiment.optimizer, experiment.task, _central_inputs(config, experiment, dataset, config.seed), config.seed,
        penalty=experiment.penalty, accumulate=experiment.accumulate, frozen=frozen,
    )  # fmt: skip


def measuring_step(
    config: ConfigDict, experiment: Experiment, dataset: Dataset, seed: Any = None
) -> Callable[[Mapping[str, Any], Batch], Metrics]:
    """A step that returns the sums of one batch in evaluation; arguments as in `training_step`, by default with the config's seed."""
    inputs = _central_inputs(config, experiment, dataset, config.seed if seed is None else seed)
    return evaluation_step(experiment.model, experiment.task, inputs)


def predicting_step(
    config: ConfigDict, model: nn.Module, task: Task, statistics: Statistics | None, facts: DataFacts,
    image_shape: tuple[int, ...],
) -> Callable[[Mapping[str, Any], Batch], Any]:  # fmt: skip
    """A step that returns the predictions for one batch, averaged over the config's views."""
    views = predicted_views(config, task, statistics, facts, image_shape, config.evaluate.views)
    return prediction_step(model, task, views, MIRRORED[config.evaluate.views])


def predicted_views(
    config: ConfigDict, task: Task, statistics: Statistics | None, facts: DataFacts, image_shape: tuple[int, ...], name: str,
) -> list[Inputs]:  # fmt: skip
    """The task's inputs in evaluation, one for each of the named views."""
    seen = prepared_views(config, statistics, facts.outputs, image_shape, name, facts.image_dtype)
    return [evaluation_inputs(task, prepared, config.seed) for prepared in seen]
