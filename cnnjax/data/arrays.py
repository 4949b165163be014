"""Data sets of arrays: signals, images or volumes and their targets, in memory or mapped from a file."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped, UInt64

from cnnjax.data import transforms
from cnnjax.data.array_files import as_stored
from cnnjax.data.datasets import Dataset, Split, warn_once
from cnnjax.data.slices import SHARED, SPLITS
from cnnjax.data.subsets import MOST_CLASSES, are_classes, are_maps, drawn_splits


def from_arrays(
    train: tuple[Any, Any],
    valid: tuple[Any, Any] | None = None,
    test: tuple[Any, Any] | None = None,
    label_names: Sequence[str] | None = None,
    *,
    seed: int = 0,
    name: str = "arrays",
) -> Dataset:
    """A data set of arrays: (images, targets) for each split.

    Images are (example, *spatial, channel), of one to three spatial axes (signals, images, volumes) and any number of channels.
    They are stored as they are, in uint8, uint16, int16, int32, float16 or float32: float64 as float32, bool as uint8, other
    integers as int32 if they fit. A `np.memmap` of such a type is read as it is needed, and not copied.

    Targets are any array with a row for each example: whole numbers, (example,) or (example, 1), are classes; floats (example,),
    or arrays of more axes, are values, which have no class counts. Whole numbers (example, height, width) are maps of class numbers.

    Examples of valid or test that are also among train's, and classes without examples, are counted in a warning.

    Args:
      train: the images and targets to train on.
      valid: those to validate on; None draws a tenth of train, of every class where targets are classes.
      test: those to test on; None draws a tenth of train too, other examples than valid's.
      label_names: the names of the classes, those of maps too, or of the columns of targets (example, column); None numbers the classes.
      seed: the seed that draws valid and test.
      name: the name of the data set in messages.

    Raises:
      ValueError: shapes, types or values that do not fit; the message names the split.

    >>> images, classes = np.zeros((20, 8, 8, 3), np.uint8), np.arange(20) % 2
    >>> images += np.arange(20, dtype=np.uint8)[:, None, None, None]
    >>> data = from_arrays((images, classes), label_names=["cat", "dog"])
    >>> {name: len(split) for name, split in data.splits.items()}, data.class_counts
    ({'train': 16, 'valid': 2, 'test': 2}, [8, 8])
    """
    given = {"train": train, "valid": valid, "test": test}
    splits = {split: as_split(pair, f"{name}, {split}") for split, pair in given.items() if pair is not None}
    splits, names, _ = arranged(splits, label_names, seed, name)
    return described(name, names, splits, content_facts(splits, names, label_names is None))


@dataclasses.dataclass(frozen=True)
class ContentFacts:
    """What is known of a data set once its whole content was read.

    Attributes:
      statistics: the training images' statistics; None where they are not measured.
      fingerprint: the digest of all images, targets and names.
      remarks: the lines on absent classes and on examples that splits share.
    """

    statistics: transforms.Statistics | None
    fingerprint: str
    remarks: tuple[str, ...]


def arranged(
    splits: Mapping[str, Split],
    label_names: Sequence[str] | None,
    seed: int,
    name: str,
    digests: Mapping[str, UInt64[np.ndarray, "example"]] | None = None,
) -> tuple[dict[str, Split], tuple[str, ...], dict[str, UInt64[np.ndarray, "example"]]]:
    """Train, valid and test, the names of their labels, and the images' known digests, of given splits.

    The splits are checked against one another; the missing ones are drawn from train.

    Args:
      splits: train, and valid and test if there are any.
      label_names: the names of the classes or columns; None numbers the classes.
      seed: the seed that draws the missing splits.
      name: the name of the data set in messages.
      digests: a digest of each image of the given splits, where they are known; None where they are not.

    Raises:
      ValueError: splits that differ in kind, too few examples, or labels that do not fit the names.
    """
    _check_alike(splits, name)
    splits, digests = dict(splits), dict(digests or {})
    missing = [split for split in SPLITS if split not in splits]
    if missing:
        train, known = splits["train"], digests.get("train")
        for split, positions in _drawn(train.labels, missing, seed, name).items():
            splits[split] = train.take(positions)
            if known is not None:
                digests[split] = known[positions]
    splits = {split: splits[split] for split in SPLITS}
    return splits, _label_names(splits, label_names, name), digests


def content_facts(
    splits: Mapping[str, Split],
    names: Sequence[str],
    numbered: bool,
    digests: Mapping[str, UInt64[np.ndarray, "example"]] | None = None,
    measured: bool = True,
) -> ContentFacts:
    """Reads the whole content: its statistics, its fingerprint, and what is remarkable.

    Args:
      splits: train, valid and test.
      names: the names of the classes.
      numbered: whether those are their numbers, none having been given.
      digests: the digests of the images where they are known, by which they need not be read; None or none reads them.
      measured: whether the statistics of train are measured.
    """
    marks = digests or {split: _image_digests(part.images) for split, part in splits.items()}
    images = splits["train"].images
    remarks = *_taken_for_signals(images), *_absent_classes(splits, names, numbered), *_shared_examples(marks)
    statistics = transforms.measure(images) if measured else None
    return ContentFacts(statistics, _fingerprint(splits, names, digests), remarks)


def described(name: str, names: tuple[str, ...], splits: Mapping[str, Split], facts: ContentFacts) -> Dataset:
    """The data set of splits whose content was read; what is remarkable about it is logged once."""
    for line in facts.remarks:
        warn_once(f"data set {name}: {line}")
    return Dataset(name, names, splits, facts.statistics, facts.fingerprint)


def _taken_for_signals(images: Shaped[np.ndarray, "example *spatial channel"]) -> Iterator[str]:
    """A remark on signals of 8 bits and many channels, which may be grey images without an axis of channels."""
    if images.ndim == 3 and images.dtype == np.uint8 and images.shape[-1] > 4:
        yield (
            f"images {images.shape} of train are taken for signals of length {images.shape[1]} with {images.shape[2]} channels: "
            "grey images need the channels' axis, images[..., None]"
        )


def _check_finite(images: Shaped[np.ndarray, "example ..."], where: str) -> None:
    """Raises ValueError, with the position of an image that has values which are no numbers."""
    for start, block in transforms.in_blocks(images) if images.dtype.kind == "f" else ():
        if not np.isfinite(block).all():
            position = start + int((~np.isfinite(block)).reshape(len(block), -1).any(1).argmax())
            raise ValueError(
                f"{where}: image {position} has values that are not finite in {images.dtype} (NaN, infinite or too large): "
                "replace them, or leave the example out"
            )


def as_array(values: Any, where: str) -> np.ndarray:
    """What a user gives for an array, as one, and not copied if it is one.

    Raises:
      ValueError: examples of several shapes, or no numbers at all; the message has `where`.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.empty(0, object)
    if array.dtype != object:
        return array
    try:
        shapes = [np.shape(value) for value in values]
    except (TypeError, ValueError):
        raise ValueError(f"{where}: expected an array of numbers, got {type(values).__name__}") from None
    for position, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"{where}: examples differ in shape, {shapes[0]} at position 0 and {shape} at position {position}: make them one "
                "size"
            )
    raise ValueError(f"{where}: expected an array of numbers, got objects: np.stack makes one of arrays that are alike")


