"""The maps of a segmentation: figures by class, the confusion matrix of pixels, and maps over their images, the worst first."""

from collections.abc import Sequence

import numpy as np

from cnnjax.analysis.class_maps import plot_maps
from cnnjax.analysis.pictures import plot_confusion
from cnnjax.report.blocks import Block, Figure, Heading, Section, Table, Template, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import MapPredictions
from cnnjax.report.sections.confusion import classes_shown
from cnnjax.tasks.segmentation import CLASS_COLUMNS, class_rows

NEEDS = ("map_predictions",)
# Images of each kind.
PICTURES = 8


def section(contents: RunContents) -> Section:
    """The maps of the test split."""
    predictions = contents.predictions
    confusion, names = predictions.confusion, predictions.names
    by_class = Table(CLASS_COLUMNS, class_rows(confusion, names), range(1, len(CLASS_COLUMNS) - 1))
    shown = classes_shown(confusion)
    drawn = plot_confusion(confusion[np.ix_(shown, shown)], [names[number] for number in shown], shares=True)
    worst = np.argsort(-predictions.distance, kind="stable")[:PICTURES].tolist()
    typical = np.linspace(0, len(predictions.labels) - 1, min(PICTURES, len(predictions.labels))).astype(int).tolist()
    return Section(
        "Maps",
        [
            Template("tall.html", {"block": by_class}, [by_class]),
            Heading("Confusion of pixels"),
            Figure(drawn, "confusion matrix of pixels, in per cent of each label's", "confusion"),
            *overlays(predictions, worst, "Worst images", "worst"),
            *overlays(predictions, typical, "Images throughout the split", "examples"),
        ],
    )


def overlays(predictions: MapPredictions, examples: Sequence[int], title: str, name: str) -> list[Block]:
    """Images beside their labels and predictions in the colours of the classes."""
    labels = predictions.labels[examples]
    maps = {
        "label": np.where(labels == predictions.ignore, 0, labels),
        "prediction": predictions.predicted[examples],
    }
    titles = [f"{index}: IoU {1 - predictions.distance[index]:.3f}" for index in examples]
    drawn = plot_maps(predictions.pictures(examples), maps, predictions.names, titles)
    text = "Each title has the image's position in the split, and the mean IoU of the classes that occur or are predicted in it."
    return [Heading(title), Text(text), Figure(drawn, title.lower(), name)]
