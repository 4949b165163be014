"""One function for each primitive of JAX: from its inputs to ONNX's operators. The table at the end lists them all.

Each takes the graph, the step and the input values, and returns the output value (or a list of them).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from cnnjax.exporting.onnx.graph import Graph, Order, UnsupportedError, Value, common, fixed, is_one, joined, made
from cnnjax.exporting.steps import Step

Operation = Callable[..., Value | list[Value]]


def _elementwise(graph: Graph, step: Step, *values: Value, operator: str, **attributes: Any) -> Value:
    """An operator that computes each value of its output from the inputs' values at the same position."""
    shape, dtype = step.outputs[0].shape, step.outputs[0].dtype
    rank = len(shape)
    order = joined(values, rank)
    names = [graph.stored(value, order if len(value.shape) == rank else None) for value in values]
    held = common([value.held for value in values if len(value.shape) == rank] or [shape])
    return made(graph.add(operator, *names, **attributes), shape, dtype, order, held)


def _as_it_is(graph: Graph, step: Step, *values: Value) -> list[Value]:
    return list(values)


def _max(graph: Graph, step: Step, x: Value, y: Value) -> Value:
    """Maximum; ReLU where one of the two is 0."""
    other, bound = _with_scalar(x, y)
    if bound is None or other.constant is not None:
        return _elementwise(graph, step, x, y, operator="Max")
    if bound == -math.inf:
        return other
    return (
        _elementwise(graph, step, other, operator="Relu") if bound == 0 else _clipped(graph, step, other, bound, None)
    )


def _min(graph: Graph, step: Step, x: Value, y: Value) -> Value:
    other, bound = _with_scalar(x, y)
    if bound is None or other.constant is not None:
        return _elementwise(graph, step, x, y, operator="Min")
    return other if bound == math.inf else _clipped(graph, step, other, None, bound)


def _clamp(graph: Graph, step: Step, low: Value, x: Value, high: Value) -> Value:
    bounds = [_scalar(low), _scalar(high)]
    if None not in bounds and x.constant is None:
        return _clipped(graph, step, x, *bounds)
    largest = _elementwise(graph, step, low, x, operator="Max")
    return _elementwise(graph, step, largest, high, operator="Min")


def _clipped(graph: Graph, step: Step, x: Value, low: float | None, high: float | None) -> Value:
    names = ["" if bound is None else graph.constant(np.array(bound, x.dtype)) for bound in (low, high)]
    return made(graph.add("Clip", x.name, *(names if names[1] else names[:1])), x.shape, x.dtype, x.order, x.held)


def _with_scalar(x: Value, y: Value) -> tuple[Value, float | None]:
    """The one of two values that is not a constant number, and the number, if there is one."""
    return (y, _scalar(x)) if _scalar(x) is not None else (x, _scalar(y))


def _scalar(value: Value) -> float | None:
    return value.constant.item() if value.constant is not None and value.constant.size == 1 else None


def _power(graph: Graph, step: Step, x: Value) -> Value:
    exponent = step.parameters["y"]
    if exponent == 2:
        return _elementwise(graph, step, x, x, operator="Mul")
    return _elementwise(graph, step, x, fixed(np.array(exponent, x.dtype)), operator="Pow")


def _squared(graph: Graph, step: Step, x: Value) -> Value:
    return _elementwise(graph, step, x, x, operator="Mul")


def _chain(*operators: str) -> Operation:
    """A chain of operators."""

    def operation(graph: Graph, step: Step, *values: Value) -> Value:
        for operator in operators:
            values = (_elementwise(graph, step, *values, operator=operator),)
        return values[0]

    return operation


def _plus_one(operator: str, before: bool) -> Operation:
    """log(1 + x) and exp(x) - 1."""

    def operation(graph: Graph, step: Step, x: Value) -> Value:
        one = fixed(np.array(1, x.dtype))
        if before:
            return _elementwise(graph, step, _elementwise(graph, step, x, one, operator="Add"), operator=operator)
        return _elementwise(graph, step, _elementwise(graph, step, x, operator=operator), one, operator="Sub")

    return operation


