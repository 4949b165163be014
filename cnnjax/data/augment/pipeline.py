"""The pipeline of augmentation: which operation is applied after which, and with what key.

Every example's key follows from (seed, epoch, its index), so that its changes are the same on any number of devices and
after any interruption; an operation's follows from the example's and the operation's name, so that switching one on does not
change the random numbers of another. Images are floats of 0 to 255, before normalisation. What is off is left out of the
program; RandAugment at magnitude 0 is not, as some of its operations have no strength.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from cnnjax.core.randomness import key_for, stream_key
from cnnjax.data.augment import colour, occlusion
from cnnjax.data.augment.extra import Example, Extra, apply_extra, find_extra
from cnnjax.data.augment.geometry import draw_placement, place_image
from cnnjax.data.augment.options import AugmentOptions
from cnnjax.data.augment.randaugment import randaugment

Image = Float[Array, "height width channel"]
Images = Float[Array, "batch height width channel"]


def example_keys(seed: int, epoch: Int[Array, ""], index: Int[Array, "batch"]) -> Key[Array, "batch"]:
    """The keys of a batch's examples."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key_for(seed, "augment", epoch), index)


def changes(options: AugmentOptions) -> bool:
    """Whether anything is done to the images one by one."""
    return dataclasses.replace(options, mixup=0.0, cutmix=0.0) != AugmentOptions()


def augment(images: Images, keys: Key[Array, "batch"], options: AugmentOptions, extra: Extra | None = None) -> Images:
    """A batch of images, each changed by its own key.

    Args:
      images: the images, 0 to 255.
      keys: a key for each image.
      options: what is done, and how strongly.
      extra: the function that `options.extra` names; None finds it by name, from the working directory.
    """
    return augment_examples({"image": images}, keys, options, extra)["image"]


def augment_examples(
    examples: Example, keys: Key[Array, "batch"], options: AugmentOptions, extra: Extra | None = None
) -> Example:
    """A batch of examples, each changed by its own key: the images by all that is on, the labels by `extra` alone.

    Args:
      examples: "image", 0 to 255, and "label" where there are labels.
      keys: a key for each example.
      options: what is done, and how strongly.
      extra: the function that `options.extra` names; None finds it by name, from the working directory.
    """
    images = examples["image"].astype(jnp.float32)
    images = jax.vmap(lambda image, key: _augment_one(image, key, options))(images, keys)
    extra = extra or find_extra(options)
    changed = {**examples, "image": images}
    return changed if extra is None else apply_extra(extra, changed, keys)


# The random change of an image by one operation: (image, key, the value of its option) -> image.
Operation = Callable[[Image, Key[Array, ""], Any], Image]


def _scaled(change: Callable[[Image, Array], Image]) -> Operation:
    """An operation that multiplies by a factor of 1 - strength, or 0, to 1 + strength."""

    def operation(image: Image, key: Key[Array, ""], strength: float) -> Image:
        return change(image, jax.random.uniform(key, minval=max(0.0, 1 - strength), maxval=1 + strength))

    return operation


def _turned_hue(image: Image, key: Key[Array, ""], share: float) -> Image:
    return colour.turn_hue(image, jax.random.uniform(key, minval=-share, maxval=share))


def _without_colour(image: Image, key: Key[Array, ""], probability: float) -> Image:
    return jnp.where(jax.random.bernoulli(key, probability), colour.saturation(image, 0.0), image)


def _lit(image: Image, key: Key[Array, ""], deviation: float) -> Image:
    return colour.lighting(image, deviation * jax.random.normal(key, (3,)))


def _noisy(image: Image, key: Key[Array, ""], deviation: float) -> Image:
    return jnp.clip(image + 255 * deviation * jax.random.normal(key, image.shape), 0, 255)


# What is done to an image, in this order, after it was moved (`geometry.place_image`): the option, and its operation.
ORDER: tuple[tuple[str, Operation], ...] = (
    ("randaugment", lambda image, key, value: randaugment(image, key, *value)),
    ("brightness", _scaled(colour.brightness)),
    ("contrast", _scaled(colour.contrast)),
    ("saturation", _scaled(colour.saturation)),
    ("hue", _turned_hue),
    ("greyscale", _without_colour),
    ("lighting", _lit),
    ("noise", _noisy),
    ("cutout", occlusion.cutout),
    ("erasing", occlusion.random_erasing),
)


def _augment_one(image: Image, key: Key[Array, ""], options: AugmentOptions) -> Image:
    image = place_image(image, draw_placement(key, image.shape, options), options)
    for name, operation in ORDER:
        if value := getattr(options, name):
            image = operation(image, stream_key(key, name), value)
    return image
