"""The compiled program of a training: the steps of an experiment with its data, its devices and its initial weights."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cnnjax.data import batches
from cnnjax.data.augment import AugmentOptions, check_images, check_no_boxes, output_shape
from cnnjax.data.batches import Batch
from cnnjax.data.boxes import are_boxes
from cnnjax.data.datasets import Dataset, DatasetOptions
from cnnjax.ops import choice
from cnnjax.tasks.task import takes_all_predictions
from cnnjax.training import evaluation, probes, processes, run_directory
from cnnjax.training.evaluation import checked_metrics, evaluate
from cnnjax.training.experiment import (
    Experiment,
    check_memory,
    measuring_step,
    model_with_classes,
    predicting_step,
    probing_step,
    state_shapes,
    streamed_crop,
    training_step,
)
from cnnjax.training.optimizers import check_groups
from cnnjax.training.parallel import (
    compiled_ahead,
    over_devices,
    program_over_devices,
    replicate,
    steps_over_devices,
)
from cnnjax.training.state import State, initial_state, start_from
from cnnjax.training.step import Metrics
from cnnjax.transfer.initial import InitialOptions, Variables, encoder_alone, frozen_at, head_names, merge

# On a GPU or TPU one call takes up to this many steps. On a CPU each call takes one step, because XLA's CPU backend computes
# the gradients of convolutions more slowly within a loop.
ACCELERATOR_STEPS = 50


@dataclasses.dataclass(frozen=True)
class Program:
    """The program of one config and data set, compiled at the first call.

    The loop uses only these methods. A group of trials has its own program with the same methods, whose arrays have an
    additional axis (`ablation.together.GroupProgram`).

    Attributes:
      shapes: the shapes of the state.
      together: the maximum number of steps in one call.
    """

    config: ConfigDict
    experiment: Experiment
    dataset: Dataset
    devices: list[jax.Device]
    image_shape: tuple[int, ...]
    source: Variables | None
    shapes: State
    resident: bool
    arrays: Mapping[str, Any]
    together: int
    stages: Sequence[float]  # the epochs of unfreezing and resizing; each stage has its own compiled step
    training: Mapping[float, Callable[..., tuple[State, Metrics]]]
    probing: Mapping[float, Callable[..., Any]]
    measuring: Callable[..., Metrics]
    predicting: Callable[..., Any]
    probed: Sequence[Batch]
    workdir: Path | None = None

    def initial(self) -> State:
        """The state before the first step."""
        experiment, start = self.experiment, InitialOptions(**self.config.initial)
        state = initial_state(
            experiment.model, experiment.optimizer, self.image_shape, self.config.seed, experiment.averaged, start.scale
        )
        if self.source is None:
            return state
        variables = merged(self.config, experiment, self.image_shape, state, self.source)
        begun = start_from(variables["params"], variables["batch_stats"], experiment.optimizer, experiment.averaged)
        # Averages and some optimiser states start as the same arrays as the weights; donation needs separate copies.
        return jax.tree.map(jnp.array, begun.replace(collections=state.collections))

    def place(self, state: State) -> State:
        """Copies a state to the devices."""
        return replicate(state, self.devices)

    def stage(self, epoch: int) -> float:
        """The stage of an epoch: the epoch at which the set of frozen layers, or the size of the images, last changed."""
        return max(stage for stage in self.stages if stage <= epoch)

    def feed(self, epoch: int, first: int) -> Iterator[Batch]:
        """The batches of an epoch, from batch `first` on."""
        options, train = DatasetOptions(**self.config.dataset), self.dataset.splits["train"]
        repeats = self.config.augment.repeats
        order = batches.training_order(self.config.seed, epoch, options.balanced, train.labels, repeats)
        return batches.feed(
            train,
            order,
            self.config.train.batch_size,
            first,
            self.resident,
            options.workers,
            streamed_crop(self.config, self.image_shape, epoch),
            processes.index(),
            processes.count(),
        )

    def step(self, state: State, batch: Batch, epoch: int) -> tuple[State, Metrics]:
        """Takes one training step; `steps` takes several, which is faster on an accelerator."""
        state, sums = self.steps(state, [batch], epoch)
        return state, sums if self.together == 1 else {name: values[0] for name, values in sums.items()}

    def steps(self, state: State, group: Sequence[Batch], epoch: int) -> tuple[State, Metrics]:
        """Takes one training step for each batch of a group."""
        train, count = self.training[self.stage(epoch)], len(self.devices)
        if self.together == 1:
            return train(state, self.arrays, batches.split_over_devices(group[0], count))
        return train(state, self.arrays, batches.stack_over_devices(group, self.together, count), len(group))

    def compiled(self, operations: Mapping[str, str]) -> None:
        """Records the implementations of the operations in the compiled training step."""
        if self.workdir is not None and processes.is_first():
            run_directory.record_operations(self.workdir, operations, self.config.train.ops)

    def with_rate_scale(self, state: State, scale: float) -> State:
        """The state with another scale of the learning rate."""
        return state.replace(rate_scale=replicate(jnp.float32(scale), self.devices))

    def measure(self, state: State, split: str) -> list[dict[str, float]]:
        """The metrics of a split, for each trial."""
        size, task = self.config.evaluate.batch_size, self.experiment.task
        sums = evaluate(self.measuring, state.variables, self.dataset.splits[split], size, self.devices)
        metrics = checked_metrics(task.summarize(sums), task)
        if task.validates_predictions:
            metrics |= self.scores(state, split)
        return [{f"{split}/{name}": value for name, value in metrics.items()}]

    def scores(self, state: State, split: str) -> dict[str, float]:
        """The task's scores of the predictions for a split, averaged over all views."""
        task, part = self.experiment.task, self.dataset.splits[split]
        given = self.predicting, state.variables, part, self.config.evaluate.batch_size, self.devices
        if takes_all_predictions(task):
            return task.score(evaluation.predict(*given), part)
        return task.score_of_sums(evaluation.tally(task, evaluation.predict_by_batch(*given), part.labels))

    def test(self, state: State) -> dict[str, float]:
        """The metrics of the test split for the central view, and the task's scores of predictions averaged over all views."""
        [measured] = self.measure(state, "test")
        task, scored = self.experiment.task, None
        if task.validates_predictions:
            return measured  # which has the scores
        if self.config.evaluate.views == "one":
            scored = task.score_of_metrics({name.removeprefix("test/"): value for name, value in measured.items()})
        if scored is None:
            scored = self.scores(state, "test")
        return measured | {f"test/{name}": value for name, value in scored.items()}

    def probe(self, state: State, epoch: int) -> dict[str, float]:
        """The probes of the layers, measured with the layers frozen in this epoch."""
        probing = self.probing[self.stage(epoch)]
        measured = [jax.device_get(probing(state, self.arrays, batch)) for batch in self.probed]
        return probes.summarize(measured, jax.device_get(state.batch_stats)) if measured else {}