def _round(graph: Graph, step: Step, x: Value) -> Value:
    if step.parameters["rounding_method"] != jax.lax.RoundingMethod.TO_NEAREST_EVEN:
        raise UnsupportedError("rounding away from zero")
    return _elementwise(graph, step, x, operator="Round")


def _compared(operator: str, negated: bool = False) -> Operation:
    def operation(graph: Graph, step: Step, x: Value, y: Value) -> Value:
        found = _elementwise(graph, step, x, y, operator=operator)
        return _elementwise(graph, step, found, operator="Not") if negated else found

    return operation


def _logical(operator: str) -> Operation:
    def operation(graph: Graph, step: Step, *values: Value) -> Value:
        if any(value.dtype != np.bool_ for value in values):
            raise UnsupportedError(f"{step.primitive} of numbers")
        return _elementwise(graph, step, *values, operator=operator)

    return operation


def _select(graph: Graph, step: Step, chosen: Value, *cases: Value) -> Value:
    if len(cases) != 2 or chosen.dtype != np.bool_:
        raise UnsupportedError("a choice among more than two cases")
    return _elementwise(graph, step, chosen, cases[1], cases[0], operator="Where")


def _cast(graph: Graph, step: Step, x: Value) -> Value:
    dtype = np.dtype(step.outputs[0].dtype)
    if dtype == x.dtype:
        return x
    return made(graph.add("Cast", graph.stored(x, x.order), to=dtype), x.shape, dtype, x.order, x.held)


def _hard_sigmoid(graph: Graph, step: Step, x: Value) -> Value:
    return _elementwise(graph, step, x, operator="HardSigmoid", alpha=1 / 6, beta=0.5)


def _hard_swish(graph: Graph, step: Step, x: Value) -> Value:
    return _elementwise(graph, step, x, operator="HardSwish")


# Views: the same values under another shape.


def _transpose(graph: Graph, step: Step, x: Value) -> Value:
    """Costs nothing: the same stored array, whose axes are other axes of the program."""
    axes = tuple(step.parameters["permutation"])
    shape, held = (tuple(sizes[axis] for axis in axes) for sizes in (x.shape, x.held))
    if x.constant is not None:
        return fixed(x.constant.transpose(axes), shape, x.source)
    return made(x.name, shape, x.dtype, tuple(axes.index(axis) for axis in x.order), held)


def _broadcast(graph: Graph, step: Step, x: Value, *dynamic: Value) -> Value:
    return _placed(graph, x, step.outputs[0].shape, step.parameters["broadcast_dimensions"])


def _placed(graph: Graph, x: Value, shape: Sequence[Any], axes: Sequence[int]) -> Value:
    """A value of another shape, whose axes are these ones of the shape, and which is repeated along all others."""
    held = [1] * len(shape)
    for own, axis in enumerate(axes):
        held[axis] = x.held[own]
    if x.constant is not None:
        return fixed(x.constant.reshape(held), shape, x.source)
    rank, last = len(shape), len(shape) - 1
    stored = [axes[axis] for axis in x.order]
    orders = [(0, last, *range(1, last))] if rank > 2 else []  # as convolutions have it, else as the program has it
    orders.append(tuple(range(rank)))
    order = next((order for order in orders if [axis for axis in order if axis in axes] == stored), None)
    if order is None:
        order, x = orders[-1], made(graph.stored(x), x.shape, x.dtype, held=x.held)
    new = [place for place, axis in enumerate(order) if axis not in axes]
    name = graph.add("Unsqueeze", x.name, graph.integers(new)) if new else x.name
    return made(name, shape, x.dtype, order, held)


