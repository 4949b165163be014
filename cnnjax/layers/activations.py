"""Activation functions by name, as a config gives them."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.options import unknown

ActivationName = Literal["identity", "relu", "sigmoid", "tanh"]
Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]

ACTIVATIONS: dict[ActivationName, Activation] = {
    "identity": lambda x: x,
    "relu": jax.nn.relu,
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
