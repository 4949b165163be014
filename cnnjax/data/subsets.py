"""Subsets of splits by class: cross-validation's folds, chosen classes, a few examples of each. Labels in, positions out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from cnnjax.core.options import unknown

Labels = Int[np.ndarray, "example"]
Positions = Int[np.ndarray, "chosen"]


def cross_validation(labels: Labels, folds: int, fold: int, seed: int, name: str) -> tuple[Positions, Positions]:
    """The positions of one fold's training and validation examples, in the data set's order.

    Of every class the n-th example, in an order drawn by the seed, is in fold n modulo `folds`.

    Args:
      labels: the labels of train and valid together.
      folds: the number of folds.
      fold: the fold that is validated on.
      seed: the seed that draws the folds.
      name: the data set's name, for messages.

    Raises:
      ValueError: there are more folds than examples of the largest class.
    """
    most = np.bincount(labels).max()
    if folds > most:  # nothing would be in the last of them
        raise ValueError(
            f"config: dataset.folds={folds}: expected at most {most}, the examples of {name}'s largest class"
        )
    folded = np.zeros(len(labels), np.int32)
    for positions in _shuffled_by_class(labels, seed):
        folded[positions] = np.arange(len(positions)) % folds
    return np.flatnonzero(folded != fold), np.flatnonzero(folded == fold)


def of_classes(
    labels: Labels, label_names: Sequence[str], classes: Sequence[str], name: str
) -> tuple[Positions, Int[np.ndarray, "chosen"]]:
    """The positions of the examples of some classes, in the data set's order, and their labels, numbered in the order of `classes`.

    Raises:
      ValueError: a class does not exist, or there is no example of any of them.
    """
    absent = [chosen for chosen in classes if chosen not in label_names]
    if absent:
        raise ValueError(f"data set {name}: {unknown('class', absent[0], label_names)}")
    number = np.full(len(label_names), -1, labels.dtype)
    number[[label_names.index(chosen) for chosen in classes]] = np.arange(len(classes))
    positions = np.flatnonzero(number[labels] >= 0)
    if not len(positions):
        raise ValueError(f"data set {name}: a split has no example of the classes {', '.join(classes)}")
    return positions, number[labels[positions]]


def few_of_each_class(labels: Labels, count: int, seed: int, label_names: Sequence[str]) -> Positions:
    """The positions of `count` examples of each class, in the data set's order; a larger count keeps those of a smaller.

    Raises:
      ValueError: a class has fewer examples.
    """
    by_class = _shuffled_by_class(labels, seed)
    scarce = [f"{label_names[labels[found[0]]]} {len(found)}" for found in by_class if len(found) < count]
    if scarce:
        raise ValueError(
            f"config: dataset.examples_per_class={count}: some classes have fewer ({', '.join(scarce[:5])})"
        )
    return np.sort(np.concatenate([found[:count] for found in by_class]))


def _shuffled_by_class(labels: Labels, seed: int) -> list[Positions]:
    """The positions of each class's examples, each class's in an order of its own drawn by the seed."""
    generator = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed])))
    return [generator.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
