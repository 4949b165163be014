"""Trials that differ in numbers alone, trained as one compiled program.

The step is one pure function of state and batch, made from a config. Where the seed, the learning rate, the weight decay,
label smoothing or dropout rates are not known when it is compiled, one program serves them all: `vmap` runs it for several
trials at once on the devices that share each batch, `devices` for one trial on each device. Every trial has the order of
examples, the initial weights and the keys that it has alone, so its numbers are those of `cnnjax.train` up to the order of
floating-point sums.

While they are trained, the states of all are one checkpoint; at the end each trial becomes a run directory like any other.
"""

import contextlib
import dataclasses
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import flax.struct
import jax
import numpy as np
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from cnnjax import runs
from cnnjax.ablation.trials import GROUPS, Trial, digest, record_strategy
from cnnjax.config import flatten, to_json
from cnnjax.core import files
from cnnjax.core.options import known_zero
from cnnjax.data import batches
from cnnjax.data.batches import Batch
from cnnjax.data.datasets import Dataset, DatasetOptions, load_dataset
from cnnjax.training import run_directory
from cnnjax.training.build import (
    DataFacts,
    Experiment,
    build,
    check_batch_size,
    data_facts,
    measuring_step,
    training_step,
)
from cnnjax.training.checkpoints import CheckpointOptions, Checkpoints
from cnnjax.training.evaluation import add_up, as_json, checked_metrics, host_batches
from cnnjax.training.interruption import Interrupted, Requests, stop_requests
from cnnjax.training.logs import MetricsLog
from cnnjax.training.loop import NOT_FINITE, epoch_line, run_training
from cnnjax.training.parallel import RunAhead, choose_devices, over_devices, over_trials, replicate
from cnnjax.training.program import Program, compile_program
from cnnjax.training.state import State, initial_state
from cnnjax.training.step import Metrics

Strategy = Literal["vmap", "devices"]
# And of any model what is called ..._dropout_rate.
NUMBERS = ("optimizer.learning_rate", "optimizer.weight_decay", "loss.label_smoothing", "model.rate")


