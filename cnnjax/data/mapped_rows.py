"""Selections of examples from arrays that are mapped from files, without reading them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

# Selections of a mapped array that are larger than this are read when they are needed, smaller ones at once.
MOST_BYTES = 2**31

Part = tuple[Shaped[np.ndarray, "whole *spatial channel"], Int[np.ndarray, "chosen"]]


class MappedRows:
    """Examples at some positions of arrays on disk, as an array outside of memory: `rows[index]` reads.

    Args:
      parts: the arrays, of one type and shape of example, and the positions of the selected examples in each.
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
        """The bytes that all examples would take in memory."""
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
        """Some of the examples; from several arrays only in their order."""
        part_of = np.searchsorted(self._starts, chosen, side="right") - 1
        if len(self._parts) > 1 and np.any(np.diff(part_of) < 0):
            raise ValueError("examples of several mapped arrays can only be taken in their order")
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
    """The positions, 0 to length - 1, that NumPy selects with an index of an array's first axis.

    Args:
      index: a slice, a mask of all positions, or integers; negative ones count from the end.
      length: the length of the array.

    Raises:
      IndexError: a position outside the array, or an index of another kind.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(length))
    index = np.asarray(index)
    if index.dtype == bool and index.shape == (length,):
        return np.flatnonzero(index)
    if index.dtype.kind not in "iu" and index.size:
        raise IndexError(f"expected a slice, integers or a mask of {length} positions, got {index.dtype} {index.shape}")
    if index.size and not -length <= index.min() <= index.max() < length:
        raise IndexError(
            f"position {index.max() if index.max() >= length else index.min()} is outside an array of {length} examples"
        )
    return np.where(index < 0, index + length, index).astype(np.int64)


def joined(arrays: Sequence[Any]) -> MappedRows:
    """The concatenated examples of arrays and rows."""
    whole = [array.parts if isinstance(array, MappedRows) else [(array, np.arange(len(array)))] for array in arrays]
    return MappedRows([part for parts in whole for part in parts])


def is_mapped(array: Any) -> bool:
    """Whether an array, or the array of which it is a view, is mapped from a file."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False


def as_rows(array: Any) -> Any:
    """A large array that is mapped from a file, as rows that are selected without reading; other arrays unchanged."""
    large = isinstance(array, np.ndarray) and array.nbytes > MOST_BYTES and is_mapped(array)
    return MappedRows([(array, np.arange(len(array)))]) if large else array
