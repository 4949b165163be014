"""The numbers of a regression: predictions against labels, the errors, and the examples with the largest errors."""

import numpy as np

from cnnjax.analysis import pictures
from cnnjax.report.blocks import Block, Figure, Heading, Section, Table, Template, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import ArrayPredictions, Verdict
from cnnjax.report.sections.gallery import picture_row, wrong_captions
from cnnjax.tasks.regression import number_rows

NEEDS = ("number_predictions",)
# Numbers that are drawn, and pictures of the gallery.
DRAWN, PICTURES = 6, 12


def section(contents: RunContents) -> Section:
    """The numbers of the test split."""
    predictions = contents.predictions
    columns = ("number", "mean", "deviation", "MAE", "RMSE", "R²", "bias")
    rows = number_rows(predictions.predictions, predictions.labels, predictions.names)
    table, shown = Table(columns, rows, range(1, 7)), slice(None, DRAWN)
    labels, predicted, names = predictions.labels[:, shown], predictions.predictions[:, shown], predictions.names[shown]
    text = "MAE and RMSE are in the unit of the labels; bias is the mean of prediction minus label; mean and deviation are the labels'."
    blocks = [
        Template("tall.html", {"block": table}, [table]),
        Text(text),
        Figure(pictures.plot_agreement(labels, predicted, names), "predictions against labels", "agreement"),
        Figure(pictures.plot_spreads(predicted - labels, names, "prediction − label"), "errors", "errors"),
    ]
    if len(predictions.names) > DRAWN:
        blocks.append(Text(f"The charts show the first {DRAWN} of {len(predictions.names)} numbers."))
    return Section("Numbers", [*blocks, *worst(predictions)])


def worst(predictions: ArrayPredictions) -> list[Block]:
    """The examples with the largest errors, measured in standard deviations of the labels."""
    error = predictions.predictions - predictions.labels
    deviation = predictions.labels.std(0)
    size = np.abs(error / np.where(deviation > 0, deviation, 1.0))
    order = np.argsort(-size.mean(-1), kind="stable")[:PICTURES].tolist()
    found = []
    for index in order:
        place = int(size[index].argmax())
        name = f"{predictions.names[place]} " if len(predictions.names) > 1 else ""
        found.append(
            Verdict(
                f"{name}{predictions.labels[index, place]:.4g}",
                f"{predictions.predictions[index, place]:.4g}",
                f"error {error[index, place]:+.3g}",
                False,
            )
        )
    images = predictions.pictures(order)
    return [
        Heading("Largest errors"),
        picture_row(order, images, found, wrong_captions(found), "worst", "examples with the largest errors"),
    ]