@flax.struct.dataclass
class Together:
    """What is saved of a group: every array of a state, with a leading axis of trials."""

    step: Int[Array, ""]
    states: State
    best: State  # each trial's, when its validation accuracy was highest


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training a trial in a group came to.

    Attributes:
      state: the last.
      best: that of the highest validation accuracy, the latest of equals.
      lines: of `metrics.jsonl`.
      error: why it failed, if it did.
    """

    state: State
    best: State
    lines: list[dict[str, Any]]
    error: str | None


# --- which trials can be one program --------------------------------------------------------------------------------


def is_number(path: str) -> bool:
    """Whether a field's value may differ within one program.

    >>> [is_number(path) for path in ("model.conv_dropout_rate", "optimizer.momentum")]
    [True, False]
    """
    return path in NUMBERS or (path.startswith("model.") and path.endswith("dropout_rate"))


def family(config: ConfigDict) -> str | None:
    """What all trials of one program share, as a short text; None for a config that is always trained alone.

    Numbers may differ, but not whether they are zero; so may the seed, and the initialiser's name and scale, which the
    step does not see. Alone are trained: what starts from other weights or has frozen layers, streamed images, early
    stopping, the plateau schedule, probes, and logs within an epoch.
    """
    initial, log = config.initial, config.log
    alone = (
        initial.run or initial.weights or initial.frozen or initial.frozen_up_to or config.dataset.streaming
        or config.train.early_stopping or config.schedule.name == "plateau" or log.every_steps or log.probes
    )  # fmt: skip
    if alone:
        return None
    fields = flatten(to_json(config))
    shared = {path: known_zero(value) if is_number(path) else value for path, value in fields.items()}
    quiet = (path for path in fields if path.startswith(("log.", "checkpoint.")))
    free = ("seed", "model.initializer", "initial.scale", *quiet)
    return digest({path: value for path, value in shared.items() if path not in free})


def differing_numbers(configs: Sequence[ConfigDict]) -> dict[str, np.ndarray]:
    """The numbers that are not the same in all, as arrays with an axis of trials; the seed always."""
    fields = [flatten(config) for config in configs]
    differing = [path for path in fields[0] if is_number(path) and len({values[path] for values in fields}) > 1]
    numbers = {path: np.array([values[path] for values in fields], np.float32) for path in differing}
    return {"seed": np.array([config.seed for config in configs], np.uint32), **numbers}


# --- the program ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class GroupProgram:
    """What runs on the devices for a group.

    Attributes:
      step: (numbers, states) and a batch for each trial -> (numbers, states), metrics with an axis of trials.
      measure: variables of each trial, the name of a split -> what was measured, for each trial.
    """

    step: Callable[[Any, Sequence[Batch]], tuple[Any, Metrics]]
    measure: Callable[[Any, str], list[dict[str, float]]]


def compile_group(
    configs: Sequence[ConfigDict],
    strategy: Strategy,
    dataset: Dataset,
    facts: DataFacts,
    devices: list[jax.Device],
) -> GroupProgram:
    """The program of several configs of one family."""
    config, whole = configs[0], build(configs[0], facts)
    task = whole.task
    task.prepare()
    resident = batches.is_resident(dataset.splits["train"], config.dataset.resident)
    arrays = replicate(batches.resident_arrays(dataset.splits["train"]), devices) if resident else {}

    def one(numbered: Any, batch: Batch) -> tuple[Any, Metrics]:
        numbers, state = numbered
        own = {path: value for path, value in numbers.items() if path != "seed"}
        experiment = build(config, facts, numbers=own)
        state, metrics = training_step(config, experiment, dataset.statistics, numbers["seed"])(state, batch)
        return (numbers, state), metrics

    judge = measuring_step(config, whole, dataset)
    if strategy == "vmap":
        train = over_devices(jax.vmap(one), devices, donate=True)
        measured = over_devices(jax.vmap(judge, in_axes=(0, None)), devices)
    else:
        train = over_trials(one, devices, donate=True)
        measured = over_trials(judge, devices)

    def stacked(each: Sequence[Batch]) -> Batch:
        if strategy == "devices":
            return {name: np.stack([batch[name] for batch in each]) for name in each[0]}
        shared = [batches.split_over_devices(batch, len(devices)) for batch in each]
        return {name: np.stack([batch[name] for batch in shared], axis=1) for name in shared[0]}

    def step(numbered: Any, each: Sequence[Batch]) -> tuple[Any, Metrics]:
        return train(numbered, arrays, stacked(each))

    def measure(variables: Any, split: str) -> list[dict[str, float]]:
        together = devices if strategy == "vmap" else devices[:1]
        results, run_ahead = [], RunAhead(devices)
        for batch in host_batches(dataset.splits[split], config.evaluate.batch_size, together):
            if strategy == "devices":
                batch = {
                    name: np.broadcast_to(part[0], (len(configs), *part.shape[1:])) for name, part in batch.items()
                }
            results.append(measured(variables, {}, batch))
            run_ahead(results[-1])
        sums = of_each(jax.device_get(results), len(configs))
        means = [checked_metrics(task.summarize(add_up(own)), task) for own in sums]
        return [{f"{split}/{name}": value for name, value in each.items()} for each in means]

    return GroupProgram(step, measure)


def of_each(metrics: Sequence[Metrics], count: int) -> list[list[dict[str, np.ndarray]]]:
    """Metrics with an axis of trials -> those of each trial."""
    return [[{name: values[trial] for name, values in step.items()} for step in metrics] for trial in range(count)]


def stack(states: Sequence[State]) -> State:
    """States of trials -> one with a leading axis of trials."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


