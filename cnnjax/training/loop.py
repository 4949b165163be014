"""The loop: a config and a directory -> a trained model.

At each epoch's end, in this order: measure, evaluate, write the line, save. A checkpoint at step k means "before batch
k"; everything after it follows from it, the config and the data.
"""

import contextlib
import itertools
import math
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cnnjax.core import files
from cnnjax.data.datasets import Dataset
from cnnjax.ops import choice
from cnnjax.tasks.task import Mode
from cnnjax.training import processes, run_directory
from cnnjax.training.build import Experiment
from cnnjax.training.checkpoints import CheckpointOptions, Checkpoints
from cnnjax.training.evaluation import add_up, as_json, checked_metrics
from cnnjax.training.interruption import Interrupted, Requests, stop_requests
from cnnjax.training.logs import Display, MetricsLog
from cnnjax.training.parallel import RunAhead, check_replicas, replicate
from cnnjax.training.program import Program
from cnnjax.training.schedules import plateau_scale
from cnnjax.training.state import State
from cnnjax.training.step import Metrics

# The live display is refreshed every so many steps; each refresh waits for the device once.
DISPLAY_STEPS = 50
# Several processes ask each other every so many steps whether a signal has come.
AGREEMENT_STEPS = 10
# What to do where a loss or a weight is no longer finite.
NOT_FINITE = (
    "try a lower optimizer.learning_rate; other causes: images, labels or initial weights that are not finite, too large a "
    "loss weight, train.precision=bfloat16, a division by zero or log(0) in a layer, loss or augmentation of your own"
)


def rate_scale(
    config: ConfigDict, history: Sequence[Mapping[str, Any]], metric: str = "accuracy", mode: Mode = "max"
) -> float:
    """What a plateau has left of the learning rate, after all that was measured so far.

    Args:
      config: resolved.
      history: the lines of `metrics.jsonl`.
      metric: of the validation split, that is followed.
      mode: whether less or more of it is better.
    """
    if config.schedule.name != "plateau":
        return 1.0
    options, watched = config.schedule, f"valid/{metric}"
    measured = [line for line in history if watched in line]
    error = lambda value: 1 - value if mode == "max" else value  # noqa: E731
    values = [error(line[watched]) if options.monitor == "error" else line["valid/loss"] for line in measured]
    return plateau_scale(values, options.factor, options.patience, options.threshold, options.falls)


def stops_early(
    config: ConfigDict, history: Sequence[Mapping[str, Any]], metric: str = "accuracy", mode: Mode = "max"
) -> bool:
    """Whether the last so many evaluations brought nothing better than those before; arguments as for `rate_scale`."""
    patience, watched = config.train.early_stopping, f"valid/{metric}"
    sign = 1 if mode == "max" else -1
    values = [sign * line[watched] for line in history if watched in line]
    return patience is not None and len(values) > patience and max(values[-patience:]) <= max(values[:-patience])


def run_training(
    config: ConfigDict,
    workdir: Path,
    dataset: Dataset,
    devices: list[jax.Device],
    experiment: Experiment,
    program: Program,
    replicas_are_checked: bool = False,
) -> State:
    """Trains, or goes on training, in a directory this process has locked; returns the state it ends with.

    Args:
      config: resolved.
      workdir: the run directory, with its `config.json` written.
      dataset: loaded.
      devices: that share each batch.
      experiment: built of the config.
      program: of this experiment, data and devices.
      replicas_are_checked: compare the devices' copies of the state after each epoch.

    Raises:
      FloatingPointError: the loss is no longer finite; the message names the step and the last checkpoint.
      Interrupted: a signal came; a checkpoint was saved.
      OSError: the directory cannot be written any more; the last checkpoint is kept.
    """
    epochs, batch_size, steps_per_epoch = config.train.epochs, config.train.batch_size, experiment.steps_per_epoch
    summarize = lambda sums: checked_metrics(experiment.task.summarize(sums), experiment.task)  # noqa: E731

    with contextlib.ExitStack() as stack:
        # First of all: a KeyboardInterrupt that is raised within some library's callback is lost there.
        requests = stack.enter_context(stop_requests())
        options = CheckpointOptions(**config.checkpoint)
        checkpoints = log = None  # the first process's alone
        if processes.is_first():
            checkpoints = stack.enter_context(
                Checkpoints(workdir / run_directory.CHECKPOINTS, options, experiment.metric, experiment.mode)
            )
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
        scale = rate_scale(config, history, experiment.metric, experiment.mode)
        if checkpoints:
            (workdir / run_directory.DONE).unlink(missing_ok=True)
            log = stack.enter_context(MetricsLog(workdir, config.log.tensorboard, number))
        progress = config.log.progress if checkpoints else "off"
        display = stack.enter_context(
            Display(progress, epochs, steps_per_epoch, batch_size, experiment.metric, experiment.mode, history)
        )
        if restored and number < experiment.total_steps:
            display.note(f"resuming at step {number} of {experiment.total_steps}")
        run_ahead, stop = RunAhead(devices), 0
        compiled: set[float] = set()  # the stages whose program is
        notes = lambda: {"sums": as_json(sums), "lines": run_directory.epoch_lines(history)}  # noqa: E731
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
            if stops_early(config, history, experiment.metric, experiment.mode):
                display.note(
                    f"stopped early: no better valid/{experiment.metric} in {config.train.early_stopping} evaluations"
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
                    last, rate = summarize(values[-1]), experiment.learning_rate(number, scale)
                    display.update(number, last)
                    if to_log and log:
                        log.write(step_line(number, steps_per_epoch, last, rate))
                if to_save and checkpoints:
                    checkpoints.save(state, notes(), None)
                if stop:
                    break
            if number % steps_per_epoch == 0:
                sums = add_up(fetch_metrics(pending, number, workdir, checkpoints), sums)
                rate, speed = experiment.learning_rate(number, scale), display.images_per_second(number)
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
                if rate_scale(config, history, experiment.metric, experiment.mode) != scale:
                    scale = rate_scale(config, history, experiment.metric, experiment.mode)
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
        {name: np.asarray(value)[place] if np.ndim(metrics["count"]) else value for name, value in metrics.items()}
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
