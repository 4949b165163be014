"""Pooling functions, selected by name in a config, max-pooling that can be averaged instead, and flattening."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal

from jaxtyping import Array, Float

from cnnjax.core.options import unknown
from cnnjax.ops import pooling as ops
from cnnjax.ops.pooling import average_pool, min_pool

_averaged: contextvars.ContextVar[bool] = contextvars.ContextVar("averaged", default=False)


@contextlib.contextmanager
def max_pools_averaged() -> Iterator[None]:
    """Within it, networks that are traced have average pooling in the place of max-pooling, as in style transfer."""
    token = _averaged.set(True)
    try:
        yield
    finally:
        _averaged.reset(token)


@functools.wraps(ops.max_pool)
def max_pool(*arguments: Any, **settings: Any) -> Float[Array, "batch *output_size channel"]:
    return (average_pool if _averaged.get() else ops.max_pool)(*arguments, **settings)


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