def merged(
    config: ConfigDict, experiment: Experiment, image_shape: tuple[int, ...], drawn: State, source: Variables
) -> Variables:
    """The initial variables of a run: those of the source, with a newly drawn head if the head is new.

    Raises:
      ValueError: the variables do not fit the model.
    """
    start = InitialOptions(**config.initial)
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    classes = experiment.facts.outputs.get("num_classes")
    has_head = classes and model_with_classes(config, experiment, classes) is not None
    head = head_names(partial(model_with_classes, config, experiment), classes, images) if has_head else set()
    here = {"params": drawn.params, "batch_stats": drawn.batch_stats}
    if "encoder" in source:
        source, others = encoder_alone(source["encoder"], here)
        head |= others
    return merge(here, source, head, start.head == "new", f"initial: {start.run or start.weights}")


def compile_program(
    config: ConfigDict,
    experiment: Experiment,
    dataset: Dataset,
    devices: list[jax.Device],
    source: Variables | None = None,
    workdir: Path | None = None,
) -> Program:
    """Combines an experiment with its data, its devices and its initial weights.

    Args:
      config: the resolved config.
      experiment: the experiment built from the config.
      dataset: the loaded data set.
      devices: the devices that share each batch.
      source: the initial variables; None draws them at random.
      workdir: the run directory, in which the implementations of the operations are recorded.

    Raises:
      ValueError: the parts do not fit together.
    """
    train_split, options = dataset.splits["train"], DatasetOptions(**config.dataset)
    augmentation, start = AugmentOptions(**config.augment), InitialOptions(**config.initial)
    check_images(augmentation, dataset.image_shape, dataset.image_dtype)
    if not are_boxes(train_split.labels):
        check_no_boxes(augmentation)
    image_shape = output_shape(dataset.image_shape, augmentation)
    experiment.task.prepare()
    shapes = state_shapes(experiment, image_shape)
    check_memory(shapes, devices[0])
    check_sizes(config, experiment, dataset.image_shape, shapes)
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    frozen_in = frozen_at(start, experiment.model, shapes.params, images)
    check_groups(config.optimizer.groups, shapes.params)
    if source is not None:
        merged(config, experiment, image_shape, shapes, source)

    resident = batches.is_resident(train_split, options.resident)
    together = steps_together(devices, resident)
    ops, parallel = config.train.ops, config.train.parallel
    stages = sorted({0, *(epoch for epoch, _ in (*start.unfreeze, *augmentation.sizes))})

    def training(stage: float) -> Callable[..., tuple[State, Metrics]]:
        step = training_step(config, experiment, dataset.statistics, config.seed, frozen_in(stage), stage)
        mapped = (
            over_devices(step, devices, donate=True, parallel=parallel)
            if together == 1
            else steps_over_devices(step, devices, parallel)
        )
        return compiled_ahead(mapped, choice.compiler_options(ops, devices[0].platform), devices)

    probe = lambda stage: probing_step(config, experiment, dataset, frozen_in(stage))  # noqa: E731
    predicting = predicting_step(
        config, experiment.model, experiment.task, dataset.statistics, experiment.facts, dataset.image_shape
    )
    probed = (
        probes.probe_batches(config.seed, train_split, config.train.batch_size, resident) if config.log.probes else []
    )
    return Program(
        config=config,
        experiment=experiment,
        dataset=dataset,
        devices=devices,
        image_shape=image_shape,
        source=source,
        shapes=shapes,
        resident=resident,
        arrays=replicate(batches.resident_arrays(train_split), devices) if resident else {},
        together=together,
        stages=stages,
        training={stage: training(stage) for stage in stages},
        probing={stage: program_over_devices(probe(stage), ops, devices, parallel) for stage in stages},
        measuring=program_over_devices(measuring_step(config, experiment, dataset), ops, devices, parallel),
        predicting=program_over_devices(predicting, ops, devices, parallel),
        probed=[batches.split_over_devices(batch, len(devices)) for batch in probed],
        workdir=workdir,
    )


