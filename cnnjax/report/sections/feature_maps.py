"""Feature maps of chosen images by layer."""

from typing import Any

import numpy as np

from cnnjax.analysis import pictures
from cnnjax.analysis.features import feature_maps
from cnnjax.analysis.networks import layer_names
from cnnjax.core.html import fitted
from cnnjax.report.blocks import Figure, Section, Template, Text
from cnnjax.report.charts import colour_scale
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import caption, close_ups
from cnnjax.report.words import evenly

NEEDS = ("run", "predictions", "image_size")
IMAGES, LAYERS, MAPS = 4, 12, 12


def section(contents: RunContents) -> Section:
    """The feature maps of a few test images."""
    run, predictions = contents.run, contents.predictions
    inputs, examples = contents.network_inputs.close_ups[:IMAGES], close_ups(predictions)[:IMAGES]
    order = layer_names(run.model, inputs)
    pixels = predictions.pictures(examples)
    maps = feature_maps((run.model, run.selected.variables), inputs, evenly(order, LAYERS))
    shown = [
        {
            "pixels": pixels[place],
            "caption": caption(predictions, index),
            "layers": [layer_row(layer, values[place]) for layer, values in maps.items()],
        }
        for place, index in enumerate(examples)
    ]
    text = (
        f"The outputs of the layers for one image, before the activation function: the first {MAPS} maps of each convolution, the "
        "values of a dense layer as a strip. Each map has its own scale."
    )
    if len(order) > len(maps):
        text += f" {len(maps)} of the {len(order)} layers."
    drawn = Figure(pictures.plot_feature_maps(pixels, maps, MAPS), "feature maps by layer")
    return Section(
        "Feature maps",
        [
            Text(text),
            colour_scale("least value", "greatest"),
            Template("feature_maps.html", {"images": shown}, [drawn]),
        ],
    )


def layer_row(layer: str, values: np.ndarray) -> dict[str, Any]:
    """A layer's maps as pictures, or its values as a strip."""
    row = {"name": layer, "shape": "x".join(map(str, values.shape)), "maps": [], "strip": None}
    if values.ndim == 1:
        return row | {"strip": pictures.scaled(values[None, :256, None], float(values.min()), float(values.max()))}
    return row | {"maps": [fitted(one, 64) for one in pictures.map_pictures(values, MAPS)]}