def as_split(pair: tuple[Any, Any], where: str, checked: bool = False) -> Split:
    """One split of (images, targets), its types and values checked; `checked` if these are known to be finite."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(f"{where}: expected a pair (images, targets), got {type(pair).__name__}")
    images, labels = as_array(pair[0], f"{where}, images"), as_array(pair[1], f"{where}, targets")
    if not 3 <= images.ndim <= 5 or 0 in images.shape[1:]:
        advice = ": add the channels' axis, images[..., None]" if images.ndim == 2 else ""
        raise ValueError(
            f"{where}: expected images (example, *spatial, channel) of one to three spatial axes, got {images.shape}{advice}"
        )
    if not labels.ndim or len(labels) != len(images) or not len(images):
        raise ValueError(
            f"{where}: expected a target for each of {len(images)} images, one or more, got targets of shape {labels.shape}"
        )
    images = as_stored(images, where)
    if not checked:
        _check_finite(images, where)
    return Split(images, as_targets(labels, where))


def as_targets(labels: np.ndarray, where: str) -> Shaped[np.ndarray, "example ..."]:
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
    if labels.dtype.kind in "iu" and labels.shape[1:] == (1,):  # as Keras and MedMNIST write class numbers
        labels = labels[:, 0]
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


def _drawn(
    labels: Shaped[np.ndarray, "example ..."], missing: Sequence[str], seed: int, name: str
) -> dict[str, Int[np.ndarray, "chosen"]]:
    """The positions of the drawn splits, and of train without them."""
    drawn = drawn_splits(labels, seed, missing)
    if not all(map(len, drawn.values())):
        raise ValueError(
            f"{name}: {len(labels)} examples are too few to draw {' and '.join(missing)} from: give those, or 6 examples or more"
        )
    return drawn


def _label_names(splits: Mapping[str, Split], given: Sequence[str] | None, name: str) -> tuple[str, ...]:
    """The names of the classes, or of the targets' columns where some were given."""
    labels = splits["train"].labels
    if are_maps(labels):  # whether they hold others, the task says, which knows what it ignores
        return tuple(map(str, given or ()))
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


