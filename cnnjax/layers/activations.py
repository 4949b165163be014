"""Activation functions by name, as a config gives them."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.options import unknown

ActivationName = Literal["identity", "leaky_relu", "relu", "scaled_tanh", "sigmoid", "tanh"]
Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def scaled_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """1.7159 tanh(2 x / 3): maps ±1 to ±1, where its curvature is greatest (LeCun et al., 1998, appendix A)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


ACTIVATIONS: dict[ActivationName, Activation] = {
    "identity": lambda x: x,
    "leaky_relu": jax.nn.leaky_relu,
    "relu": jax.nn.relu,
    "scaled_tanh": scaled_tanh,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
}


def activation(name: ActivationName) -> Activation:
    """The activation function of that name.

    Raises:
      ValueError: there is none; the message has the nearest names.
    """
    if name not in ACTIVATIONS:
        raise ValueError(unknown("activation", name, ACTIVATIONS))
    return ACTIVATIONS[name]
