"""Simplification of a finished graph: the results stay the same, with operators for which runtimes have fast implementations.

Each rule examines a node and its inputs, and returns whether it changed the graph. A node whose output is used elsewhere too is kept.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnnjax.exporting.onnx.graph import Graph, Node

# Operators with a kernel, and its axis of maps; MatMul alone takes no bias.
_KERNELS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}


@dataclasses.dataclass
class Links:
    """A graph with the node that computes each value, and how many nodes read it."""

    graph: Graph
    makers: dict[str, Node]
    uses: collections.Counter[str]
    scaled: bool  # whether factors of channels may be multiplied into kernels

    def maker(self, name: str, *operators: str) -> Node | None:
        """The node that computes a value, if it is one of these operators."""
        node = self.makers.get(name)
        return node if node is not None and node.operator in operators else None

    def only(self, name: str, *operators: str) -> Node | None:
        """The same, but only if no other node uses the value."""
        return self.maker(name, *operators) if self.uses[name] == 1 else None

    def array(self, name: str) -> np.ndarray | None:
        """A constant."""
        return self.graph.constants.get(name)

    def number(self, name: str) -> float | None:
        """A constant that is one number."""
        array = self.array(name)
        return array.item() if array is not None and array.size == 1 else None

    def with_constant(self, node: Node) -> tuple[str, str] | None:
        """The computed one of a node's two inputs, and the constant one."""
        first, second = node.inputs
        if self.array(second) is not None:
            return first, second
        return (second, first) if self.array(first) is not None and node.operator != "Div" else None

    def becomes(self, node: Node, operator: str, inputs: Sequence[str], **attributes: Any) -> bool:
        """Replaces a node by another with the same output."""
        before, node.operator, node.inputs, node.attributes = node.inputs, operator, list(inputs), attributes
        self.uses.update(node.inputs)
        self._released(before)
        return True

    def _released(self, names: Sequence[str]) -> None:
        """Decreases the use counts of values; a node whose output is no longer used does not use its inputs either."""
        for name in names:
            self.uses[name] -= 1
            if self.uses[name] == 0 and (maker := self.makers.get(name)) is not None:
                self._released(maker.inputs)

    def new(self, array: np.ndarray, name: str) -> str:
        """The name of a constant that replaces another in one of its uses."""
        name = name if self.uses[name] <= 1 and name in self.graph.constants else self.graph.unused(name)
        self.graph.constants[name] = array
        return name


Rule = Callable[[Links, Node], bool]


def simplified(graph: Graph, outputs: Sequence[str], fold: bool = True) -> Graph:
    """The graph after all rules.

    Args:
      graph: the graph, which is changed.
      outputs: the names of its outputs.
      fold: whether batch normalisations are folded into the convolutions before them; False keeps them apart, for further training or
        quantisation.
    """
    links = Links(graph, {}, collections.Counter(), fold)
    for node in graph.nodes:
        links.makers.update(dict.fromkeys(node.outputs, node))
        links.uses.update(node.inputs)
    links.uses.update(outputs)
    for node in graph.nodes:
        while any(rule(links, node) for rule in RULES):
            pass
    graph.nodes = _without_copies(graph.nodes, outputs)
    return graph


def _without_copies(nodes: Sequence[Node], outputs: Sequence[str]) -> list[Node]:
    """The nodes that outputs depend on, without those that copy."""
    copied = {
        node.outputs[0]: node.inputs[0]
        for node in nodes
        if node.operator == "Identity" and node.outputs[0] not in outputs
    }

    def origin(name: str) -> str:
        while name in copied:
            name = copied[name]
        return name

    for node in nodes:
        node.inputs = [origin(name) for name in node.inputs]
    nodes = [node for node in nodes if node.outputs[0] not in copied]
    made = {name for node in nodes for name in node.outputs}
    renamed: dict[str, str] = {}
    for node in nodes:  # the last node of an output takes its name
        source = node.inputs[0] if node.inputs else ""
        if node.operator == "Identity" and source in made and source not in renamed and source not in outputs:
            renamed[source] = node.outputs[0]
    kept = []
    for node in nodes:
        if node.operator == "Identity" and renamed.get(node.inputs[0]) == node.outputs[0]:
            continue
        node.inputs, node.outputs = (
            [renamed.get(name, name) for name in names] for names in (node.inputs, node.outputs)
        )
        kept.append(node)
    needed, alive = set(outputs), []
    for node in reversed(kept):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            alive.append(node)
    return alive[::-1]


