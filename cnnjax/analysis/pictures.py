"""Figures: each function returns a matplotlib figure, which `save` writes to a file; no display is needed."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from PIL import Image

from cnnjax.analysis.distributions import LayerHistograms
from cnnjax.core import files
from cnnjax.tasks.classification_metrics import Calibration
from cnnjax.training.rate_finder import RateTest

# The number of characters per line of a caption in a gallery.
CAPTION = 22


def save(figure: Figure, path: Path) -> None:
    """Writes a figure atomically as PNG.

    Raises:
      ValueError: the name does not end in .png.
      FileNotFoundError: the folder does not exist.
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
    """Plots a grid of images.

    Args:
      rows: the rows of images with 1 or 3 channels; rows may differ in length.
      row_titles: the titles of the rows.
      column_titles: the titles of the columns.
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


def plot_gallery(
    images: Sequence[UInt8[np.ndarray, "height width channel"]], captions: Sequence[str], columns: int = 6
) -> Figure:
    """Plots images row by row with captions below; long lines are wrapped."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.5 * columns, 2.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, image, caption in zip(axes, images, captions, strict=False):
        axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        lines = [textwrap.fill(line, CAPTION) for line in caption.splitlines()]
        axis.set_xlabel("\n".join(lines), fontsize=8, labelpad=3)  # an axis label, for which the layout reserves space
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
    return figure


def plot_rate_test(test: RateTest) -> Figure:
    """Plots the loss against the learning rate, with the steepest fall and the suggestion marked."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(test.rates, test.losses, color="0.75", linewidth=1, label="each batch")
    axis.plot(test.rates, test.smoothed, color="C0", label="smoothed")
    axis.axvline(test.steepest, color="C2", linestyle=":", label=f"steepest fall, {test.steepest:.2g}")
    axis.axvline(test.suggestion, color="C1", linestyle="--", label=f"a tenth of the minimum's, {test.suggestion:.2g}")
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
    """Plots groups of values below one another: values as dots, means as vertical lines, intervals as bars.

    Args:
      names: the names of the groups, from the top.
      values: the values of each group, which may be empty.
      intervals: the interval of each group's mean, or None.
      axis_label: the label of the axis.
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


def plot_lines(
    lines: Mapping[str, tuple[Float[np.ndarray, "point"], Float[np.ndarray, "point"]]],
    x_label: str,
    y_label: str,
    marked: float | None = None,
) -> Figure:
    """Plots named lines (x, y), with a dashed vertical line at the marked x."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    for name, (x, y) in lines.items():
        axis.plot(x, y, label=name)
    if marked is not None:
        axis.axvline(marked, color="0.5", linestyle="--", linewidth=1)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.legend(frameon=False, fontsize=8, ncols=1 if len(lines) <= 6 else 2)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def plot_agreement(
    labels: Float[np.ndarray, "example number"], predicted: Float[np.ndarray, "example number"], names: Sequence[str]
) -> Figure:
    """Plots predictions against labels in one panel per number, with the diagonal on which they agree."""
    figure, axes = _panels(len(names), 2.9)
    for place, (axis, name) in enumerate(zip(axes, names, strict=False)):
        x, y = labels[:, place], predicted[:, place]
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axis.plot(ends, ends, color="0.5", linestyle="--", linewidth=1)
        axis.plot(x, y, "o", color="C0", markersize=3, alpha=max(0.1, min(0.7, 200 / len(x))), markeredgewidth=0)
        axis.set_xlabel(f"{name}, label")
        axis.set_ylabel("prediction")
    return figure


def plot_spreads(values: Float[np.ndarray, "example number"], names: Sequence[str], axis_label: str) -> Figure:
    """Plots histograms of values in one panel per number, with a line at 0."""
    figure, axes = _panels(len(names), 2.0)
    for place, (axis, name) in enumerate(zip(axes, names, strict=False)):
        axis.hist(values[:, place], bins=30, color="C0")
        axis.axvline(0, color="0.3", linewidth=1)
        axis.set_xlabel(f"{name}, {axis_label}")
        axis.set_ylabel("examples")
    return figure


def _panels(count: int, height: float) -> tuple[Figure, list[Any]]:
    """A figure with panels in rows of three."""
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.2 * columns, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes


# --- arrays -> arrays of pixels -------------------------------------------------------------------------------


def scaled(values: Float[np.ndarray, "..."], low: float, high: float) -> UInt8[np.ndarray, "..."]:
    """Maps low to 0 and high to 255 and clips values outside; if low and high are equal, the result is medium grey."""
    if not high > low:
        return np.full(np.shape(values), 128, np.uint8)
    share = (np.nan_to_num(np.asarray(values, np.float64)) - low) / (high - low)
    return (255 * share.clip(0, 1)).round().astype(np.uint8)


def tiled(
    images: UInt8[np.ndarray, "image height width channel"], columns: int | None = None, gap: int = 1, shade: int = 255
) -> UInt8[np.ndarray, "height width channel"]:
    """Joins images row by row into one image.

    Args:
      images: the images, all of the same size.
      columns: the number of images per row; None makes a roughly square arrangement.
      gap: the number of pixels between images.
      shade: the shade of the gaps.
    """
    count, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), shade, np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def resized(values: Float[np.ndarray, "height width"], shape: tuple[int, int]) -> Float[np.ndarray, "height width"]:
    """Resizes a map to the height and width of an image by linear interpolation."""
    picture = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


def on_grey(image: UInt8[np.ndarray, "height width channel"]) -> Float[np.ndarray, "height width 3"]:
    """A picture's greys, as the ground that colours are laid over."""
    return image.astype(np.float64).mean(-1)[..., None] * np.ones(3)


