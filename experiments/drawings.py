"""How studies draw what they measured: one style, and SVG files that are the same bytes for the same figure."""

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

import cnnjax
from cnnjax.ablation.statistics import estimate
from cnnjax.core import files
from cnnjax.data.builders.spirals import to_images

Line = tuple[Sequence[float], Sequence[float]]  # x, y
SIDE = 128  # points of the plane along each axis
PAGE = 7.6  # inches, the width of a page's text: a wider figure is shown smaller, and its text with it
INK, QUIET, RULE, GROUND = "#1b1d21", "#667080", "#dfe2e6", "#fcfcfb"
COLOURS = ("#2b63c6", "#d9730d", "#2d8a57", "#b83280", "#7a5af5", "#0891a5", "#8a6d1b", "#c23b3b")
# The studies' style; the colours are those of the reports. Text stays text, and names in the file do not depend on chance.
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.grid.axis": "y",
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
DARK_COLOURS = ("#7aa7ff", "#ffa657", "#6fcf97", "#f27fbf", "#b09cff", "#4fd1e0", "#d9bd5b", "#ff8a8a")
DARK = {
    INK: "#e6e8ec",
    QUIET: "#98a2b3",
    RULE: "#2d323b",
    GROUND: "#14161a",
    **dict(zip(COLOURS, DARK_COLOURS, strict=True)),
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The studies' style, as a context and as a decorator: what is drawn under it has the style's colours and sizes."""
    with matplotlib.rc_context(STYLE):
        yield


def save_svg(figure: Figure, path: Path) -> None:
    """Writes a figure as SVG that follows the reader's light or dark mode; the same figure gives the same bytes."""
    buffer = io.StringIO()
    with styled():
        figure.savefig(buffer, format="svg", dpi=144, metadata={"Date": None, "Creator": None})
    rules = "".join(
        f'[style*="{name}: {light}"] {{ {name}: {dark} !important; }}'
        for light, dark in DARK.items()
        for name in ("fill", "stroke")
    )
    text = buffer.getvalue().replace(
        "<defs>", f"<style>@media (prefers-color-scheme: dark) {{ {rules} }}</style>\n <defs>", 1
    )
    text = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    files.write_atomically(path, re.sub(r"(font: [\d.]+px 'DejaVu Sans')", r"\1, Verdana, sans-serif", text))


def panels(
    columns: int, rows: int = 1, width: float | None = None, height: float = 3.2, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of several panels, row by row, to be drawn and filled under `styled`.

    Args:
      columns: the number of panels in a row.
      rows: the number of rows.
      width: the width of a panel in inches; by default the columns share the width of a page.
      height: the height of a panel in inches.
      options: further arguments of matplotlib's `subplots`, such as `sharey`.
    """
    width = PAGE / columns if width is None else width
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).ravel())


def draw_legend_below(figure: Figure, columns: int) -> None:
    """Draws the legend of a figure's first panel below all panels."""
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def set_logarithmic(axis: Axis, steps: Sequence[int] = (1,)) -> None:
    """Makes an axis logarithmic, with plain numbers at the given multiples of each power of ten."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, position: f"{value:,.0f}" if value >= 1 else f"{value:g}")


def draw_picture(axis: Axes, picture: np.ndarray, **colours: Any) -> None:
    """Draws the pixels of a picture, without ticks and frame.

    Args:
      axis: the panel.
      picture: the picture, (height, width) or (height, width, channel).
      colours: arguments of matplotlib's `imshow`, such as the colour map and its range.
    """
    axis.imshow(picture, interpolation="none", **colours)
    without_frame(axis)


def without_frame(axis: Axes) -> None:
    """Removes the ticks and the frame of a panel; its title and its labels stay."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def draw_row_titles(axes: Sequence[Axes], columns: int, titles: Sequence[str]) -> None:
    """Writes a title at the left of each row of panels."""
    for axis, title in zip(axes[::columns], titles, strict=True):
        axis.set_ylabel(title)


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
        axis.plot(
            *zip(*dots, strict=True),
            ".",
            color=COLOURS[number % len(COLOURS)],
            markersize=7,
            alpha=0.35,
            markeredgewidth=0,
        )


def draw_plane(
    axis: Axes, run: cnnjax.Run, points: Float[np.ndarray, "example 2"], labels: Int[np.ndarray, "example"]
) -> None:
    """Draws the class that a run predicts for each point of the plane, and some labelled points."""
    line = np.linspace(-1, 1, SIDE)
    x, y = np.meshgrid(line, line)
    classes = run.predict_prepared(to_images(np.stack([x.ravel(), y.ravel()], 1))).argmax(-1).reshape(SIDE, SIDE)
    colours = {"cmap": ListedColormap(COLOURS), "vmin": 0, "vmax": len(COLOURS) - 1}
    draw_picture(axis, classes, origin="lower", extent=(-1, 1, -1, 1), alpha=0.3, **colours)
    axis.scatter(*points.T, c=labels, s=3, linewidths=0, rasterized=True, **colours)
