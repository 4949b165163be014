"""The confusion matrix, whose cells show their examples, and each class's figures."""

from typing import Any

import numpy as np

from cnnjax.analysis import pictures
from cnnjax.report.blocks import Figure, Heading, Section, Table, Template
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import CELL_EXAMPLES, Predictions, caption
from cnnjax.tasks import classification_metrics as classification

NEEDS = ("class_predictions",)
# The largest number of classes that the matrix shows.
CLASSES = 30


def section(contents: RunContents) -> Section:
    """The confusion matrix of the test split."""
    predictions, names = contents.predictions, contents.predictions.label_names
    confusion = classification.confusion_matrix(predictions.probabilities, predictions.labels)
    shown = classes_shown(confusion)
    drawn = pictures.plot_confusion(confusion[np.ix_(shown, shown)], [names[label] for label in shown])
    values = {
        "names": [names[label] for label in shown],
        "rows": matrix_rows(confusion, shown),
        "turned": max(map(len, names)) > 3,
        "classes": len(names),
    }
    by_class = Table(
        ("class", "examples", "precision", "recall", "F1", "most often taken for"),
        class_rows(confusion, predictions),
        (1, 2, 3, 4),
    )
    blocks = [
        Template("confusion.html", values, [Figure(drawn, "confusion matrix")]),
        Heading("By class"),
        Template("tall.html", {"block": by_class}, [by_class]),
    ]
    return Section("Confusion matrix", blocks, cell_examples(predictions), predictions.atlas)


def classes_shown(confusion: np.ndarray) -> list[int]:
    """All classes, or the most often confused classes if there are many, in order."""
    if len(confusion) <= CLASSES:
        return list(range(len(confusion)))
    wrong = confusion - np.diag(np.diag(confusion))
    return sorted(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:CLASSES].tolist())


def matrix_rows(confusion: np.ndarray, shown: list[int]) -> list[list[dict[str, Any]]]:
    """The cells of the matrix for the template: each with its count and its fraction of the row."""
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    return [
        [
            {
                "key": f"{row},{column}",
                "right": row == column,
                "count": int(confusion[row, column]),
                "share": float(share[row, column]),
            }
            for column in shown
        ]
        for row in shown
    ]


def class_rows(confusion: np.ndarray, predictions: Predictions) -> list[tuple[Any, ...]]:
    """Each class's figures."""
    names = predictions.label_names
    return [
        (
            score.name, score.examples, f"{score.precision:.4f}", f"{score.recall:.4f}", f"{score.f1:.4f}",
            classification.taken_for(confusion[label], label, names),
        )
        for label, score in enumerate(classification.class_scores(confusion, names))
    ]  # fmt: skip


def cell_examples(predictions: Predictions) -> dict[str, list[tuple[int, str]]]:
    """The examples of each cell that are in the atlas: {"label,predicted": [(place in the atlas, caption)]}."""
    cells: dict[str, list[tuple[int, str]]] = {}
    for index, place in predictions.atlas.places.items():
        cell = cells.setdefault(f"{predictions.labels[index]},{predictions.predicted[index]}", [])
        if len(cell) < 2 * CELL_EXAMPLES:
            cell.append((place, caption(predictions, index)))
    return cells
