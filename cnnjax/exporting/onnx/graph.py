"""A graph of ONNX operators while it is built, and the values in it.

JAX's arrays here are channels-last, ONNX's convolutions channels-first. A value therefore remembers in which order its axes are
stored, and each operator takes its input in the order that it finds, if it can: between two convolutions nothing is transposed. A
value that is repeated along an axis (a bias, the factor of a channel) is stored once, since ONNX's operators repeat it themselves.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

Order = tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """A value of the traced program, as the graph holds it.

    Attributes:
      shape: its sizes in the program, of which the batch may be open.
      dtype: its type.
      held: its stored sizes, axis by axis as in `shape`: 1 where the value is repeated.
      name: its name in the graph; empty for a constant.
      order: the axis of `shape` that each stored axis is; that of a constant is the program's.
      constant: the array, of the sizes `held`.
      source: the variable that a constant is, such as "params/conv1/kernel", for the name of the initializer.
    """

    shape: tuple[Any, ...]
    dtype: np.dtype
    held: tuple[Any, ...]
    name: str = ""
    order: Order = ()
    constant: np.ndarray | None = None
    source: str = ""


@dataclasses.dataclass
class Node:
    """An operator with its inputs and outputs by name, and the layer that it belongs to."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    layer: str


class UnsupportedError(ValueError):
    """Raised for what ONNX's operators cannot express, or what this exporter does not support."""


@dataclasses.dataclass
class Graph:
    """Nodes and constants so far; names are unique.

    Attributes:
      input: the name of the graph's input, whose first axis is the batch.
      batch: the size of that axis, which `jax.export` leaves open.
      nodes: in the order of computation.
      constants: arrays by name ("initializers").
      layer: the layer that the next nodes belong to.
      counts: of sums, by name, how many values each is of.
    """

    input: str
    batch: Any
    nodes: list[Node] = dataclasses.field(default_factory=list)
    constants: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    layer: str = ""
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    _made: dict[Any, str] = dataclasses.field(default_factory=dict)
    _arrays: list[np.ndarray] = dataclasses.field(default_factory=list)  # kept alive: `_made` knows them by their `id`
    _names: set[str] = dataclasses.field(default_factory=set)
    _counts: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output, whose name is returned; the same node is not added twice."""
        given = {name: value for name, value in attributes.items() if value is not None}
        key = (operator, inputs, repr(given))
        if key not in self._made:
            self._made[key] = self.unused("/".join(part for part in (self.layer, operator) if part))
            self.nodes.append(Node(operator, list(inputs), [self._made[key]], given, self.layer))
        return self._made[key]

    def unused(self, name: str) -> str:
        """The name, or the name with the first number that makes it new."""
        numbered = (name if count == 0 else f"{name}_{count}" for count in itertools.count(self._counts.get(name, 0)))
        new = next(candidate for candidate in numbered if candidate not in self._names)
        self._names.add(new)
        self._counts[name] = self._counts.get(name, 0) + 1
        return new

    def constant(self, array: Any, source: str = "") -> str:
        """The name of an array in the graph; equal small arrays share one."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes() if array.size <= 64 else id(array), source)
        if key not in self._made:
            self._made[key] = self.unused(source or "constant")
            self.constants[self._made[key]] = array
            self._arrays.append(array)
        return self._made[key]

    def integers(self, numbers: Sequence[int]) -> str:
        """The name of a list of whole numbers, as operators take axes and sizes."""
        return self.constant(np.array(numbers, np.int64))

    def stored(self, value: Value, order: Order | None = None) -> str:
        """The name of a value with its axes in an order (by default that of the program), repeated axes stored once."""
        order = tuple(range(len(value.shape))) if order is None else order
        if value.constant is not None:
            same = order == tuple(range(len(order)))
            array = value.constant if same else np.ascontiguousarray(value.constant.transpose(order))
            key = ("constant", id(value.constant), order)
            if key not in self._made:
                self._made[key] = self.constant(array, value.source)
                self._arrays.append(value.constant)
            return self._made[key]
        if value.order == order:
            return value.name
        return self.add("Transpose", value.name, perm=[value.order.index(axis) for axis in order])

    def whole(self, value: Value, order: Order | None = None) -> str:
        """The name of a value as in `stored`, with repeated axes written out."""
        order = tuple(range(len(value.shape))) if order is None else order
        name = self.stored(value, order)
        if value.held == value.shape:
            return name
        sizes = [value.shape[axis] for axis in order]
        return self.add("Expand", name, self.sizes(sizes))

    def sizes(self, sizes: Sequence[Any]) -> str:
        """The name of a list of sizes; an open batch is read from the input."""
        if all(isinstance(size, int | np.integer) for size in sizes):
            return self.integers(sizes)
        batch = self.add("Shape", self.input, start=0, end=1)
        parts = [
            self.integers([size]) if isinstance(size, int | np.integer) else self._multiple(size, batch)
            for size in sizes
        ]
        return self.add("Concat", *parts, axis=0)

    def _multiple(self, size: Any, batch: str) -> str:
        """The name of a size that is a multiple of the batch."""
        factor = size // self.batch
        if not isinstance(factor, int):
            raise UnsupportedError(f"a size of {size}, which is no multiple of the batch")
        return batch if factor == 1 else self.add("Mul", batch, self.integers([factor]))


def is_one(size: Any) -> bool:
    """Whether a size is known to be 1."""
    return isinstance(size, int | np.integer) and size == 1


def made(
    name: str, shape: Sequence[Any], dtype: Any, order: Order | None = None, held: Sequence[Any] | None = None
) -> Value:
    """A value that a node computes."""
    shape = tuple(shape)
    order = tuple(range(len(shape))) if order is None else order
    return Value(shape, np.dtype(dtype), shape if held is None else tuple(held), name, order)


def fixed(array: Any, shape: Sequence[Any] | None = None, source: str = "") -> Value:
    """A constant; `shape` is its shape in the program where it is repeated along some axes."""
    array = np.asarray(array)
    shape = array.shape if shape is None else tuple(shape)
    return Value(shape, array.dtype, array.shape, order=tuple(range(len(shape))), constant=array, source=source)


def joined(values: Sequence[Value], rank: int) -> Order:
    """The order in which several values meet: that of the first that is computed and whole, or computed at all."""
    computed = [value for value in values if value.constant is None and len(value.shape) == rank]
    whole = [value for value in computed if value.held == value.shape]
    return next(iter([*whole, *computed])).order if computed else tuple(range(rank))


def common(sizes: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """The stored sizes of what several values of the same rank give together, axis by axis."""
    return tuple(next((size for size in axis if not is_one(size)), 1) for axis in zip(*sizes, strict=True))
