"""Pooling functions, selected by name in a config, and flattening."""

from collections.abc import Callable
from typing import Literal

from jaxtyping import Array, Float

from cnnjax.core.options import unknown
from cnnjax.ops.pooling import average_pool, max_pool, min_pool

PoolingName = Literal["average", "max", "min"]
POOLINGS: dict[PoolingName, Callable[..., Float[Array, "batch *size channel"]]] = {
    "average": average_pool,
    "max": max_pool,
    "min": min_pool,
}


def pooling(name: PoolingName) -> Callable[..., Float[Array, "batch *size channel"]]:
    """The pooling function with the given name.

    Raises:
      ValueError: the name is unknown; the message has the nearest names.
    """
    if name not in POOLINGS:
        raise ValueError(unknown("pooling", name, POOLINGS))
    return POOLINGS[name]


def flatten(x: Float[Array, "batch *shape"]) -> Float[Array, "batch values"]:
    """Flattens all axes but the batch into one."""
    return x.reshape(x.shape[0], -1)
