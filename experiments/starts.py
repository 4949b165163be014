"""Starts compared by the number of training examples: the table, its paired differences from scratch, and the plot."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

import cnnjax
from experiments.drawings import draw_intervals, panels
from experiments.study import Part, Results, difference, markdown, spread

SCRATCH = "scratch"


def starts_by_size(
    results: Results,
    starts: Sequence[str],
    sizes: Sequence[int],
    variant: Callable[[str, int], str],
    metric: str,
    per: str,
) -> Part:
    """A test metric by the number of training examples, with one line for each start.

    Args:
      results: the results of a study whose variants are a start and a size.
      starts: the starts, `SCRATCH` among them; each other one is a run of the config's `initial.run`.
      sizes: the numbers of training examples.
      variant: a function (start, size) -> the name of the variant.
      metric: the name of the metric, in words.
      per: what the sizes count, in words.
    """
    table, data = results.table, results.scale.data
    values = {start: {size: list(table.values(variant(start, size)).values()) for size in sizes} for start in starts}
    rows = []
    for start in starts:
        rows.append([start, *(spread(values[start][size]) for size in sizes), data])
        if start != SCRATCH:
            points = (difference(table, variant(start, size), variant(SCRATCH, size)) for size in sizes)
            rows.append([f"{start}, less {SCRATCH}", *points, data])
    figure = draw_starts(values, f"{metric} (%)", per)
    others = (start for start in starts if start != SCRATCH)
    runs = dict.fromkeys(results.runs(variant(start, sizes[0]))[0].config.initial.run for start in others)
    known = [f"{Path(run).name} {100 * cnnjax.load_run(run).metrics['test/accuracy']:.1f} %" for run in runs]
    text = (
        f"Test accuracy of the pretrained networks on their own classes: {', '.join(known)}. "
        "The table has means ± standard deviations with 95 % confidence intervals, and paired differences in percentage points between "
        "networks trained on the same examples. The bars in the plot are the intervals of the means.\n\n"
        f"{markdown([f'{metric} in %, {per}', *map(str, sizes), 'data'], rows)}"
    )
    return Part("sizes", text, figure)


def draw_starts(values: Mapping[str, Mapping[int, Sequence[float]]], metric: str, per: str) -> Figure:
    """A figure of a share in per cent by the number of training examples, with one line for each start.

    Args:
      values: {start: {size: the share of each seed}}.
      metric: the label of the vertical axis.
      per: the label of the horizontal axis.
    """
    figure, [axis] = panels(1)
    middle = (len(values) - 1) / 2
    groups = {
        start: {1.06 ** (number - middle) * size: [100 * value for value in of] for size, of in by.items()}
        for number, (start, by) in enumerate(values.items())
    }  # the factor keeps the bars from overlapping
    draw_intervals(axis, groups)
    sizes = [*next(iter(values.values()))]
    axis.set_xscale("log")
    axis.set_xticks(sizes, sizes)
    axis.minorticks_off()
    axis.set_xlabel(per)
    axis.set_ylabel(metric)
    axis.legend()
    return figure