def slot(states: State, trial: int) -> State:
    """The state of one trial."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[trial], states)


def chosen(takes: np.ndarray, first: State, second: State) -> State:
    """For each trial the first state where `takes`, else the second."""
    return jax.tree.map(lambda a, b: np.where(takes.reshape(-1, *(1,) * (a.ndim - 1)), a, b), first, second)


# --- training -------------------------------------------------------------------------------------------------------


def train_together(
    configs: Sequence[ConfigDict],
    strategy: Strategy,
    experiments: Sequence[Experiment],
    dataset: Dataset,
    devices: list[jax.Device],
    directory: Path,
) -> list[Trained]:
    """Trains several configs of one family, or goes on training them.

    Args:
      configs: one a trial, resolved.
      strategy: `vmap`: all on the devices, which share each batch; `devices`: one a device.
      experiments: built of each config.
      dataset: loaded.
      devices: for `devices`, as many as trials.
      directory: of the group's checkpoints.

    Raises:
      ValueError: the data have changed since the group was begun.
      Interrupted: a signal came; a checkpoint was saved.
      OSError: the checkpoint cannot be written.
    """
    config, count, steps_per_epoch = configs[0], len(configs), experiments[0].steps_per_epoch
    program = compile_group(configs, strategy, dataset, experiments[0].facts, devices)
    shape = runs.network_shape(config, dataset.image_shape)
    with Checkpoints(directory, CheckpointOptions(keep=1)) as checkpoints, stop_requests() as requests:
        drawn = [
            initial_state(p.model, p.optimizer, shape, c.seed, p.averaged, c.initial.scale)
            for p, c in zip(experiments, configs, strict=True)
        ]
        last = best = stack(jax.device_get(drawn))
        number, lines, errors, sums = 0, [[] for _ in configs], [None] * count, [None] * count
        if restored := checkpoints.latest(Together(np.zeros((), np.int32), last, best)):
            run_directory.check_same_data(restored.notes, dataset, f"group {directory}")
            number, last, best = int(restored.state.step), restored.state.states, restored.state.best
            lines, errors, sums = (restored.notes[name] for name in ("lines", "errors", "sums"))
        numbered = differing_numbers(configs), last
        numbered = replicate(numbered, devices) if strategy == "vmap" else numbered
        compiled = False
        for epoch in range(number // steps_per_epoch, config.train.epochs):
            if all(errors):
                break
            feeds = [_feed(each, dataset, epoch, number % steps_per_epoch) for each in configs]
            numbered, metrics, speed = _train_steps(program, numbered, feeds, devices, requests, compiled)
            number, compiled = number + len(metrics), True
            for trial, own in enumerate(of_each(metrics, count)):
                errors[trial] = errors[trial] or burst(own, number)
                sums[trial] = None if errors[trial] else add_up(own, sums[trial])
            last = jax.device_get(numbered[1])
            for trial in range(count):
                errors[trial] = errors[trial] or not_finite(slot(last, trial), number)
            alive = [trial for trial in range(count) if not errors[trial]]
            if number % steps_per_epoch == 0:
                measured = (epoch + 1) % config.evaluate.every == 0 or epoch + 1 == config.train.epochs
                valid = program.measure(numbered[1].variables, "valid") if measured else [{}] * count
                for trial in alive:
                    rate = experiments[trial].learning_rate(number, 1.0)
                    images_per_second = speed * config.train.batch_size * count
                    task = experiments[trial].task
                    means = checked_metrics(task.summarize(sums[trial]), task)
                    line = epoch_line(number, epoch + 1, means, rate, images_per_second)
                    lines[trial].append(line | valid[trial])
                improved = np.array(
                    [measured and trial in alive and is_best(lines[trial], experiments[0]) for trial in range(count)]
                )
                best, sums = chosen(improved, last, best), [None] * count
            # What has failed is of no more use, and a checkpoint takes no NaN.
            last = chosen(np.isin(np.arange(count), alive), last, jax.tree.map(np.zeros_like, last))
            notes = {
                "lines": lines,
                "errors": errors,
                "sums": [as_json(own) for own in sums],
                "fingerprint": dataset.fingerprint,
            }
            checkpoints.save(Together(np.int32(number), last, best), notes, None)
            if requests.number:
                checkpoints.wait()
                name = signal.Signals(requests.number).name
                raise Interrupted(f"stopped by {name} at step {number} of a group of {count}, saved", requests.number)
    return [Trained(slot(last, t), slot(best, t), lines[t], errors[t]) for t in range(count)]


def _train_steps(
    program: GroupProgram,
    numbered: Any,
    feeds: Sequence[Iterator[Batch]],
    devices: Sequence[jax.Device],
    requests: Requests,
    compiled: bool,
) -> tuple[Any, list[Metrics], float]:
    """The rest of an epoch, or until a signal: numbers and states, each step's metrics, and steps a second once compiled."""
    pending: list[Metrics] = []
    run_ahead, begun, uncounted = RunAhead(devices), time.perf_counter(), 0
    for each in zip(*feeds, strict=True):
        numbered, metrics = program.step(numbered, each)
        pending.append(metrics)
        run_ahead(metrics)
        if not compiled:
            jax.block_until_ready(metrics)
            compiled, begun, uncounted = True, time.perf_counter(), 1
        if requests.number:
            break
    values = jax.device_get(pending)
    return numbered, values, (len(values) - uncounted) / max(time.perf_counter() - begun, 1e-9)


