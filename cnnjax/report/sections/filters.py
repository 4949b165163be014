"""The filters of the first convolution."""

import numpy as np

from cnnjax.analysis import pictures
from cnnjax.analysis.filters import filter_picture, kernels
from cnnjax.report.blocks import Figure, Section, Template, Text
from cnnjax.report.charts import colour_scale
from cnnjax.report.contents import RunContents

NEEDS = ("run", "image_size")


def section(contents: RunContents) -> Section | None:
    """The filters; None for a network without convolutions."""
    try:
        name, kernel = kernels(contents.run)
    except ValueError:  # a dense network
        return None
    height, width, channels, count = kernel.shape
    size = f"{count} filters of {height}x{width}x{channels}"
    picture, shown = filter_picture(kernel), []
    scale = []
    if channels in (1, 3):
        largest = float(np.abs(kernel).max())
        scale = [colour_scale(f"−{largest:.2g}", f"{largest:.2g}")] if channels == 1 else []
        shown = list(np.moveaxis(pictures.scaled(kernel, -largest, largest), -1, 0))
    text = f"The first convolution, {name}: {size}. Medium grey is zero, and all filters share one scale."
    drawn = Figure(pictures.plot_image(picture, f"{name}: {size}"), text)
    values = {"layer": name, "filters": shown, "picture": picture}
    return Section("Filters", [Text(text), *scale, Template("filters.html", values, [drawn])])
