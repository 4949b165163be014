"""Subsets of splits: folds of a cross-validation, chosen classes, a few examples of each class. Labels in, positions out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped

from cnnjax.core.options import unknown

Labels = Int[np.ndarray, "example"]
Targets = Shaped[np.ndarray, "example ..."]  # labels, or values of any shape
Positions = Int[np.ndarray, "chosen"]

# More classes than this count as a mistake: years, prices or file names.
MOST_CLASSES = 2**16
# The same for maps of class numbers, where every pair of classes is counted.
MAP_CLASSES = 2**10
# The position, among every ten training examples in the drawn order, of the example that each drawn split takes.
_TENTHS = {"valid": 5, "validation": 5, "test": 0}


def are_classes(targets: Targets) -> bool:
    """Whether targets are class numbers: one integer for each example."""
    return targets.ndim == 1 and targets.dtype.kind in "iu"


def are_maps(targets: Targets) -> bool:
    """Whether targets are maps of class numbers: integers over two or more axes for each example."""
    return targets.ndim > 2 and targets.dtype.kind in "biu"


def require_classes(targets: Targets, field: str) -> None:
    """Raises ValueError if a field of the config needs class numbers and the targets are something else."""
    if not are_classes(targets):
        raise ValueError(
            f"config: {field} needs classes, but the targets are {targets.dtype} of {('example', *targets.shape[1:])}: leave it out"
        )


def cross_validation(targets: Targets, folds: int, fold: int, seed: int, name: str) -> tuple[Positions, Positions]:
    """The positions of the training and validation examples of one fold, in the data set's order.

    The n-th example of every class, in an order drawn by the seed, is in fold n modulo `folds`; for targets that are not classes,
    the n-th of all examples.

    Args:
      targets: the targets of train and valid together.
      folds: the number of folds.
      fold: the number of the fold that is the validation split.
      seed: the seed that draws the folds.
      name: the data set's name in messages.

    Raises:
      ValueError: there are more folds than examples of the largest class.
    """
    groups = _shuffled_by_class(targets, seed)
    most = max(map(len, groups))
    if folds > most:  # the last fold would be empty
        whose = f"{name}'s largest class" if are_classes(targets) else f"{name}'s train and valid"
        raise ValueError(f"config: dataset.folds={folds}: expected at most {most}, the number of examples of {whose}")
    folded = np.zeros(len(targets), np.int32)
    for positions in groups:
        folded[positions] = np.arange(len(positions)) % folds
    return np.flatnonzero(folded != fold), np.flatnonzero(folded == fold)


def of_classes(
    labels: Labels, label_names: Sequence[str], classes: Sequence[str], name: str
) -> tuple[Positions, Int[np.ndarray, "chosen"]]:
    """The positions of the examples of some classes, in the data set's order, and their labels renumbered in the order of `classes`.

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
        raise ValueError(f"data set {name}: a split has no examples of the classes {', '.join(classes)}")
    return positions, number[labels[positions]]


def few_of_each_class(labels: Labels, count: int, seed: int, label_names: Sequence[str]) -> Positions:
    """The positions of `count` examples of each class, in the data set's order; a larger count includes the examples of a smaller.

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


def drawn_by_class(targets: Targets, seed: int) -> Positions:
    """The positions of all examples, class by class, in an order drawn by the seed: every n-th position samples all classes evenly."""
    return np.concatenate(_shuffled_by_class(targets, seed))


def drawn_splits(targets: Targets, seed: int, missing: Sequence[str]) -> dict[str, Positions]:
    """The positions of train and of the drawn splits, each a tenth of every class, in the data set's order.

    A split's tenth does not depend on whether the other split is drawn too.

    Args:
      targets: the targets of all examples.
      seed: the seed that draws the splits.
      missing: the splits to draw, of valid (or validation) and test.

    >>> {split: len(positions) for split, positions in drawn_splits(np.arange(40) % 2, 0, ["valid", "test"]).items()}
    {'train': 32, 'valid': 4, 'test': 4}
    """
    order = drawn_by_class(targets, seed)
    place = np.arange(len(order)) % 10
    drawn = {split: np.sort(order[place == _TENTHS[split]]) for split in missing}
    return {"train": np.sort(order[~np.isin(place, [_TENTHS[split] for split in missing])]), **drawn}


def _shuffled_by_class(targets: Targets, seed: int) -> list[Positions]:
    """The positions of the examples of each class, each in an order drawn by the seed; without classes, one list of all."""
    generator = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed])))
    if not are_classes(targets):
        return [generator.permutation(len(targets))]
    by_class = np.argsort(targets, kind="stable")
    ends = np.cumsum(np.unique(targets, return_counts=True)[1])
    return [generator.permutation(positions) for positions in np.split(by_class, ends[:-1])]
