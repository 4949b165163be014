"""Recognises activation functions of JAX and Flax in a traced program, where they are applied to the output of a layer.

A traced activation function can only be recognised by its primitive: `max` with 0 is ReLU, `tanh` is tanh, `logistic` is
sigmoid. It counts as a layer's activation if no other operation uses the layer's output.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.extend.core as jex
from jaxtyping import Array

_PRIMITIVES = {"tanh": "tanh", "logistic": "sigmoid"}


def with_activations(
    function: Callable[[Any], tuple[Any, Mapping[str, Array]]], argument: Any
) -> tuple[Any, Mapping[str, Array], dict[str, tuple[str, Array]]]:
    """Applies a function that returns a result and the outputs of layers by path, and finds the layers' activations.

    Returns:
      The result, the outputs, and {path: (name of the activation, its output)} for each layer that has one.

    >>> import jax.numpy as jnp
    >>> result, _, found = with_activations(lambda x: (jax.nn.relu(2 * (y := x - 1)).sum(), {"layer": y}), jnp.ones(2))
    >>> found
    {}
    >>> _, _, found = with_activations(lambda x: (2 * jax.nn.relu(y := x - 1), {"layer": y}), jnp.ones(2))
    >>> found["layer"][0]
    'relu'
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(argument)
    jaxpr = closed.jaxpr
    # The paths of the outputs, in the order in which JAX flattens their arrays.
    paths = [path[0].key for path, _ in jax.tree_util.tree_leaves_with_path(shapes[1])]
    found: dict[str, tuple[str, Any]] = {}
    for path, output in zip(paths, jaxpr.outvars[len(jax.tree.leaves(shapes[0])) :], strict=True):
        users = [equation for equation in jaxpr.eqns if any(used is output for used in equation.invars)]
        if len(users) == 1 and (name := _activation(users[0])):
            found[path] = (name, users[0].outvars[0])
    extended = jaxpr.replace(
        outvars=[*jaxpr.outvars, *(variable for _, variable in found.values())],
        debug_info=jaxpr.debug_info.with_unknown_names(),
    )
    values = jex.jaxpr_as_fun(jex.ClosedJaxpr(extended, closed.consts))(*jax.tree.leaves(argument))
    whole = jax.tree.unflatten(jax.tree.structure(shapes), values[: len(jaxpr.outvars)])
    names = [name for name, _ in found.values()]
    return *whole, dict(zip(found, zip(names, values[len(jaxpr.outvars) :], strict=True), strict=True))


def _activation(equation: Any) -> str | None:
    """The name of the activation function that an equation computes; calls that hold one equation are followed."""
    for inner in jex.jaxprs_in_params(equation.params):
        inner = getattr(inner, "jaxpr", inner)
        return _activation(inner.eqns[0]) if len(inner.eqns) == 1 else None
    if equation.primitive.name == "max":
        literals = [value for value in equation.invars if isinstance(value, jex.Literal)]
        return "relu" if any(value.val == 0 for value in literals) else None
    return _PRIMITIVES.get(equation.primitive.name)
