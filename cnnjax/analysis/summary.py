"""A summary of a network: output shape with its formula, parameters, multiply-adds, receptive field and memory of each layer.

The layers are found in the program that JAX traces from the model (`jax.make_jaxpr`), so that the summary shows what is executed,
however the model is written. Nothing is computed.
"""

import dataclasses
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
from jax.extend import core

from cnnjax.analysis import diagram
from cnnjax.core import html
from cnnjax.core.locate import is_reference, locate
from cnnjax.models import create_model, find_model
from cnnjax.models.linen import build_model, variable_shapes
from cnnjax.ops.choice import using

# A summary of at most this many rows is shown layer by layer, a longer one block by block.
FEW_ROWS = 30
# The name of the first axis of a signal, an image and a volume, by the axes of its shape.
_FIRST_AXIS = {2: "length", 3: "height", 4: "depth"}


@dataclasses.dataclass(frozen=True)
class Layer:
    """One row of a summary.

    Attributes:
      name: the path of the layer in the model; functions without parameters are numbered.
      operation: a description, such as "conv 11x11/4".
      output_shape: the shape of the output, without the batch.
      formula: the computation of the length of the output's first axis (the height of an image) from that of the input.
      parameters: the number of trainable parameters.
      macs: the multiply-adds for one image, in convolutions and dense layers.
      receptive_field: the number of input positions along the first axis on which one output value depends.
      activation_bytes: the memory of the output for one image.
    """

    name: str
    operation: str
    output_shape: tuple[int, ...]
    formula: str
    parameters: int
    macs: int
    receptive_field: int
    activation_bytes: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """The layers of a network and their totals.

    Attributes:
      model: the name of the model.
      input_shape: the spatial axes and channels of the input: (height, width, channel) for images.
      layers: the layers in the order of computation.
      published_parameters: the published number of parameters; None if it is unknown or for another input.
      published_macs: the published number of multiply-adds; None if it is unknown or for another input.
      block_shapes: the output shape, without the batch, of every module, by path.
    """

    model: str
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    published_parameters: int | None
    published_macs: int | None
    block_shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.input_shape))
        figures = f"{self.total_parameters:,} parameters, {self.total_macs:,} MACs"
        return f"Summary({self.model!r} on {shape}: {len(self.layers)} layers, {figures})"

    def _repr_html_(self) -> str:
        shown = self.blocks()
        columns, rows = shown.table()
        folded = f", shown as {len(shown.layers)} blocks; all: .table(), .markdown()" if shown is not self else ""
        shape = "x".join(map(str, self.input_shape))
        totals = range(len(shown.layers), len(rows))
        return html.card(
            f"{self.model} on {shape}",
            html.remark(
                f"{self.total_parameters:,} parameters, {self.total_macs:,} MACs, {_bytes(self.activation_bytes)} of outputs an "
                f"image; {len(self.layers)} layers{folded}"
            ),
            shown.svg(),
            html.table(columns, rows, strong=totals),
        )

    @property
    def total_parameters(self) -> int:
        """Trainable parameters that prediction uses."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def total_macs(self) -> int:
        """Multiply-adds for one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """The memory of all outputs for one image, which is roughly what training keeps for the gradient."""
        return sum(layer.activation_bytes for layer in self.layers)

    def folded(self, depth: int) -> "Summary":
        """The summary with blocks at level `depth` folded into one row each; the totals are the same.

        The receptive field of a folded row is the largest of its layers, its memory their sum.

        Raises:
          ValueError: the depth is less than 1.
        """
        if depth < 1:
            raise ValueError(f"depth={depth}: expected at least 1")
        rows = []
        for path, group in itertools.groupby(self.layers, lambda layer: "/".join(layer.name.split("/")[:depth])):
            layers = list(group)
            alone = (
                len(layers) == 1 and layers[0].name == path
            )  # a layer that is applied to several maps has several rows
            rows.append(layers[0] if alone else self._fold(path, layers))
        return dataclasses.replace(self, layers=tuple(rows))

    def blocks(self) -> "Summary":
        """The summary at a glance: itself where it has few layers, else folded into the outermost modules."""
        return self if len(self.layers) <= FEW_ROWS else self.folded(1)

    def svg(self) -> str:
        """A drawing of the layers from left to right, as SVG: the height of a bar is its maps' side, the width its channels."""
        return diagram.draw(self)

    def _fold(self, path: str, layers: Sequence[Layer]) -> Layer:
        return Layer(
            name=path,
            operation=f"{len(layers)} layers" if len(layers) > 1 else layers[0].operation,
            output_shape=self.block_shapes.get(path, layers[-1].output_shape),
            formula="",
            parameters=sum(layer.parameters for layer in layers),
            macs=sum(layer.macs for layer in layers),
            receptive_field=max(layer.receptive_field for layer in layers),
            activation_bytes=sum(layer.activation_bytes for layer in layers),
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The column names and rows as text, followed by the totals and any published figures."""
        first = _FIRST_AXIS.get(len(self.input_shape), "first axis")
        columns = ["layer", "operation", "output", first, "parameters", "MACs", "receptive field", "memory"]
        rows = [
            [
                layer.name,
                layer.operation,
                "x".join(map(str, layer.output_shape)),
                layer.formula,
                f"{layer.parameters:,}" if layer.parameters else "",
                f"{layer.macs:,}" if layer.macs else "",
                str(layer.receptive_field),
                _bytes(layer.activation_bytes),
            ]
            for layer in self.layers
        ]
        totals = f"{self.total_parameters:,}", f"{self.total_macs:,}"
        rows.append(["total", "", "", "", *totals, "", _bytes(self.activation_bytes)])
        published = _rounded(self.published_parameters), _rounded(self.published_macs)
        if any(published):
            rows.append(["published", "", "", "", *published, "", ""])
        return columns, rows

    def markdown(self) -> str:
        """The table in Markdown."""
        columns, rows = self.table()
        lines = [columns, ["---"] * len(columns), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def as_dict(self) -> dict[str, Any]:
        """The summary as a dict for JSON."""
        return {
            **{name: value for name, value in dataclasses.asdict(self).items() if name != "block_shapes"},
            "total_parameters": self.total_parameters,
            "total_macs": self.total_macs,
            "activation_bytes": self.activation_bytes,
        }


def summarize(
    model: str | nn.Module,
    input_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> Summary:
    """Summarises a model without computing it.

    Args:
      model: a name of `list_models()`, "package.module:Attribute" or "./file.py:Attribute", or a Linen module.
      input_shape: the spatial axes and channels of the input, (height, width, channel) for images; None is the published input of a
        named model.
      num_classes: the number of classes; None is the published number for a named model, and the default of your own model.
      **options: the options of a named model.

    Raises:
      ValueError: a name or option is unknown, or the model does not accept the input.
      TypeError: a module is given without an input shape.

    >>> summarize("vgg16", input_shape=(224, 224, 3)).total_parameters
    138357544
    """
    name, parameters, macs = type(model).__name__, None, None
    if is_reference(model):
        name, outputs = model, {} if num_classes is None else {"num_classes": num_classes}
        component = locate("model", model, {})
        if "num_classes" not in {**outputs, **options} and _needs_classes(component):
            raise ValueError(
                f"model {name} has no default for num_classes: give --classes N, or num_classes of cnnjax.summarize"
            )
        model = build_model(component, outputs, jnp.float32, options, name)
    if isinstance(model, str):
        entry, name = find_model(model), model
        usual = not options and num_classes in (None, entry.num_classes) and input_shape in (None, entry.image_shape)
        parameters, macs = (entry.parameters, entry.macs) if usual else (None, None)
        model = create_model(model, entry.num_classes if num_classes is None else num_classes, **options)
        input_shape = input_shape or entry.image_shape
    if input_shape is None:
        raise TypeError(
            f"model {name} has no published input: give its shape, --input H,W,C, or input_shape of cnnjax.summarize"
        )
    image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    try:
        variables = variable_shapes(model, input_shape)
    except ValueError as error:
        raise ValueError(f"model {name} on images of {'x'.join(map(str, input_shape))}: {error}") from error
    with using("stock"):  # with stock operations each layer is one operation of XLA
        program = jax.make_jaxpr(model.apply)(variables, image)
    counts: dict[tuple[str, ...], int] = {}
    for path, leaf in flax.traverse_util.flatten_dict(variables.get("params", {})).items():
        counts[path[:-1]] = counts.get(path[:-1], 0) + leaf.size
    reader = _Reader(counts)
    layers = (*reader.read(program.jaxpr), *reader.unreached(_used(variables, program.jaxpr)))
    return Summary(name, tuple(input_shape), layers, parameters, macs, reader.block_shapes)


def _needs_classes(component: Any) -> bool:
    """Whether a model of the user's has a field or argument `num_classes` without a default."""
    parameter = inspect.signature(component).parameters.get("num_classes")
    return parameter is not None and parameter.default is parameter.empty


def _used(variables: Mapping[str, Any], program: core.Jaxpr) -> set[tuple[str, ...]]:
    """The paths of the modules whose parameters the program reads."""
    read = {id(value) for equation in program.eqns for value in equation.invars}
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    return {
        tuple(key.key for key in path[1:-1])
        for path, value in zip(paths, program.invars[:-1], strict=True)
        if path[0].key == "params" and id(value) in read
    }


@dataclasses.dataclass(frozen=True)
class _Field:
    """The receptive field of one value: its number of pixels, and the distance to the field of the next value."""

    size: int
    jump: int


class _Reader:
    """Finds the layers of a traced program in order.

    Args:
      counts: the number of parameters of every module by path; each is counted once, at the module's first operation.
    """

    def __init__(self, counts: Mapping[tuple[str, ...], int]):
        self._left = dict(counts)
        self._numbers: dict[str, int] = {}
        self.block_shapes: dict[str, tuple[int, ...]] = {}

    def read(self, program: core.Jaxpr) -> Iterator[Layer]:
        fields: dict[Any, _Field] = {program.invars[-1]: _Field(1, 1)}
        yield from self._walk(program, fields)

    def unreached(self, used: set[tuple[str, ...]]) -> Iterator[Layer]:
        """Modules whose parameters are used but whose input does not depend on the image, such as those of a generator."""
        for module, parameters in self._left.items():
            if module in used:
                yield Layer("/".join(module), "not reached by the image", (), "", parameters, 0, 0, 0)

    def _walk(self, program: core.Jaxpr, fields: dict[Any, _Field]) -> Iterator[Layer]:
        for equation in program.eqns:
            inputs = [fields.get(value) for value in equation.invars if not isinstance(value, core.Literal)]
            seen = [field for field in inputs if field is not None]
            if not seen:
                continue  # depends only on parameters and constants
            field = _Field(max(item.size for item in seen), max(item.jump for item in seen))
            module = _module(equation)
            for depth in range(1, len(module) + 1):  # the last value computed in a module is its output
                self.block_shapes["/".join(module[:depth])] = tuple(equation.outvars[0].aval.shape[1:])
            inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
            resizes = (
                equation.params.get("name") == "_resize"
            )  # jax.image.resize, whose products with weights are no layer
            if inner is not None and equation.primitive.name in ("pjit", "jit") and not resizes:
                inner = getattr(inner, "jaxpr", inner)
                inside = {
                    inner_value: fields[value]
                    for inner_value, value in zip(inner.invars, equation.invars, strict=True)
                    if not isinstance(value, core.Literal) and value in fields
                }
                yield from self._walk(inner, inside)
                for outer, value in zip(equation.outvars, inner.outvars, strict=True):
                    if not isinstance(value, core.Literal) and value in inside:
                        fields[outer] = inside[value]
                continue
            describe = _OPERATIONS.get(equation.primitive.name)
            found = describe(equation, field) if describe else _Operation("resize", "", 0, field) if resizes else None
            if found:
                field = found.field
            parameters = self._left.pop(module, 0)
            if found or parameters:
                yield self._layer(equation, module, found, field, parameters)
            for value in equation.outvars:
                fields[value] = field

    def _layer(
        self, equation: Any, module: tuple[str, ...], found: "_Operation | None", field: _Field, parameters: int
    ) -> Layer:
        shape = equation.outvars[0].aval.shape[1:]
        operation = found.name if found else _parametric(module)
        if parameters:
            name = "/".join(module)
        else:
            kind = operation.split(" ")[0]
            self._numbers[kind] = self._numbers.get(kind, 0) + 1
            name = "/".join((*module, f"{kind}{self._numbers[kind]}"))
        return Layer(
            name=name,
            operation=operation,
            output_shape=tuple(shape),
            formula=found.formula if found else "",
            parameters=parameters,
            macs=found.macs if found else 0,
            receptive_field=field.size,
            activation_bytes=math.prod(shape) * equation.outvars[0].aval.dtype.itemsize,
        )


@dataclasses.dataclass(frozen=True)
class _Operation:
    name: str
    formula: str
    macs: int
    field: _Field


def _module(equation: Any) -> tuple[str, ...]:
    """The path of the Linen module to which an equation belongs; the outermost name is the model's own."""
    stack = str(equation.source_info.name_stack)
    parts = [part for part in stack.split("/") if part and "(" not in part and "." not in part]
    return tuple(parts[1:])


def _parametric(module: tuple[str, ...]) -> str:
    return "batch norm" if module and ("bn" in module[-1] or "norm" in module[-1].lower()) else "scale and bias"


def _formula(size: int, kernel: int, stride: int, before: int, after: int, gap: int = 1) -> str:
    """The formula (in - kernel + padding) / stride + 1 = out with numbers, and the positions that no window reaches."""
    reach = gap * (kernel - 1) + 1
    padding = f"2*{before}" if before == after else f"{before} + {after}"
    steps, left = divmod(size - reach + before + after, stride)
    division = f"({size} - {reach} + {padding})/{stride}"
    dropped = max(left - after, 0)  # padding is dropped before pixels
    note = f", the last {dropped} of {size} dropped" if dropped else ""
    return f"{f'floor({division})' if left else division} + 1 = {steps + 1}{note}"


def _window(name: str, kernel: Sequence[int], strides: Sequence[int]) -> str:
    size = "x".join(map(str, kernel))
    return f"{name} {size}" + (f"/{strides[0]}" if strides[0] > 1 else "")


def _slide(field: _Field, kernel: int, stride: int, gap: int = 1) -> _Field:
    return _Field(field.size + gap * (kernel - 1) * field.jump, field.jump * stride)


def _convolution(equation: Any, field: _Field) -> _Operation | None:
    params, kernel = equation.params, equation.invars[1].aval.shape
    numbers = params["dimension_numbers"]
    spatial = [kernel[axis] for axis in numbers.rhs_spec[2:]]
    size = equation.invars[0].aval.shape[numbers.lhs_spec[2]]
    stride, gap, (before, after) = params["window_strides"][0], params["rhs_dilation"][0], params["padding"][0]
    out = equation.outvars[0].aval.shape
    groups = params["feature_group_count"]
    spread = params["lhs_dilation"][0]
    if spread > 1:  # each value of the input is multiplied with the whole kernel; the zeros between them are not
        image, added = equation.invars[0].aval.shape, before + after + 2 - spatial[0]
        return _Operation(
            _window("transposed-conv", spatial, params["lhs_dilation"]),
            f"({size} - 1)*{spread} + {added} = {(size - 1) * spread + added}",
            math.prod(image) * math.prod(kernel) // kernel[numbers.rhs_spec[1]],
            _Field(field.size + (-(-spatial[0] // spread) - 1) * field.jump, max(field.jump // spread, 1)),
        )
    return _Operation(
        _window("conv", spatial, params["window_strides"]) + (f" in {groups} groups" if groups > 1 else ""),
        _formula(size, spatial[0], stride, before, after, gap),
        math.prod(out) * math.prod(kernel) // kernel[numbers.rhs_spec[0]],
        _slide(field, spatial[0], stride, gap),
    )


def _pooling(name: str) -> Callable[[Any, _Field], _Operation | None]:
    def describe(equation: Any, field: _Field) -> _Operation | None:
        params = equation.params
        window, strides = params["window_dimensions"], params["window_strides"]
        if all(length == 1 for length in window[1:-1]):
            return _Operation("local-response-norm", "", 0, field) if window[-1] > 1 else None
        before, after = params["padding"][1]
        size = equation.invars[0].aval.shape[1]
        return _Operation(
            _window(name, window[1:-1], strides[1:-1]),
            _formula(size, window[1], strides[1], before, after),
            0,
            _slide(field, window[1], strides[1]),
        )

    return describe


def _dense(equation: Any, field: _Field) -> _Operation | None:
    (contracted, _), _ = equation.params["dimension_numbers"]
    lengths = [equation.invars[0].aval.shape[axis] for axis in contracted]
    return _Operation("dense", "", math.prod(equation.outvars[0].aval.shape) * math.prod(lengths), field)


def _reduction(equation: Any, field: _Field) -> _Operation | None:
    """A mean or maximum over all positions (global pooling)."""
    shape, axes = equation.invars[0].aval.shape, equation.params["axes"]
    if 3 <= len(shape) <= 5 and tuple(axes) == tuple(range(1, len(shape) - 1)):
        return _Operation("global-pool", "", 0, _Field(field.size + (shape[1] - 1) * field.jump, field.jump))
    return None


def _reshape(equation: Any, field: _Field) -> _Operation | None:
    """Flattening, after which every value of a dense layer depends on the whole map."""
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    if 3 <= len(before) <= 5 and len(after) == 2 and before[1] > 1:
        return _Operation("flatten", "", 0, _Field(field.size + (before[1] - 1) * field.jump, field.jump))
    return None


_OPERATIONS: dict[str, Callable[[Any, _Field], _Operation | None]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _dense,
    "reduce_max": _reduction,
    "reduce_sum": _reduction,
    "reduce_window_max": _pooling("max-pool"),
    "reduce_window_sum": _pooling("average-pool"),
    "reshape": _reshape,
}


def _rounded(published: int | None) -> str:
    """A published figure with no more digits than its source has."""
    if published is None:
        return ""
    unit, size = ("billion", 10**9) if published >= 10**9 else ("million", 10**6)
    rounded = published >= 10**5 and published % 10**4 == 0
    return f"{published / size:g} {unit}" if rounded else f"{published:,}"


def _bytes(count: int) -> str:
    for unit, size in (("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
