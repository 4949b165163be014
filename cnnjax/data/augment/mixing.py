"""Mixing: each image of a batch, and its target, mixed with another's (mixup and cutmix)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from cnnjax.core.randomness import AXIS
from cnnjax.data.augment.geometry import Box, box_mask
from cnnjax.data.augment.options import AugmentOptions

Images = Float[Array, "batch height width channel"]
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
    cutmix:  a box of share 1 - l of the area comes from x', and t is mixed by the areas

    l and the box are drawn once a batch. Batches are shuffled, so the partner is a random example.
    """
    mixture = draw_mixture(key, images.shape[1:], options)
    return mix_images(images, mixture), mix_targets(targets, mixture)


def draw_mixture(key: Key[Array, ""], shape: tuple[int, ...], options: AugmentOptions) -> Mixture:
    """The mixture of a batch of images of a shape."""
    share_key, box_key, choice_key = jax.random.split(key, 3)
    both = bool(options.mixup and options.cutmix)
    cut = jax.random.bernoulli(choice_key) if both else jnp.array(bool(options.cutmix))
    shares = [jax.random.beta(share_key, alpha, alpha) if alpha else 1.0 for alpha in (options.mixup, options.cutmix)]
    height, width = shape[:2]
    y, x = jax.random.randint(box_key, (2,), 0, jnp.array([height, width]))
    side = jnp.sqrt(1 - shares[1])
    half = jnp.array([height, width]) * side / 2
    top, left = jnp.clip(jnp.round(y - half[0]), 0, height), jnp.clip(jnp.round(x - half[1]), 0, width)
    bottom, right = jnp.clip(jnp.round(y + half[0]), 0, height), jnp.clip(jnp.round(x + half[1]), 0, width)
    box = box_mask(shape, top, left, bottom - top, right - left)
    own = jnp.where(cut, 1 - (bottom - top) * (right - left) / (height * width), shares[0])
    return Mixture(cut, shares[0], box, own)


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
