"""Slices of published splits, in the grammar of TFDS: "train[:90%]", "train[1000:]+test"."""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from cnnjax.core.options import unknown

SPLITS = ("train", "valid", "test")

# The slices for train, valid and test, by the splits that a data set publishes. If the test labels are not published, test is
# the published validation split.
TEST_PUBLISHED = ("train[:90%]", "train[90%:]", "test")
TRAIN_ONLY = ("train[:80%]", "train[80%:90%]", "train[90%:]")
VALIDATION_PUBLISHED = ("train", "validation", "test")
TEST_IS_VALIDATION = ("train[:90%]", "train[90%:]", "validation")

# Pairs of splits that may share examples, the later first, and the consequence for the figures of the later.
SHARED = (
    ("valid", "train", "its figures are not measured on unseen images"),
    ("test", "train", "its figures are not measured on unseen images"),
    ("test", "valid", "its figures are measured on images by which the checkpoint is chosen"),
)

_SLICE = re.compile(r"^(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?$")


def default_splits(published: Mapping[str, int]) -> tuple[str, str, str]:
    """The slices for train, valid and test of a data set with these published splits."""
    if "test" in published:
        return VALIDATION_PUBLISHED if "validation" in published else TEST_PUBLISHED
    return TEST_IS_VALIDATION if "validation" in published else TRAIN_ONLY


def slice_bounds(spec: str, counts: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """The ranges (split, from, to) of a TFDS slice: "train[:90%]+test" of 100 and 10 -> [("train", 0, 90), ("test", 0, 10)].

    Percentages are rounded to the nearest example, as in TFDS.

    Raises:
      ValueError: the text is not a slice, or there is no such split.
    """
    parts = []
    for part in spec.replace(" ", "").split("+"):
        match = _SLICE.match(part)
        if not match:
            raise ValueError(f"split {spec!r}: expected a TFDS slice, such as train, train[:90%] or train[1000:]+test")
        name, start, stop = match.groups()
        if name not in counts:
            raise ValueError(unknown("split", name, counts))
        size = counts[name]
        first = _position(start, size, 0)
        if start and stop and start.endswith("%") != stop.endswith("%"):
            raise ValueError(f"split {spec!r}: both ends of a slice must be numbers of examples, or both percentages")
        parts.append((name, first, max(first, _position(stop, size, size))))
    return parts


def _position(text: str | None, size: int, default: int) -> int:
    if text is None:
        return default
    value = round(int(text[:-1]) * size / 100) if text.endswith("%") else int(text)
    return min(max(value + size if value < 0 else value, 0), size)


def overlaps(specs: Mapping[str, str], counts: Mapping[str, int]) -> Iterator[str]:
    """Warnings, one line each, on splits whose slices share images, with the number of images."""
    members = {}
    for split, spec in specs.items():
        members[split] = {name: np.zeros(count, bool) for name, count in counts.items()}
        for name, start, stop in slice_bounds(spec, counts):
            members[split][name][start:stop] = True
    for later, earlier, consequence in SHARED:
        if later in members and earlier in members:
            shared = sum(int((members[later][name] & members[earlier][name]).sum()) for name in counts)
            if shared:
                own = sum(int(chosen.sum()) for chosen in members[later].values())
                yield (
                    f"{shared} of the {own} images of {later} ({specs[later]}) are in {earlier} ({specs[earlier]}) too: "
                    + consequence
                )
