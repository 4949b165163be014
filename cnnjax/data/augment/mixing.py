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
    """The random choices by which a batch is mixed, the same for all its examples.

    Attributes:
      cut: whether a box is exchanged (cutmix) rather than all pixels blended (mixup).
      share: the share of each image that stays, where they are blended.
      box: the box that comes from the partner, where it is exchanged.
      own: the share of each target that stays.
    """

    cut: Bool[Array, ""]
    share: Float[Array, ""] | float
    box: Box
    own: Float[Array, ""]


def mix(images: Images, targets: Targets, key: Key[Array, ""], options: AugmentOptions) -> tuple[Images, Targets]:
    """Mixup or cutmix of the global batch: each image with the one as far from the batch's end as it is from its start.

    mixup:   x = l x + (1 - l) x',  t = l t + (1 - l) t',  with l of Beta(alpha, alpha)
    cutmix:  a box of share 1 - l of the area (of a signal's length, a volume's content) comes from x', and t is mixed by the areas

    l and the box are drawn once a batch. Batches are shuffled, so the partner is a random example.
    """
    mixture = draw_mixture(key, images.shape[1:], options)
    return mix_images(images, mixture), mix_targets(targets, mixture)


def draw_mixture(key: Key[Array, ""], shape: tuple[int, ...], options: AugmentOptions) -> Mixture:
    """The mixture of a batch of images of a shape; mixup, cutmix and the choice between them have a stream each."""
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
    """The box of cutmix, whose area is of Beta(alpha, alpha) but for what lies outside the image; the share of the area around it."""
    share_key, place_key = jax.random.split(key)
    axes, size = len(shape) - 1, jnp.array(shape[:-1])
    centre = jax.random.randint(place_key, (axes,), 0, size)
    share = 1 - jax.random.beta(share_key, alpha, alpha)
    half = size * (jnp.sqrt(share) if axes == 2 else share ** (1 / axes)) / 2
    low, high = (jnp.clip(jnp.round(centre + side), 0, size) for side in (-half, half))
    extent = high - low
    return box_mask(shape, low, extent), 1 - functools.reduce(operator.mul, extent) / math.prod(shape[:-1])


def mix_images(images: Images, mixture: Mixture) -> Images:
    """The images of the global batch, each mixed with its partner."""
    others = _reversed_batch(images)
    blended = mixture.share * images + (1 - mixture.share) * others
    return jnp.where(mixture.cut, jnp.where(mixture.box, others, images), blended)


def mix_targets(targets: Targets, mixture: Mixture) -> Targets:
    """The targets of the global batch, each mixed with its partner's."""
    return mixture.own * targets + (1 - mixture.own) * _reversed_batch(targets)


def _reversed_batch(array: Any) -> Any:
    """The global batch from its end to its start, of which this device keeps its part."""
    try:
        devices = jax.lax.axis_size(AXIS)
    except NameError:  # not inside pmap: the batch is whole
        return array[::-1]
    # This device's partners are another device's whole part, reversed.
    return jax.lax.ppermute(array, AXIS, [(source, devices - 1 - source) for source in range(devices)])[::-1]