def _reshape(graph: Graph, step: Step, x: Value, *dynamic: Value) -> Value:
    shape = step.outputs[0].shape
    if step.parameters.get("dimensions") is not None:
        raise UnsupportedError("a reshape in another order")
    own, new = ([axis for axis, size in enumerate(sizes) if not is_one(size)] for sizes in (x.shape, shape))
    if [x.shape[axis] for axis in own] == [shape[axis] for axis in new]:  # axes of 1 come or go
        return _placed(graph, _without(graph, x, [axis for axis in range(len(x.shape)) if axis not in own]), shape, new)
    if x.constant is not None:
        return fixed(np.broadcast_to(x.constant, x.shape).reshape(shape), source=x.source)
    return made(graph.add("Reshape", graph.whole(x), graph.integers(_target(x.shape, shape))), shape, x.dtype)


def _target(given: Sequence[Any], shape: Sequence[Any]) -> list[int]:
    """The sizes for ONNX's Reshape: 0 is the input's size at the same place, which serves for no images too, -1 what remains."""
    copied = [axis < len(given) and given[axis] == size for axis, size in enumerate(shape)]
    sizes = [size if isinstance(size, int) else 0 if copy else -1 for size, copy in zip(shape, copied, strict=True)]
    if sizes.count(-1) > 1:
        raise UnsupportedError("a reshape with the batch on several axes")
    return sizes


def _squeeze(graph: Graph, step: Step, x: Value) -> Value:
    return _without(graph, x, step.parameters["dimensions"])


def _without(graph: Graph, x: Value, axes: Sequence[int]) -> Value:
    """A value without axes along which its size is 1."""
    if not axes:
        return x
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    shape, held = ([sizes[axis] for axis in kept] for sizes in (x.shape, x.held))
    if x.constant is not None:
        return fixed(x.constant.reshape(held), shape, x.source)
    name = graph.add("Squeeze", x.name, graph.integers(sorted(x.order.index(axis) for axis in axes)))
    return made(name, shape, x.dtype, _remaining(x.order, kept), held)


def _remaining(order: Order, kept: Sequence[int]) -> Order:
    """An order without the axes that are not kept, the others numbered from 0."""
    return tuple(kept.index(axis) for axis in order if axis in kept)


def _slice(graph: Graph, step: Step, x: Value) -> Value:
    starts, stops = step.parameters["start_indices"], step.parameters["limit_indices"]
    steps = step.parameters["strides"] or (1,) * len(starts)
    return _sliced(graph, x, step.outputs[0].shape, list(zip(starts, stops, steps, strict=True)))


def _sliced(graph: Graph, x: Value, shape: Sequence[Any], parts: Sequence[tuple[Any, Any, int]]) -> Value:
    """A part of a value along each axis: (start, stop, step)."""
    cut = [
        axis
        for axis, (start, stop, step) in enumerate(parts)
        if not (is_one(step) and start == 0 and stop == x.shape[axis])
    ]
    if x.constant is not None:
        index = tuple(
            slice(*parts[axis]) if axis in cut and not is_one(x.held[axis]) else slice(None)
            for axis in range(len(parts))
        )
        return fixed(x.constant[index], shape, x.source)
    cut = [
        axis for axis in cut if not (is_one(x.held[axis]) and not is_one(x.shape[axis]))
    ]  # repeated: the same, shorter
    held = [shape[axis] if axis in cut or not is_one(x.held[axis]) else 1 for axis in range(len(shape))]
    if not cut:
        return made(x.name, shape, x.dtype, x.order, held)
    axes = [x.order.index(axis) for axis in cut]
    columns = [graph.integers([int(parts[axis][place]) for axis in cut]) for place in range(3)]
    name = graph.add("Slice", x.name, columns[0], columns[1], graph.integers(axes), columns[2])
    return made(name, shape, x.dtype, x.order, held)


def _dynamic_slice(graph: Graph, step: Step, x: Value, *starts: Value) -> Value:
    sizes = step.parameters["slice_sizes"]
    begins = [_scalar(start) for start in starts]
    if None in begins:
        raise UnsupportedError("a slice whose place is computed")
    begins = [
        0 if size == whole else min(max(int(begin), 0), whole - size)
        for begin, size, whole in zip(begins, sizes, x.shape, strict=True)
    ]
    parts = [(begin, begin + size, 1) for begin, size in zip(begins, sizes, strict=True)]
    return _sliced(graph, x, step.outputs[0].shape, parts)