def _copy(links: Links, node: Node, source: str) -> bool:
    """Makes a copy of a node; what reads the copy counts as reading the source."""
    links.becomes(node, "Identity", [source])
    links.uses[source] += links.uses[node.outputs[0]] - 1
    return True


def _through(links: Links, node: Node) -> bool:
    """What reads a copy reads its source."""
    copies = [links.maker(name, "Identity") for name in node.inputs]
    if not any(copies) or node.operator == "Identity":
        return False
    # The source's readers were counted when the copy was made.
    node.inputs = [copy.inputs[0] if copy else name for name, copy in zip(node.inputs, copies, strict=True)]
    return True


def _bias(links: Links, node: Node) -> bool:
    """A convolution and the addition of a number for each of its maps."""
    if node.operator != "Add" or (pair := links.with_constant(node)) is None:
        return False
    convolution = links.only(pair[0], "Conv", "ConvTranspose", "Gemm")
    if convolution is None or (values := _by_map(links, convolution, pair[1])) is None:
        return False
    kernel, *bias = convolution.inputs[1:]
    if bias:
        values = links.array(bias[0]) + values
    name = links.new(np.ascontiguousarray(values), bias[0] if bias else pair[1] if "/" in pair[1] else f"{kernel}_bias")
    inputs, attributes = [convolution.inputs[0], kernel, name], convolution.attributes
    links.becomes(convolution, convolution.operator, inputs, **attributes)
    return _copy(links, node, convolution.outputs[0])


def _scale(links: Links, node: Node) -> bool:
    """A convolution and the multiplication of its maps by a number each."""
    if not links.scaled or node.operator != "Mul" or (pair := links.with_constant(node)) is None:
        return False
    convolution = links.only(pair[0], *_KERNELS)
    if convolution is None or (values := _by_map(links, convolution, pair[1])) is None:
        return False
    names = convolution.inputs[1:]
    kernel = links.array(names[0])
    axis = _KERNELS[convolution.operator]
    along = values.reshape([-1 if place == axis else 1 for place in range(kernel.ndim)])
    changed = [
        links.new(kernel * along, names[0]),
        *(links.new(links.array(name) * values, name) for name in names[1:]),
    ]
    links.becomes(convolution, convolution.operator, [convolution.inputs[0], *changed], **convolution.attributes)
    return _copy(links, node, convolution.outputs[0])


def _by_map(links: Links, convolution: Node, name: str) -> np.ndarray | None:
    """A constant as one number for each map of a convolution (each column of a product), if it is that."""
    array, kernel = links.array(name), links.array(convolution.inputs[1])
    if kernel is None:
        return None
    maps = kernel.shape[_KERNELS[convolution.operator]]
    if array.size == 1:
        return np.full(maps, array.item(), array.dtype)
    fits = array.ndim == kernel.ndim and array.shape[1] == array.size == maps
    return array.reshape(-1) if fits else None


def _gemm(links: Links, node: Node) -> bool:
    """A product of matrices and the addition of a row."""
    if node.operator != "Add" or (pair := links.with_constant(node)) is None:
        return False
    product, row = links.only(pair[0], "MatMul"), links.array(pair[1])
    if product is None or row.ndim != 2 or row.shape[0] != 1:
        return False
    return links.becomes(node, "Gemm", [*product.inputs, links.new(row.reshape(-1), pair[1])])


def _clip(links: Links, node: Node) -> bool:
    """ReLU with a greatest value."""
    if node.operator != "Clip" or node.inputs[1] or (relu := links.only(node.inputs[0], "Relu")) is None:
        return False
    greatest = links.array(node.inputs[2])
    return links.becomes(
        node, "Clip", [relu.inputs[0], links.graph.constant(np.zeros((), greatest.dtype)), node.inputs[2]]
    )


def _factors(links: Links, node: Node) -> bool:
    """Two multiplications or divisions by a number in a row, and one by 1."""
    if (factor := _factor(links, node)) is None:
        return False
    if factor[1] == 1:
        return _copy(links, node, factor[0])
    before = links.only(factor[0], "Mul", "Div")
    if before is None or (other := _factor(links, before)) is None:
        return False
    dtype = links.array(next(name for name in node.inputs if name != factor[0])).dtype
    number = links.graph.constant(np.array(other[1] * factor[1], dtype))
    return links.becomes(node, "Mul", [other[0], number])


def _factor(links: Links, node: Node) -> tuple[str, float] | None:
    """Of a multiplication or division by a real number what is multiplied, and the factor."""
    if node.operator not in ("Mul", "Div") or (pair := links.with_constant(node)) is None:
        return None
    number = links.number(pair[1])
    if number is None or links.array(pair[1]).dtype.kind != "f" or (node.operator == "Div" and number == 0):
        return None
    return pair[0], 1 / number if node.operator == "Div" else number


