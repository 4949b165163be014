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

from cnnjax.core.notebook import Area, in_notebook
from cnnjax.core.options import TrainedAlone, positive
from cnnjax.core.terminal import duration, printable, say
from cnnjax.training.run_directory import METRICS, TENSORBOARD
from cnnjax.training.shown import epoch_curves, trained_epochs, training_card
from cnnjax.training.tensorboard import EventFiles

T = TypeVar("T")
# Waiting for data is reported if it takes more than this share of an epoch's time.
WAITING = 0.1
# A notebook's output is updated this often within an epoch; at the ends of shorter epochs four times as often.
SECONDS = 1.0
# The seconds between two movements of the live display within an epoch.
REFRESH = 0.25


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """The config's `log` section."""

    progress: Annotated[
        Literal["auto", "lines", "off"],
        "auto: a live display on a terminal or in a notebook, else one line per epoch; lines: always lines; off: no output",
    ] = "auto"
    tensorboard: Annotated[bool, "also write TensorBoard event files"] = True
    images: Annotated[
        bool, TrainedAlone, "also write images of the first batch to TensorBoard, as the network gets them"
    ] = False
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

    Attributes:
      events: the TensorBoard files; None without them.
    """

    def __init__(self, workdir: Path, tensorboard: bool, step: int):
        self._file = (workdir / METRICS).open("a", encoding="utf-8")
        self.events = EventFiles(workdir / TENSORBOARD, step) if tensorboard else None

    def write(self, line: Mapping[str, Any]) -> None:
        """Writes one line to disk before it returns."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())  # before the checkpoint that may follow it
        if self.events:
            self.events.scalars(line)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self.events:
            self.events.close()


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

    In a notebook it is one output, updated in place: the curves, the last epochs and the best, and a bar.

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
        self._lines, self._notes = trained_epochs(history), []
        self._has_header = False
        self._quiet = mode == "off"
        self._done = self._lines[-1]["epoch"] / epochs if self._lines else 0.0
        self._begun = time.perf_counter(), self._done
        self._live = None
        self._area = Area() if mode == "auto" and in_notebook() else None
        if mode == "auto" and self._area is None and sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._live = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[shown]}"),
                TimeRemainingColumn(), TextColumn("left"), refresh_per_second=4, expand=True, transient=True,
            )  # fmt: skip
            self._task = self._live.add_task("starting", total=epochs * steps_per_epoch, shown="")
        self._clock = (time.perf_counter(), 0)
        self._advanced, self._shown = 0.0, ""
        self.data_seconds = 0.0

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._live:
            self._live.stop()
        ended = "stopped" if kind else "trained"
        self._show(
            f"{ended}: {len(self._lines)} of {self._epochs} epochs, {duration(time.perf_counter() - self._begun[0])}"
        )

    def stage(self, name: str) -> None:
        """Shows the current stage: compiling, evaluating, ..."""
        if self._live:
            self._live.update(self._task, description=name)
        self._show(name, every=SECONDS)

    def note(self, line: str, style: str | None = None) -> None:
        """Prints a line that remains visible."""
        if self._live:
            self._live.console.print(printable(line, keep="\n"), style=style, highlight=False, markup=False)
        elif self._area:
            self._notes.append(line.strip())
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
        watched = f"  {self._metric} {metrics[self._metric]:.4f}" if metrics.keys() & {self._metric} - {"loss"} else ""
        self._shown = f"loss {metrics['loss']:.4g}{watched}  {self.images_per_second(step):,.0f} images/s"
        self._place(step)

    def advance(self, step: int) -> None:
        """Moves the live display to a step, a few times a second; `update` adds the metrics, which cost more."""
        if time.perf_counter() - self._advanced > REFRESH:
            self._place(step)

    def _place(self, step: int) -> None:
        """Shows the epoch and the fraction that is done, with the last metrics."""
        self._advanced = time.perf_counter()
        place = f"epoch {min((step - 1) // self._steps + 1, self._epochs)}/{self._epochs}"
        self._done = step / (self._steps * self._epochs)
        if self._live:
            self._live.update(self._task, completed=step, shown=self._shown, description=place)
        self._show(f"{place}  {self._shown}  {self._left()}", every=SECONDS)

    def epoch(self, line: Mapping[str, Any]) -> None:
        """Prints the row of an epoch. The best epoch is that of the best checkpoint: of ties the latest."""
        self._lines.append(line)
        is_best = self._best_place() == len(self._lines) - 1
        others = [f"{name} {line[name]:.4f}" for name in line if self._is_other(name)]
        waited, speed = line.get("time/data_seconds", 0.0), line.get("time/images_per_second", 0.0)
        seconds = self._steps * self._batch / speed if speed else math.inf
        waiting = f"waited {waited:.1f} of {seconds:.1f} s for data" if waited > WAITING * seconds else ""
        self._done = line["epoch"] / self._epochs
        place = f"{line['epoch']}/{self._epochs}"
        if self._area:
            self._show(f"epoch {place}  {'  '.join(filter(None, [*others, waiting, self._left()]))}", every=SECONDS / 4)
            return
        width = max(len("epoch"), 2 * len(str(self._epochs)) + 1)
        if not self._has_header:
            self.note(f"{'epoch':>{width}}  {'  '.join(title for title, *_ in self._columns)}  best", "bold")
            self._has_header = True
        cells = [f"{cell:>{len(title)}}" for cell, (title, *_) in zip(self._cells(line), self._columns, strict=True)]
        self.note(f"{place:>{width}}  {'  '.join(cells)}{'     *' if is_best else ''}", "bold" if is_best else None)
        for remark in filter(None, ["  ".join(others), waiting]):
            self.note(" " * width + "  " + remark)
        if self._live:
            self._live.update(self._task, completed=line["step"])

    def _cells(self, line: Mapping[str, Any]) -> list[str]:
        """An epoch's figures as text, one a column."""
        return [f"{line[key]:{form}}" if key in line else "-" for _, key, form in self._columns]

    def _is_other(self, name: str) -> bool:
        """Whether a number of an epoch is a metric that no column has."""
        return name.startswith(("train/", "valid/")) and all(name != key for _, key, _ in self._columns)

    def _best_place(self) -> int | None:
        """The place of the epoch with the best value, of ties the latest; None before any is known."""
        values = [self._sign * line.get(f"valid/{self._metric}", math.nan) for line in self._lines]
        known = [place for place, value in enumerate(values) if not math.isnan(value)]
        return max(known, key=lambda place: (values[place], place), default=None)

    def _show(self, title: str, every: float = 0.0) -> None:
        """In a notebook, the training as it stands; nothing where that was shown less than `every` seconds ago."""
        if self._area:
            self._area.show(lambda: self._card(title), every)

    def _left(self) -> str:
        """The time that the rest of the training takes at the pace so far."""
        since, first = self._begun
        if not first < self._done < 1:
            return ""
        return f"{duration((time.perf_counter() - since) / (self._done - first) * (1 - self._done))} left"

    def _card(self, title: str) -> str:
        names = [
            key.replace("/", " ").replace("_", " ") if key.startswith(("train/", "valid/")) else title.strip()
            for title, key, _ in self._columns
        ]
        rows = [[str(line["epoch"]), *self._cells(line)] for line in self._lines]
        charts = epoch_curves(self._lines, self._metric)
        return training_card(title, self._done, ["epoch", *names], rows, self._best_place(), charts, self._notes)
