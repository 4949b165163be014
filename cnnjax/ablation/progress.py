"""The progress display of a study."""

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
from cnnjax.core.terminal import duration, fit_table, printable, say

if TYPE_CHECKING:
    from rich.console import RenderableType

# The largest number of variants that a notebook lists, and the number of a terminal's lines that the rows leave free.
LISTED, FREE = 60, 6
_Record = Mapping[str, Any]


class Progress:
    """The progress display of a study.

    On a terminal and in a notebook it is a table with one row per variant, updated in place, and the time left; failures
    remain visible as lines. Elsewhere it prints one line per finished trial.

    Args:
      mode: the mode, as in `LogOptions.progress`.
      trials: all trials of the study, in order.
      left: the trials that remain to run.
      metric: the metric shown for each variant.
      read: a function that maps a trial that has ended to its record (see `Table.trials`).
    """

    def __init__(
        self,
        mode: str,
        trials: Sequence[Trial],
        left: Sequence[Trial],
        metric: str,
        read: Callable[[Trial], _Record],
    ):
        self._trials, self._metric, self._read = trials, metric, read
        variants = list(dict.fromkeys(trial.variant for trial in trials))
        self._title, names = distinct(variants)
        self._names = dict(zip(variants, names, strict=True))
        self._quiet, self._has_header = mode == "off", False
        self._left, self._began, self._here = len(left), time.monotonic(), 0
        self._records: dict[str, list[_Record]] = {variant: [] for variant in variants}
        self._running: list[Trial] = []
        self._notes: list[str] = []
        self._area = Area() if mode == "auto" and left and in_notebook() else None
        self._live = None
        if mode == "auto" and left and self._area is None and sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            self._console = Console(highlight=False)
            self._live = Live(
                console=self._console, get_renderable=self._renderable, refresh_per_second=2, transient=True
            )
        if self._live or self._area:
            to_run = {trial.directory for trial in left}
            for trial in trials:
                if trial.directory not in to_run:
                    self._records[trial.variant].append(read(trial))

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._running = []
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
        elif not self._quiet:
            say(line)

    def begins(self, trials: Sequence[Trial]) -> None:
        """Shows the trials that start now, together if they are several."""
        self._running = list(trials)
        self._show()

    def ended(self, trial: Trial, own: bool) -> None:
        """Shows that a trial has ended; `own` says whether this process trained it."""
        record = self._read(trial)
        self._running = [other for other in self._running if other is not trial]
        self._records[trial.variant].append(record)
        self._here, self._left = self._here + 1, self._left - 1
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
        return 1 - self._left / len(self._trials)

    def _state(self) -> str:
        """The numbers of trials, the time elapsed, and the time left at the pace of the trials that have ended."""
        elapsed, ended = time.monotonic() - self._began, len(self._trials) - self._left
        pace = (
            f"{duration(elapsed / self._here * self._left)} left" if self._here else "time left after the first trial"
        )
        return f"{ended} of {len(self._trials)} trials, {duration(elapsed)}{f', {pace}' if self._left else ''}"

    def _rows(self, count: int) -> tuple[list[str], list[list[str]], list[str]]:
        """The columns, the rows of at most `count` variants, running and finished ones first, and a line on those left out."""
        total = {variant: sum(trial.variant == variant for trial in self._trials) for variant in self._names}
        at_work = {trial.variant for trial in self._running}
        order = sorted(self._names, key=lambda variant: (variant not in at_work, not self._records[variant]))
        chosen = set(order[:count])
        rows = [
            variant_row(name, self._records[variant], total[variant], self._metric, self._seeds(variant))
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
