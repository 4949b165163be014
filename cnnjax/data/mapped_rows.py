"""Some examples of arrays that are mapped from files, chosen without reading them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

# Chosen examples of a mapped array that are larger than this are read when they are needed, others at once.
MOST_BYTES = 2**31

Part = tuple[Shaped[np.ndarray, "whole *spatial channel"], Int[np.ndarray, "chosen"]]


class MappedRows:
    """Examples at some positions of arrays on disk as an array that is not in memory: `rows[index]` reads.

    Args:
      parts: arrays that are alike, and the positions of the examples in each.
    """

    def __init__(self, parts: Sequence[Part]):
        self._parts = [(whole, np.asarray(positions)) for whole, positions in parts]
        self._starts = np.cumsum([0, *(len(positions) for _, positions in self._parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the array would have."""
        return (len(self), *self._parts[0][0].shape[1:])

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The type of the values."""
        return self._parts[0][0].dtype

    @property
    def nbytes(self) -> int:
        """What all examples would take in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, index: Any) -> np.ndarray:
        index = positions_of(index, len(self))
        found = np.empty((index.size, *self.shape[1:]), self.dtype)
        places = index.reshape(-1)
        part_of = np.searchsorted(self._starts, places, side="right") - 1
        for number, (whole, positions) in enumerate(self._parts):
            own = np.flatnonzero(part_of == number)
            found[own] = whole[positions[places[own] - self._starts[number]]]
        return found.reshape(*index.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def take(self, chosen: Int[np.ndarray, "chosen"]) -> "MappedRows":
        """Some of the examples, in their order where they are of several arrays."""
        part_of = np.searchsorted(self._starts, chosen, side="right") - 1
        if len(self._parts) > 1 and np.any(np.diff(part_of) < 0):
            raise ValueError("examples of several mapped arrays are taken in their order")
        return MappedRows(
            [
                (whole, positions[chosen[part_of == number] - start])
                for number, ((whole, positions), start) in enumerate(zip(self._parts, self._starts, strict=False))
            ]
        )

    @property
    def parts(self) -> list[Part]:
        """The arrays, and the positions of the examples in each."""
        return self._parts


def positions_of(index: Any, length: int) -> Int[np.ndarray, "..."]:
    """The positions, 0 to length - 1, that NumPy would give for an index of an array's first axis.

    Args:
      index: a slice, a mask of all positions, or whole numbers, of which negative ones count from the end.
      length: the array's length.

    Raises:
      IndexError: a position beyond the array, or an index of another kind.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(length))
    index = np.asarray(index)
    if index.dtype == bool and index.shape == (length,):
        return np.flatnonzero(index)
    if index.dtype.kind not in "iu" and index.size:
        raise IndexError(
            f"expected a slice, whole numbers or a mask of {length} positions, got {index.dtype} {index.shape}"
        )
    if index.size and not -length <= index.min() <= index.max() < length:
        raise IndexError(
            f"position {index.max() if index.max() >= length else index.min()} of an array of {length} examples"
        )
    return np.where(index < 0, index + length, index).astype(np.int64)


def joined(arrays: Sequence[Any]) -> MappedRows:
    """The examples of arrays and of rows, one after another."""
    whole = [array.parts if isinstance(array, MappedRows) else [(array, np.arange(len(array)))] for array in arrays]
    return MappedRows([part for parts in whole for part in parts])


def is_mapped(array: Any) -> bool:
    """Whether an array is, or is a view of, one that is mapped from a file."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


def as_rows(array: Any) -> Any:
    """A large array that is mapped from a file as rows that are chosen without reading; others as they are."""
    large = isinstance(array, np.ndarray) and array.nbytes > MOST_BYTES and is_mapped(array)
    return MappedRows([(array, np.arange(len(array)))]) if large else array
