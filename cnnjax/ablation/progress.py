"""The progress display of a study."""

import collections
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnjax.ablation.metrics import SECONDS
from cnnjax.ablation.statistics import estimate
from cnnjax.ablation.table import distinct
from cnnjax.ablation.trials import Trial
from cnnjax.core import html
from cnnjax.core.notebook import Area, in_notebook
from cnnjax.core.terminal import count_of, duration, fit_table, printable, say

if TYPE_CHECKING:
    from rich.console import RenderableType

# The largest number of variants that a notebook lists, and the number of a terminal's lines that the rows leave free.
LISTED, FREE = 60, 6
_Record = Mapping[str, Any]


class Progress:
    """The progress display of a study or search.

    On a terminal and in a notebook it is a table with one row per variant, updated in place, and the time left; failures
    remain visible as lines. Elsewhere it prints one line per finished trial.

    Args:
      name: the name in the first line, such as "study runs/rates".
      mode: the mode, as in `LogOptions.progress`.
      metric: the metric shown for each variant.
      read: a function that maps a trial that has ended to its record (see `Table.trials`).
    """

    def __init__(self, name: str, mode: str, metric: str, read: Callable[[Trial], _Record]):
        self._name, self._mode, self._metric, self._read = name, mode, metric, read
        self._has_name = self._has_header = False
        self._began = time.monotonic()
        self._trials: dict[str, Trial] = {}  # by directory
        self._records: dict[str, dict[str, _Record]] = {}  # by variant and directory
        self._title, self._names = "", {}
        self._running: list[Trial] = []
        self._notes: list[str] = []
        self._announced, self._known, self._ended, self._here = ((0, 0),) * 4  # numbers of trainings, and their epochs
        self._epochs: dict[str, int] = {}  # of the present training, by directory
        self._area, self._live, self._console = None, None, None

    def announce(self, trainings: int, epochs: int) -> None:
        """Tells how many trainings there will be, and their epochs in all, where they are not all added at once."""
        self._announced = trainings, epochs

    def add(self, trials: Sequence[Trial], left: Sequence[Trial]) -> None:
        """Adds trials; a known one is continued for more epochs.

        Args:
          trials: the trials, in order.
          left: those of them that remain to run.
        """
        to_run = {trial.directory for trial in left}
        if left:
            self._open()
        for trial in trials:
            known = self._trials.get(trial.directory)
            if known is None or trial.directory in to_run:
                epochs = trial.config.train.epochs - (known.config.train.epochs if known else 0)
                self._epochs[trial.directory] = epochs
                self._known = _plus(self._known, epochs)
                if trial.directory not in to_run:
                    self._ended = _plus(self._ended, epochs)
            self._trials[trial.directory] = trial
            self._records.setdefault(trial.variant, {})
        if self._live or self._area:
            for trial in trials:
                if trial.directory not in to_run:
                    self._records[trial.variant][trial.directory] = self._read(trial)
        self._title, names = distinct([*self._records])
        self._names = dict(zip(self._records, names, strict=True))
        if not self._has_name:
            count = self._total[0]
            self.note(f"{self._name}: {count_of(count, 'trial')}, {count - self._ended[0]} to run")
            self._has_name = True
        self._show()

    @property
    def _total(self) -> tuple[int, int]:
        return max(self._announced, self._known)

    def _open(self) -> None:
        """Starts the live display, where there can be one."""
        if self._mode != "auto" or self._live or self._area:
            return
        if in_notebook():
            self._area = Area()
        elif sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            self._console = Console(highlight=False)
            self._live = Live(
                console=self._console, get_renderable=self._renderable, refresh_per_second=2, transient=True
            )
            self._live.start()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._running = []
        if kind is None:
            self._announced = self._known
        if self._live:
            self._live.transient = kind is None  # what an interrupted study has reached stays on the screen
            self._live.stop()
        self._show()

    def note(self, line: str, style: str | None = None) -> None:
        """Prints a line that remains visible."""
        if self._live:
            from rich.text import Text

            self._console.print(Text(printable(line), style or ""))  # a style of `print` would colour the table too
        elif self._area:
            self._notes.append(line)
            self._show()
        elif self._mode != "off":
            say(line)

    def begins(self, trials: Sequence[Trial]) -> None:
        """Shows the trials that start now, together if they are several."""
        self._running = list(trials)
        self._show()

    def ended(self, trial: Trial, own: bool) -> None:
        """Shows that a trial has ended; `own` says whether this process trained it."""
        record = self._read(trial)
        self._running = [other for other in self._running if other is not trial]
        self._records[trial.variant][trial.directory] = record
        epochs = self._epochs[trial.directory]
        self._ended, self._here = _plus(self._ended, epochs), _plus(self._here, epochs)
        failed = record["status"] == "failed"
        if self._live or self._area:
            if failed and own:
                self.note(f"failed: {trial.variant}, seed {trial.seed}: {record['error']}", "red")
            self._show()
        elif own:
            self._print(trial, record, failed)

    def _print(self, trial: Trial, record: _Record, failed: bool) -> None:
        """Prints the line of a finished trial."""
        width = max(map(len, [self._title, *self._names.values()]))
        if not self._has_header:
            self.note(f"{self._title:<{width}}  seed  {self._metric:>9}  seconds")
            self._has_header = True
        value = f"{record[self._metric]:.4f}" if self._metric in record else "—"
        figures = f"{value:>{max(9, len(self._metric))}}  {record.get(SECONDS, 0.0):>7.3g}"
        said = f"failed: {record['error']}" if failed else figures
        self.note(f"{self._names[trial.variant]:<{width}}  {trial.seed:>4}  {said}")

    def _show(self) -> None:
        if self._area:
            columns, rows, more = self._rows(LISTED)
            parts = [html.bar(self._share()), html.table(columns, rows), *map(html.remark, [*more, *self._notes])]
            self._area.show(lambda: html.card(self._state(), *parts))

    def _renderable(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        console = self._console
        columns, rows, more = self._rows(max(console.height - FREE, 3))
        table, _ = fit_table(columns, [[printable(cell) for cell in row] for row in rows], console.width, LEAST)
        foot = Table.grid()
        foot.add_row(ProgressBar(total=1.0, completed=self._share(), width=console.width))
        foot.add_row(Text(self._state(), overflow="ellipsis", no_wrap=True))
        return Group(table, *map(Text, more), foot)

    def _share(self) -> float:
        return self._ended[1] / max(self._total[1], 1)

    def _state(self) -> str:
        """The numbers of trials, the time elapsed, and the time left at the pace of the epochs trained here."""
        elapsed, (ended, trained), (count, epochs) = time.monotonic() - self._began, self._ended, self._total
        here = self._here[1]
        pace = f"{duration(elapsed / here * (epochs - trained))} left" if here else "time left after the first trial"
        return f"{ended} of {count_of(count, 'trial')}, {duration(elapsed)}{f', {pace}' if ended < count else ''}"

    def _rows(self, count: int) -> tuple[list[str], list[list[str]], list[str]]:
        """The columns, the rows of at most `count` variants, running and finished ones first, and a line on those left out."""
        total = collections.Counter(trial.variant for trial in self._trials.values())
        at_work = {trial.variant for trial in self._running}
        order = sorted(self._names, key=lambda variant: (variant not in at_work, not self._records[variant]))
        chosen = set(order[:count])
        rows = [
            variant_row(name, [*self._records[variant].values()], total[variant], self._metric, self._seeds(variant))
            for variant, name in self._names.items()
            if variant in chosen
        ]
        left_out = len(self._names) - len(chosen)
        return (
            [self._title, *COLUMNS[:1], self._metric, *COLUMNS[1:]],
            rows,
            [f"and {left_out} more variants"] * bool(left_out),
        )

    def _seeds(self, variant: str) -> list[int]:
        return [trial.seed for trial in self._running if trial.variant == variant]


def _plus(counted: tuple[int, int], epochs: int) -> tuple[int, int]:
    """The numbers of trainings and epochs with one more training."""
    return counted[0] + 1, counted[1] + epochs


# The columns beside the variant and the metric, and the order in which a narrow terminal leaves columns out.
COLUMNS = ("trials", "seconds", "")
LEAST = ("seconds", "trials")


def variant_row(name: str, records: Sequence[_Record], total: int, metric: str, seeds: Sequence[int]) -> list[str]:
    """The row of a variant while its study runs.

    Args:
      name: the variant's name.
      records: the records of its trials that have ended.
      total: the number of its trials.
      metric: the metric whose mean and standard deviation are shown.
      seeds: the seeds of the trials that are running.
    """
    found = estimate([record[metric] for record in records if metric in record])
    spread = f" ± {found.deviation:.4f}" if found and found.deviation is not None else ""
    times = estimate([record[SECONDS] for record in records if SECONDS in record])
    failed = sum(record["status"] == "failed" for record in records)
    states = [
        f"{failed} failed" if failed else "",
        f"training seed {', '.join(map(str, seeds))}" if seeds else "",
    ]
    return [
        name,
        f"{len(records)} of {total}",
        f"{found.mean:z.4f}{spread}" if found else "",
        f"{times.mean:.3g}" if times else "",
        ", ".join(filter(None, states)),
    ]
