"""Dropout (Srivastava et al., JMLR 15, 2014)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.randomness import example_keys


class Dropout(nn.Module):
    """Sets each value to zero with probability `rate` in training and scales the others by 1 / (1 - rate).

    y = x * m / (1 - rate),   m ~ Bernoulli(1 - rate)

    The mask of an example comes from the "dropout" key and the example's place in the global batch: it is the
    same on any number of devices, unlike that of `flax.linen.Dropout`.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch *shape"], train: bool = False) -> Float[Array, "batch *shape"]:
        if not 0 <= self.rate < 1:
            raise ValueError(f"dropout rate {self.rate}: expected a number from 0 up to, not including, 1")
        if not train or self.rate == 0:
            return x
        keys = example_keys(self.make_rng("dropout"), x.shape[0])
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1 - self.rate), 0)
