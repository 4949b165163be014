"""Initialisers, selected by name in a config.

Xavier (Glorot and Bengio, AISTATS 2010): variance 2 / (in + out). He (He et al., ICCV 2015): 2 / in. LeCun (LeCun et
al., "Efficient BackProp", 1998): 1 / in. "in" and "out" are the numbers of connections of a unit: for a convolution, the
channels or features times the size of the kernel. An initialiser knows only the shape of the kernel. For a grouped
convolution "in" therefore counts the channels of one group and "out" the features of all groups, as in PyTorch and Flax,
although an input is connected only to the features of its group.
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


# The standard deviation of a unit normal distribution truncated at 2 standard deviations.
_TRUNCATED_STD = 0.87962566103423978


def normal(std: float) -> Initializer:
    """An initialiser that draws from a normal distribution with mean 0 and the given standard deviation."""
    return lambda key, shape, dtype=jnp.float32: std * _unit_normal(uniform_numbers(key, shape)).astype(dtype)


def truncated_normal(std: float) -> Initializer:
    """An initialiser that draws from a normal distribution truncated at 2 `std` (whose own deviation is 0.88 `std`)."""
    share = math.erf(2 / math.sqrt(2))  # the part of the normal distribution within the bounds
    return lambda key, shape, dtype=jnp.float32: std * _unit_normal(share * uniform_numbers(key, shape)).astype(dtype)


def symmetric_uniform(bound: float) -> Initializer:
    """An initialiser that draws from a uniform distribution between -bound and bound."""
    return lambda key, shape, dtype=jnp.float32: bound * uniform_numbers(key, shape).astype(dtype)


def bilinear(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """A transposed convolution's kernel (*size, channel, features) that interpolates linearly, each channel to its own feature.

    With an even size, and half of it as stride, it enlarges a map by that stride (Shelhamer et al., PAMI 2017, section 3.3).
    """
    *size, channels, features = shape
    window = jnp.ones((), dtype)
    for length in size:
        factor = (length + 1) // 2
        distance = jnp.abs(jnp.arange(length) - (length - 1) / 2)
        window = window[..., None] * (1 - distance / factor).astype(dtype)
    return window[..., None, None] * jnp.eye(channels, features, dtype=dtype)


def _unit_normal(uniform: jax.Array) -> jax.Array:
    """Normally distributed numbers from numbers uniform in -1..1, by the inverse of the distribution function."""
    return math.sqrt(2) * jax.lax.erf_inv(uniform)


def scaled(
    scale: float, distribution: Literal["normal", "uniform", "truncated_normal"], fan: str = "in"
) -> Initializer:
    """An initialiser with variance scale / fan.

    Args:
      scale: the numerator of the variance.
      distribution: the distribution to draw from.
      fan: "in" or "out" for the number of input or output connections, "average" for the mean of the two.
    """
    deviations = {
        "normal": normal,
        "uniform": lambda std: symmetric_uniform(std * math.sqrt(3)),
        "truncated_normal": lambda std: truncated_normal(std / _TRUNCATED_STD),
    }

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        if len(shape) < 2:
            raise ValueError(
                f"initialiser: an array of shape {shape} has no input and output connections: expected the shape of a kernel"
            )
        *window, features_in, features = shape
        size = math.prod(window)
        connections = {"in": features_in, "out": features, "average": (features_in + features) / 2}
        count = size * connections[fan]
        return deviations[distribution](math.sqrt(scale / count))(key, shape, dtype)

    return draw


INITIALIZERS: dict[InitializerName, Initializer] = {
    "zeros": zeros,
    "constant": constant(0.01),
    "small_normal": normal(0.01),
    "small_uniform": symmetric_uniform(0.01),
    "unit_normal": normal(1.0),
    "unit_uniform": symmetric_uniform(1.0),
    # not truncated, as in the papers; the normal initialisers of JAX are truncated
    "xavier_normal": scaled(1.0, "normal", "average"),
    "xavier_uniform": scaled(1.0, "uniform", "average"),
    "he_normal": scaled(2.0, "normal"),
    "he_uniform": scaled(2.0, "uniform"),
    "lecun_normal": scaled(1.0, "normal"),
    "lecun_uniform": scaled(1.0, "uniform"),
}
# The initialiser of a layer whose model names none, the same as Flax's.
DEFAULT = scaled(1.0, "truncated_normal")


def initializer(name: InitializerName) -> Initializer:
    """The initialiser with the given name.

    Raises:
      ValueError: the name is unknown; the message has the nearest names.
    """
    if name not in INITIALIZERS:
        raise ValueError(unknown("initialiser", name, INITIALIZERS))
    return INITIALIZERS[name]
