"""Activation functions, selected by name in a config."""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.core.options import unknown

ActivationName = Literal[
    "gelu",
    "hard_sigmoid",
    "hard_swish",
    "identity",
    "leaky_relu",
    "relu",
    "relu6",
    "scaled_tanh",
    "sigmoid",
    "silu",
    "tanh",
]
Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]
# A function that is called with the name, input and output of every activation.
Watcher = Callable[[ActivationName, Float[Array, "..."], Float[Array, "..."]], None]
_watcher: contextvars.ContextVar[Watcher | None] = contextvars.ContextVar("watcher", default=None)


@contextlib.contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Within the block, the watcher is called for every activation function that is applied."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def _watched(name: ActivationName, function: Activation) -> Activation:
    @functools.wraps(function)
    def applied(x: Float[Array, "..."]) -> Float[Array, "..."]:
        y = function(x)
        if watcher := _watcher.get():
            watcher(name, x, y)
        return y

    return applied


def _scaled_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """1.7159 tanh(2 x / 3): maps ±1 to ±1, where its curvature is greatest (LeCun et al., 1998, appendix A)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


def _gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x times the normal distribution function of x (Hendrycks and Gimpel, arXiv:1606.08415), not its approximation by tanh."""
    return x * (0.5 + 0.5 * jax.lax.erf(x * math.sqrt(0.5)))


ACTIVATIONS: dict[ActivationName, Activation] = {
    name: _watched(name, function)
    for name, function in {
        "gelu": _gelu,
        "hard_sigmoid": jax.nn.hard_sigmoid,  # min(max(0, x + 3), 6) / 6
        "hard_swish": jax.nn.hard_swish,  # x times that (Howard et al., ICCV 2019)
        "identity": lambda x: x,
        "leaky_relu": jax.nn.leaky_relu,
        "relu": jax.nn.relu,
        "relu6": jax.nn.relu6,  # min(max(0, x), 6)
        "scaled_tanh": _scaled_tanh,
        "sigmoid": jax.nn.sigmoid,
        "silu": jax.nn.silu,  # x times its sigmoid, also called swish
        "tanh": jnp.tanh,
    }.items()
}
scaled_tanh = ACTIVATIONS["scaled_tanh"]


def activation(name: ActivationName) -> Activation:
    """The activation function with the given name.

    Raises:
      ValueError: the name is unknown; the message has the nearest names.
    """
    if name not in ACTIVATIONS:
        raise ValueError(unknown("activation", name, ACTIVATIONS))
    return ACTIVATIONS[name]
