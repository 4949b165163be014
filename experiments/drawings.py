"""Plots of the studies."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import cnnjax
from cnnjax.ablation.statistics import estimate
from cnnjax.data.builders.spirals import to_images

Line = tuple[Sequence[float], Sequence[float]]  # x, y
SIDE = 128  # points of the plane along each axis


def panels(columns: int, rows: int = 1, width: float = 4.6, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure of several panels, row by row."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_lines(axis: Axes, groups: Mapping[str, Sequence[Line]], marker: str = "") -> None:
    """Draws groups of lines, one colour per group: single lines thin, their mean bold as far as all lines reach."""
    for number, (name, lines) in enumerate(groups.items()):
        for x, y in lines:
            axis.plot(x, y, color=f"C{number}", linewidth=0.8, alpha=0.35)
        common = min((len(x) for x, _ in lines), default=0)
        mean = [np.mean([line[part][:common] for line in lines], 0) if lines else [] for part in (0, 1)]
        axis.plot(*mean, marker=marker, linestyle="-", color=f"C{number}", linewidth=2, label=name)


def draw_intervals(axis: Axes, groups: Mapping[str, Mapping[float, Sequence[float]]]) -> None:
    """Draws groups of {x: values}, one colour per group: means with 95 % confidence intervals, and every value as a dot."""
    for number, (name, values) in enumerate(groups.items()):
        known = {x: found for x, of in values.items() if (found := estimate(of)) is not None}
        means = [found.mean for found in known.values()]
        halves = [0.0 if found.high is None else found.high - found.mean for found in known.values()]
        axis.errorbar([*known], means, halves, color=f"C{number}", marker="o", markersize=4, capsize=3, label=name)
        dots = [(x, value) for x, of in values.items() for value in of]
        axis.plot(*zip(*dots, strict=True), ".", color=f"C{number}", markersize=3, alpha=0.35)


def draw_plane(
    axis: Axes, run: cnnjax.Run, points: Float[np.ndarray, "example 2"], labels: Int[np.ndarray, "example"]
) -> None:
    """Draws the class that a run predicts for each point of the plane, and some labelled points."""
    line = np.linspace(-1, 1, SIDE)
    x, y = np.meshgrid(line, line)
    classes = run.predict_prepared(to_images(np.stack([x.ravel(), y.ravel()], 1))).argmax(-1).reshape(SIDE, SIDE)
    axis.imshow(classes, origin="lower", extent=(-1, 1, -1, 1), cmap="Pastel1", vmin=0, vmax=8, interpolation="nearest")
    axis.scatter(*points.T, c=labels, cmap="Set1", vmin=0, vmax=8, s=2, linewidths=0)
    axis.set_xticks([])
    axis.set_yticks([])
