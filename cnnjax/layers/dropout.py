"""Dropout, its variants for convolutional layers, and stochastic depth.

The variants are those of Park and Kwak, "Analysis on the dropout effect in convolutional neural networks", ACCV 2016.
All are the identity in prediction. The random numbers of an example are derived from the "dropout" key and the example's
position in the global batch. Unlike those of `flax.linen.Dropout`, they are the same on any number of devices.
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from cnnjax.core.options import known_zero, unknown
from cnnjax.core.randomness import example_keys


def _happens(
    keys: Key[Array, "batch"], probability: float | Array, shape: tuple[int, ...]
) -> Bool[Array, "batch *shape"]:
    """Independent events with the given probability: an array of `shape` for each example."""
    return jax.vmap(lambda key: jax.random.bernoulli(key, probability, shape))(keys)


def _check_rate(rate: float, closed: bool = False) -> None:
    if isinstance(rate, int | float) and not 0 <= rate < 1 and not (closed and rate == 1):
        raise ValueError(f"dropout rate {rate}: expected a number from 0 up to{'' if closed else ', not including,'} 1")


def _dropped(layer: nn.Module, x: Float[Array, "batch *shape"], train: bool, drawn: tuple[int, ...]) -> Array:
    """In training the values that are kept, scaled, with one draw for each example and each value of the shape `drawn`."""
    _check_rate(layer.rate)
    if not train or known_zero(layer.rate):
        return x
    keep = _happens(example_keys(layer.make_rng("dropout"), x.shape[0]), 1 - layer.rate, drawn)
    return jnp.where(keep, x / (1 - layer.rate), 0)


class Dropout(nn.Module):
    """Sets each value to zero with probability `rate` and scales the others by 1 / (1 - rate).

    y = x * m / (1 - rate),   m ~ Bernoulli(1 - rate)      (Srivastava et al., JMLR 15, 2014)
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch *shape"], train: bool = False) -> Float[Array, "batch *shape"]:
        return _dropped(self, x, train, x.shape[1:])


class SpatialDropout(nn.Module):
    """Dropout of whole feature maps (Tompson et al., CVPR 2015): one draw for each example and channel."""

    rate: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *size channel"], train: bool = False
    ) -> Float[Array, "batch *size channel"]:
        return _dropped(self, x, train, (*(1,) * (x.ndim - 2), x.shape[-1]))


class StochasticDepth(nn.Module):
    """Sets all values of an example to zero with probability `rate` and scales those of the others by 1 / (1 - rate).

    Applied to a residual block before its input is added, it skips the block (Huang et al., ECCV 2016; "row" in torchvision).
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch *shape"], train: bool = False) -> Float[Array, "batch *shape"]:
        return _dropped(self, x, train, (1,) * (x.ndim - 1))


class MaxDrop(nn.Module):
    """Sets the maximum of each feature map, or across the channels of each position, to zero with probability `rate`.

    `over="map"` is the paper's feature-wise max-drop, `over="channels"` its channel-wise one. The other values are not
    scaled. All of several equal maxima are dropped.
    """

    rate: float
    over: Literal["map", "channels"] = "map"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *size channel"], train: bool = False
    ) -> Float[Array, "batch *size channel"]:
        _check_rate(self.rate, closed=True)
        places = {"map": tuple(range(1, x.ndim - 1)), "channels": (-1,)}
        if self.over not in places:
            raise ValueError(unknown("maximum of max-drop", self.over, places))
        if not train or known_zero(self.rate):
            return x
        maximum = x.max(places[self.over], keepdims=True)
        drop = _happens(example_keys(self.make_rng("dropout"), x.shape[0]), self.rate, maximum.shape[1:])
        return jnp.where(drop & (x == maximum), 0, x)


class StochasticDropout(nn.Module):
    """Dropout whose rate is drawn anew for each layer and step from N(a, b^2) or U(a, b), and clipped to 0..0.95."""

    distribution: Literal["normal", "uniform"]
    a: float
    b: float

    @nn.compact
    def __call__(self, x: Float[Array, "batch *shape"], train: bool = False) -> Float[Array, "batch *shape"]:
        if self.distribution not in ("normal", "uniform"):
            raise ValueError(unknown("distribution", self.distribution, ("normal", "uniform")))
        if not train:
            return x
        key = self.make_rng("dropout")
        rate_key, mask_key = jax.random.split(key)
        if self.distribution == "normal":
            rate = self.a + self.b * jax.random.normal(rate_key)
        else:
            rate = jax.random.uniform(rate_key, minval=self.a, maxval=self.b)
        rate = jnp.clip(rate, 0, 0.95)
        keep = _happens(example_keys(mask_key, x.shape[0]), 1 - rate, x.shape[1:])
        return jnp.where(keep, x / (1 - rate), 0)


# The methods of Park and Kwak's study by name: rate -> layer. The stochastic methods draw their rate.
DROPOUTS: dict[str, Callable[[float], nn.Module]] = {
    "none": lambda rate: Dropout(0.0),
    "dropout": Dropout,
    "spatial": SpatialDropout,
    "max_map": lambda rate: MaxDrop(rate, "map"),
    "max_channels": lambda rate: MaxDrop(rate, "channels"),
    "stochastic_normal": lambda rate: StochasticDropout("normal", rate, 0.05),
    "stochastic_uniform": lambda rate: StochasticDropout("uniform", 0.0, 2 * rate),
}
