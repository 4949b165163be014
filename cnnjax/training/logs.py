"""Training logs: the progress display, `metrics.jsonl` and TensorBoard files."""

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from cnnjax.core.options import TrainedAlone, positive
from cnnjax.core.terminal import printable, say
from cnnjax.training.run_directory import METRICS, TENSORBOARD

T = TypeVar("T")
# Waiting for data is reported if it takes more than this share of an epoch's time.
WAITING = 0.1


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """The config's `log` section."""

    progress: Annotated[
        Literal["auto", "lines", "off"],
        "auto: a live display on a terminal, else one line per epoch; lines: always lines; off: no output",
    ] = "auto"
    tensorboard: Annotated[bool, "also write TensorBoard event files"] = True
    probes: Annotated[
        bool,
        TrainedAlone,
        "before the first step and after each epoch, also log for each layer: activations, dead and saturated units, gradients, "
        "updates, drift of batch statistics",
    ] = False
    every_steps: Annotated[
        int | None, TrainedAlone, "also log the loss of the batch at each multiple of this number of steps", positive
    ] = None


def training_seconds(epochs: Sequence[Mapping[str, float]], batch_size: int) -> float:
    """The total training time of the epochs, without compilation and evaluation; for a trial in a group, its share.

    An epoch whose speed was not measured, because its only step compiled the program, counts with the mean speed of the others.

    >>> training_seconds([{"step": 10, "time/images_per_second": 0.0}, {"step": 20, "time/images_per_second": 80.0}], 16)
    4.0
    """
    ends = [0, *(line["step"] for line in epochs)]
    steps = [line["step"] - before for before, line in zip(ends, epochs, strict=False)]
    speeds = [line["time/images_per_second"] for line in epochs]
    measured = [(count, speed) for count, speed in zip(steps, speeds, strict=True) if speed > 0]
    if not measured:
        return 0.0
    share = sum(steps) / sum(count for count, _ in measured)
    return share * sum(count * batch_size / speed for count, speed in measured)


class MetricsLog:
    """Appends to `metrics.jsonl` and the TensorBoard files.

    Args:
      workdir: the run directory.
      tensorboard: whether to write event files.
      step: the step at which the run is resumed; TensorBoard entries of later steps are superseded.
    """

    def __init__(self, workdir: Path, tensorboard: bool, step: int):
        self._file = (workdir / METRICS).open("a", encoding="utf-8")
        self._writer = None
        if tensorboard:
            self._writer = _summary_writer()(str(workdir / TENSORBOARD), purge_step=step + 1 if step else None)

    def write(self, line: Mapping[str, Any]) -> None:
        """Writes one line to disk before it returns."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())  # before the checkpoint that may follow it
        if self._writer:
            for name, value in line.items():
                if name not in {"step", "epoch"} and isinstance(value, int | float):
                    self._writer.add_scalar(name, value, line["step"])
            self._writer.flush()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._writer:
            self._writer.close()


def _summary_writer() -> type:
    """tensorboardX's `SummaryWriter`, imported without PyTorch, which would add 1.5 s to every start where it is installed."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # makes `import torch` fail, which tensorboardX handles
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter


def _columns(metric: str) -> tuple[tuple[str, str, str], ...]:
    """The columns of the epoch table, which fits into 80 characters: title, key in the line, format."""
    title = metric.replace("_", " ")
    return (
        ("train loss", "train/loss", ".4f"),
        (f"{title:>8}", f"train/{metric}", ".4f"),
        ("valid loss", "valid/loss", ".4f"),
        (f"{title:>8}", f"valid/{metric}", ".4f"),
        ("    rate", "learning_rate", ".2g"),
        ("images/s", "time/images_per_second", ",.0f"),
    )


