"""How studies draw what they measured: one style, and SVG files that are the same bytes for the same figure."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import cnnjax
from cnnjax.ablation.statistics import estimate
from cnnjax.core import files
from cnnjax.data.builders.spirals import to_images

Line = tuple[Sequence[float], Sequence[float]]  # x, y
SIDE = 128  # points of the plane along each axis
INK, QUIET, RULE, GROUND = "#1b1d21", "#667080", "#dfe2e6", "#fcfcfb"
COLOURS = ("#2b63c6", "#d9730d", "#2d8a57", "#b83280", "#7a5af5", "#0891a5", "#8a6d1b", "#c23b3b")
# The studies' style; the colours are those of the reports. Text stays text, and names in the file do not depend on chance.
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "figure.facecolor": GROUND,
    "axes.facecolor": GROUND,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": RULE,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "savefig.facecolor": GROUND,
    "svg.fonttype": "none",
    "svg.hashsalt": "cnnjax",
    "text.color": INK,
    "xtick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
}
# What a reader's dark mode shows in place of the style's colours.
DARK = {
    INK: "#e6e8ec",
    QUIET: "#98a2b3",
    RULE: "#2d323b",
    GROUND: "#14161a",
    COLOURS[0]: "#7aa7ff",
    COLOURS[1]: "#ffa657",
}


def save_svg(figure: Figure, path: Path) -> None:
    """Writes a figure as SVG that follows the reader's light or dark mode; the same figure gives the same bytes."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    rules = "".join(
        f'[style*="{name}: {light}"] {{ {name}: {dark} !important; }}'
        for light, dark in DARK.items()
        for name in ("fill", "stroke")
    )
    text = buffer.getvalue().replace(
        "<defs>", f"<style>@media (prefers-color-scheme: dark) {{ {rules} }}</style>\n <defs>", 1
    )
    text = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    files.write_atomically(
        path, text.replace("font: 9px 'DejaVu Sans'", "font: 9px 'DejaVu Sans', Verdana, sans-serif")
    )


def panels(columns: int, rows: int = 1, width: float = 4.6, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """A figure of several panels in the studies' style, row by row."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def draw_lines(axis: Axes, groups: Mapping[str, Sequence[Line]], marker: str = "") -> None:
    """Draws groups of lines, one colour per group: single lines thin, their mean bold as far as all lines reach."""
    for number, (name, lines) in enumerate(groups.items()):
        for x, y in lines:
            axis.plot(x, y, color=COLOURS[number % len(COLOURS)], linewidth=0.8, alpha=0.35)
        common = min((len(x) for x, _ in lines), default=0)
        mean = [np.mean([line[part][:common] for line in lines], 0) if lines else [] for part in (0, 1)]
        axis.plot(*mean, marker=marker, linestyle="-", color=COLOURS[number % len(COLOURS)], linewidth=2, label=name)


def draw_intervals(axis: Axes, groups: Mapping[str, Mapping[float, Sequence[float]]]) -> None:
    """Draws groups of {x: values}, one colour per group: means with 95 % confidence intervals, and every value as a dot."""
    for number, (name, values) in enumerate(groups.items()):
        known = {x: found for x, of in values.items() if (found := estimate(of)) is not None}
        means = [found.mean for found in known.values()]
        halves = [0.0 if found.high is None else found.high - found.mean for found in known.values()]
        axis.errorbar(
            [*known],
            means,
            halves,
            color=COLOURS[number % len(COLOURS)],
            marker="o",
            markersize=4,
            capsize=3,
            label=name,
        )
        dots = [(x, value) for x, of in values.items() for value in of]
        axis.plot(*zip(*dots, strict=True), ".", color=COLOURS[number % len(COLOURS)], markersize=3, alpha=0.35)


def draw_plane(
    axis: Axes, run: cnnjax.Run, points: Float[np.ndarray, "example 2"], labels: Int[np.ndarray, "example"]
) -> None:
    """Draws the class that a run predicts for each point of the plane, and some labelled points."""
    line = np.linspace(-1, 1, SIDE)
    x, y = np.meshgrid(line, line)
    classes = run.predict_prepared(to_images(np.stack([x.ravel(), y.ravel()], 1))).argmax(-1).reshape(SIDE, SIDE)
    axis.imshow(classes, origin="lower", extent=(-1, 1, -1, 1), cmap="Pastel1", vmin=0, vmax=8, interpolation="nearest")
    axis.scatter(*points.T, c=labels, cmap="Set1", vmin=0, vmax=8, s=2, linewidths=0, rasterized=True)
    axis.set_xticks([])
    axis.set_yticks([])
