"""Translation of a traced function to a graph: what depends only on constants is computed, the rest uses the table of operations."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.core.paths import path_name
from cnnjax.exporting.onnx.graph import Graph, Node, UnsupportedError, Value, fixed, made
from cnnjax.exporting.onnx.operations import OPERATIONS
from cnnjax.exporting.steps import STANDS_FOR_ANY, Batch, Program, Slot, Step, flattened

# Computed by NumPy where their inputs are constants: XLA would compile a program for every shape. The last bits may differ.
_NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "div": np.divide,
    "mul": np.multiply,
    "neg": np.negative,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
    "sub": np.subtract,
}
# Views, and others that are their own function of constants.
_VIEWS = ("broadcast_in_dim", "reshape", "rev", "slice", "squeeze", "transpose")
_LARGEST = 2**27  # values of a constant that is computed


def translated(
    function: Callable[[Any, Any], Any],
    variables: Mapping[str, Any],
    images: jax.ShapeDtypeStruct,
    inputs: str,
    outputs: Sequence[str],
) -> tuple[Graph, list[Value]]:
    """The graph of a function of variables and images, whose first axis is an open batch.

    Args:
      function: (variables, images) -> arrays (batch, ...).
      variables: the arrays that become constants; their paths are their names.
      images: the shape and type of the images.
      inputs: the name of the images in the graph.
      outputs: the names of the outputs.

    Raises:
      UnsupportedError: an operation has no counterpart; the message names it, and the layer that uses it.
    """
    shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(np.shape(array), array.dtype), variables)
    program = _traced_program(function, shapes, images)
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    graph = Graph(inputs, images.shape[0])
    graph.unused(inputs)
    for name in outputs:
        graph.unused(name)
    values: dict[Slot, Value] = {}
    for slot, (path, array) in zip(program.inputs, leaves, strict=False):
        values[slot] = fixed(np.asarray(array), source=path_name(path))
    values[program.inputs[-1]] = made(inputs, images.shape, images.dtype)
    for slot, array in program.constants.items():
        values[slot] = fixed(np.asarray(array))

    def read(value: Slot | np.ndarray) -> Value:
        return values[value] if isinstance(value, Slot) else fixed(value)

    for step in program.steps:
        results = _computed(graph, step, [read(value) for value in step.inputs])
        values.update(zip(step.outputs, results, strict=True))
    graph.layer = ""
    found = [read(value) for value in program.outputs]
    for name, value in zip(outputs, found, strict=True):
        graph.nodes.append(Node("Identity", [graph.whole(value)], [name], {}, ""))
    return graph, found


def _traced_program(function: Callable[[Any, Any], Any], variables: Any, images: jax.ShapeDtypeStruct) -> Program:
    """The steps of a function for a symbolic batch, or, if the function needs an integer, for a placeholder."""
    try:
        return flattened(jax.make_jaxpr(function)(variables, images), known_function)
    except Exception:  # of `len(images)`, of comparisons, or of a network that is wrong, which fails again
        many = jax.ShapeDtypeStruct((STANDS_FOR_ANY, *images.shape[1:]), images.dtype)
        batch = Batch(STANDS_FOR_ANY, images.shape[0])
        return flattened(jax.make_jaxpr(function)(variables, many), known_function, batch)


def _computed(graph: Graph, step: Step, inputs: Sequence[Value]) -> Sequence[Value]:
    """The outputs of a step: constants if its inputs are, else what the table's function adds to the graph."""
    graph.layer = step.layer
    if inputs and all(value.constant is not None for value in inputs) and step.primitive not in _VIEWS:
        constants = _constants(step, inputs)
        if constants is not None:
            return constants
    if step.primitive not in OPERATIONS:
        raise UnsupportedError(_message(step, f"JAX's operation {step.primitive!r}"))
    try:
        results = OPERATIONS[step.primitive](graph, step, *inputs)
    except UnsupportedError as error:
        raise UnsupportedError(_message(step, f"{error} (JAX's operation {step.primitive!r})")) from None
    return results if isinstance(results, list) else [results]


def _message(step: Step, what: str) -> str:
    where = f" in the layer {step.layer}" if step.layer else ""
    return f"ONNX: {what}{where} cannot be exported: export to .jaxexport, which takes all operations, or replace it"


def _constants(step: Step, inputs: Sequence[Value]) -> list[Value] | None:
    """The outputs of a step whose inputs are constants; None where they are too large or depend on the batch."""
    shapes = [slot.shape for slot in step.outputs]
    if step.primitive in _NUMPY and np.dtype(step.outputs[0].dtype).kind == "f":
        result = np.asarray(_NUMPY[step.primitive](*(value.constant for value in inputs)), step.outputs[0].dtype)
        rank = len(shapes[0])
        return [fixed(result.reshape((1,) * (rank - result.ndim) + result.shape), shapes[0])]
    sizes = [size for value in inputs for size in value.shape] + [size for shape in shapes for size in shape]
    keys = any(jax.dtypes.issubdtype(slot.dtype, jax.dtypes.extended) for slot in step.outputs)
    if step.bind is None or keys or not all(isinstance(size, int) for size in sizes):
        return None
    if any(math.prod(shape) > _LARGEST for shape in shapes):
        return None
    return [fixed(array) for array in step.bind(*(np.broadcast_to(value.constant, value.shape) for value in inputs))]


def known_function(equation: Any) -> str | None:
    """The name under which the table of operations has a function of JAX as a whole; its traced program must be the function's.

    A function of the same name whose program differs (an older or newer JAX, a user's own) is translated step by step.
    """
    name = equation.params.get("name")
    if equation.primitive.name not in ("jit", "pjit") or name not in ("hard_sigmoid", "hard_silu", "_resize"):
        return None
    [given, *others], [result] = equation.invars, equation.outvars
    if others:
        return None
    program, image = str(equation.params["jaxpr"]), given.aval
    if name != "_resize":
        return name if program == _traced(getattr(jax.nn, name), image.shape, image.dtype) else None
    kept = {0, len(image.shape) - 1}
    if any(image.shape[axis] != result.aval.shape[axis] for axis in kept) or len(image.shape) != 4:
        return None
    for method in ("linear", "nearest"):
        for antialias in (True, False):
            shrinks = any(new < old for new, old in zip(result.aval.shape[1:-1], image.shape[1:-1], strict=True))
            if antialias and shrinks and method == "linear":
                continue  # a wider kernel
            resize = functools.partial(_resized, shape=result.aval.shape, method=method, antialias=antialias)
            if program == _traced(resize, image.shape, image.dtype):
                return f"resize_{method}"
    return None


def _resized(x: Any, shape: Sequence[Any], method: str, antialias: bool) -> Any:
    return jax.image.resize(x, shape, method, antialias)


def _traced(function: Callable[[Any], Any], shape: Sequence[Any], dtype: Any) -> str:
    """The program of the one call that a function of JAX makes."""
    traced = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(shape, dtype))
    calls = [equation for equation in traced.jaxpr.eqns if "jaxpr" in equation.params]
    return str(calls[-1].params["jaxpr"]) if calls else ""