def overlaid(
    image: UInt8[np.ndarray, "height width channel"], values: Float[np.ndarray, "rows columns"], strength: float = 0.65
) -> UInt8[np.ndarray, "height width 3"]:
    """Overlays a grey image with an attribution map, in which brighter is more; negative values count as zero."""
    heat = np.maximum(resized(np.nan_to_num(values), image.shape[:2]), 0)
    heat = heat / max(float(heat.max()), 1e-12)
    colours = matplotlib.colormaps["inferno"](heat)[..., :3] * 255
    return ((1 - strength) * on_grey(image) + strength * colours).round().astype(np.uint8)


# --- figures of what a network has learned -----------------------------------------------------------------------


def plot_image(image: UInt8[np.ndarray, "height width channel"], title: str = "") -> Figure:
    """Plots an image without interpolation."""
    height, width = image.shape[:2]
    side = 7.0
    figure = Figure(figsize=(side, max(side * height / width, 0.6) + 0.4), layout="constrained")
    axis = figure.subplots()
    axis.imshow(
        image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255, interpolation="nearest"
    )
    axis.set_axis_off()
    axis.set_title(title, fontsize=9)
    return figure


def map_pictures(maps: Float[np.ndarray, "height width feature"], count: int = 16) -> UInt8[np.ndarray, "..."]:
    """The first feature maps of a layer for one image, each scaled to its own range: (feature, height, width, 1)."""
    shown = np.moveaxis(maps[..., :count], -1, 0)
    return np.stack([scaled(one, float(one.min()), float(one.max())) for one in shown])[..., None]


def plot_feature_maps(
    images: UInt8[np.ndarray, "image height width channel"], maps: Mapping[str, np.ndarray], count: int = 16
) -> Figure:
    """Plots the first feature maps of each layer, with layers as rows and images as columns; a dense layer is a strip.

    Args:
      images: the images for display.
      maps: the result of `feature_maps` for these images.
      count: the number of maps per layer.
    """
    rows = [[*images]]
    for values in maps.values():
        shown = [one if one.ndim == 3 else one[None, :, None] for one in values]
        rows.append([tiled(map_pictures(one, count), gap=1 if one.shape[0] > 1 else 0) for one in shown])
    return plot_images(rows, ["image", *maps])


