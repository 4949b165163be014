"""Random keys, each derived from its purpose and never from the device that uses it."""

import contextlib
import contextvars
import math
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

AXIS = "devices"  # the name of the pmapped axis


def key_for(seed: int, stream: str, *position: int | Array) -> Key[Array, ""]:
    """The key of a named stream at a position (an epoch, a step, an example).

    Args:
      seed: the config's seed.
      stream: the purpose of the random numbers, such as "initial" or "dropout".
      position: integers, which may be traced inside a compiled function.
    """
    key = stream_key(jax.random.key(seed), stream)
    for number in position:
        key = jax.random.fold_in(key, number)
    return key


def stream_key(key: Key[Array, ""], stream: str) -> Key[Array, ""]:
    """The key of a named stream, derived from another key. A stream's numbers do not depend on other streams."""
    return jax.random.fold_in(key, zlib.crc32(stream.encode()))


def example_keys(key: Key[Array, ""], batch: int) -> Key[Array, "batch"]:
    """One key per example of the local batch, derived from the example's position in the global batch.

    Inside `pmap` over the axis `devices` positions are counted over all devices, so that the keys do not depend on the
    number of devices that share the batch.
    """
    places = jnp.arange(batch)
    with contextlib.suppress(NameError):  # not inside pmap: the batch is whole
        places += jax.lax.axis_index(AXIS) * batch
    return jax.vmap(jax.random.fold_in, (None, 0))(key, places)


# --- many arrays of random numbers by one compiled program ------------------------------------------------------

_BLOCK = 1024
# Within `drawn_at_once`, `uniform_numbers` calls this function instead of drawing its own numbers.
_source: contextvars.ContextVar[Callable[[tuple[int, ...]], Array] | None] = contextvars.ContextVar(
    "source", default=None
)


def uniform_numbers(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """Uniform float32 numbers between -1 and 1, both excluded; within `drawn_at_once` they are taken from its single draw."""
    source = _source.get()
    if source is not None:
        return source(shape)
    return jax.random.uniform(key, shape, jnp.float32, np.nextafter(np.float32(-1), np.float32(0)), 1.0)


def drawn_at_once(make: Callable[..., Any], key: Key[Array, ""], *arguments: Any) -> Any:
    """`make(*arguments)`, compiled, with the numbers of all its calls of `uniform_numbers` drawn together.

    XLA would take many seconds to compile a program with a separate generator for each array of a network. The numbers of
    the n-th array depend only on `key` and n, not on the sizes of other arrays.
    """
    sizes: list[int] = []

    def count(shape: tuple[int, ...]) -> Array:
        sizes.append(math.prod(shape))
        return jnp.zeros(shape)

    with _drawing_from(count):
        jax.eval_shape(make, *arguments)
    blocks = [-(-size // _BLOCK) for size in sizes]

    def fill(numbers: Float[Array, "block number"], *arguments: Any) -> Any:
        ends = iter(np.cumsum(blocks))
        counts = iter(blocks)

        def take(shape: tuple[int, ...]) -> Array:
            end, needed = next(ends), next(counts)
            return numbers[end - needed : end].ravel()[: math.prod(shape)].reshape(shape)

        with _drawing_from(take):
            return make(*arguments)

    return jax.jit(fill)(_draw_blocks(key, tuple(blocks)), *arguments)


@partial(jax.jit, static_argnums=1)
def _draw_blocks(key: Key[Array, ""], blocks: tuple[int, ...]) -> Float[Array, "block number"]:
    """The given number of blocks of random numbers for each array, one array after the other."""
    total = sum(blocks)
    ends = np.cumsum(blocks, dtype=np.int64)
    array = jnp.searchsorted(jnp.asarray(ends.astype(np.int32)), jnp.arange(total), side="right")
    block = jnp.arange(total) - jnp.asarray((ends - blocks).astype(np.int32))[array]

    def draw(array: Int[Array, ""], block: Int[Array, ""]) -> Float[Array, "number"]:
        return uniform_numbers(jax.random.fold_in(jax.random.fold_in(key, array), block), (_BLOCK,))

    return jax.vmap(draw)(array, block)


@contextlib.contextmanager
def _drawing_from(source: Callable[[tuple[int, ...]], Array]) -> Iterator[None]:
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)
