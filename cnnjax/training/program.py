"""What runs on the devices for one config and data set: an experiment's steps, its data and its weights to start from."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cnnjax.data import batches
from cnnjax.data.augment import AugmentOptions, check_channels, output_shape
from cnnjax.data.batches import Batch
from cnnjax.data.datasets import Dataset, DatasetOptions
from cnnjax.data.streaming import RandomCrop
from cnnjax.ops import choice
from cnnjax.training import evaluation, probes, processes
from cnnjax.training.build import (
    Experiment,
    check_memory,
    measuring_step,
    predicting_step,
    probing_step,
    state_shapes,
    training_step,
)
from cnnjax.training.evaluation import checked_metrics, evaluate
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
from cnnjax.transfer.initial import InitialOptions, Variables, frozen_at, head_names, merge

# On a GPU or TPU one program takes up to so many steps in a row. A CPU takes them one by one: XLA computes the
# gradients of convolutions within a loop by a slower path there.
ACCELERATOR_STEPS = 50


@dataclasses.dataclass(frozen=True)
class Program:
    """What runs on the devices for one config and data set, compiled when first called."""

    initial: Callable[[], State]
    shapes: State  # of the state, nothing computed
    feed: Callable[[int, int], Iterator[Batch]]  # an epoch's batches, from one on
    stage: Callable[[int], float]  # of an epoch: when its frozen layers were chosen; each has a program of its own
    together: int  # how many steps are taken in one call, at most
    steps: Callable[[State, Sequence[Batch], int], tuple[State, Metrics]]  # of some batches, in an epoch
    measure: Callable[[State, str], dict[str, float]]  # of a split, by its name
    # Of the test split: the central view's sums, and what the task scores of all views' predictions.
    test: Callable[[State], dict[str, float]]
    probe: Callable[[State, int], dict[str, float]]  # of the layers, as they train in an epoch


def compile_program(
    config: ConfigDict, experiment: Experiment, dataset: Dataset, devices: list[jax.Device], source: Variables | None
) -> Program:
    """Joins a config's parts with its data, its devices and the weights to start from, if any.

    Raises:
      ValueError: they do not fit each other.
    """
    train_split, options = dataset.splits["train"], DatasetOptions(**config.dataset)
    changes, start = AugmentOptions(**config.augment), InitialOptions(**config.initial)
    check_channels(changes, dataset.image_shape[-1], dataset.image_dtype)
    image_shape = output_shape(dataset.image_shape, changes)
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    experiment.task.prepare()
    shapes = state_shapes(experiment, image_shape)
    check_memory(shapes, devices[0])
    frozen_in = frozen_at(start, experiment.model, shapes.params, images)
    check_groups(config.optimizer.groups, shapes.params)

    def merged(drawn: State) -> Variables:
        outputs = experiment.facts.outputs
        classes = outputs.get("num_classes")
        make = lambda count: experiment.model.clone(num_classes=count)  # noqa: E731
        head = head_names(make, classes, images) if classes and hasattr(experiment.model, "num_classes") else set()
        here = {"params": drawn.params, "batch_stats": drawn.batch_stats}
        return merge(here, source, head, start.head == "new", f"initial: {start.run or start.weights}")

    if source is not None:
        merged(shapes)

    resident = batches.is_resident(train_split, options.resident)
    arrays = replicate(batches.resident_arrays(train_split), devices) if resident else {}
    together = steps_together(devices, resident)

    def compiled_steps(epoch: float) -> Callable[..., tuple[State, Metrics]]:
        step = training_step(config, experiment, dataset.statistics, config.seed, frozen_in(epoch))
        mapped = over_devices(step, devices, donate=True) if together == 1 else steps_over_devices(step, devices)
        return compiled_ahead(mapped, choice.compiler_options(config.train.ops), devices)

    stages = sorted({0, *(epoch for epoch, _ in start.unfreeze)})  # when layers begin to train: a program for each
    programs = {stage: compiled_steps(stage) for stage in stages}
    probing = {
        stage: program_over_devices(
            probing_step(config, experiment, dataset, frozen_in(stage)), config.train.ops, devices
        )
        for stage in stages
    }
    judge = program_over_devices(measuring_step(config, experiment, dataset), config.train.ops, devices)
    task = experiment.task
    predicting = predicting_step(
        config, experiment.model, task, dataset.statistics, experiment.facts, dataset.image_shape
    )
    predict = program_over_devices(predicting, config.train.ops, devices)

    def initial() -> State:
        state = initial_state(
            experiment.model, experiment.optimizer, image_shape, config.seed, experiment.averaged, start.scale
        )
        if source is None:
            return state
        variables = merged(state)
        return start_from(variables["params"], variables["batch_stats"], experiment.optimizer, experiment.averaged)

    def feed(epoch: int, first: int) -> Iterator[Batch]:
        order = batches.training_order(config.seed, epoch, options.balanced, train_split.labels)
        streamed = options.streaming and changes.resized_crop is not None
        crop = RandomCrop(changes.resized_crop, image_shape[:2], config.seed, epoch) if streamed else None
        return batches.feed(
            train_split,
            order,
            config.train.batch_size,
            first,
            resident,
            options.workers,
            crop,
            processes.index(),
            processes.count(),
        )

    def stage_of(epoch: int) -> float:
        return max(stage for stage in stages if stage <= epoch)

    def steps(state: State, group: Sequence[Batch], epoch: int) -> tuple[State, Metrics]:
        train = programs[stage_of(epoch)]
        if together == 1:
            return train(state, arrays, batches.split_over_devices(group[0], len(devices)))
        return train(state, arrays, batches.stack_over_devices(group, together, len(devices)), len(group))

    def measure(state: State, split: str) -> dict[str, float]:
        sums = evaluate(judge, state.variables, dataset.splits[split], config.evaluate.batch_size, devices)
        return {f"{split}/{name}": value for name, value in checked_metrics(task.summarize(sums), task).items()}

    def test(state: State) -> dict[str, float]:
        measured = measure(state, "test")
        scored = None
        if config.evaluate.views == "one":
            scored = task.score_of_metrics({name.removeprefix("test/"): value for name, value in measured.items()})
        if scored is None:
            split = dataset.splits["test"]
            scored = task.score(
                evaluation.predict(predict, state.variables, split, config.evaluate.batch_size, devices), split
            )
        return measured | {f"test/{name}": value for name, value in scored.items()}

    probed = (
        probes.probe_batches(config.seed, train_split, config.train.batch_size, resident) if config.log.probes else []
    )
    probed = [batches.split_over_devices(batch, len(devices)) for batch in probed]

    def probe(state: State, epoch: int) -> dict[str, float]:
        measured = [jax.device_get(probing[stage_of(epoch)](state, arrays, batch)) for batch in probed]
        return probes.summarize(measured, jax.device_get(state.batch_stats)) if measured else {}

    return Program(initial, shapes, feed, stage_of, together, steps, measure, test, probe)


def steps_together(devices: Sequence[jax.Device], resident: bool) -> int:
    """How many steps a program takes in one call, at most: many on an accelerator that holds the data, else one."""
    return ACCELERATOR_STEPS if resident and devices[0].platform != "cpu" else 1
