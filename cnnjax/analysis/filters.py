"""Pictures of convolution kernels."""

from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from cnnjax.analysis.networks import Source
from cnnjax.analysis.pictures import plot_image, scaled, tiled
from cnnjax.core.options import unknown
from cnnjax.runs import Run, network_shape
from cnnjax.transfer.initial import layer_order

# The number of filters (rows) and channels (columns) that are drawn for a kernel with other than 1 or 3 channels.
DRAWN = 16


def kernels(source: Source, layer: str | None = None) -> tuple[str, Float[np.ndarray, "height width channel filter"]]:
    """The path of a convolution and its kernel.

    Args:
      source: a run, or a model and its variables.
      layer: the path of the convolution; None is the first one. For a model the first is the one with the fewest input channels.

    Raises:
      ValueError: there is no such convolution, or no convolution at all.
    """
    params = (source.selected.variables if isinstance(source, Run) else source[1])["params"]
    found = _convolutions(params)
    if not found:
        raise ValueError("the network has no two-dimensional convolution, and therefore no filters")
    if layer is not None and layer not in found:
        raise ValueError(unknown("convolution", layer, found))
    if layer is None and isinstance(source, Run):
        shape = network_shape(source.config, source.described["image_shape"])
        order = layer_order(source.model, jax.ShapeDtypeStruct((1, *shape), np.float32))
        layer = next(name for name in order if name in found)
    elif layer is None:
        layer = min(found, key=lambda name: found[name].shape[2])
    return layer, found[layer]


def _convolutions(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {
        "/".join(path[:-1]): np.asarray(leaf, np.float32)
        for path, leaf in flax.traverse_util.flatten_dict(params).items()
        if path[-1] == "kernel" and np.ndim(leaf) == 4
    }


def filter_picture(kernel: Float[np.ndarray, "height width channel filter"]) -> np.ndarray:
    """All filters of a kernel as one uint8 picture with a common scale, in which zero is medium grey.

    Filters with three channels are in colour; for other numbers of channels rows are filters and columns are channels.
    """
    largest = max(float(np.abs(kernel).max()), 1e-12)
    pixels = scaled(kernel, -largest, largest)
    if kernel.shape[2] in (1, 3):
        return tiled(np.moveaxis(pixels, -1, 0))
    shown = pixels[:, :, :DRAWN, :DRAWN]
    channels = shown.shape[2]
    return tiled(np.moveaxis(shown, (3, 2), (0, 1)).reshape(-1, *shown.shape[:2], 1), columns=channels)


def plot_filters(source: Source, layer: str | None = None) -> Figure:
    """Plots the filters of a convolution.

    Args:
      source: a run, or a model and its variables.
      layer: the path of the convolution, by default the first.

    Raises:
      ValueError: there is no such convolution, or no convolution at all.
    """
    name, kernel = kernels(source, layer)
    height, width, channels, filters = kernel.shape
    return plot_image(filter_picture(kernel), f"{name}: {filters} filters of {height}x{width}x{channels}")