def _split(graph: Graph, step: Step, x: Value) -> list[Value]:
    axis, begin, parts = step.parameters["axis"], 0, []
    for slot, size in zip(step.outputs, step.parameters["sizes"], strict=True):
        bounds = [(0, whole, 1) for whole in x.shape]
        bounds[axis] = (begin, begin + size, 1)
        parts.append(_sliced(graph, x, slot.shape, bounds))
        begin += size
    return parts


def _gather(graph: Graph, step: Step, x: Value, places: Value) -> Value:
    """Indexing by constants: a part along some axes, or some indices along each of them."""
    numbers, sizes, shape = step.parameters["dimension_numbers"], step.parameters["slice_sizes"], step.outputs[0].shape
    axes, rank = list(numbers.start_index_map), len(x.shape)
    if places.constant is None or numbers.operand_batching_dims:
        raise UnsupportedError("indexing whose places are computed")
    index = np.broadcast_to(places.constant, places.shape)
    if index.ndim == 1:
        begins = dict(zip(axes, map(int, index), strict=True))
        parts = [(begins.get(axis, 0), begins.get(axis, 0) + size, 1) for axis, size in enumerate(sizes)]
        return _without(graph, _sliced(graph, x, sizes, parts), numbers.collapsed_slice_dims)
    grid = index.ndim - 1
    chosen = [_along(index[..., place], place) for place in range(len(axes))] if grid == len(axes) else [None]
    in_place = [axis for axis in range(len(shape)) if axis not in numbers.offset_dims] == axes and len(shape) == rank
    if list(numbers.collapsed_slice_dims) != axes or not in_place or any(each is None for each in chosen):
        raise UnsupportedError("indexing of this kind")
    parts = [(0, whole, 1) for whole in x.shape]
    for axis, indices in zip(axes, chosen, strict=True):
        steps = np.diff(indices)
        if len(indices) > 1 and (steps == steps[0]).all() and steps[0] > 0:
            parts[axis] = (int(indices[0]), int(indices[-1]) + 1, int(steps[0]))
        else:
            new = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
            name = graph.add("Gather", graph.whole(x, x.order), graph.integers(indices), axis=x.order.index(axis))
            x, parts[axis] = made(name, new, x.dtype, x.order), (0, len(indices), 1)
    return _sliced(graph, x, shape, parts)


def _along(index: np.ndarray, axis: int) -> np.ndarray | None:
    """The indices along one axis of a grid, if they are the same along all others."""
    first = np.moveaxis(index, axis, 0).reshape(index.shape[axis], -1)
    return first[:, 0] if (first == first[:, :1]).all() else None


def _concatenate(graph: Graph, step: Step, *values: Value) -> Value:
    return _beside(graph, values, step.parameters["dimension"], step.outputs[0].shape)


def _stack(graph: Graph, step: Step, *values: Value) -> Value:
    """Values one after the other along a new axis."""
    axis, shape = step.parameters["axis"], step.outputs[0].shape
    kept = [place for place in range(len(shape)) if place != axis]
    one = (*shape[:axis], 1, *shape[axis + 1 :])
    return _beside(graph, [_placed(graph, value, one, kept) for value in values], axis, shape)


def _tile(graph: Graph, step: Step, x: Value) -> Value:
    """A value several times along each axis."""
    times = graph.integers([step.parameters["reps"][axis] for axis in x.order])
    return made(graph.add("Tile", graph.whole(x, x.order), times), step.outputs[0].shape, x.dtype, x.order)


def _finite(graph: Graph, step: Step, x: Value) -> Value:
    nan, infinite = (_elementwise(graph, step, x, operator=operator) for operator in ("IsNaN", "IsInf"))
    return _elementwise(graph, step, _elementwise(graph, step, nan, infinite, operator="Or"), operator="Not")


def _beside(graph: Graph, values: Sequence[Value], axis: int, shape: Sequence[Any]) -> Value:
    """Values one after the other along an axis."""
    order = joined(values, len(shape))
    names = [graph.whole(value, order) for value in values]
    return made(graph.add("Concat", *names, axis=order.index(axis)), shape, values[0].dtype, order)


