"""What evaluation looks at: the image's centre, or several views whose probabilities are averaged."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.data.augment import resample

Images = Float[Array, "batch height width channel"]
ViewName = Literal["one", "flip", "ten", "scales"]

# Of the image, enlarged about its centre, for "scales".
SCALES = (1.0, 1.1, 1.25)


def views(
    images: Images, normalize: Callable[[Images], Images], name: ViewName, crop: tuple[int, int] | None
) -> list[Images]:
    """The views of a batch, each normalised.

    Args:
      images: uint8.
      normalize: makes of uint8 what the network takes.
      name: "one" is the centre; "flip" that and its mirror image; "ten" the centre, the four corners and their mirror
        images (Krizhevsky et al., 2012, section 4.1); "scales" the centre enlarged by 1, 1.1 and 1.25.
      crop: height and width of a view; None is the image's own.

    Raises:
      ValueError: ten crops of images that are no larger than a crop.
    """
    height, width = images.shape[1:3]
    size = crop or (height, width)
    room = height - size[0], width - size[1]
    if name == "ten" and min(room) < 1:
        raise ValueError(
            f"config: evaluate.views='ten' needs images larger than the crops: they are {height}x{width} and augment.crop is "
            f"{crop}: set augment.crop smaller, or dataset.resize larger"
        )
    central = partial(_cut, top=round(room[0] / 2), left=round(room[1] / 2), size=size)
    if name == "scales":
        grown = [images if scale == 1 else _enlarged(images, scale) for scale in SCALES]
        return [normalize(central(image)) for image in grown]
    cuts = [central(images)]
    if name == "ten":
        corners = [(top, left) for top in (0, room[0]) for left in (0, room[1])]
        cuts += [_cut(images, top, left, size) for top, left in corners]
    seen = [normalize(cut) for cut in cuts]
    return seen if name == "one" else [view for image in seen for view in (image, image[:, :, ::-1])]


def central_view(crop: tuple[int, int] | None, normalize: Callable[[Images], Images]) -> Callable[[Images], Images]:
    """uint8 -> the one view, normalised."""
    return lambda images: views(images, normalize, "one", crop)[0]


def _cut(images: Images, top: int, left: int, size: tuple[int, int]) -> Images:
    return images[:, top : top + size[0], left : left + size[1]]


def _enlarged(images: Images, scale: float) -> Images:
    warp = jnp.array([[1 / scale, 0.0, 0.0], [0.0, 1 / scale, 0.0]])
    return jax.vmap(lambda image: resample(image, warp, None, "edge"))(images.astype(jnp.float32))
