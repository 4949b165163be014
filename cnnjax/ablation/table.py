"""The table of a study: one record per trial, and summaries for each variant."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnjax.ablation.metrics import SECONDS, Metrics
from cnnjax.ablation.spaces import split_at_commas
from cnnjax.ablation.statistics import (
    CONFIDENCE,
    POWER,
    Bounds,
    Estimate,
    estimate,
    holm,
    p_value,
    paired_difference,
    smallest_difference,
)
from cnnjax.core import files, html
from cnnjax.core.options import unknown
from cnnjax.core.terminal import count_of, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The columns that are left out first on a narrow terminal, in this order.
LEAST = ("parameters", "seconds", "ensemble", "p (Holm)", "95 % interval", "its 95 % interval")
# The number of variants that a shell shows and a notebook draws.
SHOWN = 40
# The prefixes of measurements among the columns of a trial.
_MEASURED = ("train/", "valid/", "test/", "time/")


@dataclasses.dataclass(frozen=True)
class Row:
    """The summary of one variant.

    Attributes:
      variant: the name of the variant.
      estimate: the mean of the metric over the seeds; None if no trial finished.
      difference: the mean difference from the baseline over trials with the same seed; None for the baseline itself.
      p_value: the p-value of the difference, adjusted by Holm's method for the number of variants that are compared.
      ensemble: the metric of the trials' averaged predictions; None for fewer than two trials or a metric of another split
        than test.
      parameters: the number of parameters of the network.
      seconds: the mean training time of a trial.
      failed: the number of failed trials.
      trials: the number of trials.
    """

    variant: str
    estimate: Estimate | None
    difference: Estimate | None
    p_value: float | None
    ensemble: float | None
    parameters: int | None
    seconds: float | None
    failed: int
    trials: int


@dataclasses.dataclass(frozen=True)
class Best:
    """The best variant, its mean, and the best of its trials."""

    variant: str
    mean: float
    trial: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
    """The results of a study.

    Attributes:
      trials: one record per trial, in the order of variants and seeds: `variant`, `seed`, the varied fields, `status` (finished
        or failed), `error`, `directory`, `strategy`, `group`, `parameters`, the measurements, `time/seconds`.
      ensembles: variant -> the test metrics of its trials' averaged predictions, such as test/nll (negative log-likelihood).
      metric: the metric that methods show by default.
      baseline: the variant that the others are compared with.
      known: the directions and bounds of the metrics.

    The measurements `train/...` and `valid/...` are those of the checkpoint that was tested. Only measurements that start with
    `time/` differ when a study is repeated.
    """

    trials: tuple[Mapping[str, Any], ...]
    ensembles: Mapping[str, Mapping[str, float]]
    metric: str
    baseline: str
    known: Metrics

    def __repr__(self) -> str:
        lines = text_table(*self.brief())
        left = f"... and {len(lines) - 1 - SHOWN} more variants" if len(lines) > 1 + SHOWN else ""
        return "\n".join([self._title(), *lines[: 1 + SHOWN], *filter(None, [left, self.power()])])

    def _repr_html_(self) -> str:
        columns, rows = self.brief()
        drawn = [row for row in self.rows if row.estimate][:SHOWN]
        names = dict(zip(self.variants, (row[0] for row in rows), strict=True))
        failed = [record for record in self.trials if record["status"] == "failed"]
        return html.card(
            self._title(),
            html.table(columns, rows),
            html.spreads(
                f"{self.metric}: each trial, the mean and its 95 % interval",
                [names[row.variant] for row in drawn],
                [[*self.values(row.variant).values()] for row in drawn],
                [_ends(row.estimate) for row in drawn],
            ),
            *(html.remark(text) for text in filter(None, [self.power()])),
            *(html.remark(f"failed: {one['variant']}, seed {one['seed']}: {one['error']}") for one in failed[:SHOWN]),
        )

    def _title(self) -> str:
        seeds = len({record["seed"] for record in self.trials})
        return ", ".join(
            (
                f"{self.metric} of {count_of(len(self.variants), 'variant')}",
                count_of(len(self.trials), "trial"),
                count_of(seeds, "seed"),
            )
        )

    def frame(self) -> Any:
        """The records with one row per trial: a pandas DataFrame if pandas is installed, else a list of dicts."""
        columns = dict.fromkeys(name for record in self.trials for name in record)
        records = [{name: record.get(name) for name in columns} for record in self.trials]
        try:
            import pandas
        except ImportError:
            return records
        return pandas.DataFrame(records)

    @property
    def variants(self) -> list[str]:
        """The names of the variants, in order."""
        return list(dict.fromkeys(record["variant"] for record in self.trials))

    @property
    def rows(self) -> list[Row]:
        """One row per variant, for the table's metric."""
        return self.summarize()

    @property
    def metrics(self) -> list[str]:
        """The metrics that finished trials have, or the known metrics if none has finished."""
        finished = [record for record in self.trials if record["status"] == "finished"]
        measured = dict.fromkeys(name for record in finished for name in record if name.startswith(_MEASURED))
        return [*measured] or self.known.names

    def check_metric(self, metric: str) -> str:
        """Checks and returns the name of a metric.

        Raises:
          ValueError: no trial has the metric; the message has the nearest names.
        """
        if metric not in self.metrics:
            raise ValueError(unknown("metric", metric, self.metrics))
        return metric

    def values(self, variant: str, metric: str | None = None) -> dict[int, float]:
        """The values of a variant's finished trials as {seed: value}.

        Raises:
          ValueError: the metric or variant is unknown.
        """
        metric = self.check_metric(metric or self.metric)
        if variant not in self.variants:
            raise ValueError(unknown("variant", variant, self.variants))
        return {
            record["seed"]: record[metric]
            for record in self.trials
            if record["variant"] == variant and record["status"] == "finished" and metric in record
        }

    def summarize(self, metric: str | None = None, baseline: str | None = None) -> list[Row]:
        """One row per variant.

        Args:
          metric: the metric, such as "test/loss"; None is the table's.
          baseline: the variant to compare with; None is the table's.

        Raises:
          ValueError: the metric or variant is unknown.
        """
        metric, baseline = self.check_metric(metric or self.metric), baseline or self.baseline
        compared = self.values(baseline, metric)
        rows = [self._row(variant, metric, None if variant == baseline else compared) for variant in self.variants]
        tested = [row for row in rows if row.difference and row.difference.deviation is not None]
        adjusted = holm([p_value(row.difference) for row in tested])
        by_variant = {row.variant: value for row, value in zip(tested, adjusted, strict=True)}
        return [dataclasses.replace(row, p_value=by_variant.get(row.variant)) for row in rows]

    def power(self, metric: str | None = None, baseline: str | None = None) -> str:
        """A sentence with the smallest true difference that these seeds find with probability 0.8; empty without differences.

        It is that of a single paired t-test at the level of 0.05, from the deviation of each variant's differences; arguments as in
        `cells`.
        """
        rows = self.summarize(metric, baseline)
        differences = [row.difference for row in rows if row.difference and row.difference.deviation is not None]
        if not differences:
            return ""
        counts = sorted({difference.count for difference in differences})
        smallest = sorted(smallest_difference(found.deviation, found.count) for found in differences)
        seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        sizes = " to ".join(dict.fromkeys(f"{size:.2g}" for size in (smallest[0], smallest[-1])))
        by_variant = ", by variant" if " to " in sizes else ""
        return (
            f"Power: {seeds} seeds find a true difference of {sizes}{by_variant}, with probability {POWER} (paired t-test at the level of "
            f"{1 - CONFIDENCE:.2f})."
        )

    def _row(self, variant: str, metric: str, compared: Mapping[int, float] | None) -> Row:
        records = [record for record in self.trials if record["variant"] == variant]
        values = self.values(variant, metric)
        seconds = estimate(list(self.values(variant, SECONDS).values()))
        return Row(
            variant=variant,
            estimate=estimate(list(values.values()), self.known.range(metric)),
            difference=None
            if compared is None
            else paired_difference(values, compared, self.known.difference_range(metric)),
            p_value=None,  # known when all variants are
            ensemble=self.ensembles.get(variant, {}).get(metric),
            parameters=records[0]["parameters"],
            seconds=seconds and seconds.mean,
            failed=sum(record["status"] == "failed" for record in records),
            trials=len(records),
        )

    def best(self, metric: str | None = None) -> Best:
        """The variant with the best mean over its finished trials, and the best of these trials.

        Args:
          metric: the metric, such as "valid/loss"; None is the validation metric that the best checkpoint follows.

        Raises:
          ValueError: the metric is unknown or has no direction, or no trial finished.
        """
        metric = self.check_metric(metric or f"valid/{self.known.followed}")
        sign = self.known.sign(metric)
        rows = [row for row in self.summarize(metric) if row.estimate]
        if not rows:
            raise ValueError(f"best: none of the {len(self.trials)} trials finished: {self.trials[0]['error']}")
        row = max(rows, key=lambda row: sign * row.estimate.mean)
        finished = [r for r in self.trials if r["variant"] == row.variant and r["status"] == "finished"]
        return Best(row.variant, row.estimate.mean, max(finished, key=lambda record: sign * record[metric]))

    def cells(self, metric: str | None = None, baseline: str | None = None, times: bool = True) -> list[list[str]]:
        """The column names and the rows as text, without empty columns.

        Args:
          metric: the metric, such as "test/loss"; None is the table's.
          baseline: the variant to compare with; None is the table's.
          times: whether to show the training time, which differs whenever a study is repeated.
        """
        metric, baseline = metric or self.metric, baseline or self.baseline
        rows = self.summarize(metric, baseline)
        adjusted = sum(row.p_value is not None for row in rows) > 1
        columns = {
            "variant": [row.variant for row in rows],
            metric: [_mean(row.estimate) for row in rows],
            "95 % interval": [_interval(row.estimate, self.known.range(metric)) for row in rows],
            f"difference from {baseline}": [_mean(row.difference, "+") for row in rows],
            "its 95 % interval": [_interval(row.difference, self.known.difference_range(metric), "+") for row in rows],
            "p (Holm)": [f"{row.p_value:.2g}" if adjusted and row.p_value is not None else "" for row in rows],
            "ensemble": ["" if row.ensemble is None else f"{row.ensemble:.4f}" for row in rows],
            "parameters": ["" if row.parameters is None else f"{row.parameters:,}" for row in rows],
            "seconds": ["" if row.seconds is None or not times else f"{row.seconds:.3g}" for row in rows],
            "failed": [f"{row.failed} of {row.trials}" if row.failed else "" for row in rows],
        }
        kept = {name: cells for name, cells in columns.items() if any(cells) or name == metric}
        return [list(kept), *([*line] for line in zip(*kept.values(), strict=True))]

    def brief(self) -> tuple[list[str], list[list[str]]]:
        """The column names and rows of `cells` for a narrow table, with variants named only by the fields that differ."""
        columns, *rows = self.cells()
        columns[0], names = distinct([row[0] for row in rows])
        compared = f"difference from {self.baseline}"
        if compared in columns:
            place = columns.index(compared)
            columns[place] = "difference"
            for variant, row in zip(self.variants, rows, strict=True):
                row[place] = "baseline" if variant == self.baseline else row[place]
        return columns, [[name, *row[1:]] for name, row in zip(names, rows, strict=True)]

    def markdown(self, metric: str | None = None, baseline: str | None = None, times: bool = True) -> str:
        """The table in Markdown, with one row per variant; arguments as in `cells`.

        The columns are: mean ± standard deviation over the seeds, the 95 % confidence interval of the mean (limited to the
        bounds of the metric; "too few seeds" if it covers them all), the paired difference from the baseline with its interval
        and, of several, its p-value by Holm's method, the ensemble, the parameters, the training time per trial, and the number
        of failed trials.
        """
        head, *rows = [[cell.replace("|", r"\|") for cell in line] for line in self.cells(metric, baseline, times)]
        lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def latex(self, metric: str | None = None, baseline: str | None = None, times: bool = True) -> str:
        """The table in LaTeX, for the package booktabs; arguments as in `cells`."""
        head, *rows = [" & ".join(map(_latex, line)) + r" \\" for line in self.cells(metric, baseline, times)]
        count = len(self.cells(metric, baseline, times)[0])
        begin = rf"\begin{{tabular}}{{l{'r' * (count - 1)}}}"
        return "\n".join([begin, r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"])

    def csv(self) -> str:
        """The trials as comma-separated values, one line per trial."""
        columns = list(dict.fromkeys(name for record in self.trials for name in record))
        return files.as_csv([columns, *([record.get(name, "") for name in columns] for record in self.trials)])

    def plot(self, metric: str | None = None) -> "Figure":
        """A matplotlib figure with every trial as a dot, and the mean of each variant with its 95 % confidence interval."""
        from cnnjax.analysis import pictures

        metric = metric or self.metric
        rows = self.summarize(metric)
        values = [list(self.values(row.variant, metric).values()) for row in rows]
        intervals = [row.estimate and _ends(row.estimate) for row in rows]
        return pictures.plot_intervals([row.variant for row in rows], values, intervals, metric)


def distinct(names: Sequence[str]) -> tuple[str, list[str]]:
    """A title, and the names of variants without the parts that all share; the title names the remaining fields.

    >>> distinct(["learning_rate=0.01, size=8", "learning_rate=0.05, size=8"])
    ('learning_rate', ['0.01', '0.05'])
    >>> distinct(["plain", "wide, norm=batch"])
    ('variant', ['plain', 'wide, norm=batch'])
    """
    parts = [split_at_commas(name) for name in names]
    shared = [part for part in parts[0] if len(names) > 1 and all(part in others for others in parts)]
    left = [[part for part in own if part not in shared] for own in parts]
    if not all(left):
        return "variant", list(names)
    fields = {tuple(part.partition("=")[0] for part in own) for own in left}
    if len(fields) == 1 and all("=" in part for own in left for part in own):
        return ", ".join(*fields), [", ".join(part.partition("=")[2] for part in own) for own in left]
    return "variant", [", ".join(own) for own in left]


def _ends(estimate: Estimate) -> tuple[float, float] | None:
    """The ends of a mean's interval; None where it is not known."""
    return None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high)


def _mean(estimate: Estimate | None, sign: str = "") -> str:
    if estimate is None:
        return ""
    mean = f"{estimate.mean:{sign}z.4f}"  # z: no -0.0000
    return mean if estimate.deviation is None or sign else f"{mean} ± {estimate.deviation:.4f}"


def _interval(estimate: Estimate | None, widest: Bounds, sign: str = "") -> str:
    if estimate is None or estimate.low is None:
        return ""
    if (estimate.low, estimate.high) == widest:
        return "too few seeds"
    return f"[{estimate.low:{sign}z.4f}, {estimate.high:{sign}z.4f}]"


def _latex(text: str) -> str:
    escaped = re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", "/"))
    for sign, command in (("~", r"\textasciitilde{}"), ("^", r"\textasciicircum{}"), ("±", r"$\pm$")):
        escaped = escaped.replace(sign, command)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)
