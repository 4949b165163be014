"""Pictures: each function returns a matplotlib figure, drawn without a screen; `save` writes it."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from cnnjax import files
from cnnjax.training.rate_finder import RateTest


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all.

    Raises:
      ValueError: the file's name does not end in .png.
      FileNotFoundError: there is no such folder.
    """
    files.check_writable(path, ".png")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    files.write_atomically(path, buffer.getvalue())


def plot_images(
    rows: Sequence[Sequence[UInt8[np.ndarray, "height width channel"]]],
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
) -> Figure:
    """A grid of images.

    Args:
      rows: of images, each of 1 or 3 channels; rows may differ in length.
      row_titles: beside the rows.
      column_titles: above the columns.
    """
    columns = max(map(len, rows))
    figure = Figure(figsize=(1.2 * columns + 0.8, 1.2 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    for number, row in enumerate(rows):
        for axis, image in zip(axes[number], row, strict=False):
            axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        if number < len(row_titles):
            axes[number, 0].set_ylabel(row_titles[number], rotation=0, ha="right", va="center", fontsize=8)
    for axis, title in zip(axes[0], column_titles, strict=False):
        axis.set_title(title, fontsize=8)
    return figure


def plot_tiles(tiles: Sequence[tuple[str, UInt8[np.ndarray, "height width channel"]]], columns: int = 6) -> Figure:
    """Images in rows of so many, each with its title above it.

    Args:
      tiles: (title, image of 1 or 3 channels), in order.
      columns: in a row.
    """
    rows = -(-len(tiles) // columns)
    figure = Figure(figsize=(1.4 * min(columns, len(tiles)), 1.75 * rows), layout="constrained")
    axes = figure.subplots(rows, min(columns, len(tiles)), squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, image) in zip(axes, tiles, strict=False):
        axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, fontsize=8)
    return figure


def plot_rate_test(test: RateTest) -> Figure:
    """Loss against learning rate, with the steepest fall and the suggestion marked."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(test.rates, test.losses, color="0.75", linewidth=1, label="each batch")
    axis.plot(test.rates, test.smoothed, color="C0", label="smoothed")
    axis.axvline(test.steepest, color="C2", linestyle=":", label=f"steepest fall, {test.steepest:.2g}")
    axis.axvline(test.suggestion, color="C1", linestyle="--", label=f"a tenth of the least's, {test.suggestion:.2g}")
    axis.set_xscale("log")
    low, high = min(test.smoothed), max(test.smoothed[0], min(test.smoothed))
    axis.set_ylim(low - 0.15 * (high - low) - 0.02, high + 0.35 * (high - low) + 0.02)
    axis.set_xlabel("learning rate")
    axis.set_ylabel("training loss")
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def plot_intervals(
    names: Sequence[str],
    values: Sequence[Sequence[float]],
    intervals: Sequence[tuple[float, float] | None],
    axis_label: str,
) -> Figure:
    """Groups of values below one another: each value a dot, the group's mean a line across, its interval a bar.

    Args:
      names: of the groups, from the top.
      values: of each group; a group may be empty.
      intervals: of each group's mean; None where it is not known.
      axis_label: what the values are.
    """
    figure = Figure(figsize=(7, 0.45 * len(names) + 1.2), layout="constrained")
    axis = figure.subplots()
    for row, (group, interval) in enumerate(zip(values, intervals, strict=True)):
        axis.plot(group, [row] * len(group), "o", color="0.3", markeredgecolor="white", markersize=6, zorder=4)
        if interval:
            axis.plot(interval, [row, row], color="C0", linewidth=2.5, solid_capstyle="butt", zorder=2)
        if len(group):
            axis.plot([np.mean(group)], [row], "|", color="C0", markersize=14, markeredgewidth=2.5, zorder=3)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel(axis_label)
    axis.grid(axis="x", color="0.92")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    return figure
