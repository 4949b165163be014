"""The pipeline of augmentation: which operation is applied after which, and with what key.

Every example's key follows from (seed, epoch, its index), so that its changes are the same on any number of devices and
after any interruption; an operation's follows from the example's and the operation's name, so that switching one on does not
change the random numbers of another. Images are floats before normalisation, in the stored unit; operations on values see
255ths of the stored type's range (`options.value_unit`). What is off is left out of the program; RandAugment at magnitude 0 is not, as some of its operations have no strength.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from cnnjax.core.randomness import key_for, stream_key
from cnnjax.data.augment.extra import Example, Extra, apply_extra, find_extra
from cnnjax.data.augment.geometry import draw_placement, place_image, place_map
from cnnjax.data.augment.options import AugmentOptions, check_maps, operations_on, value_unit

Image = Float[Array, "*spatial channel"]
Images = Float[Array, "batch *spatial channel"]


def example_keys(seed: int, epoch: Int[Array, ""], index: Int[Array, "batch"]) -> Key[Array, "batch"]:
    """The keys of a batch's examples."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key_for(seed, "augment", epoch), index)


def changes(options: AugmentOptions) -> bool:
    """Whether anything is done to the images one by one."""
    return dataclasses.replace(options, mixup=0.0, cutmix=0.0) != AugmentOptions()


def augment(
    images: Images,
    keys: Key[Array, "batch"],
    options: AugmentOptions,
    extra: Extra | None = None,
    dtype: str = "uint8",
) -> Images:
    """A batch of images, each changed by its own key. Arguments as in `augment_examples`."""
    return augment_examples({"image": images}, keys, options, extra, dtype)["image"]


def augment_examples(
    examples: Example,
    keys: Key[Array, "batch"],
    options: AugmentOptions,
    extra: Extra | None = None,
    dtype: str = "uint8",
    ignore: int | None = None,
) -> Example:
    """A batch of examples, each changed by its own key: the images by all that is on, maps by its geometry, all by `extra`.

    Args:
      examples: "image", values as they are stored, and "label" where there are labels.
      keys: a key for each example.
      options: what is done, and how strongly.
      extra: the function that `options.extra` names; None finds it by name, from the working directory.
      dtype: the type in which the images are stored; "uint8" has values of 0 to 255.
      ignore: where the labels are maps of class numbers in the images' planes, the number of what lies outside; None leaves labels
        as they are.
    """
    images = examples["image"].astype(jnp.float32)
    shape = images.shape[1:]
    images = jax.vmap(lambda image, key: _augment_one(image, key, options, dtype))(images, keys)
    changed = {**examples, "image": images}
    if ignore is not None:
        check_maps(options)
        move = lambda classes, key: place_map(classes, draw_placement(key, shape, options), options, ignore)  # noqa: E731
        changed["label"] = jax.vmap(move)(examples["label"].astype(jnp.int32), keys)
    extra = extra or find_extra(options)
    return changed if extra is None else apply_extra(extra, changed, keys)


def _augment_one(image: Image, key: Key[Array, ""], options: AugmentOptions, dtype: str) -> Image:
    image = place_image(image, draw_placement(key, image.shape, options), options)
    unit = value_unit(dtype)
    used = {name: apply for name, apply in operations_on(dtype).items() if getattr(options, name)}
    if used and unit != 1:
        image = image * unit
    for name, apply in used.items():
        image = apply(image, stream_key(key, name), getattr(options, name))
    return image / unit if used and unit != 1 else image
