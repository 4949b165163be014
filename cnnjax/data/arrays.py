"""Data sets of arrays: signals, images or volumes and their targets, in memory or mapped from a file."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped, UInt64

from cnnjax.data import transforms
from cnnjax.data.array_files import as_stored
from cnnjax.data.boxes import are_boxes
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

    Images are (example, *spatial, channel), with one to three spatial axes (signals, images, volumes) and any number of channels.
    They are stored unchanged in uint8, uint16, int16, int32, float16 or float32; float64 becomes float32, bool uint8, and other
    integers int32 if they fit. A `np.memmap` of a stored type is read when it is needed and not copied.

    Targets are any array with a row for each example. Integers (example,) or (example, 1) are classes, integers
    (example, height, width) maps of class numbers. Floats (example, object, 6) may be boxes of objects, (x0, y0, x1, y1, class, status)
    with class -1 in rows without one (`data.boxes`). Floats (example,) and other arrays are values, without class counts.

    Examples of valid or test that are also among train's, and classes without examples, are counted in a warning.

    Args:
      train: the images and targets to train on.
      valid: the images and targets to validate on; None draws a tenth of train, by class if the targets are classes.
      test: the images and targets to test on; None draws another tenth of train.
      label_names: the names of the classes (also of maps and boxes), or of the columns of targets (example, column); None numbers the classes.
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
    """Facts about a data set that need its whole content to be read.

    Attributes:
      statistics: the statistics of the training images; None if they are not measured.
      fingerprint: the digest of all images, targets and names.
      remarks: the remarks on absent classes and on examples that splits share, one line each.
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
    """Checks and completes splits: train, valid and test, the names of their labels, and the known digests of their images.

    The splits are checked against one another; the missing ones are drawn from train.

    Args:
      splits: train, and valid and test if they are given.
      label_names: the names of the classes or columns; None numbers the classes.
      seed: the seed that draws the missing splits.
      name: the name of the data set in messages.
      digests: a digest of each image of the given splits; None if they are not known.

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
    """Reads the whole content: its statistics, its fingerprint, and remarks.

    Args:
      splits: train, valid and test.
      names: the names of the classes.
      numbered: whether the names are numbers, since none were given.
      digests: the digests of the images if they are known, which saves reading the images.
      measured: whether to measure the statistics of train.
    """
    marks = digests or {split: _image_digests(part.images) for split, part in splits.items()}
    images = splits["train"].images
    remarks = *_taken_for_signals(images), *_absent_classes(splits, names, numbered), *_shared_examples(marks)
    statistics = transforms.measure(images) if measured else None
    return ContentFacts(statistics, _fingerprint(splits, names, digests), remarks)


def described(name: str, names: tuple[str, ...], splits: Mapping[str, Split], facts: ContentFacts) -> Dataset:
    """The data set of splits whose content was read; remarks are logged once."""
    for line in facts.remarks:
        warn_once(f"data set {name}: {line}")
    return Dataset(name, names, splits, facts.statistics, facts.fingerprint)


def _taken_for_signals(images: Shaped[np.ndarray, "example *spatial channel"]) -> Iterator[str]:
    """A remark on 8-bit signals with many channels, which may be grey images without an axis of channels."""
    if images.ndim == 3 and images.dtype == np.uint8 and images.shape[-1] > 4:
        yield (
            f"images {images.shape} of train are read as signals of length {images.shape[1]} with {images.shape[2]} channels: "
            "grey images need an axis of channels, images[..., None]"
        )


def _check_finite(images: Shaped[np.ndarray, "example ..."], where: str) -> None:
    """Raises ValueError with the position of the first image that has values which are not finite."""
    for start, block in transforms.in_blocks(images) if images.dtype.kind == "f" else ():
        if not np.isfinite(block).all():
            position = start + int((~np.isfinite(block)).reshape(len(block), -1).any(1).argmax())
            raise ValueError(
                f"{where}: image {position} has values that are not finite in {images.dtype} (NaN, infinite or too large): "
                "replace them, or leave the example out"
            )


def as_array(values: Any, where: str) -> np.ndarray:
    """The user's values as an array, not copied if they are one.

    Raises:
      ValueError: examples of different shapes, or values that are not numbers; the message has `where`.
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
                f"{where}: examples differ in shape, {shapes[0]} at position 0 and {shape} at position {position}: give them the "
                "same size"
            )
    raise ValueError(f"{where}: expected an array of numbers, got objects: combine arrays of one shape with np.stack")


