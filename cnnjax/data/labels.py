"""The labels of examples as text, and the groups (classes or labels) in which examples are counted."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Shaped

from cnnjax.data.subsets import are_classes

if TYPE_CHECKING:
    from cnnjax.data.datasets import Dataset


def are_marks(labels: Shaped[np.ndarray, "example ..."]) -> bool:
    """Whether targets are rows of 0 and 1: any number of labels per example."""
    return labels.ndim == 2 and labels.dtype.kind in "biu" and bool(((labels == 0) | (labels == 1)).all())


def groups(dataset: "Dataset") -> tuple[str, ...]:
    """The names of the groups in which examples are counted: the classes, the labels of 0 or 1, or one group for numbers and maps."""
    labels = next(iter(dataset.splits.values())).labels
    if are_classes(labels):
        return dataset.label_names
    if are_marks(labels):
        return dataset.label_names or tuple(map(str, range(labels.shape[1])))
    return ("all images",)


def members(labels: Shaped[np.ndarray, "example ..."], count: int) -> Bool[np.ndarray, "group example"]:
    """The examples of each group."""
    if are_classes(labels):
        return np.arange(count)[:, None] == labels
    marks = labels.shape[1:] == (count,) and are_marks(labels)
    return labels.T != 0 if marks else np.ones((count, len(labels)), bool)


def label_text(dataset: "Dataset", split: str, position: int) -> str:
    """An example's label as text: its class, its labels or its numbers; "" for a map."""
    labels, names = dataset.splits[split].labels, groups(dataset)
    if are_classes(labels):
        return names[labels[position]] if names else str(labels[position])
    if are_marks(next(iter(dataset.splits.values())).labels):  # as `groups` decides
        return ", ".join(names[place] for place in np.flatnonzero(labels[position]))
    return "  ".join(f"{value:.4g}" for value in np.atleast_1d(labels[position])) if labels.ndim < 3 else ""
