"""Test-time augmentation: the image's centre, or several views whose probabilities are averaged."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cnnjax.data.augment import resample

Images = Float[Array, "batch *spatial channel"]
ViewName = Literal["one", "flip", "ten", "scales"]

# The factors by which "scales" enlarges the image about its centre.
SCALES = (1.0, 1.1, 1.25)
# Whether each of the views is a mirror image, whose predictions by pixel must be mirrored back.
MIRRORED: Mapping[str, tuple[bool, ...]] = {
    "one": (False,),
    "flip": (False, True),
    "ten": (False, True) * 5,
    "scales": (False,) * len(SCALES),
}


def views(
    images: Images, normalize: Callable[[Images], Images], name: ViewName, crop: tuple[int, ...] | None
) -> list[Images]:
    """The normalised views of a batch.

    Args:
      images: the stored images.
      normalize: the function from stored images to the network's input.
      name: "one" is the centre; "flip" the centre and its mirror image (along the last spatial axis); "ten" the centre, the four
        corners and their mirror images (Krizhevsky et al., 2012, section 4.1); "scales" the centre enlarged by 1, 1.1 and 1.25.
      crop: the size of a view along each axis; None is the size of the image.

    Raises:
      ValueError: ten crops of images that are not larger than a crop, or do not have two axes.
    """
    sides = images.shape[1:-1]
    size = crop or sides
    room = [whole - part for whole, part in zip(sides, size, strict=True)]
    if name == "ten" and len(sides) != 2:
        raise ValueError(
            f"config: evaluate.views='ten' needs images with two spatial axes; these have {len(sides)}: choose other views"
        )
    if name == "ten" and min(room) < 1:
        raise ValueError(
            f"config: evaluate.views='ten' needs images larger than the crops: they are {sides[0]}x{sides[1]} and augment.crop is "
            f"{crop}: set augment.crop smaller, or dataset.resize larger"
        )
    central = partial(_cut, corner=[round(free / 2) for free in room], size=size)
    if name == "scales":
        grown = [images if scale == 1 else _enlarged(images, scale) for scale in SCALES]
        return [normalize(central(image)) for image in grown]
    cuts = [central(images)]
    if name == "ten":
        corners = [(top, left) for top in (0, room[0]) for left in (0, room[1])]
        cuts += [_cut(images, corner, size) for corner in corners]
    seen = [normalize(cut) for cut in cuts]
    return seen if name == "one" else [view for image in seen for view in (image, image[..., ::-1, :])]


def central_view(crop: tuple[int, ...] | None, normalize: Callable[[Images], Images]) -> Callable[[Images], Images]:
    """The function from stored images to the normalised central view."""
    return lambda images: views(images, normalize, "one", crop)[0]


def central_map(maps: Int[Array, "batch *spatial"], crop: tuple[int, ...] | None) -> Int[Array, "batch *size"]:
    """Maps of class numbers, cropped as the central view of their images."""
    return views(maps[..., None], lambda images: images, "one", crop)[0][..., 0]


def _cut(images: Images, corner: Sequence[int], size: Sequence[int]) -> Images:
    return images[:, *(slice(first, first + length) for first, length in zip(corner, size, strict=True))]


def _enlarged(images: Images, scale: float) -> Images:
    axes = images.ndim - 2
    warp = jnp.array(np.eye(axes, axes + 1) * (1 / scale), jnp.float32)
    return jax.vmap(lambda image: resample(image, warp, None, "edge"))(images.astype(jnp.float32))
