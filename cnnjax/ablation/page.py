"""A study's table as a page: the answer in a sentence, a chart of means and intervals, the differences, every trial."""

import math

from cnnjax.ablation.table import Row, Table, distinct
from cnnjax.core.terminal import count_of
from cnnjax.report import blocks
from cnnjax.report.blocks import Section, Template, Text
from cnnjax.report.charts import interval_chart
from cnnjax.report.page import render_page


def as_page(table: Table, title: str) -> str:
    """The table as a self-contained HTML page.

    Args:
      table: the study's table.
      title: the page's heading.
    """
    rows = table.rows
    field, names = distinct([row.variant for row in rows])
    shown = dict(zip(table.variants, names, strict=True))
    seeds = max(row.trials for row in rows)
    chart = interval_chart(
        names,
        [list(table.values(row.variant).values()) for row in rows],
        [(row.estimate.low, row.estimate.high) if row.estimate and row.estimate.low is not None else None for row in rows],
        _words(table.metric),
        f"{_words(table.metric)} by {field}",
    )  # fmt: skip
    columns, cells = table.brief()
    text = (
        "Mean ± standard deviation over the seeds with the mean's 95 % interval; differences are paired by seed. Intervals are those of "
        "each variant alone; p-values are corrected for the number of variants by Holm's method."
    )
    trials = list(dict.fromkeys(name for record in table.trials for name in record if name not in ("error", "group")))
    sections = {
        "summary": Section("", [Template("lead.html", {"text": summary(table, shown)})]),
        "variants": Section(
            "Variants",
            [
                chart,
                Text("Dots are seeds, the stroke is their mean, the bar its 95 % interval."),
            ],
        ),
        "table": Section(
            "Table", [Text(f"{text} {table.power()}"), blocks.Table(columns, cells, range(1, len(columns)))]
        ),
        "trials": Section(
            "Trials",
            [blocks.Table(trials, [[_cell(record.get(name, "")) for name in trials] for record in table.trials])],
        ),
    }
    subtitle = f"{len(rows)} variants of {field}, {len(table.trials)} trials, {count_of(seeds, 'seed')} each"
    return render_page(title, subtitle, sections)


def summary(table: Table, names: dict[str, str]) -> str:
    """Which variant is best by the table's metric, and whether the seeds tell it from the baseline.

    Args:
      table: the study's table.
      names: the variants' names in the sentence.
    """
    finished = [row for row in table.rows if row.estimate is not None]
    if not finished:
        return f"None of the {len(table.trials)} trials has finished."
    metric = _words(table.metric)
    try:
        sign = table.known.sign(table.metric)
    except ValueError:  # a metric of the user's own, of which nobody has said whether more is better
        return f"{len(table.rows)} variants by {metric}, which has no direction."
    best = max(finished, key=lambda row: sign * row.estimate.mean)
    text = f"{names[best.variant]} has the best {metric}, {best.estimate.mean:.4g}."
    if best.variant == table.baseline:
        second = max(
            (row for row in finished if row is not best), key=lambda row: sign * row.estimate.mean, default=None
        )
        if second is None:
            return text
        return f"{text} It is the baseline. Next is {names[second.variant]}; the difference is {_apart(second)}."
    return f"{text} Its difference from the baseline, {names[table.baseline]}, is {_apart(best)}."


def _apart(row: Row) -> str:
    """A row's difference from the baseline, and whether its interval contains zero."""
    found = row.difference
    if found is None:
        return "unknown"
    if found.low is None:
        return f"{found.mean:+z.3g} (one seed, so without an interval)"
    means = (
        "contains zero: these seeds cannot tell the two apart"
        if found.low <= 0 <= found.high
        else "does not contain zero"
    )
    width = found.high - found.low
    digits = max(1 - math.floor(math.log10(width)), 0) if width else 4
    low, mean, high = (f"{value:+z.{digits}f}" for value in (found.low, found.mean, found.high))
    return f"{mean}, with a 95 % interval of {low} to {high}, which {means}"


def _words(metric: str) -> str:
    return metric.replace("/", " ").replace("_", " ")


def _cell(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
