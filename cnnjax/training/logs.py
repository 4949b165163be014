"""What a person and a program see of training: progress, `metrics.jsonl`, TensorBoard."""

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
# The share of an epoch's time from which a person is told that it was spent waiting for data.
WAITING = 0.1


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """The config's `log` section."""

    progress: Annotated[
        Literal["auto", "lines", "off"],
        "a live display on a terminal and a line an epoch elsewhere; always lines; or nothing",
    ] = "auto"
    tensorboard: Annotated[bool, "also write TensorBoard event files"] = True
    probes: Annotated[
        bool,
        TrainedAlone,
        "also log, before the first step and at each epoch's end, by layer: activations, dead and saturated units, gradients, "
        "updates, drift of batch statistics",
    ] = False
    every_steps: Annotated[
        int | None, TrainedAlone, "also log the batch's loss at each multiple of this number of steps", positive
    ] = None


def training_seconds(epochs: Sequence[Mapping[str, float]], batch_size: int) -> float:
    """How long an epoch after the other took, compilation and evaluation left out; of a trial in a group its share of the time.

    An epoch whose speed was not measured, its only step having compiled the program, counts as the others do.

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
      workdir: of the run.
      tensorboard: whether to write event files.
      step: where the run is resumed; what TensorBoard has of later steps is superseded.
    """

    def __init__(self, workdir: Path, tensorboard: bool, step: int):
        self._file = (workdir / METRICS).open("a", encoding="utf-8")
        self._writer = None
        if tensorboard:
            self._writer = _summary_writer()(str(workdir / TENSORBOARD), purge_step=step + 1 if step else None)

    def write(self, line: Mapping[str, Any]) -> None:
        """Writes one line, whole, before it returns."""
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
    """tensorboardX's. Where PyTorch is installed it would import that too, for tensors we do not have: 1.5 s of every start."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # an `import torch` that fails, which tensorboardX allows for
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter


def _columns(metric: str) -> tuple[tuple[str, str, str], ...]:
    """A row an epoch: title, the line's key, how it is written. Fits 80 columns."""
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
    """Training as a person watches it: a row an epoch, the best marked, and on a terminal a bar below that goes when it is done.

    Args:
      mode: as in `LogOptions.progress`.
      epochs: of the run.
      steps_per_epoch: of the run.
      batch_size: examples a step.
      metric: of the validation split, that the best checkpoint follows.
      better: whether more ("max") or less ("min") of it is better.
      history: lines of the run so far, for the best among them.

    Attributes:
      data_seconds: the time in which the loop waited for data since the clock was started.
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
        """What is going on now: compiling, evaluating, ..."""
        if self._live:
            self._live.update(self._task, description=name)

    def note(self, line: str, style: str | None = None) -> None:
        """A line that stays."""
        if self._live:
            self._live.console.print(printable(line, keep="\n"), style=style, highlight=False, markup=False)
        elif not self._quiet:
            say(line)

    def start_clock(self, step: int) -> None:
        """From here images a second, and the time spent waiting for data, are counted: after compilation, or an evaluation."""
        self._clock = (time.perf_counter(), step)
        self.data_seconds = 0.0

    def timed(self, feed: Iterable[T]) -> Iterator[T]:
        """The batches of a feed; the time that each is waited for is added to `data_seconds`."""
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
        """Since the clock was started."""
        since, first = self._clock
        return (step - first) * self._batch / max(time.perf_counter() - since, 1e-9)

    def compiled(self, step: int) -> None:
        """The first step has ended; the next are counted without compilation."""
        self.note(f"compiled the training step in {time.perf_counter() - self._clock[0]:.1f} s")
        self.start_clock(step)

    def update(self, step: int, metrics: Mapping[str, float]) -> None:
        """Within an epoch: where training stands."""
        if self._live:
            watched = (
                f"  {self._metric} {metrics[self._metric]:.4f}" if metrics.keys() & {self._metric} - {"loss"} else ""
            )
            shown = f"loss {metrics['loss']:.4g}{watched}  {self.images_per_second(step):,.0f} images/s"
            epoch = min(step // self._steps + 1, self._epochs)
            self._live.update(self._task, completed=step, shown=shown, description=f"epoch {epoch}/{self._epochs}")

    def epoch(self, line: Mapping[str, Any]) -> None:
        """An epoch's end. The best is the epoch whose checkpoint is the best: of ties the latest."""
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
