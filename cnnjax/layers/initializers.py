"""Initialisers by name, as a config gives them.

Xavier (Glorot and Bengio, AISTATS 2010): variance 2 / (in + out). He (He et al., ICCV 2015): 2 / in. LeCun (LeCun et
al., "Efficient BackProp", 1998): 1 / in. "in" and "out" are a unit's connections: for a convolution, its channels times
its kernel's size. An initialiser sees the kernel's shape alone: of a convolution in groups "in" is one group's channels,
and "out" has the features of all groups, as in PyTorch and Flax, although an input is connected to one group's.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.nn.initializers import Initializer, constant, zeros

from cnnjax.core.options import unknown
from cnnjax.core.randomness import uniform_numbers

InitializerName = Literal[
    "zeros",
    "constant",
    "small_normal",
    "small_uniform",
    "unit_normal",
    "unit_uniform",
    "xavier_normal",
    "xavier_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
]


# Twice the standard deviation is as far as truncated ones go; cut there, a unit normal's own is this.
_TRUNCATED_STD = 0.87962566103423978


def normal(std: float) -> Initializer:
    """Normal with mean 0 and this standard deviation."""
    return lambda key, shape, dtype=jnp.float32: std * _unit_normal(uniform_numbers(key, shape)).astype(dtype)


def truncated_normal(std: float) -> Initializer:
    """A normal of this standard deviation, cut at twice that (the result's is 0.88 of it)."""
    share = math.erf(2 / math.sqrt(2))  # of the normal that lies within
    return lambda key, shape, dtype=jnp.float32: std * _unit_normal(share * uniform_numbers(key, shape)).astype(dtype)


def symmetric_uniform(bound: float) -> Initializer:
    """Uniform between -bound and bound."""
    return lambda key, shape, dtype=jnp.float32: bound * uniform_numbers(key, shape).astype(dtype)


def _unit_normal(uniform: jax.Array) -> jax.Array:
    """The inverse of the normal's distribution function, from -1..1."""
    return math.sqrt(2) * jax.lax.erf_inv(uniform)


def scaled(
    scale: float, distribution: Literal["normal", "uniform", "truncated_normal"], fan: str = "in"
) -> Initializer:
    """Of variance scale / fan, with fan the connections "in", or the mean of those in and out ("average")."""
    deviations = {
        "normal": normal,
        "uniform": lambda std: symmetric_uniform(std * math.sqrt(3)),
        "truncated_normal": lambda std: truncated_normal(std / _TRUNCATED_STD),
    }

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        if len(shape) < 2:
            raise ValueError(
                f"initialiser: an array of shape {shape} has no connections in and out: expected a kernel's"
            )
        *window, features_in, features = shape
        size = math.prod(window)
        count = size * features_in if fan == "in" else size * (features_in + features) / 2
        return deviations[distribution](math.sqrt(scale / count))(key, shape, dtype)

    return draw


INITIALIZERS: dict[InitializerName, Initializer] = {
    "zeros": zeros,
    "constant": constant(0.01),
    "small_normal": normal(0.01),
    "small_uniform": symmetric_uniform(0.01),
    "unit_normal": normal(1.0),
    "unit_uniform": symmetric_uniform(1.0),
    # untruncated, as the papers have them; JAX's own "normal" ones are truncated
    "xavier_normal": scaled(1.0, "normal", "average"),
    "xavier_uniform": scaled(1.0, "uniform", "average"),
    "he_normal": scaled(2.0, "normal"),
    "he_uniform": scaled(2.0, "uniform"),
    "lecun_normal": scaled(1.0, "normal"),
    "lecun_uniform": scaled(1.0, "uniform"),
}
# What a layer has where its model does not say: Flax's.
DEFAULT = scaled(1.0, "truncated_normal")


def initializer(name: InitializerName) -> Initializer:
    """The initialiser of that name.

    Raises:
      ValueError: there is none; the message has the nearest names.
    """
    if name not in INITIALIZERS:
        raise ValueError(unknown("initialiser", name, INITIALIZERS))
    return INITIALIZERS[name]
