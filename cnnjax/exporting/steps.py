"""A traced program as one list of steps: calls are inlined, and steps on which no output depends are left out."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import numpy as np

# Primitives that only call another program.
_CALLS = (
    "checkpoint", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "jit", "pjit",
    "remat", "remat2",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Slot:
    """A value of a program.

    Attributes:
      shape: the shape, in which the batch may be symbolic (`jax.export`).
      dtype: the type.
    """

    shape: tuple[Any, ...]
    dtype: np.dtype


class Step(NamedTuple):
    """One operation of a program.

    Attributes:
      primitive: the name of JAX's primitive, or of a recognised function, which stays one step.
      bind: computes the operation on arrays; None for a recognised function.
      parameters: the primitive's parameters.
      inputs: slots, or arrays for literal constants of the program.
      outputs: the slots of the results.
      layer: the path of the operation's layer, such as "conv2_1/bn1"; empty outside of layers.
    """

    primitive: str
    bind: Callable[..., Any] | None
    parameters: Mapping[str, Any]
    inputs: Sequence[Slot | np.ndarray]
    outputs: Sequence[Slot]
    layer: str


class Program(NamedTuple):
    """A traced function.

    Attributes:
      inputs: the slots of the arguments' arrays.
      constants: the arrays that the program contains, by their slots.
      steps: the operations in order.
      outputs: the slots or constants that are returned.
    """

    inputs: Sequence[Slot]
    constants: Mapping[Slot, Any]
    steps: Sequence[Step]
    outputs: Sequence[Slot | np.ndarray]


class Batch(NamedTuple):
    """A placeholder for the number of images, for functions that need an integer, such as `len(images)`.

    Attributes:
      number: a prime number, so that each size that it divides is a multiple of the batch.
      size: the symbolic size that replaces the placeholder.
    """

    number: int
    size: Any


STANDS_FOR_ANY = 1_000_003

# (equation) -> the name of the function that it calls, if that is recognised and stays one step.
Recognize = Callable[[Any], str | None]


def flattened(
    closed: jex.ClosedJaxpr, recognize: Recognize = lambda equation: None, batch: Batch | None = None
) -> Program:
    """A traced program as a list of steps.

    Args:
      closed: the program, from `jax.make_jaxpr`.
      recognize: returns the name under which a call's equation becomes one step, or None.
      batch: the placeholder with which the program was traced, if there is one.

    Raises:
      ValueError: the program computes with the placeholder.
    """
    constants: dict[Slot, Any] = {}
    steps: list[Step] = []

    def opened(value: Any) -> Any:
        """Sizes with the symbolic batch instead of the placeholder."""
        if batch is None:
            return value
        if type(value) is tuple:
            return tuple(map(opened, value))
        multiple = isinstance(value, int) and value and value % batch.number == 0
        return batch.size * (value // batch.number) if multiple else value

    def slot(variable: Any) -> Slot:
        return Slot(opened(tuple(variable.aval.shape)), variable.aval.dtype)

    def written(value: Any, dtype: Any) -> np.ndarray:
        """A literal number of the program, which must not depend on the number of images."""
        number = float(np.asarray(value).reshape(()))
        if batch and number and (number % batch.number == 0 or abs(number * batch.number - 1) < 1e-6):
            raise ValueError("the network computes with the number of images, on which predictions must not depend")
        return np.asarray(value, dtype)

    def filled(jaxpr: jex.Jaxpr, consts: Sequence[Any], arguments: Sequence[Any], scope: str) -> list[Any]:
        """Appends the steps of a program for these arguments, and returns its outputs."""
        known: dict[Any, Any] = dict(zip(jaxpr.invars, arguments, strict=True))
        for variable, value in zip(jaxpr.constvars, consts, strict=True):
            known[variable] = slot(variable)
            constants[known[variable]] = value

        def read(variable: Any) -> Any:
            literal = isinstance(variable, jex.Literal)
            return written(variable.val, variable.aval.dtype) if literal else known[variable]

        for equation in jaxpr.eqns:
            inputs = [read(variable) for variable in equation.invars]
            if equation.primitive.name == "concatenate":  # jnp.pad puts empty arrays beside the batch
                inputs = [value for value in inputs if 0 not in value.shape] or inputs[:1]
            layer = "/".join(part for part in (scope, str(equation.source_info.name_stack)) if part)
            name, inner = recognize(equation), next(iter(jex.jaxprs_in_params(equation.params)), None)
            if name is None and inner is not None and equation.primitive.name in _CALLS:
                called, held = (inner.jaxpr, inner.consts) if isinstance(inner, jex.ClosedJaxpr) else (inner, ())
                outputs = filled(called, held, inputs, layer)
            else:
                outputs = [slot(variable) for variable in equation.outvars]
                bind = None if name else _bound(equation)
                parameters = {key: opened(value) for key, value in equation.params.items()}
                steps.append(Step(name or equation.primitive.name, bind, parameters, inputs, outputs, layer))
            known.update(zip(equation.outvars, outputs, strict=True))
        return [read(variable) for variable in jaxpr.outvars]

    inputs = [slot(variable) for variable in closed.jaxpr.invars]
    outputs = filled(closed.jaxpr, closed.consts, inputs, "")
    return Program(inputs, constants, _needed(steps, outputs), outputs)


def _bound(equation: Any) -> Callable[..., Any]:
    """What computes an equation of arrays."""

    def bind(*arrays: Any) -> list[np.ndarray]:
        with jax.ensure_compile_time_eval():
            results = equation.primitive.bind(*map(jax.numpy.asarray, arrays), **equation.params)
        return [np.asarray(result) for result in (results if equation.primitive.multiple_results else [results])]

    return bind


def _needed(steps: Sequence[Step], outputs: Sequence[Any]) -> list[Step]:
    """The steps that outputs depend on."""
    wanted = {value for value in outputs if isinstance(value, Slot)}
    kept = []
    for step in reversed(steps):
        if wanted.intersection(step.outputs):
            wanted.update(value for value in step.inputs if isinstance(value, Slot))
            kept.append(step)
    return kept[::-1]