def train_group(
    folder: Path, group: str, strategy: Strategy, trials: Sequence[Trial], pending: Sequence[str]
) -> dict[str, FloatingPointError]:
    """Trains trials as one program and makes run directories of them; returns why which of them failed.

    Args:
      folder: the study's, where `groups/<group>` holds the checkpoints meanwhile.
      group: its name.
      strategy: how.
      trials: all of the group, those that have ended too: the program is for so many.
      pending: the directories of those that have not ended.

    Raises:
      files.InUseError: a run directory is in use.
      ValueError: the config does not fit the data.
      Interrupted: a signal came; everything is saved.
    """
    configs = [trial.config for trial in trials]
    config = configs[0]
    devices = choose_devices(len(trials) if strategy == "devices" else config.devices)
    dataset = load_dataset(DatasetOptions(**config.dataset))
    alone = devices[:1] if strategy == "devices" else devices
    check_batch_size(config.train.batch_size, len(alone))
    facts = data_facts(config, dataset)
    experiments = [build(each, facts) for each in configs]
    program = compile_program(config, experiments[0], dataset, alone, None)  # refuses what does not fit
    with contextlib.ExitStack() as stack:
        for directory in pending:
            stack.enter_context(run_directory.in_use(folder / directory))
        trained = train_together(configs, strategy, experiments, dataset, devices, folder / GROUPS / group)
        for trial, own, result in zip(trials, experiments, trained, strict=True):
            if trial.directory in pending and result.error is None:
                _end(folder / trial.directory, trial.config, own, dataset, alone, program, result)
                record_strategy(folder / trial.directory, strategy, group)
    failed = [(t, r) for t, r in zip(trials, trained, strict=True) if r.error and t.directory in pending]
    shutil.rmtree(folder / GROUPS / group, ignore_errors=True)
    return {trial.directory: FloatingPointError(result.error) for trial, result in failed}


def _end(
    workdir: Path, config: ConfigDict, experiment: Experiment, dataset: Dataset, devices: list[jax.Device], program: Program,
    trained: Trained,
) -> None:  # fmt: skip
    """Makes a run directory of a trial that was trained in a group, and tests it as any run is."""
    if not runs.begin(config, workdir, dataset, experiment.facts, devices):
        return
    files.write_atomically(workdir / run_directory.METRICS, "")
    with MetricsLog(workdir, config.log.tensorboard, 0) as log:
        for line in trained.lines:
            log.write(line)
    rated = {line["step"]: line for line in trained.lines if f"valid/{experiment.metric}" in line}
    options = CheckpointOptions(**config.checkpoint)
    with Checkpoints(workdir / run_directory.CHECKPOINTS, options, experiment.metric, experiment.mode) as checkpoints:
        for state in (trained.best, trained.state):
            lines = [line for line in trained.lines if line["step"] <= int(state.step)]
            checkpoints.save(state, {"sums": None, "lines": lines}, rated[int(state.step)])
    # No step is left: of the program only the test is used, which is the same for all of a family.
    run_training(config, workdir, dataset, devices, experiment, program)


def _feed(config: ConfigDict, dataset: Dataset, epoch: int, first: int) -> Iterator[Batch]:
    train, options = dataset.splits["train"], DatasetOptions(**config.dataset)
    order = batches.training_order(config.seed, epoch, options.balanced, train.labels)
    resident = batches.is_resident(train, options.resident)
    return batches.feed(train, order, config.train.batch_size, first, resident, options.workers, None)


def burst(metrics: Sequence[Metrics], number: int) -> str | None:
    """What went wrong where a loss is not finite; the last of the metrics are of step `number`."""
    for step, sums in enumerate(metrics, start=number - len(metrics) + 1):
        if not math.isfinite(sums["loss"]):
            return f"the loss became {float(sums['loss'])} at step {step}: {NOT_FINITE}"
    return None


def not_finite(state: State, number: int) -> str | None:
    """What went wrong where a value of a state is infinite or NaN."""
    floats = [leaf for leaf in jax.tree.leaves(state) if np.issubdtype(leaf.dtype, np.floating)]
    if all(np.isfinite(leaf).all() for leaf in floats):
        return None
    return f"the state is no longer finite after step {number}: {NOT_FINITE}"


def is_best(lines: Sequence[Mapping[str, float]], experiment: Experiment) -> bool:
    """Whether the last line's metric, the one that is followed, is as good as any before it."""
    sign, watched = 1 if experiment.mode == "max" else -1, f"valid/{experiment.metric}"
    *before, last = [sign * line[watched] for line in lines if watched in line]
    return last >= max(before, default=last)
