"""The training loop: a config and a directory -> a trained model.

Each epoch ends with these actions, in this order: measure, evaluate, write the line, save. A checkpoint at step k is the
state before batch k. Everything after it is determined by the checkpoint, the config and the data.
"""

import itertools
import signal
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cnnjax.ops import choice
from cnnjax.tasks.task import Mode
from cnnjax.training import processes
from cnnjax.training.evaluation import add_up, checked_metrics
from cnnjax.training.experiment import Experiment
from cnnjax.training.interruption import Interrupted, Requests, stop_requests
from cnnjax.training.logs import Display
from cnnjax.training.parallel import RunAhead, check_replicas
from cnnjax.training.program import Program
from cnnjax.training.record import Progress, Record, is_finite
from cnnjax.training.schedules import plateau_scale
from cnnjax.training.step import Metrics

# Steps between refreshes of the live display; each refresh waits for the device once.
DISPLAY_STEPS = 50
# Number of steps after which several processes ask each other whether a signal was received.
AGREEMENT_STEPS = 10


class Training(NamedTuple):
    """The parts of a training that are the same from its first step to its last.

    Attributes:
      config: the resolved config; for a group, that of its first trial.
      experiments: the experiments built from each trial's config; for a run, one.
      program: the compiled program of these experiments, their data and devices.
      record: the record of the training on disk.
      requests: the signals received.
      display: the progress display.
      replicas_are_checked: whether the devices' copies of the state are compared after each epoch.
    """

    config: ConfigDict
    experiments: Sequence[Experiment]
    program: Program
    record: Record
    requests: Requests
    display: Display
    replicas_are_checked: bool


def rate_scale(config: ConfigDict, history: Sequence[Mapping[str, Any]], metric: str, mode: Mode) -> float:
    """The factor by which the plateau schedule has reduced the learning rate so far.

    Args:
      config: the resolved config.
      history: the lines of `metrics.jsonl`.
      metric: the validation metric that is followed.
      mode: whether a small or large metric is better.
    """
    if config.schedule.name != "plateau":
        return 1.0
    options, watched = config.schedule, f"valid/{metric}"
    measured = [line for line in history if watched in line]
    error = lambda value: 1 - value if mode == "max" else value  # noqa: E731
    values = [error(line[watched]) if options.monitor == "error" else line["valid/loss"] for line in measured]
    return plateau_scale(values, options.factor, options.patience, options.threshold, options.falls)


def stops_early(config: ConfigDict, history: Sequence[Mapping[str, Any]], metric: str, mode: Mode) -> bool:
    """Whether the last `train.early_stopping` evaluations brought no improvement; arguments as in `rate_scale`."""
    patience, watched = config.train.early_stopping, f"valid/{metric}"
    sign = 1 if mode == "max" else -1
    values = [sign * line[watched] for line in history if watched in line]
    return patience is not None and len(values) > patience and max(values[-patience:]) <= max(values[:-patience])


