"""The loop: a config and a directory -> a trained model.

At each epoch's end, in this order: measure, evaluate, write the line, save. A checkpoint at step k means "before batch
k"; everything after it follows from it, the config and the data.
"""

import contextlib
import dataclasses
import itertools
import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from cnnjax.core import files
from cnnjax.core.options import fraction, positive
from cnnjax.data import batches
from cnnjax.data.augment import AugmentOptions, check_channels, find_extra, output_shape, training_inputs
from cnnjax.data.batches import Batch
from cnnjax.data.datasets import Dataset, DatasetOptions
from cnnjax.data.streaming import RandomCrop
from cnnjax.data.transforms import normalize
from cnnjax.data.views import central_view, views
from cnnjax.models import create_model
from cnnjax.ops import choice
from cnnjax.training import evaluation, probes, processes, run_directory
from cnnjax.training.checkpoints import CheckpointOptions, Checkpoints
from cnnjax.training.evaluation import add_up, evaluate, summarize
from cnnjax.training.interruption import Interrupted, Requests, stop_requests
from cnnjax.training.logs import Display, MetricsLog
from cnnjax.training.losses import LOSSES, Losses, one_hot
from cnnjax.training.optimizers import check_groups, l2_penalty, make_optimizer
from cnnjax.training.parallel import (
    RunAhead,
    check_replicas,
    compiled_ahead,
    device_memory,
    over_devices,
    program_over_devices,
    replicate,
    steps_over_devices,
)
from cnnjax.training.schedules import SCHEDULES, plateau_scale
from cnnjax.training.state import State, initial_shapes, initial_state, start_from
from cnnjax.training.step import Metrics, evaluation_step, plain_inputs, prediction_step, train_step
from cnnjax.transfer.freezing import Frozen, nothing
from cnnjax.transfer.initial import InitialOptions, Variables, frozen_at, head_names, merge

