"""A data set's representations: a line in a shell, a card in a notebook."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnjax.core import html
from cnnjax.data import subsets
from cnnjax.data.displayed import displayed
from cnnjax.data.labels import label_text

if TYPE_CHECKING:
    from cnnjax.data.datasets import Dataset

# The number of pictures on a card, and the side of each in pixels.
PICTURES, SIDE = 10, 64
# The largest number of class names on a card.
NAMES = 12


def shape_text(shape: Sequence[int]) -> str:
    """A shape as text.

    >>> shape_text((32, 32, 3))
    '32x32x3'
    """
    return "x".join(map(str, shape))


def class_text(names: Sequence[str]) -> str:
    """The number of classes and the first names; "" if there are none.

    >>> class_text(("cat", "dog"))
    '2 classes: cat, dog'
    """
    more = f", … {names[-1]}" if len(names) > NAMES else ""
    return f"{len(names)} classes: {', '.join(names[: NAMES - 1] if more else names)}{more}" if names else ""


def dataset_line(dataset: "Dataset") -> str:
    """A data set in one line: its splits' sizes, its classes, an image's shape and type."""
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items())
    classes = f", {len(dataset.label_names)} classes" if dataset.label_names else ""
    return (
        f"Dataset({dataset.name!r}: {sizes}{classes}, images {shape_text(dataset.image_shape)} {dataset.image_dtype})"
    )


def dataset_card(dataset: "Dataset") -> str:
    """A data set as HTML: splits, classes, shapes, and a strip of pictures."""
    name, split = next(iter(dataset.splits.items()))
    known = {
        "splits": ", ".join(f"{len(split):,} {name}" for name, split in dataset.splits.items()),
        "labels": class_text(dataset.label_names) or f"{split.labels.dtype} {shape_text(split.labels.shape[1:])}",
        "images": f"{shape_text(dataset.image_shape)}, {dataset.image_dtype}",
    }
    if "train" in dataset.splits and dataset.class_counts is not None:
        known["balance"] = f"{min(dataset.class_counts):,} to {max(dataset.class_counts):,} training examples per class"
    shown = example_places(split.labels)
    images = displayed(np.asarray(split.images[shown]), dataset.statistics)
    captions = [label_text(dataset, name, place) for place in shown]
    return html.card(
        dataset.name,
        html.facts(known),
        html.gallery(images, captions, SIDE),
        html.remark(f"examples of the {name} split with their labels"),
    )


def example_places(labels: np.ndarray) -> np.ndarray:
    """The positions of a few examples: the first of each class, then the first of all."""
    first = np.unique(labels, return_index=True)[1] if subsets.are_classes(labels) else np.array([], int)
    chosen = dict.fromkeys([*first[:PICTURES].tolist(), *range(min(PICTURES, len(labels)))])
    return np.array([*chosen][:PICTURES], int)
