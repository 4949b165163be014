"""The augmentation pipeline: the order of the operations and their keys.

The key of an example is derived from (seed, epoch, index), so that its changes are the same on any number of devices and
after any interruption. The key of an operation is derived from the example's key and the operation's name, so that enabling one
operation does not change the random numbers of another. Images are floats in the stored unit, before normalisation; operations
on values work on a range of 0 to 255 (`options.value_unit`). Disabled operations are left out of the program, except RandAugment
at magnitude 0, since some of its operations have no strength.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cnnjax.core.randomness import key_for, stream_key
from cnnjax.data.augment.extra import Example, Extra, apply_extra, find_extra
from cnnjax.data.augment.geometry import Rows, draw_placement, place_boxes, place_image, place_map
from cnnjax.data.augment.mixing import mosaic
from cnnjax.data.augment.options import (
    OPERATIONS,
    AugmentOptions,
    check_boxes,
    check_maps,
    check_no_boxes,
    operations_on,
    value_unit,
)

Image = Float[Array, "*spatial channel"]
Images = Float[Array, "batch *spatial channel"]


def example_keys(seed: int, epoch: Int[Array, ""], index: Int[Array, "batch"]) -> Key[Array, "batch"]:
    """The keys of a batch's examples."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key_for(seed, "augment", epoch), index)


def changes(options: AugmentOptions) -> bool:
    """Whether any operation on single images is enabled."""
    return dataclasses.replace(options, repeats=1, sizes=(), mixup=0.0, cutmix=0.0) != AugmentOptions()


def augment(
    images: Images,
    keys: Key[Array, "batch"],
    options: AugmentOptions,
    extra: Extra | None = None,
    dtype: str = "uint8",
) -> Images:
    """Augments a batch of images, each with its own key. Arguments as in `augment_examples`."""
    return augment_examples({"image": images}, keys, options, extra, dtype)["image"]


def augment_examples(
    examples: Example,
    keys: Key[Array, "batch"],
    options: AugmentOptions,
    extra: Extra | None = None,
    dtype: str = "uint8",
    ignore: int | None = None,
    visible: float | None = None,
) -> Example:
    """Augments a batch of examples, each with its own key: images by all operations, maps and boxes by the geometry, all by `extra`.

    With `mosaic` there are four times as many rows of boxes.

    Args:
      examples: the examples: "image", stored values, and "label" if there are labels.
      keys: the key of each example.
      options: the config's `augment` section.
      extra: the function that `options.extra` names; None finds it by name, from the working directory.
      dtype: the type of the stored images; "uint8" has values of 0 to 255.
      ignore: the class number outside the image if labels are maps of class numbers; None if they are not.
      visible: the fraction of a box that must remain inside the image if labels are boxes (`data.boxes`); None if they are not.
    """
    if ignore is not None:
        check_maps(options)
    if visible is None:
        check_no_boxes(options)
    else:
        check_boxes(options)
    images = examples["image"].astype(jnp.float32)
    shape, rows = images.shape[1:], None if visible is None else examples["label"]
    images = jax.vmap(lambda image, key, rows: _augment_one(image, key, options, dtype, rows))(images, keys, rows)
    changed = {**examples, "image": images}
    if ignore is not None:
        move = lambda classes, key: place_map(classes, draw_placement(key, shape, options), options, ignore)  # noqa: E731
        changed["label"] = jax.vmap(move)(examples["label"].astype(jnp.int32), keys)
    if visible is not None:

        def moved(rows: Array, key: Array) -> Array:
            return place_boxes(rows, draw_placement(key, shape, options, rows), shape, options, visible)

        changed["label"] = jax.vmap(moved)(rows, keys)
        if options.mosaic:
            images, rows = mosaic(images, changed["label"], keys, options.mosaic, visible)
            changed |= {"image": images, "label": rows}
    extra = extra or find_extra(options)
    return changed if extra is None else apply_extra(extra, changed, keys)


def _augment_one(
    image: Image, key: Key[Array, ""], options: AugmentOptions, dtype: str, rows: Rows | None = None
) -> Image:
    unit, placement = value_unit(dtype), draw_placement(key, image.shape, options, rows)
    if options.fill == "constant":
        outside = np.array(options.fill_values, np.float32) / unit
        image = place_image(image - outside, placement, options) + outside
    else:
        image = place_image(image, placement, options)
    used = {name: apply for name, apply in operations_on(dtype).items() if getattr(options, name)}
    if used and unit != 1:
        image = image * unit
    for name, apply in used.items():
        settings = {setting: getattr(options, setting) for setting in OPERATIONS[name].settings}
        image = apply(image, stream_key(key, name), getattr(options, name), **settings)
    return image / unit if used and unit != 1 else image
