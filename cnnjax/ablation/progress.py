"""The progress display of a study."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax.ablation.metrics import SECONDS
from cnnjax.ablation.table import distinct
from cnnjax.ablation.trials import Trial


class Progress:
    """The progress display: one row per finished trial, and on a terminal a progress bar until all trials have ended.

    Args:
      mode: the mode, as in `LogOptions.progress`.
      trials: all trials of the study, in order.
      left: the number of trials that remain to run.
      metric: the metric shown for each trial.
    """

    def __init__(self, mode: str, trials: Sequence[Trial], left: int, metric: str):
        variants = list(dict.fromkeys(trial.variant for trial in trials))
        title, names = distinct(variants)
        self._names, self._metric = dict(zip(variants, names, strict=True)), metric
        self._width = max(map(len, [title, *names]))
        self._header = f"{title:<{self._width}}  seed  {metric:>9}  seconds"
        self._quiet = mode == "off"
        self._live = None
        if mode == "auto" and sys.stdout.isatty() and left:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._live = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), MofNCompleteColumn(),
                TextColumn("trials"), TimeElapsedColumn(), refresh_per_second=4, expand=True, transient=True,
            )  # fmt: skip
            self._task = self._live.add_task("", total=len(trials), completed=len(trials) - left)

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def note(self, line: str, style: str | None = None) -> None:
        """Prints a line that remains visible."""
        if self._live:
            self._live.console.print(line, style=style, highlight=False, markup=False)
        elif not self._quiet:
            print(line, flush=True)

    def begins(self, trials: Sequence[Trial]) -> None:
        """Shows the trials that start now, together if they are several."""
        if self._live:
            shown = f"{self._names[trials[0].variant]}, seed {trials[0].seed}"
            shown += f" and {len(trials) - 1} more" if len(trials) > 1 else ""
            # The bar and the counts take 30 of 80 columns.
            self._live.update(self._task, description=shown if len(shown) <= 50 else f"{shown[:49]}…")

    def ended(self, trial: Trial, record: Mapping[str, Any] | None) -> None:
        """Prints the row of a finished trial from its record (see `Table.trials`); None if another process trained it."""
        if record is not None:
            if self._header:
                self.note(self._header, "bold")
                self._header = ""
            place = f"{self._names[trial.variant]:<{self._width}}  {trial.seed:>4}  "
            if record["status"] == "failed":
                self.note(f"{place}failed: {record['error']}")
            else:
                value = f"{record[self._metric]:.4f}" if self._metric in record else "—"
                figures = f"{value:>{max(9, len(self._metric))}}  {record[SECONDS]:>7.3g}"
                self.note(place + figures)
        if self._live:
            self._live.advance(self._task)