def plot_attributions(
    images: UInt8[np.ndarray, "image height width channel"],
    maps: Mapping[str, Float[np.ndarray, "image rows columns"]],
    titles: Sequence[str] = (),
) -> Figure:
    """Plots one row per image: the image, and its attribution map by each method.

    Args:
      images: the images for display.
      maps: the results of `saliency`, `grad_cam` or `occlusion` for these images, by name of the method.
      titles: the titles of the rows.
    """
    rows = [
        [image, *(overlaid(image, values[place]) for values in maps.values())] for place, image in enumerate(images)
    ]
    return plot_images(rows, titles, ["image", *maps])


def plot_confusion(confusion: Int[np.ndarray, "label predicted"], names: Sequence[str], shares: bool = False) -> Figure:
    """Plots a confusion matrix: rows are labels, columns predictions, shades the share of the row.

    Up to 20 classes the cells have their numbers, or with `shares` their percentages of the row.
    """
    side = min(max(3.5, 0.42 * len(names) + 1.5), 12)
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= 20:
        for row, column in np.argwhere(confusion):
            color = "white" if share[row, column] > 0.5 else "black"
            text = f"{100 * share[row, column]:.0f}" if shares else str(confusion[row, column])
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    if len(names) <= 60:
        axis.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize=8)
        axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_xlabel("predicted")
    axis.set_ylabel("label")
    return figure


def plot_calibration(found: Calibration) -> Figure:
    """Plots a reliability diagram: accuracy against confidence, the diagonal of perfect calibration, and the examples per bin."""
    figure = Figure(figsize=(4.5, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    width, centres = found.edges[1] - found.edges[0], (found.edges[:-1] + found.edges[1:]) / 2
    filled = found.counts > 0
    upper.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    upper.bar(centres[filled], found.accuracy[filled], 0.9 * width, color="C0")
    upper.plot(found.confidence[filled], found.accuracy[filled], "o", color="black", markersize=3)
    upper.set_ylabel("accuracy")
    upper.set_title(f"expected calibration error {found.error:.4f}", fontsize=9)
    lower.bar(centres, found.counts, 0.9 * width, color="0.6")
    lower.set_ylabel("examples")
    lower.set_xlabel("confidence")
    for axis in (upper, lower):
        axis.set_xlim(0, 1)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def plot_histograms(found: Mapping[str, LayerHistograms]) -> Figure:
    """Plots histograms of weights, activations and gradients, one row per layer."""
    kinds = ("weights", "activations", "gradients")
    figure = Figure(figsize=(9, 1.1 * len(found) + 0.6), layout="constrained")
    axes = figure.subplots(len(found), 3, squeeze=False)
    for row, (layer, histograms) in zip(axes, found.items(), strict=True):
        for axis, kind, colour in zip(row, kinds, ("C0", "C2", "C1"), strict=True):
            shown = getattr(histograms, kind)
            axis.stairs(shown.counts, shown.edges, fill=True, color=colour)
            axis.set_yticks([])
            axis.tick_params(labelsize=7)
            axis.locator_params(axis="x", nbins=4)
            axis.spines[["top", "right", "left"]].set_visible(False)
        row[0].set_ylabel(layer, rotation=0, ha="right", va="center", fontsize=8)
    for axis, kind in zip(axes[0], kinds, strict=True):
        axis.set_title(kind, fontsize=9)
    return figure


def plot_embedding(
    points: Mapping[str, Float[np.ndarray, "example 2"]], labels: Int[np.ndarray, "example"], names: Sequence[str]
) -> Figure:
    """Plots embeddings of examples, coloured by label.

    Args:
      points: the results of `embed`, by name of the method.
      labels: the labels of the examples.
      names: the names of the classes.
    """
    figure = Figure(figsize=(5 * len(points), 4.6), layout="constrained")
    axes = figure.subplots(1, len(points), squeeze=False)[0]
    colours = matplotlib.colormaps["tab10" if len(names) <= 10 else "hsv"]
    for axis, (method, places) in zip(axes, points.items(), strict=True):
        for label in np.unique(labels):
            own = places[labels == label]
            colour = colours(label if len(names) <= 10 else label / len(names))
            axis.scatter(own[:, 0], own[:, 1], s=9, color=colour, label=names[label])
        axis.set_title(method, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    if len(names) <= 20:
        axes[-1].legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