def as_split(pair: tuple[Any, Any], where: str, checked: bool = False) -> Split:
    """A split of (images, targets) with checked types and values; `checked` means that the images are known to be finite."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(f"{where}: expected a pair (images, targets), got {type(pair).__name__}")
    images, labels = as_array(pair[0], f"{where}, images"), as_array(pair[1], f"{where}, targets")
    if not 3 <= images.ndim <= 5 or 0 in images.shape[1:]:
        advice = ": add an axis of channels, images[..., None]" if images.ndim == 2 else ""
        raise ValueError(
            f"{where}: expected images (example, *spatial, channel) with one to three spatial axes, got {images.shape}{advice}"
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
    """The targets in their stored type: class numbers as int32, others unchanged."""
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"{where}: expected numbers as targets, got {labels.dtype}: give class numbers, and the names as label_names"
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
                    f"{name}: {what} of {split} are {of_part.dtype} of {of_part.shape[1:]}, those of train {of_train.dtype} of "
                    f"{of_train.shape[1:]}: give them the same type and shape"
                )


def _drawn(
    labels: Shaped[np.ndarray, "example ..."], missing: Sequence[str], seed: int, name: str
) -> dict[str, Int[np.ndarray, "chosen"]]:
    """The positions of the drawn splits, and of the rest of train."""
    drawn = drawn_splits(labels, seed, missing)
    if not all(map(len, drawn.values())):
        raise ValueError(
            f"{name}: {len(labels)} examples are too few to draw {' and '.join(missing)} from: give these splits, or 6 examples or more"
        )
    return drawn


def _label_names(splits: Mapping[str, Split], given: Sequence[str] | None, name: str) -> tuple[str, ...]:
    """The names of the classes, or of the columns of the targets if they were given."""
    labels = splits["train"].labels
    if are_maps(labels) or are_boxes(labels):  # the task checks their values: it knows which number it ignores
        return tuple(map(str, given or ()))
    if not are_classes(labels):
        columns = labels.shape[1] if labels.ndim == 2 else None
        if given is not None and len(given) != columns:
            raise ValueError(
                f"{name}: label_names are for class numbers or for the columns of targets, but targets are {labels.dtype} of "
                f"{('example', *labels.shape[1:])}: leave them out"
            )
        return tuple(map(str, given or ()))
    highest = max(int(part.labels.max()) for part in splits.values())
    classes = highest + 1 if given is None else len(given)
    for split, part in splits.items():
        wrong = np.flatnonzero((part.labels < 0) | (part.labels >= classes))
        if len(wrong):
            raise ValueError(
                f"{name}, {split}: target {part.labels[wrong[0]]} at position {wrong[0]} is not a class number of 0 to {classes - 1}: "
                "for regression give floats"
            )
    if given is None and classes > MOST_CLASSES:
        raise ValueError(
            f"{name}: integers up to {highest} are read as class numbers: for regression give floats, otherwise label_names"
        )
    return tuple(map(str, range(classes) if given is None else given))


def _absent_classes(splits: Mapping[str, Split], names: Sequence[str], numbered: bool) -> Iterator[str]:
    """Warnings, one line per split, on classes without examples."""
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
    """Warnings, one line per pair of splits, on images that are in both, by their digests."""
    for later, earlier, consequence in SHARED:
        if shared := int(np.isin(digests[later], digests[earlier]).sum()):
            yield f"{shared} of the {len(digests[later])} images of {later} are in {earlier} too: {consequence}"


def image_digest(image: Shaped[np.ndarray, "*spatial channel"]) -> bytes:
    """A 64-bit digest of an image's content: among a million images two agree by chance with probability 1 in 40 million."""
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
    """A digest of the content: the images of every split (or their known digests), the targets, and the names."""
    digest = hashlib.sha256(repr(tuple(label_names)).encode())
    for split, part in splits.items():
        for array in (part.images, part.labels):
            digest.update(f"{split} {array.dtype.str} {array.shape}".encode())
            content = digests[split] if digests and array is part.images else array
            for _, block in transforms.in_blocks(content):
                digest.update(np.ascontiguousarray(block))
    return digest.hexdigest()[:16]
