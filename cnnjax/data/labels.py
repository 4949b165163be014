"""The labels of a data set's examples as text, and the groups that examples are counted under."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Shaped

from cnnjax.data.subsets import are_classes

if TYPE_CHECKING:
    from cnnjax.data.datasets import Dataset


def are_marks(labels: Shaped[np.ndarray, "example ..."]) -> bool:
    """Whether targets are rows of 0 and 1, any number of labels an example."""
    return labels.ndim == 2 and labels.dtype.kind in "biu" and bool(((labels == 0) | (labels == 1)).all())


def groups(dataset: "Dataset") -> tuple[str, ...]:
    """The names that examples are counted under: the classes, or the labels that are 0 or 1; of numbers and maps, one for all."""
    labels = next(iter(dataset.splits.values())).labels
    if are_classes(labels):
        return dataset.label_names
    if are_marks(labels):
        return dataset.label_names or tuple(map(str, range(labels.shape[1])))
    return ("all images",)


def members(labels: Shaped[np.ndarray, "example ..."], count: int) -> Bool[np.ndarray, "group example"]:
    """The examples in each of a number of groups."""
    if are_classes(labels):
        return np.arange(count)[:, None] == labels
    marks = labels.shape[1:] == (count,) and are_marks(labels)
    return labels.T != 0 if marks else np.ones((count, len(labels)), bool)


def label_text(dataset: "Dataset", split: str, position: int) -> str:
    """An example's label as text: its class, its labels, its numbers; nothing of a map."""
    labels, names = dataset.splits[split].labels, groups(dataset)
    if are_classes(labels):
        return names[labels[position]] if names else str(labels[position])
    if are_marks(next(iter(dataset.splits.values())).labels):  # as `groups` decides
        return ", ".join(names[place] for place in np.flatnonzero(labels[position]))
    return "  ".join(f"{value:.4g}" for value in np.atleast_1d(labels[position])) if labels.ndim < 3 else ""
