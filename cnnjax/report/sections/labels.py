"""The labels of a multi-label classification: their figures, thresholds, and the examples with the most errors."""

import numpy as np

from cnnjax.analysis import pictures
from cnnjax.report.blocks import Block, Figure, Heading, Section, Table, Template, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import ArrayPredictions, Verdict
from cnnjax.report.sections.gallery import picture_row, wrong_captions
from cnnjax.tasks.multilabel_metrics import threshold_curve

NEEDS = ("label_predictions", "run")
# Classes whose curves are drawn, and pictures of the gallery.
CURVES, PICTURES = 12, 12


def section(contents: RunContents) -> Section:
    """The labels of the test split."""
    predictions, task = contents.predictions, contents.run.task
    columns = ("class", "examples", "precision", "recall", "F1", "average precision")
    rows = task.class_rows(predictions.predictions, predictions.labels, predictions.names)
    by_class = Table(columns, rows, range(1, 6))
    return Section(
        "Labels",
        [
            Text(f"A label is predicted if its probability is above {task.threshold:g}."),
            Template("tall.html", {"block": by_class}, [by_class]),
            *thresholds(predictions, task.threshold),
            *worst(predictions, task.threshold),
        ],
    )


def thresholds(predictions: ArrayPredictions, threshold: float) -> list[Block]:
    """F1 by threshold for the first labels that occur, and the threshold with the largest F1."""
    present = predictions.labels > 0.5
    curves = {
        name: threshold_curve(predictions.predictions[:, place], present[:, place])
        for place, name in enumerate(predictions.names)
        if present[:, place].any()
    }
    if not curves:
        return []
    rows = [(name, *(f"{value:.4g}" for value in curve.best)) for name, curve in curves.items()]
    table = Table(("class", "best threshold", "F1 there"), rows, (1, 2))
    drawn = {name: (curve.thresholds, curve.f1) for name, curve in list(curves.items())[:CURVES]}
    figure = pictures.plot_lines(drawn, "threshold", "F1", threshold)
    text = (
        "The best thresholds here are optimal for these examples only: choose task.threshold on the validation split."
    )
    return [
        Heading("By threshold"), Figure(figure, "F1 by threshold", "thresholds"), Text(text),
        Template("tall.html", {"block": table}, [table]),
    ]  # fmt: skip


def worst(predictions: ArrayPredictions, threshold: float) -> list[Block]:
    """The examples with the most errors; ties are broken by the distance from the label."""
    present, predicted = predictions.labels > 0.5, predictions.predictions > threshold
    count = (present != predicted).sum(-1)
    distance = np.abs(predictions.predictions - present).sum(-1)
    order = [index for index in np.lexsort((-distance, -count)).tolist() if count[index]][:PICTURES]
    heading = Heading("Most errors")
    if not order:
        return [heading, Text("There are none.")]
    images = predictions.pictures(order)
    found = [
        Verdict(
            _named(predictions.names, present[index]),
            _named(predictions.names, predicted[index]),
            f"{count[index]} of {len(predictions.names)} wrong",
            False,
        )
        for index in order
    ]
    return [
        heading,
        picture_row(order, images, found, wrong_captions(found), "worst", "examples with the most wrong answers"),
    ]


def _named(names: tuple[str, ...], chosen: np.ndarray) -> str:
    return ", ".join(name for name, there in zip(names, chosen, strict=True) if there) or "none"