def _pad(graph: Graph, step: Step, x: Value, padding: Value) -> Value:
    """Padding before, after and between the values of each axis; negative padding cuts."""
    config = [tuple(map(int, sides)) for sides in step.parameters["padding_config"]]
    for axis, (_, _, between) in enumerate(config):
        if between:
            x = _spread(graph, x, padding, axis, between)
    before, after = ([max(sides[place], 0) for sides in config] for place in (0, 1))
    if any(before) or any(after):
        sizes = [first + size + last for first, size, last in zip(before, x.shape, after, strict=True)]
        x = _padded(graph, x, padding, before, after, sizes)
    parts = [(max(-low, 0), size - max(-high, 0), 1) for (low, high, _), size in zip(config, x.shape, strict=True)]
    return _sliced(graph, x, step.outputs[0].shape, parts)


def _padded(
    graph: Graph, x: Value, padding: Value, before: Sequence[int], after: Sequence[int], shape: Sequence[Any]
) -> Value:
    sides = [sizes[axis] for sizes in (before, after) for axis in x.order]
    name = graph.add("Pad", graph.whole(x, x.order), graph.integers(sides), graph.stored(padding))
    return made(name, shape, x.dtype, x.order)


def _spread(graph: Graph, x: Value, padding: Value, axis: int, between: int) -> Value:
    """A value with some of the padding between its values along an axis: each value becomes a cell, padded after it."""
    size, place = x.shape[axis], x.order.index(axis)
    stored = [x.shape[each] for each in x.order]
    cell = graph.add("Unsqueeze", graph.whole(x, x.order), graph.integers([place + 1]))
    sides = [0] * (2 * len(stored) + 2)
    sides[len(stored) + 1 + place + 1] = between
    cell = graph.add("Pad", cell, graph.integers(sides), graph.stored(padding))
    sizes = [size * (between + 1) if each == place else number for each, number in enumerate(stored)]
    spread = graph.add("Reshape", cell, graph.integers(_target([*stored[: place + 1]], sizes)))
    shape = (*x.shape[:axis], size * (between + 1), *x.shape[axis + 1 :])
    whole = made(spread, shape, x.dtype, x.order)
    parts = [(0, length, 1) for length in shape]
    parts[axis] = (0, shape[axis] - between, 1)
    return _sliced(graph, whole, (*shape[:axis], shape[axis] - between, *shape[axis + 1 :]), parts)


def _reverse(graph: Graph, step: Step, x: Value) -> Value:
    axes = [axis for axis in step.parameters["dimensions"] if not is_one(x.held[axis])]
    if x.constant is not None:
        return fixed(np.flip(x.constant, axes), x.shape, x.source)
    places, count = [x.order.index(axis) for axis in axes], len(axes)
    ends = graph.integers([np.iinfo(np.int64).min] * count), graph.integers([-1] * count)
    name = graph.add("Slice", x.name, ends[1], ends[0], graph.integers(places), ends[1])
    return made(name, x.shape, x.dtype, x.order, x.held)


def _iota(graph: Graph, step: Step) -> Value:
    shape, axis = step.outputs[0].shape, step.parameters["dimension"]
    if not isinstance(shape[axis], int):
        raise UnsupportedError("the numbers of the images in a batch")
    held = [size if place == axis else 1 for place, size in enumerate(shape)]
    return fixed(np.arange(shape[axis], dtype=step.outputs[0].dtype).reshape(held), shape)


# Sums over axes and windows.


def _reduced(graph: Graph, step: Step, x: Value, operator: str) -> Value:
    axes, slot = step.parameters["axes"], step.outputs[0]
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    places = sorted(x.order.index(axis) for axis in axes)
    name = graph.add(operator, graph.whole(x, x.order), graph.integers(places), keepdims=0)
    if all(isinstance(x.shape[axis], int) for axis in axes):
        graph.counts[name] = math.prod(x.shape[axis] for axis in axes)
    return made(name, slot.shape, slot.dtype, _remaining(x.order, kept))


