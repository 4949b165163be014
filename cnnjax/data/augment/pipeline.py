"""The pipeline of augmentation: which operation is applied after which, and with what key.

Every example's key follows from (seed, epoch, its index), so that its changes are the same on any number of devices and
after any interruption; an operation's follows from the example's and the operation's name, so that switching one on does not
change the random numbers of another. Images are floats of 0 to 255, before normalisation. What is off is left out of the
program; RandAugment at magnitude 0 is not, as some of its operations have no strength.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from cnnjax.core.randomness import key_for, stream_key
from cnnjax.data.augment.extra import Example, Extra, apply_extra, find_extra
from cnnjax.data.augment.geometry import draw_placement, place_image
from cnnjax.data.augment.options import OPERATIONS, AugmentOptions

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


def _augment_one(image: Image, key: Key[Array, ""], options: AugmentOptions) -> Image:
    image = place_image(image, draw_placement(key, image.shape, options), options)
    for name, operation in OPERATIONS.items():
        if value := getattr(options, name):
            image = operation.apply(image, stream_key(key, name), value)
    return image
