"""Mixing: each image of a batch, and its target, mixed with another's (mixup and cutmix)."""

import functools
import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from cnnjax.core.randomness import AXIS, stream_key
from cnnjax.data.augment.geometry import Box, box_mask
from cnnjax.data.augment.options import AugmentOptions

Images = Float[Array, "batch *spatial channel"]
Targets = Float[Array, "batch class"]


class Mixture(NamedTuple):
    """The random choices for mixing a batch, the same for all examples.

    Attributes:
      cut: whether a box is exchanged (cutmix) instead of blending all pixels (mixup).
      share: the weight of each image in a blend with its partner.
      box: the mask of the box that is taken from the partner.
      own: the weight of each target in the mixture with its partner's.
    """

    cut: Bool[Array, ""]
    share: Float[Array, ""] | float
    box: Box
    own: Float[Array, ""]


def mix(images: Images, targets: Targets, key: Key[Array, ""], options: AugmentOptions) -> tuple[Images, Targets]:
    """Mixup or cutmix of the global batch; the partner of image i is image (batch - 1 - i).

    mixup:   x = l x + (1 - l) x',  t = l t + (1 - l) t',  with l from Beta(alpha, alpha)
    cutmix:  a box with a fraction 1 - l of the area (length, volume) is taken from x', and t is mixed by the areas

    l and the box are drawn once per batch. Batches are shuffled, so the partner is a random example.
    """
    mixture = draw_mixture(key, images.shape[1:], options)
    return mix_images(images, mixture), mix_targets(targets, mixture)


def draw_mixture(key: Key[Array, ""], shape: tuple[int, ...], options: AugmentOptions) -> Mixture:
    """Draws the mixture of a batch; mixup, cutmix and the choice between them each have a random stream."""
    share, box, own = 1.0, jnp.zeros((*shape[:-1], 1), bool), jnp.ones(())
    cut = jnp.array(bool(options.cutmix))
    if options.mixup:
        share = own = jax.random.beta(stream_key(key, "mixup"), options.mixup, options.mixup)
    if options.cutmix:
        box, outside = _draw_box(stream_key(key, "cutmix"), shape, options.cutmix)
        if options.mixup:
            cut = jax.random.bernoulli(stream_key(key, "mixup or cutmix"))
        own = jnp.where(cut, outside, own)
    return Mixture(cut, share, box, own)


def _draw_box(key: Key[Array, ""], shape: tuple[int, ...], alpha: float) -> tuple[Box, Float[Array, ""]]:
    """Draws the box of cutmix, with an area from Beta(alpha, alpha) before clipping, and the fraction of the area outside it."""
    share_key, place_key = jax.random.split(key)
    axes, size = len(shape) - 1, jnp.array(shape[:-1])
    centre = jax.random.randint(place_key, (axes,), 0, size)
    share = 1 - jax.random.beta(share_key, alpha, alpha)
    half = size * (jnp.sqrt(share) if axes == 2 else share ** (1 / axes)) / 2
    low, high = (jnp.clip(jnp.round(centre + side), 0, size) for side in (-half, half))
    extent = high - low
    return box_mask(shape, low, extent), 1 - functools.reduce(operator.mul, extent) / math.prod(shape[:-1])


def mix_images(images: Images, mixture: Mixture) -> Images:
    """Mixes each image of the global batch with its partner."""
    others = _reversed_batch(images)
    blended = mixture.share * images + (1 - mixture.share) * others
    return jnp.where(mixture.cut, jnp.where(mixture.box, others, images), blended)


def mix_targets(targets: Targets, mixture: Mixture) -> Targets:
    """Mixes each target of the global batch with its partner's."""
    return mixture.own * targets + (1 - mixture.own) * _reversed_batch(targets)


def _reversed_batch(array: Any) -> Any:
    """This device's part of the reversed global batch."""
    try:
        devices = jax.lax.axis_size(AXIS)
    except NameError:  # not inside pmap: the batch is whole
        return array[::-1]
    # This device's partners are the whole part of another device, reversed.
    return jax.lax.ppermute(array, AXIS, [(source, devices - 1 - source) for source in range(devices)])[::-1]