def _any_or_all(graph: Graph, step: Step, x: Value, operator: str) -> Value:
    """Whether any or all are true: the greatest or the least of 0 and 1."""
    numbers = made(
        graph.add("Cast", graph.stored(x, x.order), to=np.dtype(np.int32)), x.shape, np.int32, x.order, x.held
    )
    found = _reduced(graph, step, numbers, operator)
    return made(graph.add("Cast", found.name, to=np.dtype(np.bool_)), found.shape, np.bool_, found.order)


def _arg(graph: Graph, step: Step, x: Value, operator: str) -> Value:
    [axis], slot = step.parameters["axes"], step.outputs[0]
    kept = [each for each in range(len(x.shape)) if each != axis]
    name = graph.add(operator, graph.whole(x, x.order), axis=x.order.index(axis), keepdims=0)
    return made(graph.add("Cast", name, to=np.dtype(slot.dtype)), slot.shape, slot.dtype, _remaining(x.order, kept))


def _cumulative(graph: Graph, step: Step, x: Value) -> Value:
    axis = graph.constant(np.array(x.order.index(step.parameters["axis"]), np.int64))
    name = graph.add("CumSum", graph.whole(x, x.order), axis, reverse=int(step.parameters["reverse"]))
    return made(name, x.shape, x.dtype, x.order)


def _pooled(graph: Graph, step: Step, x: Value, operator: str) -> Value:
    """MaxPool, or AveragePool over windows that count padding, times their size: a sum."""
    given, slot, rank = step.parameters, step.outputs[0], len(x.shape)
    windowed = [
        axis
        for axis in range(rank)
        if given["window_dimensions"][axis] != 1 or given["window_strides"][axis] != 1 or any(given["padding"][axis])
    ]
    others = [axis for axis in range(rank) if axis not in windowed]
    if any(gap != 1 for gap in given["base_dilation"]) or len(others) < 2 or not 3 <= rank <= 5:
        raise UnsupportedError("windows of this kind")
    order = (others[0], others[-1], *sorted([*windowed, *others[1:-1]]))
    spatial = order[2:]
    window = [given["window_dimensions"][axis] for axis in spatial]
    dilations = [given["window_dilation"][axis] for axis in spatial]
    settings: dict[str, Any] = {
        "kernel_shape": window,
        "strides": [given["window_strides"][axis] for axis in spatial],
        "pads": _sides([given["padding"][axis] for axis in spatial]),
    }
    if set(dilations) != {1}:
        if operator == "AveragePool":
            raise UnsupportedError("sums over dilated windows")
        settings["dilations"] = dilations
    if operator == "AveragePool":
        settings["count_include_pad"] = 1
    y = made(graph.add(operator, graph.whole(x, order), **settings), slot.shape, slot.dtype, order)
    if operator == "MaxPool":
        return y
    return _elementwise(graph, step, y, fixed(np.array(math.prod(window), x.dtype)), operator="Mul")


def _least_pooled(graph: Graph, step: Step, x: Value) -> Value:
    negated = made(graph.add("Neg", graph.stored(x, x.order)), x.shape, x.dtype, x.order, x.held)
    y = _pooled(graph, step, negated, "MaxPool")
    return made(graph.add("Neg", y.name), y.shape, y.dtype, y.order)


def _sides(padding: Sequence[tuple[int, int]]) -> list[int]:
    """Padding as ONNX has it: all before, then all after."""
    return [int(pair[place]) for place in (0, 1) for pair in padding]


# Products.


