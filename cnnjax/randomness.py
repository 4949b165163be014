"""Keys for everything random, each derived from what it is for and never from the device it runs on."""

import contextlib
import zlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

AXIS = "devices"  # the name of the pmapped axis


def key_for(seed: int, stream: str, *position: int | Array) -> Key[Array, ""]:
    """The key of a named stream at a position (an epoch, a step, an example).

    Args:
      seed: the config's seed.
      stream: what the numbers are for, such as "initial" or "dropout".
      position: whole numbers, or traced ones inside a compiled function.
    """
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    for number in position:
        key = jax.random.fold_in(key, number)
    return key


def example_keys(key: Key[Array, ""], batch: int) -> Key[Array, "batch"]:
    """One key an example of the local batch, by its place in the global batch.

    Inside `pmap` over the axis `devices` the place counts through all devices, so that the keys do not depend
    on how many share the batch.
    """
    places = jnp.arange(batch)
    with contextlib.suppress(NameError):  # not inside pmap: the batch is whole
        places += jax.lax.axis_index(AXIS) * batch
    return jax.vmap(jax.random.fold_in, (None, 0))(key, places)
