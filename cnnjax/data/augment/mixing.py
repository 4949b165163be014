"""Mixing: each image of a batch, and its target, mixed with another's (mixup and cutmix), or with its boxes put beside three others (mosaic)."""

import functools
import math
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from cnnjax.core.randomness import AXIS, stream_key
from cnnjax.data.augment.geometry import Box, Rows, box_mask, cut, cut_boxes, resample
from cnnjax.data.augment.options import AugmentOptions
from cnnjax.data.boxes import CLASS, PADDING

Images = Float[Array, "batch *spatial channel"]
Targets = Float[Array, "batch class"]
# The four parts of a mosaic, from the upper left to the lower right one: whether each is below, and to the right of, the centre.
PARTS = ((False, False), (False, True), (True, False), (True, True))


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
    devices = _devices()
    if devices is None:
        return array[::-1]
    # This device's partners are the whole part of another device, reversed.
    return jax.lax.ppermute(array, AXIS, [(source, devices - 1 - source) for source in range(devices)])[::-1]


def mosaic(
    images: Images,
    rows: Float[Array, "batch object 6"],
    keys: Key[Array, "batch"],
    probability: float,
    visible: float,
) -> tuple[Images, Float[Array, "batch 4*object 6"]]:
    """Replaces an image, with a probability, by a mosaic of itself and the next three of the global batch (Bochkovskiy et al., 2020).

    The four meet at a pixel's corner that is drawn from the middle half of the height and width. Each is made as small as its part allows,
    keeps its shape, and loses what reaches beyond the centre.

    Args:
      images: the images, all of the size of the result.
      rows: their objects, as `data.boxes` stores them.
      keys: the key of each example, of which the stream "mosaic" is used.
      probability: the probability of a mosaic.
      visible: the fraction of a box that must remain inside its part.
    """
    (all_images, all_rows), first = _whole_batch((images, rows)), _first_of_device(len(images))
    partners = (first + jnp.arange(len(images))[:, None] + jnp.arange(4)) % len(all_images)

    def one(image: Array, own: Rows, partners: Array, key: Array) -> tuple[Array, Rows]:
        happens, place = jax.random.split(stream_key(key, "mosaic"))
        made, boxes = _composed(all_images[partners], all_rows[partners], place, visible)
        nothing = jnp.zeros_like(boxes[len(own) :]).at[:, CLASS].set(PADDING)
        happens = jax.random.bernoulli(happens, probability)
        return jnp.where(happens, made, image), jnp.where(happens, boxes, jnp.concatenate([own, nothing]))

    return jax.vmap(one)(images, rows, partners, keys)


def _composed(
    images: Float[Array, "4 height width channel"],
    rows: Float[Array, "4 object 6"],
    key: Key[Array, ""],
    visible: float,
) -> tuple[Float[Array, "height width channel"], Rows]:
    """The mosaic of four images around a random centre, and its objects."""
    size = images.shape[1:3]
    centre = jnp.round(jax.random.uniform(key, (2,), minval=0.25, maxval=0.75) * np.array(size))
    whole, boxes = jnp.zeros(images.shape[1:]), []
    for image, own, below in zip(images, rows, PARTS, strict=True):
        start = jnp.where(np.array(below), centre, 0)
        end = jnp.where(np.array(below), np.array(size), centre)
        scale = ((end - start) / np.array(size)).max()
        # The outer corner of the image stays where it is.
        corner = jnp.where(np.array(below), np.array(size) * (1 - 1 / scale), 0)
        made = resample(image, cut(None, corner, np.array(size) / scale, size), None, "edge")
        whole = jnp.where(box_mask(image.shape, start, end - start), made, whole)
        moved = own.at[:, :4].set((own[:, :4] - jnp.tile(corner[::-1], 2)) * scale)
        boxes.append(cut_boxes(moved, start, end, visible))
    return whole, jnp.concatenate(boxes)


def _whole_batch(arrays: Any) -> Any:
    """The examples of all devices."""
    return arrays if _devices() is None else jax.lax.all_gather(arrays, AXIS, tiled=True)


def _first_of_device(examples: int) -> Array | int:
    """The place in the global batch of this device's first example."""
    return 0 if _devices() is None else jax.lax.axis_index(AXIS) * examples


def _devices() -> int | None:
    """The number of devices that share the batch; None outside `pmap`, where the batch is whole."""
    try:
        return jax.lax.axis_size(AXIS)
    except NameError:  # raised by JAX for an axis that no enclosing map has
        return None