# The live display is refreshed every so many steps; each refresh waits for the device once.
DISPLAY_STEPS = 50
# On a GPU or TPU one program takes up to so many steps in a row. A CPU takes them one by one: XLA computes the
# gradients of convolutions within a loop by a slower path there.
ACCELERATOR_STEPS = DISPLAY_STEPS
# Several processes ask each other every so many steps whether a signal has come.
AGREEMENT_STEPS = 10
# What to do where a loss or a weight is no longer finite.
NOT_FINITE = (
    "try a lower optimizer.learning_rate; other causes: images, labels or initial weights that are not finite, too large a "
    "loss weight, train.precision=bfloat16, a division by zero or log(0) in a layer, loss or augmentation of your own"
)


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """The config's `train` section."""

    batch_size: Annotated[
        int, "examples a step, over all devices; an epoch's last incomplete batch is left out", positive
    ] = 128
    epochs: Annotated[
        int, "passes over the training split", lambda epochs: None if 1 <= epochs <= 1_000_000 else "1 to 1,000,000"
    ] = 10
    precision: Annotated[
        Literal["float32", "bfloat16"], "of the computation; parameters and statistics are float32"
    ] = "float32"
    ema: Annotated[float, "decay of averaged weights, which evaluation then uses; 0 keeps none", fraction] = 0.0
    early_stopping: Annotated[
        int | None, "stop after so many evaluations without a better validation accuracy", positive
    ] = None
    ops: Annotated[
        choice.Ops, 'formulations of convolution and pooling: "fast" ones where there are any, or JAX\'s "stock" ones'
    ] = "fast"
    deterministic: Annotated[bool, "the same bits every time on a GPU too, at some cost in speed"] = False


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a config describes, built: everything but the state and the data."""

    model: nn.Module
    loss: Losses
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    steps_per_epoch: int
    total_steps: int
    accumulate: int
    averaged: bool
    penalty: Callable[[Any], jax.Array] | None  # of the parameters, added to the loss

    def learning_rate(self, step: int, scale: float) -> float:
        """That of a step (the first is 1), with what a plateau has left of it."""
        return float(self.schedule((step - 1) // self.accumulate)) * scale


def build(config: ConfigDict, class_counts: Sequence[int], numbers: Mapping[str, jax.Array] | None = None) -> Parts:
    """Builds the model, loss, schedule and optimiser.

    Args:
      config: resolved.
      class_counts: the training split's examples of each class.
      numbers: what some of the config's fields are in its place, as {"optimizer.learning_rate": ...}: scalars that JAX may
        trace, so that one program serves several values.

    Raises:
      ValueError: a batch is larger than the training split.
    """
    train_examples = sum(class_counts)
    steps_per_epoch = train_examples // config.train.batch_size
    if not steps_per_epoch:
        raise ValueError(
            f"config: train.batch_size={config.train.batch_size} and the training split has {train_examples} examples: "
            f"choose at most {train_examples}"
        )
    total_steps, accumulate = steps_per_epoch * config.train.epochs, config.optimizer.accumulate
    if accumulate > total_steps:
        raise ValueError(f"config: optimizer.accumulate={accumulate}: the run has only {total_steps} steps")
    fields = {section: config[section].to_dict() for section in ("model", "loss", "optimizer", "schedule")}
    names = {section: values.pop("name") for section, values in fields.items()}
    model = create_model(names["model"], len(class_counts), jnp.dtype(config.train.precision), **fields["model"])
    for path, value in (numbers or {}).items():
        section, _, key = path.partition(".")
        fields[section][key] = value
        model = model.clone(**{key: value}) if section == "model" else model
    learning_rate = fields["optimizer"].pop("learning_rate")
    # The schedule counts updates.
    updates = max(total_steps // accumulate, 1), steps_per_epoch / accumulate
    schedule = SCHEDULES[names["schedule"]](learning_rate, *updates, **fields["schedule"])
    return Parts(
        model=model,
        loss=LOSSES[names["loss"]](np.asarray(class_counts), **fields["loss"]),
        schedule=schedule,
        optimizer=make_optimizer(names["optimizer"], schedule, **fields["optimizer"]),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        accumulate=accumulate,
        averaged=config.train.ema > 0,
        penalty=l2_penalty(fields["optimizer"]),
    )


def check_batch_size(batch_size: int, devices: int) -> None:
    """Raises ValueError, with the nearest sizes that work, if the devices cannot share a batch equally."""
    if batch_size % devices:
        below = batch_size - batch_size % devices
        near = " or ".join(str(size) for size in (below, below + devices) if size)
        raise ValueError(
            f"config: train.batch_size={batch_size} cannot be shared equally by {devices} devices: choose {near}"
        )


def check_memory(shapes: State, device: jax.Device) -> None:
    """Refuses a state that cannot fit: XLA does not fail on a CPU that lacks the memory, it waits.

    Raises:
      ValueError: parameters, their gradients and the optimiser's state exceed the device's memory.
    """
    state = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    gradients = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes.params))
    memory = device_memory(device)
    if state + gradients > memory:
        raise ValueError(
            f"the model's parameters, gradients and optimiser state need {(state + gradients) / 2**30:,.1f} GiB and the device "
            f"has {memory / 2**30:,.1f} GiB: make the model smaller"
        )


def state_shapes(parts: Parts, image_shape: tuple[int, int, int]) -> State:
    """The state's shapes, without computing anything, for images as the network takes them.

    Raises:
      ValueError: the model does not take images of that shape.
    """
    try:
        return initial_shapes(parts.model, parts.optimizer, image_shape, parts.averaged)
    except ValueError as error:
        raise ValueError(
            f"model {type(parts.model).__name__} on images of {'x'.join(map(str, image_shape))}: {error}"
        ) from error


def training_step(
    config: ConfigDict, parts: Parts, dataset: Dataset, seed: int | jax.Array, frozen: Frozen = nothing
) -> Callable[[State, Batch], tuple[State, Metrics]]:
    """The step that a config's parts make of its data, to be run over devices.

    Args:
      config: resolved.
      parts: of the config.
      dataset: loaded.
      seed: the config's, which JAX may trace.
      frozen: which parameters stay as they are.
    """
    options, changes = DatasetOptions(**config.dataset), AugmentOptions(**config.augment)
    # Streamed images are cropped at their full resolution, by the threads that decode them.
    streamed = options.streaming and changes.resized_crop is not None
    on_device = dataclasses.replace(changes, resized_crop=None, crop=None, pad=0) if streamed else changes
    normalized = partial(normalize, options=options, statistics=dataset.statistics)
    targets = partial(one_hot, classes=len(dataset.label_names))
    extra = find_extra(changes, config.folder)
    inputs = training_inputs(on_device, normalized, targets, seed, parts.steps_per_epoch, extra)
    step = train_step(
        parts.model, parts.optimizer, parts.loss.train, inputs, seed,
        penalty=parts.penalty, average=config.train.ema, accumulate=parts.accumulate, frozen=frozen,
    )  # fmt: skip
    return choice.traced_with(config.train.ops, step)


def probing_step(
    config: ConfigDict, parts: Parts, dataset: Dataset, frozen: Frozen = nothing
) -> Callable[[State, Batch], probes.Measured]:
    """What probes see of one batch, to be run over devices; arguments as in `training_step`."""
    normalized = partial(normalize, options=DatasetOptions(**config.dataset), statistics=dataset.statistics)
    view = central_view(AugmentOptions(**config.augment).crop, normalized)
    # What a block that is computed again puts out cannot be seen from outside of it.
    model = parts.model.clone(rematerialize=False) if hasattr(parts.model, "rematerialize") else parts.model
    return probes.probe_step(
        model, parts.optimizer, parts.loss.train, plain_inputs(view, len(dataset.label_names)), config.seed,
        penalty=parts.penalty, accumulate=parts.accumulate, frozen=frozen,
    )  # fmt: skip


def measuring_step(config: ConfigDict, parts: Parts, dataset: Dataset) -> Callable[[Mapping[str, Any], Batch], Metrics]:
    """The sums of one batch of a split that is not trained on, to be run over devices; arguments as in `training_step`."""
    normalized = partial(normalize, options=DatasetOptions(**config.dataset), statistics=dataset.statistics)
    view = central_view(AugmentOptions(**config.augment).crop, normalized)
    return evaluation_step(parts.model, parts.loss.evaluate, view)


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
    # Of the test split: the central view's loss, all views' accuracy and negative log-likelihood.
    test: Callable[[State], dict[str, float]]
    probe: Callable[[State, int], dict[str, float]]  # of the layers, as they train in an epoch


def compile_program(
    config: ConfigDict, parts: Parts, dataset: Dataset, devices: list[jax.Device], source: Variables | None
) -> Program:
    """Joins a config's parts with its data, its devices and the weights to start from, if any.

    Raises:
      ValueError: they do not fit each other.
    """
    train_split, options = dataset.splits["train"], DatasetOptions(**config.dataset)
    changes, start = AugmentOptions(**config.augment), InitialOptions(**config.initial)
    check_channels(changes, dataset.image_shape[-1], dataset.image_dtype)
    image_shape = output_shape(dataset.image_shape, changes)
    normalized = partial(normalize, options=options, statistics=dataset.statistics)
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    seen = partial(views, name=config.evaluate.views, crop=changes.crop)
    jax.eval_shape(lambda x: seen(x, normalized), jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.uint8))
    shapes = state_shapes(parts, image_shape)
    check_memory(shapes, devices[0])
    frozen_in = frozen_at(start, parts.model, shapes.params, images)
    check_groups(config.optimizer.groups, shapes.params)

    def merged(drawn: State) -> Variables:
        head = head_names(lambda classes: parts.model.clone(num_classes=classes), len(dataset.label_names), images)
        here = {"params": drawn.params, "batch_stats": drawn.batch_stats}
        return merge(here, source, head, start.head == "new", f"initial: {start.run or start.weights}")

    if source is not None:
        merged(shapes)

    resident = batches.is_resident(train_split, options.resident)
    arrays = replicate(batches.resident_arrays(train_split), devices) if resident else {}
    together = steps_together(devices, resident)

    def compiled_steps(epoch: float) -> Callable[..., tuple[State, Metrics]]:
        step = training_step(config, parts, dataset, config.seed, frozen_in(epoch))
        mapped = over_devices(step, devices, donate=True) if together == 1 else steps_over_devices(step, devices)
        return compiled_ahead(mapped, choice.compiler_options(config.train.ops), devices)

    stages = sorted({0, *(epoch for epoch, _ in start.unfreeze)})  # when layers begin to train: a program for each
    programs = {stage: compiled_steps(stage) for stage in stages}
    probing = {
        stage: program_over_devices(probing_step(config, parts, dataset, frozen_in(stage)), config.train.ops, devices)
        for stage in stages
    }
    judge = program_over_devices(measuring_step(config, parts, dataset), config.train.ops, devices)
    predicting = prediction_step(parts.model, normalized, parts.loss.probabilities, seen)
    predict = program_over_devices(predicting, config.train.ops, devices)

    def initial() -> State:
        state = initial_state(parts.model, parts.optimizer, image_shape, config.seed, parts.averaged, start.scale)
        if source is None:
            return state
        variables = merged(state)
        return start_from(variables["params"], variables["batch_stats"], parts.optimizer, parts.averaged)

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
        values = evaluate(judge, state.variables, dataset.splits[split], config.evaluate.batch_size, devices)
        return {f"{split}/{name}": value for name, value in values.items()}

    def test(state: State) -> dict[str, float]:
        measured = measure(state, "test")
        if config.evaluate.views == "one" and config.loss.name == "cross_entropy":  # which is -log p(label)
            return measured | {"test/nll": measured["test/loss"]}
        split = dataset.splits["test"]
        probabilities = evaluation.predict(predict, state.variables, split, config.evaluate.batch_size, devices)
        scored = evaluation.score(probabilities, split.labels)
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


def rate_scale(config: ConfigDict, history: Sequence[Mapping[str, Any]]) -> float:
    """What a plateau has left of the learning rate, after all that was measured so far."""
    if config.schedule.name != "plateau":
        return 1.0
    options = config.schedule
    measured = [line for line in history if "valid/accuracy" in line]
    values = [1 - line["valid/accuracy"] if options.monitor == "error" else line["valid/loss"] for line in measured]
    return plateau_scale(values, options.factor, options.patience, options.threshold, options.falls)


def stops_early(config: ConfigDict, history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last so many evaluations brought nothing better than those before."""
    patience = config.train.early_stopping
    values = [line["valid/accuracy"] for line in history if "valid/accuracy" in line]
    return patience is not None and len(values) > patience and max(values[-patience:]) <= max(values[:-patience])


