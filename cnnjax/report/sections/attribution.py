"""Saliency, Grad-CAM and occlusion beside each other."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from cnnjax.analysis import attribution, pictures
from cnnjax.analysis.networks import layer_names, outputs_of
from cnnjax.data.views import central_view
from cnnjax.report.blocks import Figure, Section, Template, Text
from cnnjax.report.charts import colour_scale
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import caption, close_ups, verdict
from cnnjax.runs import Run
from cnnjax.training.evaluation import evaluation_crop

NEEDS = ("run", "class_predictions", "image_size")


def section(contents: RunContents) -> Section:
    """The attribution maps of a few test images."""
    run, predictions = contents.run, contents.predictions
    inputs, examples = contents.network_inputs.close_ups, close_ups(predictions)
    maps = attribution_maps(run, inputs)
    pixels = [seen_by_network(run, picture) for picture in predictions.pictures(examples)]
    shown = [
        {
            "index": index,
            "verdict": verdict(predictions, index),
            "pictures": [
                ("image", pixels[place]),
                *((method, pictures.overlaid(pixels[place], values[place])) for method, values in maps.items()),
            ],
        }
        for place, index in enumerate(examples)
    ]
    text = (
        "The parts of an image that support the predicted class. Saliency: pixels whose small changes affect its logit most. Grad-CAM: "
        "positions of the last feature maps that raise it. Occlusion: squares that lower it most when they are covered."
    )
    captions = [caption(predictions, index, "\n") for index in examples]
    drawn = Figure(pictures.plot_attributions(np.stack(pixels), maps, captions), "saliency, Grad-CAM and occlusion")
    return Section(
        "Attribution",
        [
            Text(text),
            colour_scale("nothing", "most in the image", "inferno"),
            Template("attribution.html", {"images": shown}, [drawn]),
        ],
    )


def attribution_maps(run: Run, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The attribution maps by method; Grad-CAM only for networks with feature maps."""
    source = run.model, run.selected.variables
    maps = {"saliency": attribution.saliency(source, inputs)}
    if any(len(output.shape) == 4 for output in _output_shapes(run.model, run.selected.variables, inputs)):
        maps["Grad-CAM"] = attribution.grad_cam(source, inputs)
    return maps | {"occlusion": attribution.occlusion(source, inputs)}


def seen_by_network(run: Run, pixels: np.ndarray) -> np.ndarray:
    """The part of a picture that is the network's input."""
    crop = evaluation_crop(run.config)
    return pixels if crop is None else np.asarray(central_view(tuple(crop), lambda part: part)(pixels[None])[0])


def _output_shapes(model: Any, variables: Mapping[str, Any], inputs: np.ndarray) -> list[Any]:
    names = layer_names(model, inputs)
    return list(jax.eval_shape(lambda x: outputs_of(model, variables, x, names)[1], inputs[:1]).values())