def run_training(
    config: ConfigDict,
    experiments: Sequence[Experiment],
    program: Program,
    record: Record,
    devices: list[jax.Device],
    progress: str = "off",
    replicas_are_checked: bool = False,
) -> Progress:
    """Trains or resumes a run, or a group of trials as one program, and returns its final progress.

    Args:
      config: the resolved config; for a group, that of its first trial.
      experiments: the experiments built from each trial's config; for a run, one.
      program: the compiled program of these experiments, their data and devices.
      record: the record of the training on disk, which knows its progress.
      devices: the devices that share each batch.
      progress: the mode of the progress display, as in `LogOptions`.
      replicas_are_checked: whether to compare the devices' copies of the state after each epoch.

    Raises:
      FloatingPointError: the loss is no longer finite; the message names the step and the last checkpoint.
      Interrupted: a signal was received; a checkpoint was saved.
      OSError: the directory can no longer be written; the last checkpoint is kept.
    """
    first, epochs = experiments[0], config.train.epochs
    # Signals are caught from the start: a KeyboardInterrupt raised within a library's callback would be lost.
    with stop_requests() as requests, record:
        at = record.resume(program.initial, program.shapes)
        at.state = program.place(at.state)
        at.scale = rate_scale(config, at.histories[0], first.metric, first.mode)
        with Display(
            progress, epochs, first.steps_per_epoch, config.train.batch_size, first.metric, first.mode, at.histories[0]
        ) as display:
            if 0 < at.step < first.total_steps:
                display.note(f"resuming at step {at.step} of {first.total_steps}")
            record.begin(at)
            if at.step == 0 and config.log.probes:
                write_lines(at, record, [{"step": 0, "epoch": 0, **program.probe(at.state, 0)}], "probe")
            training = Training(config, experiments, program, record, requests, display, replicas_are_checked)
            run_ahead, compiled = RunAhead(devices), set()
            for epoch in range(at.step // first.steps_per_epoch, epochs):
                if not record.trials():
                    break
                if stops_early(config, at.histories[0], first.metric, first.mode):
                    display.note(
                        f"stopped early: no better valid/{first.metric} in {config.train.early_stopping} evaluations"
                    )
                    break
                stop = train_epoch(training, at, epoch, run_ahead, compiled)
                if at.step % first.steps_per_epoch == 0:
                    end_epoch(training, at, epoch)
                    stop = agreed_stop(requests, None)
                if stop:
                    record.wait()
                    raise Interrupted(
                        f"stopped by {signal.Signals(stop).name} at step {at.step}{record.what}, saved", stop
                    )
            display.stage("evaluating on the test split")
            record.finish(program, at)
    return at


def train_epoch(training: Training, at: Progress, epoch: int, run_ahead: RunAhead, compiled: set[float]) -> int:
    """Takes the remaining steps of an epoch. A signal stops it, after a checkpoint was saved.

    Args:
      training: the parts of the training.
      at: the progress of the training, which is changed.
      epoch: the epoch's number, from 0.
      run_ahead: the bound on the number of steps in flight.
      compiled: the stages whose program is already compiled, which is changed.

    Returns:
      The number of the signal, or 0.
    """
    config, experiments, program, record, requests, display, _ = training
    steps_per_epoch = experiments[0].steps_per_epoch
    pauses = (DISPLAY_STEPS, record.every_steps, config.log.every_steps)
    pending: list[tuple[Metrics, int]] = []
    stop = 0
    display.start_clock(at.step)
    feed = display.timed(program.feed(epoch, at.step % steps_per_epoch))
    while group := list(itertools.islice(feed, min(program.together, steps_to_next(at.step, pauses)))):
        is_new = program.stage(epoch) not in compiled
        if is_new:
            display.stage("compiling the training step")
            with choice.recorded() as operations:
                at.state, metrics = program.steps(at.state, group, epoch)
            if not compiled:
                program.compiled(operations)
            jax.block_until_ready(metrics)
        else:
            at.state, metrics = program.steps(at.state, group, epoch)
        at.step += len(group)
        pending.append((metrics, len(group)))
        run_ahead(metrics)
        if is_new:
            compiled.add(program.stage(epoch))
            display.compiled(at.step)
        display.advance(at.step)
        stop = agreed_stop(requests, at.step)
        within = at.step % steps_per_epoch != 0
        to_log = _due(at.step, config.log.every_steps)
        to_save = within and (_due(at.step, record.every_steps) or stop)
        if to_save or to_log or stop or _due(at.step, DISPLAY_STEPS):
            last, pending = add_metrics(pending, program.together > 1, record, at), []
            means = {trial: _means(experiments[trial], sums) for trial, sums in last.items()}
            if means:
                display.update(at.step, means[min(means)])
            if to_log:
                lines = [step_line(at.step, steps_per_epoch, means[0], experiments[0].learning_rate(at.step, at.scale))]
                record.write(at, dict(enumerate(lines)), "step")
        if to_save:
            record.save(at, None)
        if stop:
            break
    add_metrics(pending, program.together > 1, record, at)
    return stop


def end_epoch(training: Training, at: Progress, epoch: int) -> None:
    """Ends an epoch: measures, evaluates, writes the line, saves. Arguments as in `train_epoch`."""
    config, experiments, program, record, _, display, replicas_are_checked = training
    speed, waited = display.images_per_second(at.step) * len(experiments), display.data_seconds
    if replicas_are_checked:
        check_replicas(at.state)
    probed = program.probe(at.state, epoch)
    to_measure = _due(epoch + 1, config.evaluate.every) or epoch + 1 == config.train.epochs
    valid = [{}] * len(experiments)
    if to_measure:
        display.stage("evaluating")
        valid = program.measure(at.state, "valid")
    lines = {}
    for trial in record.trials():
        rate = experiments[trial].learning_rate(at.step, at.scale)
        means = _means(experiments[trial], at.sums[trial])
        lines[trial] = epoch_line(at.step, epoch + 1, means, rate, speed, waited) | probed | valid[trial]
        if to_measure and f"valid/{experiments[trial].metric}" not in valid[trial]:
            known = ", ".join(name.removeprefix("valid/") for name in valid[trial])
            raise ValueError(
                f"config: evaluate.metric={experiments[trial].metric!r} is not a metric of {type(experiments[trial].task).__name__}: "
                f"choose from {known}"
            )
    at.sums = [None] * len(experiments)
    write_lines(at, record, lines, "epoch")
    if lines:
        display.epoch(lines[min(lines)])
    first = experiments[0]
    if (scale := rate_scale(config, at.histories[0], first.metric, first.mode)) != at.scale:
        at.scale = scale
        at.state = program.with_rate_scale(at.state, scale)
    record.save(at, to_measure)


def write_lines(
    at: Progress, record: Record, lines: Mapping[int, dict[str, Any]] | list[dict[str, Any]], kind: str
) -> None:
    """Writes one line for each trial and adds it to the trial's history.

    Args:
      at: the progress of the training, whose histories are changed.
      record: the record of the training.
      lines: the line of each trial, by its number or in order; for a run, one.
      kind: the kind of event for callbacks: "epoch", or "probe" for no event.
    """
    lines = dict(enumerate(lines)) if isinstance(lines, list) else lines
    if lines:
        record.write(at, lines, kind)
    for trial, line in lines.items():
        at.histories[trial].append(line)


def _means(experiment: Experiment, sums: Mapping[str, Any]) -> dict[str, float]:
    return checked_metrics(experiment.task.summarize(sums), experiment.task)


def add_metrics(
    pending: Sequence[tuple[Metrics, int]], stacked: bool, record: Record, at: Progress
) -> dict[int, Mapping[str, Any]]:
    """Waits for pending metrics, the last of which are of step `at.step`, and adds them to the sums of the epoch.

    Returns:
      The sums of the last step for each trial that is still trained.

    Raises:
      FloatingPointError: a loss is not finite, which ends the training.
    """
    fetched = fetch_metrics(pending, stacked)
    last: dict[int, Mapping[str, Any]] = {}
    for trial in record.trials():
        own = of_trial(fetched, trial, len(at.sums))
        for step, sums in enumerate(own, start=at.step - len(own) + 1):
            if not is_finite(sums):
                record.diverged(trial, step, float(sums["loss"]))
                own = []
                break
        if own:
            at.sums[trial], last[trial] = add_up(own, at.sums[trial]), own[-1]
    return last


def of_trial(fetched: Sequence[Metrics], trial: int, trials: int) -> list[Metrics]:
    """The sums of each step for one trial; with several trials every array has a leading trial axis."""
    if trials == 1:
        return list(fetched)
    return [{name: values[trial] for name, values in metrics.items()} for metrics in fetched]


def agreed_stop(requests: Requests, number: int | None) -> int:
    """The number of the signal that any process has received, or 0; processes synchronise every few steps and after each epoch.

    Args:
      requests: the signals received by this process.
      number: the number of the step; None for the end of an epoch.
    """
    own = requests.number or 0
    if processes.count() == 1:
        return own
    return processes.largest(own) if number is None or _due(number, AGREEMENT_STEPS) else 0


def _due(number: int, every: int | None) -> bool:
    return every is not None and number % every == 0


def steps_to_next(number: int, pauses: Sequence[int | None]) -> int:
    """The number of steps from step `number` to the next multiple of one of the pauses."""
    return min(every - number % every for every in pauses if every is not None)


def fetch_metrics(pending: Sequence[tuple[Metrics, int]], stacked: bool) -> list[Metrics]:
    """Waits for steps and fetches their metrics, one entry per step.

    Args:
      pending: the metrics of each call, and the number of steps in the call.
      stacked: whether the metrics have a leading step axis.
    """
    return [
        {name: np.asarray(value)[place] if stacked else value for name, value in metrics.items()}
        for metrics, count in jax.device_get(list(pending))
        for place in range(count)
    ]


def step_line(number: int, steps_per_epoch: int, last: Mapping[str, float], rate: float) -> dict[str, Any]:
    """A line of `metrics.jsonl` within an epoch, with the loss of the last batch."""
    return {
        "step": number,
        "epoch": round(number / steps_per_epoch, 4),
        "train/batch_loss": last["loss"],
        "learning_rate": rate,
    }


def epoch_line(
    number: int,
    epoch: int,
    means: Mapping[str, float],
    rate: float,
    images_per_second: float,
    data_seconds: float | None = None,
) -> dict[str, Any]:
    """A line of `metrics.jsonl` at the end of an epoch; `learning_rate` is that of the epoch's last step.

    `time/data_seconds` is the time that the loop waited for batches; devices may have been computing meanwhile.
    """
    return {
        "step": number,
        "epoch": epoch,
        **{f"train/{name}": value for name, value in means.items()},
        "learning_rate": rate,
        "time/images_per_second": round(images_per_second, 1),
        **({} if data_seconds is None else {"time/data_seconds": round(data_seconds, 4)}),
    }