class Display:
    """The progress display: one row per epoch, with the best marked, and on a terminal a progress bar until training ends.

    Args:
      mode: the mode, as in `LogOptions.progress`.
      epochs: the number of epochs of the run.
      steps_per_epoch: the number of steps per epoch.
      batch_size: the number of examples per step.
      metric: the validation metric that the best checkpoint follows.
      better: whether a large ("max") or small ("min") metric is better.
      history: the lines of the run so far, among which the best is found.

    Attributes:
      data_seconds: the time that the loop has waited for data since the clock was started.
    """

    def __init__(
        self,
        mode: str,
        epochs: int,
        steps_per_epoch: int,
        batch_size: int,
        metric: str,
        better: Literal["min", "max"],
        history: Sequence[Mapping[str, Any]] = (),
    ):
        self._epochs, self._steps, self._batch = epochs, steps_per_epoch, batch_size
        self._metric, self._sign = metric, 1 if better == "max" else -1
        self._columns = (
            _columns(metric) if metric != "loss" else [c for c in _columns(metric) if c[0].strip() != "loss"]
        )
        watched = f"valid/{metric}"
        self._best = max((self._sign * line[watched] for line in history if watched in line), default=-math.inf)
        self._has_header = False
        self._quiet = mode == "off"
        self._live = None
        if mode == "auto" and sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._live = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[shown]}"),
                TimeRemainingColumn(), TextColumn("left"), refresh_per_second=4, expand=True, transient=True,
            )  # fmt: skip
            self._task = self._live.add_task("starting", total=epochs * steps_per_epoch, shown="")
        self._clock = (time.perf_counter(), 0)
        self.data_seconds = 0.0

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def stage(self, name: str) -> None:
        """Shows the current stage: compiling, evaluating, ..."""
        if self._live:
            self._live.update(self._task, description=name)

    def note(self, line: str, style: str | None = None) -> None:
        """Prints a line that remains visible."""
        if self._live:
            self._live.console.print(printable(line, keep="\n"), style=style, highlight=False, markup=False)
        elif not self._quiet:
            say(line)

    def start_clock(self, step: int) -> None:
        """Starts measuring images per second and the time spent waiting for data; called after compilation or evaluation."""
        self._clock = (time.perf_counter(), step)
        self.data_seconds = 0.0

    def timed(self, feed: Iterable[T]) -> Iterator[T]:
        """Yields the batches of a feed and adds the time spent waiting for them to `data_seconds`."""
        feed = iter(feed)
        while True:
            start = time.perf_counter()
            try:
                batch = next(feed)
            except StopIteration:
                return
            self.data_seconds += time.perf_counter() - start
            yield batch

    def images_per_second(self, step: int) -> float:
        """Images per second since the clock was started."""
        since, first = self._clock
        return (step - first) * self._batch / max(time.perf_counter() - since, 1e-9)

    def compiled(self, step: int) -> None:
        """Reports the compilation time after the first step and restarts the clock."""
        self.note(f"compiled the training step in {time.perf_counter() - self._clock[0]:.1f} s")
        self.start_clock(step)

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Updates the live display within an epoch."""
        if self._live:
            watched = (
                f"  {self._metric} {metrics[self._metric]:.4f}" if metrics.keys() & {self._metric} - {"loss"} else ""
            )
            shown = f"loss {metrics['loss']:.4g}{watched}  {self.images_per_second(step):,.0f} images/s"
            epoch = min(step // self._steps + 1, self._epochs)
            self._live.update(self._task, completed=step, shown=shown, description=f"epoch {epoch}/{self._epochs}")

    def epoch(self, line: Mapping[str, Any]) -> None:
        """Prints the row of an epoch. The best epoch is that of the best checkpoint: of ties the latest."""
        width = max(len("epoch"), 2 * len(str(self._epochs)) + 1)
        if not self._has_header:
            self.note(f"{'epoch':>{width}}  {'  '.join(title for title, *_ in self._columns)}  best", "bold")
            self._has_header = True
        cells = [f"{f'{line[key]:{form}}' if key in line else '-':>{len(title)}}" for title, key, form in self._columns]
        value = line.get(f"valid/{self._metric}")
        is_best = value is not None and self._sign * value >= self._best
        self._best = max(self._best, self._sign * value) if value is not None else self._best
        place = f"{line['epoch']}/{self._epochs}"
        self.note(f"{place:>{width}}  {'  '.join(cells)}{'     *' if is_best else ''}", "bold" if is_best else None)
        shown = {key for _, key, _ in self._columns}
        others = [name for name in line if name.startswith(("train/", "valid/")) and name not in shown]
        if others:
            self.note(" " * width + "  " + "  ".join(f"{name} {line[name]:.4f}" for name in others))
        waited, speed = line.get("time/data_seconds", 0.0), line.get("time/images_per_second", 0.0)
        seconds = self._steps * self._batch / speed if speed else math.inf
        if waited > WAITING * seconds:
            self.note(f"{' ' * width}  waited {waited:.1f} of {seconds:.1f} s for data")
        if self._live:
            self._live.update(self._task, completed=line["step"])
