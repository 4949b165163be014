"""A map of the test examples by the features of the last hidden layer."""

import numpy as np

from cnnjax.analysis import pictures
from cnnjax.analysis.embedding import embed
from cnnjax.analysis.features import feature_maps
from cnnjax.analysis.networks import layer_names
from cnnjax.report.blocks import Figure, Section, Template, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import caption

NEEDS = ("run", "class_predictions")
# Fewer examples make no map.
LEAST = 5


def section(contents: RunContents) -> Section | None:
    """PCA and t-SNE of the first test examples; None if there are too few."""
    run, predictions, inputs = contents.run, contents.predictions, contents.network_inputs.first
    if len(inputs) < LEAST:
        return None
    layer = layer_names(run.model, inputs)[-2:][0]
    features = feature_maps((run.model, run.selected.variables), inputs, [layer])[layer]
    features = features.mean(tuple(range(1, features.ndim - 1)))
    points = {"PCA": embed(features, "pca"), "t-SNE": embed(features, "tsne")}
    names, labels = predictions.label_names, predictions.labels[: len(inputs)]
    text = f"The first {len(inputs):,} test examples by the output of {layer}, coloured by their labels; mistakes have a ring."
    data = {
        "points": {
            method: (found - found.min(0)) / np.maximum(np.ptp(found, 0), 1e-12) for method, found in points.items()
        },
        "labels": labels,
        "names": names,
        "wrong": (~predictions.right[: len(inputs)]).astype(int),
        "captions": [caption(predictions, index) for index in range(len(inputs))],
        "places": [predictions.atlas.places[index] for index in range(len(inputs))],
    }
    drawn = Figure(pictures.plot_embedding(points, labels, names), "PCA and t-SNE")
    return Section("Embedding", [Text(text), Template("embedding.html", {}, [drawn])], data, predictions.atlas)
