"""Small charts as blocks: the geometry is computed here and drawn by templates."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

from cnnjax.report.blocks import Block, Template, Text
from cnnjax.tasks.classification_metrics import Calibration


def histogram_chart(counts: Int[np.ndarray, "bin"], low: float, high: float, label: str, deviation: float) -> Block:
    """A histogram with the ends of its axis below.

    Args:
      counts: the number of values in each bin.
      low: the lower end of the first bin.
      high: the upper end of the last bin.
      label: the description of the chart for screen readers.
      deviation: the standard deviation of the values, which is written below.
    """
    width, height = 180, 44
    step, top = width / len(counts), max(int(counts.max()), 1)
    points = [
        (f"{(place + end) * step:.1f}", f"{height - height * count / top:.1f}")
        for place, count in enumerate(counts)
        for end in (0, 1)
    ]
    ends = [f"{low:.2g}", f"σ {deviation:.2g}", f"{high:.2g}"]
    zero = f"{-low / (high - low) * width:.1f}" if low < 0 < high else None
    return Template(
        "histogram.html",
        {"width": width, "height": height, "points": points, "zero": zero, "label": label, "ends": ends},
    )  # fmt: skip


# The title of an axis of confidence.
CONFIDENCE = "confidence: probability of the predicted class"


@dataclasses.dataclass(frozen=True)
class Axes:
    """The axes of a chart: the positions of values in the drawing, and the ticks with their texts.

    Attributes:
      x: the ends of the horizontal axis.
      y: the ends of the vertical axis.
      x_title: the horizontal axis's title.
      y_title: the vertical axis's title.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_title: str
    y_title: str
    width: int = 500
    height: int = 280
    left: int = 62
    right: int = 16
    top: int = 12
    bottom: int = 48

    def at_x(self, value: float) -> float:
        """The horizontal position of a value."""
        low, high = self.x
        return round(self.left + (value - low) / (high - low) * (self.width - self.left - self.right), 2)

    def at_y(self, value: float) -> float:
        """The vertical position of a value."""
        low, high = self.y
        return round(self.top + (high - value) / (high - low) * (self.height - self.top - self.bottom), 2)

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """The ticks of the horizontal axis: position and text."""
        return [(self.at_x(value), f"{value:,g}") for value in _ticks(self.x)]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """The ticks of the vertical axis: position and text."""
        return [(self.at_y(value), f"{value:,g}") for value in _ticks(self.y)]


def _ticks(ends: tuple[float, float]) -> list[float]:
    low, high = ends
    return [float(value) for value in MaxNLocator(5).tick_values(low, high) if low <= value <= high * (1 + 1e-9)]


def column_chart(
    counts: Int[np.ndarray, "bin"], low: float, high: float, x_title: str, y_title: str, label: str
) -> Block:
    """A histogram with axes.

    Args:
      counts: the number of values in each bin.
      low: the lower end of the first bin.
      high: the upper end of the last bin.
      x_title: the title of the horizontal axis.
      y_title: the title of the vertical axis.
      label: the description of the chart for screen readers.
    """
    axes = Axes((low, high), (0, max(int(counts.max()), 1) * 1.05), x_title, y_title)
    edges = np.linspace(low, high, len(counts) + 1)
    columns = [
        {
            "label": f"{start:.4g} to {end:.4g}: {count:,} {y_title}",
            "x": axes.at_x(start),
            "width": max(axes.at_x(end) - axes.at_x(start) - 1, 1),
            "y": axes.at_y(count),
        }
        for start, end, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
        if count
    ]
    return Template("column_chart.html", {"axes": axes, "columns": columns, "label": label})


def reliability_chart(found: Calibration) -> Block:
    """A reliability diagram: accuracy by confidence; the opacity of a bar shows its number of examples."""
    axes = Axes((0.0, 1.0), (0.0, 1.0), CONFIDENCE, "accuracy")
    busiest = max(int(found.counts.max()), 1)
    bars = [
        {
            "label": f"confidence {found.edges[place]:.2f} to {found.edges[place + 1]:.2f}: {count} examples, mean "
            f"confidence {found.confidence[place]:.3f}, accuracy {found.accuracy[place]:.3f}",
            "opacity": 0.4 + 0.6 * math.sqrt(count / busiest),
            "x": axes.at_x(found.edges[place]) + 1,
            "width": axes.at_x(found.edges[place + 1]) - axes.at_x(found.edges[place]) - 2,
            "y": axes.at_y(float(found.accuracy[place])),
            "confidence": axes.at_x(float(found.confidence[place])),
        }
        for place, count in enumerate(found.counts.tolist())
        if count
    ]
    return Template("reliability.html", {"axes": axes, "bars": bars})


def interval_chart(
    names: Sequence[str],
    values: Sequence[Sequence[float]],
    intervals: Sequence[tuple[float, float] | None],
    x_title: str,
    label: str,
) -> Block:
    """A chart of groups below one another: each value is a dot, the mean a stroke, its interval a bar.

    Args:
      names: the names of the groups, from the top.
      values: the values of each group, which may be empty.
      intervals: the interval of each group's mean; None if it is not known.
      x_title: the title of the horizontal axis.
      label: the description of the chart for screen readers.
    """
    ends = [end for interval in intervals if interval for end in interval] + [
        value for group in values for value in group
    ]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    room = 0.04 * (high - low) or 0.5
    axes = Axes(
        (low - room, high + room), (0, 1), x_title, "", width=620, height=40 * len(names) + 56, left=12, right=20, top=4
    )  # fmt: skip
    groups = [
        {
            "name": name,
            "y": 40 * row + 28,
            "dots": [(axes.at_x(value), f"{value:.4g}") for value in group],
            "mean": axes.at_x(float(np.mean(group))) if len(group) else None,
            "bar": tuple(map(axes.at_x, interval)) if interval else None,
        }
        for row, (name, group, interval) in enumerate(zip(names, values, intervals, strict=True))
    ]
    return Template("interval_chart.html", {"axes": axes, "groups": groups, "label": label})


def colour_scale(low: str, high: str, colours: str = "gray") -> Block:
    """A colour bar with the values of its ends.

    Args:
      low: the value of the first colour, in words.
      high: the value of the last colour, in words.
      colours: the name of a colour map of Matplotlib.
    """
    shades = [to_hex(colormaps[colours](place / 8)) for place in range(9)]
    return Template("scale.html", {"low": low, "high": high, "colours": shades})


def sparkline(epochs: Float[np.ndarray, "epoch"], values: Float[np.ndarray, "epoch"]) -> Block:
    """A sparkline: a line by epoch without axes."""
    kept = np.isfinite(values)
    if kept.sum() < 2:
        return Text("—")
    epochs, values = epochs[kept], values[kept]
    low, high = values.min(), values.max()
    x = 116 * (epochs - epochs[0]) / max(epochs[-1] - epochs[0], 1e-12) + 2
    y = 38 - 36 * (values - low) / max(high - low, 1e-12)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    label = f"from {values[0]:.3g} to {values[-1]:.3g}, smallest {low:.3g}, largest {high:.3g}"
    return Template("sparkline.html", {"points": points, "label": label})