def _convolution(graph: Graph, step: Step, x: Value, kernel: Value) -> Value:
    given, slot = step.parameters, step.outputs[0]
    inputs, filters, outputs = given["dimension_numbers"]
    if given["batch_group_count"] != 1 or not 3 <= len(x.shape) <= 5:
        raise UnsupportedError("a convolution of this kind")
    padding = [tuple(map(int, pair)) for pair in given["padding"]]
    if any(side < 0 for pair in padding for side in pair):
        raise UnsupportedError("a convolution with negative padding")
    settings: dict[str, Any] = {"dilations": list(given["rhs_dilation"]), "group": given["feature_group_count"]}
    shape = [kernel.shape[axis] for axis in filters[2:]]
    if set(given["lhs_dilation"]) != {1}:
        return _transposed_convolution(graph, step, x, kernel, padding)
    name = graph.add(
        "Conv",
        graph.whole(x, inputs),
        graph.whole(kernel, filters),
        kernel_shape=shape,
        pads=_sides(padding),
        strides=list(given["window_strides"]),
        **settings,
    )
    return made(name, slot.shape, slot.dtype, outputs)


def _transposed_convolution(
    graph: Graph, step: Step, x: Value, kernel: Value, padding: Sequence[tuple[int, int]]
) -> Value:
    """A convolution of an input with zeros between its values: the transposed convolution with the kernel turned round."""
    given = step.parameters
    inputs, filters, outputs = given["dimension_numbers"]
    extents = [kernel.shape[axis] for axis in filters[2:]]
    reach = [gap * (extent - 1) for gap, extent in zip(given["rhs_dilation"], extents, strict=True)]
    pads = [(most - low, most - high) for most, (low, high) in zip(reach, padding, strict=True)]
    ordinary = set(given["window_strides"]) == {1} and given["feature_group_count"] == 1
    if not ordinary or kernel.constant is None or any(side < 0 for pair in pads for side in pair):
        raise UnsupportedError("a transposed convolution of this kind")
    turned = fixed(np.flip(np.broadcast_to(kernel.constant, kernel.shape), filters[2:]), source=kernel.source)
    name = graph.add(
        "ConvTranspose",
        graph.whole(x, inputs),
        graph.whole(turned, (filters[1], filters[0], *filters[2:])),
        dilations=list(given["rhs_dilation"]),
        kernel_shape=extents,
        pads=_sides(pads),
        strides=list(given["lhs_dilation"]),
    )
    return made(name, step.outputs[0].shape, step.outputs[0].dtype, outputs)


def _product(graph: Graph, step: Step, x: Value, y: Value) -> Value:
    """A sum of products over some axes of two arrays: MatMul for matrices, else Einsum."""
    ((left, right), (left_batch, right_batch)), slot = step.parameters["dimension_numbers"], step.outputs[0]
    if not left_batch and (tuple(left), tuple(right)) == ((1,), (0,)) and len(x.shape) == len(y.shape) == 2:
        return made(graph.add("MatMul", graph.whole(x), graph.whole(y)), slot.shape, slot.dtype)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    first = [next(letters) for _ in x.shape]
    second = [next(letters) for _ in y.shape]
    for own, other in zip([*left, *left_batch], [*right, *right_batch], strict=True):
        second[other] = first[own]
    free = [axis for axis in range(len(x.shape)) if axis not in (*left, *left_batch)]
    others = [axis for axis in range(len(y.shape)) if axis not in (*right, *right_batch)]
    result = [first[axis] for axis in (*left_batch, *free)] + [second[axis] for axis in others]
    order = x.order if len(slot.shape) == len(x.shape) and not left_batch else tuple(range(len(slot.shape)))
    terms = ["".join(word[axis] for axis in value.order) for word, value in ((first, x), (second, y))]
    equation = f"{','.join(terms)}->{''.join(result[axis] for axis in order)}"
    name = graph.add("Einsum", graph.whole(x, x.order), graph.whole(y, y.order), equation=equation)
    return made(name, slot.shape, slot.dtype, order)


def _resize(graph: Graph, step: Step, x: Value, mode: str) -> Value:
    """Interpolation between pixel centres."""
    slot, rank = step.outputs[0], len(x.shape)
    order = (0, rank - 1, *range(1, rank - 1))
    # By factors: sizes would have to name the batch, and onnxruntime 1.32 fails where it moves a transpose past sizes of some axes.
    factors = [1.0, 1.0, *(_scaling(x.shape[axis], slot.shape[axis]) for axis in order[2:])]
    settings = {"nearest_mode": "round_prefer_floor"} if mode == "nearest" else {}
    name = graph.add(
        "Resize",
        graph.whole(x, order),
        "",
        graph.constant(np.array(factors, np.float32)),
        mode=mode,
        coordinate_transformation_mode="half_pixel",
        **settings,
    )
    return made(name, slot.shape, slot.dtype, order)