def _absent_classes(splits: Mapping[str, Split], names: Sequence[str], numbered: bool) -> Iterator[str]:
    """The warnings, a line a split, of classes that have no examples there."""
    for split, part in splits.items():
        if are_classes(part.labels):
            counts = np.bincount(part.labels, minlength=len(names))
        elif part.labels.ndim == 2 and part.labels.dtype.kind in "biu":  # rows of 0 and 1
            counts = (part.labels != 0).sum(0)
        else:
            return
        absent = np.flatnonzero(counts == 0)
        if len(absent):
            own = [names[place] if len(names) else str(place) for place in absent[:5]]
            advice = " (are they numbered from 1?)" if numbered and absent.tolist() == [0] else ""
            yield (
                f"{len(absent)} of {len(counts)} classes have no example in {split}: {', '.join(own)}"
                f"{', ...' if len(absent) > 5 else ''}{advice}"
            )


def _shared_examples(digests: Mapping[str, UInt64[np.ndarray, "example"]]) -> Iterator[str]:
    """The warnings, a line for two splits, of images that both have, by their digests."""
    for later, earlier, consequence in SHARED:
        if shared := int(np.isin(digests[later], digests[earlier]).sum()):
            yield f"{shared} of the {len(digests[later])} images of {later} are in {earlier} too: {consequence}"


def image_digest(image: Shaped[np.ndarray, "*spatial channel"]) -> bytes:
    """A digest of an image's content, of 64 bits: a million images have two alike by chance once in 40 million."""
    return hashlib.blake2b(np.ascontiguousarray(image), digest_size=8).digest()


def _image_digests(images: Any) -> UInt64[np.ndarray, "example"]:
    """The digest of each image."""
    found = np.empty(len(images), np.uint64)
    for start, block in transforms.in_blocks(images):
        found[start : start + len(block)] = np.frombuffer(b"".join(map(image_digest, block)), np.uint64)
    return found


def _fingerprint(
    splits: Mapping[str, Split], label_names: Sequence[str], digests: Mapping[str, UInt64[np.ndarray, "example"]] | None
) -> str:
    """A digest of the content: every split's images, or their known digests, and targets, and the names."""
    digest = hashlib.sha256(repr(tuple(label_names)).encode())
    for split, part in splits.items():
        for array in (part.images, part.labels):
            digest.update(f"{split} {array.dtype.str} {array.shape}".encode())
            content = digests[split] if digests and array is part.images else array
            for _, block in transforms.in_blocks(content):
                digest.update(np.ascontiguousarray(block))
    return digest.hexdigest()[:16]
