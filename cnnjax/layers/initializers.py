"""Initialisers by name, as a config gives them.

Xavier (Glorot and Bengio, AISTATS 2010): variance 2 / (in + out). He (He et al., ICCV 2015): 2 / in. LeCun (LeCun et
al., "Efficient BackProp", 1998): 1 / in. "in" and "out" are a unit's connections: for a convolution, its channels times
its kernel's size.
"""

from typing import Literal

from jax.nn import initializers

from cnnjax.options import unknown

InitializerName = Literal[
    "zeros",
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


def symmetric_uniform(bound: float) -> initializers.Initializer:
    """Uniform between -bound and bound."""
    draw = initializers.uniform(2 * bound)
    return lambda key, shape, dtype=float: draw(key, shape, dtype) - bound


INITIALIZERS: dict[InitializerName, initializers.Initializer] = {
    "zeros": initializers.zeros,
    "small_normal": initializers.normal(0.01),
    "small_uniform": symmetric_uniform(0.01),
    "unit_normal": initializers.normal(1.0),
    "unit_uniform": symmetric_uniform(1.0),
    # untruncated, as the papers have them; JAX's own "normal" ones are truncated
    "xavier_normal": initializers.variance_scaling(1.0, "fan_avg", "normal"),
    "xavier_uniform": initializers.xavier_uniform(),
    "he_normal": initializers.variance_scaling(2.0, "fan_in", "normal"),
    "he_uniform": initializers.he_uniform(),
    "lecun_normal": initializers.variance_scaling(1.0, "fan_in", "normal"),
    "lecun_uniform": initializers.lecun_uniform(),
}


def initializer(name: InitializerName) -> initializers.Initializer:
    """The initialiser of that name.

    Raises:
      ValueError: there is none; the message has the nearest names.
    """
    if name not in INITIALIZERS:
        raise ValueError(unknown("initialiser", name, INITIALIZERS))
    return INITIALIZERS[name]