def check_sizes(config: ConfigDict, experiment: Experiment, image_shape: tuple[int, ...], shapes: State) -> None:
    """Checks the sizes of the images that differ from the first training images': in evaluation and in progressive resizing.

    Args:
      config: the resolved config.
      experiment: the experiment built from the config.
      image_shape: the shape of a stored image, channels last.
      shapes: the shapes of the state for the first training images.

    Raises:
      ValueError: the crop in evaluation is larger than the images, or the network's parameters depend on the size.
    """
    *sides, channels = image_shape
    crop, sizes = config.evaluate.crop, [(f"augment.sizes={size}", size) for _, size in config.augment.sizes]
    if crop and (len(crop) != len(sides) or any(part > whole for part, whole in zip(crop, sides, strict=True))):
        raise ValueError(
            f"config: evaluate.crop={crop}: expected a length for each axis of the images, at most {'x'.join(map(str, sides))}"
        )
    for name, size in [*sizes, *([(f"evaluate.crop={crop}", crop)] if crop else [])]:
        found = state_shapes(experiment, (*size, channels)).params
        if jax.tree.map(jnp.shape, found) != jax.tree.map(jnp.shape, shapes.params):
            raise ValueError(
                f"config: {name}: the parameters of model {config.model.name} depend on the size of its images: choose a network with "
                "global pooling"
            )


def steps_together(devices: Sequence[jax.Device], resident: bool) -> int:
    """The maximum number of steps in one call: many on an accelerator that holds the data, else one."""
    return ACCELERATOR_STEPS if resident and devices[0].platform != "cpu" else 1
