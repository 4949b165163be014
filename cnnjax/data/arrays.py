"""Data sets of arrays: images and targets that are in memory already."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from cnnjax.data import transforms
from cnnjax.data.datasets import Dataset, Split
from cnnjax.data.slices import SPLITS
from cnnjax.data.subsets import MOST_CLASSES, are_classes, drawn_by_class

# Of every ten training examples, in the drawn order, the places that are valid's and test's where those are not given.
_TENTH = {"valid": 5, "test": 0}


def from_arrays(
    train: tuple[Any, Any],
    valid: tuple[Any, Any] | None = None,
    test: tuple[Any, Any] | None = None,
    label_names: Sequence[str] | None = None,
    *,
    seed: int = 0,
    name: str = "arrays",
) -> Dataset:
    """A data set of arrays in memory: (images, targets) for each split.

    Images are (example, height, width, channel) of any number of channels: uint8, or floats, which are stored as they are
    (float64 as float32). Targets are any array with a row for each example: whole numbers (example,) are classes; floats
    (example,), or arrays of more axes, are values, which have no class counts.

    Args:
      train: the images and targets to train on.
      valid: those to validate on; None draws a tenth of train, of every class where targets are classes.
      test: those to test on; None draws a tenth of train likewise, other examples than valid's.
      label_names: the names of the classes, or of the columns of targets (example, column); None numbers the classes.
      seed: the seed that draws valid and test.
      name: the name of the data set in messages.

    Raises:
      ValueError: shapes, types or values that do not fit; the message names the split.

    >>> images, classes = np.zeros((20, 8, 8, 3), np.uint8), np.arange(20) % 2
    >>> data = from_arrays((images, classes), label_names=["cat", "dog"])
    >>> {name: len(split) for name, split in data.splits.items()}, data.class_counts
    ({'train': 16, 'valid': 2, 'test': 2}, [8, 8])
    """
    given = {"train": train, "valid": valid, "test": test}
    splits = {split: _split(pair, f"{name}, {split}") for split, pair in given.items() if pair is not None}
    _check_alike(splits, name)
    missing = [split for split in given if split not in splits]
    if missing:
        splits |= _drawn(splits["train"], missing, seed, name)
    splits = {split: splits[split] for split in SPLITS}
    names = _label_names(splits, label_names, name)
    return Dataset(name, names, splits, transforms.measure(splits["train"].images), _fingerprint(splits, names))


def _split(pair: tuple[Any, Any], where: str) -> Split:
    """One split, its types and values checked."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(f"{where}: expected a pair (images, targets), got {type(pair).__name__}")
    images, labels = np.asarray(pair[0]), np.asarray(pair[1])
    if images.ndim != 4:
        advice = ": add the channels' axis, images[..., None]" if images.ndim == 3 else ""
        raise ValueError(f"{where}: expected images (example, height, width, channel), got {images.shape}{advice}")
    if images.dtype == np.float64:
        images = images.astype(np.float32)
    if images.dtype not in (np.uint8, np.float32, np.float16):
        raise ValueError(f"{where}: expected images of uint8 or floats, got {images.dtype}: images.astype(np.float32)")
    if not labels.ndim or len(labels) != len(images) or not len(images):
        raise ValueError(
            f"{where}: expected a target for each of {len(images)} images, one or more, got targets of shape {labels.shape}"
        )
    for start, block in _blocks(images) if images.dtype != np.uint8 else ():
        if not np.isfinite(block).all():
            position = start + int((~np.isfinite(block)).any((1, 2, 3)).argmax())
            raise ValueError(f"{where}: image {position} has values that are not finite")
    return Split(images, _targets(labels, where))


def _targets(labels: np.ndarray, where: str) -> Shaped[np.ndarray, "example ..."]:
    """The targets as they are stored: class numbers as int32, others as they are."""
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"{where}: expected targets of numbers, got {labels.dtype}: give class numbers, and their names as label_names"
        )
    limits = np.iinfo(np.int32)
    if labels.dtype.kind in "iu" and labels.size and not limits.min <= labels.min() <= labels.max() <= limits.max:
        raise ValueError(
            f"{where}: targets of {labels.min()} to {labels.max()} do not fit 32 bits: give floats, or smaller numbers"
        )
    return labels.astype(np.int32) if labels.ndim == 1 and labels.dtype.kind in "biu" else labels


def _check_alike(splits: Mapping[str, Split], name: str) -> None:
    first = splits["train"]
    for split, part in splits.items():
        for what, of_part, of_train in (("images", part.images, first.images), ("targets", part.labels, first.labels)):
            if of_part.shape[1:] != of_train.shape[1:] or of_part.dtype != of_train.dtype:
                raise ValueError(
                    f"{name}: {what} of {split} are {of_part.dtype} of {of_part.shape[1:]}, of train {of_train.dtype} of "
                    f"{of_train.shape[1:]}: make them alike"
                )


def _drawn(train: Split, missing: Sequence[str], seed: int, name: str) -> dict[str, Split]:
    """Train without what is drawn from it, and the drawn splits."""
    order = drawn_by_class(train.labels, seed)
    place = np.arange(len(order)) % 10
    drawn = {split: np.sort(order[place == _TENTH[split]]) for split in missing}
    rest = np.sort(order[~np.isin(place, [_TENTH[split] for split in missing])])
    empty = [split for split, positions in {"train": rest, **drawn}.items() if not len(positions)]
    if empty:
        raise ValueError(
            f"{name}: {len(train)} examples are too few to draw {' and '.join(missing)} from: give those, or 6 examples or more"
        )
    return {"train": train.take(rest), **{split: train.take(positions) for split, positions in drawn.items()}}


def _label_names(splits: Mapping[str, Split], given: Sequence[str] | None, name: str) -> tuple[str, ...]:
    """The names of the classes, or of the targets' columns where some were given."""
    labels = splits["train"].labels
    if not are_classes(labels):
        columns = labels.shape[1] if labels.ndim == 2 else None
        if given is not None and len(given) != columns:
            raise ValueError(
                f"{name}: label_names are for class numbers or for the columns of targets, and targets are {labels.dtype} of "
                f"{('example', *labels.shape[1:])}: leave them out"
            )
        return tuple(map(str, given or ()))
    highest = max(int(part.labels.max()) for part in splits.values())
    classes = highest + 1 if given is None else len(given)
    for split, part in splits.items():
        wrong = np.flatnonzero((part.labels < 0) | (part.labels >= classes))
        if len(wrong):
            raise ValueError(
                f"{name}, {split}: target {part.labels[wrong[0]]} at position {wrong[0]} is no class number of 0 to {classes - 1}: "
                "for regression give floats"
            )
    if given is None and classes > MOST_CLASSES:
        raise ValueError(
            f"{name}: whole numbers up to {highest} are taken for class numbers: for regression give floats, or else label_names"
        )
    return tuple(map(str, range(classes) if given is None else given))


def _fingerprint(splits: Mapping[str, Split], label_names: Sequence[str]) -> str:
    """A digest of the content: every split's images and targets, and the names."""
    digest = hashlib.sha256(repr(tuple(label_names)).encode())
    for split, part in splits.items():
        for array in (part.images, part.labels):
            digest.update(f"{split} {array.dtype.str} {array.shape}".encode())
            for _, block in _blocks(array):
                digest.update(np.ascontiguousarray(block))
    return digest.hexdigest()[:16]


def _blocks(array: np.ndarray) -> Iterator[tuple[Int, np.ndarray]]:
    """(position, examples from there on), a thousand at a time: the array may be larger than memory."""
    for start in range(0, len(array), 1024):
        yield start, array[start : start + 1024]