def _nothing(links: Links, node: Node) -> bool:
    """The addition of 0."""
    pair = links.with_constant(node) if node.operator == "Add" else None
    return pair is not None and links.number(pair[1]) == 0 and _copy(links, node, pair[0])


def _mean(links: Links, node: Node) -> bool:
    """A sum divided by the number of its values; axes of 1 may have been added between."""
    if node.operator != "Div" or (pair := links.with_constant(node)) is None:
        return False
    view = links.only(pair[0], "Unsqueeze")
    total = links.only(view.inputs[0] if view else pair[0], "ReduceSum")
    if total is None or links.graph.counts.get(total.outputs[0]) != links.number(pair[1]):
        return False
    links.becomes(total, "ReduceMean", total.inputs, **total.attributes)
    return _copy(links, node, pair[0])


def _softmax(links: Links, node: Node) -> bool:
    """exp(x - max x) / sum of exp(x - max x), along one axis."""
    if node.operator != "Div" or (exp := links.maker(node.inputs[0], "Exp")) is None or links.uses[exp.outputs[0]] != 2:
        return False
    axis = _reduction(links, node.inputs[1], "ReduceSum", exp.outputs[0])
    difference = links.only(exp.inputs[0], "Sub")
    if axis is None or difference is None:
        return False
    if _reduction(links, difference.inputs[1], "ReduceMax", difference.inputs[0]) != axis:
        return False
    return links.becomes(node, "Softmax", [difference.inputs[0]], axis=axis)


def _reduction(links: Links, name: str, operator: str, source: str) -> int | None:
    """The axis over which a value is reduced and then repeated."""
    view = links.only(name, "Unsqueeze")
    reduced = links.only(view.inputs[0], operator) if view else None
    if reduced is None or reduced.inputs[0] != source:
        return None
    axes, places = links.array(reduced.inputs[1]), links.array(view.inputs[1])
    return int(axes[0]) if axes.size == 1 and (axes == places).all() else None


def _local_response_norm(links: Links, node: Node) -> bool:
    """x (k + f * mean of x^2 over neighbouring channels)^-beta, the channels last in between."""
    if node.operator != "Mul" or len(node.inputs) != 2:
        return False
    for x, other in (node.inputs, node.inputs[::-1]):
        swapped = links.only(other, "Transpose")
        power = links.only(swapped.inputs[0], "Pow") if swapped else None
        total = links.only(power.inputs[0], "Add") if power else None
        pair = links.with_constant(total) if total else None
        scaled = links.only(pair[0], "Mul") if pair else None
        factor = _factor(links, scaled) if scaled else None
        mean = links.only(factor[0], "AveragePool") if factor else None
        before = links.only(mean.inputs[0], "Transpose") if mean else None
        square = links.only(before.inputs[0], "Mul") if before else None
        if square is None or square.inputs != [x, x]:
            continue
        if any(transpose.attributes["perm"] != [0, 3, 2, 1] for transpose in (before, swapped)):
            continue
        size = mean.attributes["kernel_shape"][1]
        half = [0, size // 2] * 2
        usual = mean.attributes["kernel_shape"][0] == 1 and mean.attributes["pads"] == half and size % 2 == 1
        bias, beta = links.number(pair[1]), links.number(power.inputs[1])
        if usual and {*mean.attributes["strides"]} == {1} and bias is not None and beta is not None:
            return links.becomes(node, "LRN", [x], alpha=factor[1], beta=-beta, bias=bias, size=size)
    return False


def _padding(links: Links, node: Node) -> bool:
    """Zeros around the input of a convolution."""
    if node.operator != "Conv" or (pad := links.only(node.inputs[0], "Pad")) is None:
        return False
    sides = links.array(pad.inputs[1]).reshape(2, -1)
    if links.number(pad.inputs[2]) != 0 or sides[:, :2].any():
        return False
    pads = [own + more for own, more in zip(node.attributes["pads"], sides[:, 2:].reshape(-1).tolist(), strict=True)]
    return links.becomes(node, "Conv", [pad.inputs[0], *node.inputs[1:]], **{**node.attributes, "pads": pads})


RULES: tuple[Rule, ...] = (
    _through, _padding, _scale, _nothing, _bias, _gemm, _clip, _mean, _factors, _softmax, _local_response_norm,
)  # fmt: skip