def run_training(
    config: ConfigDict,
    workdir: Path,
    dataset: Dataset,
    devices: list[jax.Device],
    parts: Parts,
    program: Program,
    replicas_are_checked: bool = False,
) -> State:
    """Trains, or goes on training, in a directory this process has locked; returns the state it ends with.

    Args:
      config: resolved.
      workdir: the run directory, with its `config.json` written.
      dataset: loaded.
      devices: that share each batch.
      parts: of the config.
      program: of these parts, data and devices.
      replicas_are_checked: compare the devices' copies of the state after each epoch.

    Raises:
      FloatingPointError: the loss is no longer finite; the message names the step and the last checkpoint.
      Interrupted: a signal came; a checkpoint was saved.
      OSError: the directory cannot be written any more; the last checkpoint is kept.
    """
    epochs, batch_size, steps_per_epoch = config.train.epochs, config.train.batch_size, parts.steps_per_epoch

    with contextlib.ExitStack() as stack:
        # First of all: a KeyboardInterrupt that is raised within some library's callback is lost there.
        requests = stack.enter_context(stop_requests())
        options = CheckpointOptions(**config.checkpoint)
        checkpoints = log = None  # the first process's alone
        if processes.is_first():
            checkpoints = stack.enter_context(Checkpoints(workdir / run_directory.CHECKPOINTS, options))
        restored = processes.share(checkpoints.latest(program.shapes) if checkpoints else None)
        state = restored.state if restored else program.initial()
        sums = restored.notes["sums"] if restored else None  # of the epoch that was interrupted
        number = int(state.step)
        state = replicate(state, devices)
        # What a start wrote that was killed before its first checkpoint is dropped.
        measured = number if restored else -1
        lines = restored.notes.get("lines", ()) if restored else ()  # checkpoints of version 0.1.0 have none
        history = processes.share(run_directory.rewind_history(workdir, measured, lines) if checkpoints else None)
        run_directory.check_complete(workdir, history, number // steps_per_epoch)
        scale = rate_scale(config, history)
        if checkpoints:
            (workdir / run_directory.DONE).unlink(missing_ok=True)
            log = stack.enter_context(MetricsLog(workdir, config.log.tensorboard, number))
        progress = config.log.progress if checkpoints else "off"
        display = stack.enter_context(Display(progress, epochs, steps_per_epoch, batch_size, history))
        if restored and number < parts.total_steps:
            display.note(f"resuming at step {number} of {parts.total_steps}")
        run_ahead, stop = RunAhead(devices), 0
        compiled: set[float] = set()  # the stages whose program is
        notes = lambda: {"sums": sums, "lines": run_directory.epoch_lines(history)}  # noqa: E731
        pauses = (DISPLAY_STEPS, options.every_steps, config.log.every_steps)

        @stack.push
        def note_failure(kind: Any, error: BaseException | None, _: Any) -> None:
            if log and isinstance(error, FloatingPointError):  # dropped again where the run is resumed
                log.write({"step": number, "epoch": round(number / steps_per_epoch, 4), "error": str(error)})

        if number == 0 and config.log.probes:
            history.append({"step": 0, "epoch": 0, **program.probe(state, 0)})
            if log:
                log.write(history[-1])
        for epoch in range(number // steps_per_epoch, epochs):
            if stops_early(config, history):
                display.note(
                    f"stopped early: no better validation accuracy in {config.train.early_stopping} evaluations"
                )
                break
            pending: list[tuple[Metrics, int]] = []
            display.start_clock(number)
            feed = program.feed(epoch, number % steps_per_epoch)
            while group := list(itertools.islice(feed, min(program.together, steps_to_next(number, pauses)))):
                is_new = program.stage(epoch) not in compiled
                if not is_new:
                    state, metrics = program.steps(state, group, epoch)
                else:
                    display.stage("compiling the training step")
                    with choice.recorded() as operations:
                        state, metrics = program.steps(state, group, epoch)
                    if checkpoints and not compiled:
                        run_directory.record_operations(workdir, operations, config.train.ops)
                number += len(group)
                pending.append((metrics, len(group)))
                run_ahead(metrics)
                if is_new:
                    jax.block_until_ready(metrics)
                    compiled.add(program.stage(epoch))
                    display.compiled(number)
                within = number % steps_per_epoch != 0
                stop = agreed_stop(requests, number)
                to_save = within and (_due(number, options.every_steps) or stop)
                to_log = _due(number, config.log.every_steps)
                if to_save or to_log or stop or _due(number, DISPLAY_STEPS):
                    values = fetch_metrics(pending, number, workdir, checkpoints)
                    sums, pending = add_up(values, sums), []
                    last, rate = summarize(values[-1]), parts.learning_rate(number, scale)
                    display.update(number, last["loss"], last["accuracy"])
                    if to_log and log:
                        log.write(step_line(number, steps_per_epoch, last, rate))
                if to_save and checkpoints:
                    checkpoints.save(state, notes(), None)
                if stop:
                    break
            if number % steps_per_epoch == 0:
                sums = add_up(fetch_metrics(pending, number, workdir, checkpoints), sums)
                rate, speed = parts.learning_rate(number, scale), display.images_per_second(number)
                line = epoch_line(number, epoch + 1, summarize(sums), rate, speed)
                sums, valid = None, {}
                if replicas_are_checked:
                    check_replicas(state)
                line |= program.probe(state, epoch)
                if _due(epoch + 1, config.evaluate.every) or epoch + 1 == epochs:
                    display.stage("evaluating")
                    valid = program.measure(state, "valid")
                if log:
                    log.write(line | valid)
                history.append(line | valid)
                display.epoch(line | valid)
                if rate_scale(config, history) != scale:
                    scale = rate_scale(config, history)
                    state = state.replace(rate_scale=replicate(jnp.float32(scale), devices))
                if checkpoints:
                    checkpoints.save(state, notes(), valid or None)
                stop = agreed_stop(requests, None)
            if stop:
                if checkpoints:
                    checkpoints.wait()
                raise Interrupted(f"stopped by {signal.Signals(stop).name} at step {number}, saved", stop)

        chosen = None
        if checkpoints:
            checkpoints.wait()
            best = checkpoints.best(program.shapes) if config.evaluate.checkpoint == "best" else None
            chosen = best or checkpoints.latest(program.shapes)
        chosen = processes.share(chosen)
        display.stage("evaluating on the test split")
        tested = program.test(replicate(chosen.state, devices))
        line = {"step": number, "epoch": number // steps_per_epoch, "checkpoint": int(chosen.state.step), **tested}
        if log:
            log.write(line)
    if processes.is_first():
        files.write_atomically(workdir / run_directory.DONE, "")
    return jax.device_get(state)


def agreed_stop(requests: Requests, number: int | None) -> int:
    """The signal that has come to any process, or 0; several processes ask each other every few steps and at an epoch's end.

    Args:
      requests: this process's.
      number: of the step; None is an epoch's end.
    """
    own = requests.number or 0
    if processes.count() == 1:
        return own
    return processes.largest(own) if number is None or _due(number, AGREEMENT_STEPS) else 0


def _due(number: int, every: int | None) -> bool:
    return every is not None and number % every == 0


def steps_to_next(number: int, pauses: Sequence[int | None]) -> int:
    """How many steps there are from step `number` to the next multiple of one of the pauses."""
    return min(every - number % every for every in pauses if every is not None)


def fetch_metrics(
    pending: Sequence[tuple[Metrics, int]], number: int, workdir: Path, checkpoints: Checkpoints | None
) -> list[Metrics]:
    """Waits for the steps whose metrics are pending, the last of them being step `number`, and fetches these.

    Args:
      pending: metrics of one call, and of how many steps.
      number: of the last step.
      workdir: for the message.
      checkpoints: likewise.

    Raises:
      FloatingPointError: a loss is not finite.
    """
    values = [
        {name: value.reshape(-1)[place] for name, value in metrics.items()}
        for metrics, count in jax.device_get(list(pending))
        for place in range(count)
    ]
    for step, metrics in enumerate(values, start=number - len(values) + 1):
        if not math.isfinite(metrics["loss"]):
            if checkpoints:
                checkpoints.wait()
            kept = checkpoints.steps() if checkpoints else []
            where = f"the last checkpoint, step {kept[-1]}, is kept" if kept else "there is no checkpoint yet"
            raise FloatingPointError(
                f"the loss became {float(metrics['loss'])} at step {step}; {where}; in another --workdir than "
                f"{workdir} {NOT_FINITE}"
            )
    return values


def step_line(number: int, steps_per_epoch: int, last: Mapping[str, float], rate: float) -> dict[str, Any]:
    """A line of `metrics.jsonl` within an epoch: the last batch's loss."""
    return {
        "step": number,
        "epoch": round(number / steps_per_epoch, 4),
        "train/batch_loss": last["loss"],
        "learning_rate": rate,
    }


def epoch_line(
    number: int, epoch: int, means: Mapping[str, float], rate: float, images_per_second: float
) -> dict[str, Any]:
    """A line of `metrics.jsonl` at an epoch's end; `learning_rate` is that of the epoch's last step."""
    return {
        "step": number,
        "epoch": epoch,
        **{f"train/{name}": value for name, value in means.items()},
        "learning_rate": rate,
        "time/images_per_second": round(images_per_second, 1),
    }