def _scaling(size: int, target: int) -> np.float32:
    """The factor of single precision with which a size, rounded down, becomes the target."""
    factor = np.float32(target / size)
    while int(np.float32(size) * factor) < target or int(size * float(factor)) < target:
        factor = np.nextafter(factor, np.float32(np.inf))
    return factor


def _unary(operator: str) -> Operation:
    return partial(_elementwise, operator=operator)


OPERATIONS: dict[str, Operation] = {
    **{
        primitive: _unary(operator)
        for primitive, operator in {
            "abs": "Abs",
            "acos": "Acos",
            "acosh": "Acosh",
            "add": "Add",
            "add_any": "Add",
            "asin": "Asin",
            "asinh": "Asinh",
            "atan": "Atan",
            "atanh": "Atanh",
            "ceil": "Ceil",
            "cos": "Cos",
            "cosh": "Cosh",
            "div": "Div",
            "erf": "Erf",
            "exp": "Exp",
            "floor": "Floor",
            "log": "Log",
            "logistic": "Sigmoid",
            "mul": "Mul",
            "neg": "Neg",
            "pow": "Pow",
            "sign": "Sign",
            "sin": "Sin",
            "sinh": "Sinh",
            "sqrt": "Sqrt",
            "sub": "Sub",
            "tan": "Tan",
            "tanh": "Tanh",
        }.items()
    },
    **{
        primitive: _compared(*operator)
        for primitive, operator in {
            "eq": ("Equal",),
            "ge": ("GreaterOrEqual",),
            "gt": ("Greater",),
            "le": ("LessOrEqual",),
            "lt": ("Less",),
            "ne": ("Equal", True),
        }.items()
    },
    **{primitive: _logical(primitive.title()) for primitive in ("and", "not", "or", "xor")},
    **dict.fromkeys(
        ("copy", "copy_p", "layout_constraint", "name", "optimization_barrier", "reduce_precision", "stop_gradient"),
        _as_it_is,
    ),
    "argmax": partial(_arg, operator="ArgMax"),
    "argmin": partial(_arg, operator="ArgMin"),
    "broadcast_in_dim": _broadcast,
    "clamp": _clamp,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "convert_element_type": _cast,
    "cumsum": _cumulative,
    "dot_general": _product,
    "dynamic_slice": _dynamic_slice,
    "expm1": _plus_one("Exp", before=False),
    "gather": _gather,
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_swish,
    "integer_pow": _power,
    "is_finite": _finite,
    "iota": _iota,
    "log1p": _plus_one("Log", before=True),
    "max": _max,
    "min": _min,
    "pad": _pad,
    "reduce_and": partial(_any_or_all, operator="ReduceMin"),
    "reduce_max": partial(_reduced, operator="ReduceMax"),
    "reduce_min": partial(_reduced, operator="ReduceMin"),
    "reduce_or": partial(_any_or_all, operator="ReduceMax"),
    "reduce_prod": partial(_reduced, operator="ReduceProd"),
    "reduce_sum": partial(_reduced, operator="ReduceSum"),
    "reduce_window_max": partial(_pooled, operator="MaxPool"),
    "reduce_window_min": _least_pooled,
    "reduce_window_sum": partial(_pooled, operator="AveragePool"),
    "rem": partial(_elementwise, operator="Mod", fmod=1),
    "reshape": _reshape,
    "resize_linear": partial(_resize, mode="linear"),
    "resize_nearest": partial(_resize, mode="nearest"),
    "rev": _reverse,
    "round": _round,
    "rsqrt": _chain("Sqrt", "Reciprocal"),
    "select_n": _select,
    "slice": _slice,
    "split": _split,
    "square": _squared,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}
