"""The record of a training on disk: checkpoints, `metrics.jsonl`, and the progress restored from them."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from cnnjax.core import files
from cnnjax.training import processes, run_directory
from cnnjax.training.callbacks import Callback, Event
from cnnjax.training.checkpoints import CheckpointOptions, Checkpoints
from cnnjax.training.evaluation import as_json
from cnnjax.training.experiment import Experiment
from cnnjax.training.logs import MetricsLog
from cnnjax.training.state import State

Lines = list[dict[str, Any]]
# Advice if a loss or a weight is no longer finite.
NOT_FINITE = (
    "try a lower optimizer.learning_rate; other causes: images, labels or initial weights that are not finite, too large a "
    "loss weight, train.precision=bfloat16, a division by zero or log(0) in a layer, loss or augmentation of your own"
)
# Advice if the loss is not finite before the first update.
NOT_FINITE_AT_FIRST = (
    "before any update: look for images, labels or initial weights that are not finite, and for a division by zero or log(0) "
    "in a model, loss or augmentation of your own"
)


@dataclasses.dataclass
class Progress:
    """The progress of a training. Lists have one entry per trial; an ordinary run has one trial.

    Attributes:
      state: the state, on the devices.
      step: the number of steps done.
      sums: the sums of each trial over the epoch so far; None at the start of an epoch.
      histories: the lines of each trial.
      scale: the factor by which the plateau schedule has reduced the learning rate.
    """

    state: Any
    step: int
    sums: list[dict[str, Any] | None]
    histories: list[Lines]
    scale: float = 1.0


class Record(Protocol):
    """The interface between the loop and the record of a run or of a group of trials."""

    every_steps: int | None  # number of steps between checkpoints within an epoch
    what: str  # a suffix for "step 12" in messages: "", or " of a group of 3"

    def resume(self, initial: Any, shapes: Any) -> Progress:
        """The progress at the last checkpoint or at the start; the state is not yet on the devices."""

    def begin(self, progress: Progress) -> None:
        """Called when the training starts or resumes."""

    def trials(self) -> list[int]:
        """The trials that are still trained."""

    def diverged(self, trial: int, step: int, loss: float) -> None:
        """Called when a loss is not finite; raises FloatingPointError if that ends the training."""

    def write(self, progress: Progress, lines: Mapping[int, Mapping[str, Any]], kind: str) -> None:
        """Writes the line of each trial and calls the callbacks."""

    def save(self, progress: Progress, measured: bool | None) -> None:
        """Saves a checkpoint; `measured` tells whether the last lines contain validation metrics."""

    def wait(self) -> None:
        """Waits until all checkpoints are on disk."""

    def finish(self, program: Any, progress: Progress) -> None:
        """Called when training has ended; evaluates the test split."""


class RunRecord:
    """The record of one run: its checkpoints and `metrics.jsonl`, written only by the first process.

    Args:
      workdir: the run directory, in which `config.json` has been written.
      config: the resolved config.
      experiment: the experiment built from the config.
      callbacks: the callbacks, called on the first process.
      first_images: makes images for TensorBoard at the start of the training; None writes none.
    """

    what = ""

    def __init__(
        self,
        workdir: Path,
        config: ConfigDict,
        experiment: Experiment,
        callbacks: Sequence[Callback] = (),
        first_images: Callable[[], Any] | None = None,
    ):
        self.workdir, self._config, self._experiment = workdir, config, experiment
        self._callbacks = callbacks if processes.is_first() else ()
        self._stack = contextlib.ExitStack()
        self._checkpoints: Checkpoints | None = None
        self._log: MetricsLog | None = None
        self._first_images = first_images
        self._step = 0
        self.every_steps = config.checkpoint.every_steps

    def __enter__(self) -> "RunRecord":
        if processes.is_first():
            options = CheckpointOptions(**self._config.checkpoint)
            folder, experiment = self.workdir / run_directory.CHECKPOINTS, self._experiment
            self._checkpoints = self._stack.enter_context(
                Checkpoints(folder, options, experiment.metric, experiment.mode)
            )
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool | None:
        trained = self._step > 1 or run_directory.has_records(self.workdir)
        if (
            self._log and trained and isinstance(error, FloatingPointError)
        ):  # this line is dropped if the run is resumed
            epoch = round(self._step / self._experiment.steps_per_epoch, 4)
            self._log.write({"step": self._step, "epoch": epoch, "error": str(error)})
        return self._stack.__exit__(kind, error, trace)

    def resume(self, initial: Any, shapes: State) -> Progress:
        """The progress of the run; lines written after the last checkpoint are dropped."""
        restored = processes.share(self._checkpoints.latest(shapes) if self._checkpoints else None)
        state = restored.state if restored else initial()
        step = int(state.step)
        history = None
        if self._checkpoints:
            lines = restored.notes.get("lines", ()) if restored else ()  # checkpoints of version 0.1.0 have none
            history = run_directory.rewind_history(self.workdir, step if restored else -1, lines)
        history = processes.share(history)
        run_directory.check_complete(self.workdir, history, step // self._experiment.steps_per_epoch)
        return Progress(state, step, [restored.notes["sums"] if restored else None], [history])

    def begin(self, progress: Progress) -> None:
        """Opens `metrics.jsonl` and deletes the file that marks the run as finished."""
        self._step = progress.step
        if self._checkpoints:
            (self.workdir / run_directory.DONE).unlink(missing_ok=True)
            self._log = self._stack.enter_context(MetricsLog(self.workdir, self._config.log.tensorboard, progress.step))
            if self._first_images and self._log.events and progress.step == 0:
                self._log.events.images("images/first_batch", self._first_images())
        self._tell("begin", progress)

    def trials(self) -> list[int]:
        """The number of the only trial."""
        return [0]

    def diverged(self, trial: int, step: int, loss: float) -> None:
        """Raises FloatingPointError; the message names the last checkpoint."""
        self._step = step
        if step == 1:
            raise FloatingPointError(f"the loss is {loss} at the first step, {NOT_FINITE_AT_FIRST}")
        self.wait()
        kept = self._checkpoints.steps() if self._checkpoints else []
        where = f"the last checkpoint, step {kept[-1]}, is kept" if kept else "there is no checkpoint yet"
        raise FloatingPointError(
            f"the loss became {loss} at step {step}; {where}; in another --workdir than {self.workdir} {NOT_FINITE}"
        )

    def write(self, progress: Progress, lines: Mapping[int, Mapping[str, Any]], kind: str) -> None:
        """Writes the line before it returns."""
        self._step = progress.step
        if self._log:
            self._log.write(lines[0])
            if self._config.log.probes and kind in ("epoch", "probe") and self._log.events:
                self._log.events.histograms(progress.step, progress.state.params)
        if kind in ("step", "end"):  # callbacks for an epoch are called once it is saved
            self._tell(kind, progress, lines[0])

    def save(self, progress: Progress, measured: bool | None) -> None:
        """Saves a checkpoint with the validation metrics of the last line."""
        self._step = progress.step
        self._save(progress, measured)
        if measured is not None:
            self._tell("epoch", progress, progress.histories[0][-1])
        self._tell("saved", progress)

    def _save(self, progress: Progress, measured: bool | None) -> None:
        if self._checkpoints:
            [sums], [history] = progress.sums, progress.histories
            notes = {"sums": as_json(sums), "lines": run_directory.epoch_lines(history)}
            line = history[-1] if measured else {}
            valid = {name: value for name, value in line.items() if name.startswith("valid/")}
            self._checkpoints.save(progress.state, notes, valid or None)

    def wait(self) -> None:
        """Waits until all checkpoints are on disk."""
        if self._checkpoints:
            self._checkpoints.wait()

    def finish(self, program: Any, progress: Progress) -> None:
        """Evaluates the checkpoint that `evaluate.checkpoint` selects on the test split, and writes the last line."""
        self.wait()
        selected = None
        if self._checkpoints:
            best = self._checkpoints.best(program.shapes) if self._config.evaluate.checkpoint == "best" else None
            selected = best or self._checkpoints.latest(program.shapes)
        selected = processes.share(selected)
        tested = program.test(program.place(selected.state))
        epoch = progress.step // self._experiment.steps_per_epoch
        line = {"step": progress.step, "epoch": epoch, "checkpoint": int(selected.state.step), **tested}
        self.write(progress, {0: line}, "end")

    def done(self) -> None:
        """Marks the run as finished, after everything else is written."""
        if processes.is_first():
            files.write_atomically(self.workdir / run_directory.DONE, "")

    def _tell(self, kind: Any, progress: Progress, line: Mapping[str, Any] | None = None) -> None:
        """Calls the callbacks; if one fails within an epoch, a checkpoint is saved."""
        within = progress.step % self._experiment.steps_per_epoch != 0
        if not self._callbacks or (
            kind == "step" and not within
        ):  # the last step of an epoch is part of the epoch's event
            return
        event = Event(kind, self.workdir, self._config, progress.step, line or {}, tuple(progress.histories[0]))
        try:
            for callback in self._callbacks:
                callback(event)
        except BaseException:
            if kind == "step":
                self._save(progress, None)
            if kind != "begin":
                self.wait()
            raise


def is_finite(sums: Mapping[str, Any]) -> bool:
    """Whether the loss of a step is finite."""
    return math.isfinite(np.asarray(sums["loss"]))
