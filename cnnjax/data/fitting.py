"""Pictures from anywhere, made what a trained network takes; and in words what had to be done that training did not do."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cnnjax.core.options import unknown
from cnnjax.data import catalogue, transforms
from cnnjax.data.datasets import DatasetOptions

Resize = Literal["auto", "refuse"]
_RESIZES: tuple[Resize, ...] = ("auto", "refuse")


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A picture as a network takes it.

    Attributes:
      pixels: prepared as the training's images.
      remarks: on what was done that the training's preparation does not do, and on brightness that no training image has.
    """

    pixels: UInt8[np.ndarray, "height width channel"]
    remarks: tuple[str, ...]


def fit(
    picture: Image.Image,
    name: str,
    options: DatasetOptions,
    shape: tuple[int, int, int],
    statistics: transforms.Statistics | None,
    resize: Resize = "auto",
) -> Fitted:
    """Prepares a picture as the training's images were prepared; one of another size is made to fit first.

    Where the config has no `dataset.resize`, the shorter side is resized and the centre cut to the size that the training's
    images had before they were cropped and padded, if the data set is known to have one, or else to the network's.

    Args:
      picture: decoded.
      name: of the picture, for messages.
      options: of the training.
      shape: height, width and channels of the training's images, prepared.
      statistics: of the training's images; None says nothing of brightness.
      resize: "refuse" raises ValueError instead of changing the size in a way the training does not.

    Raises:
      ValueError: `resize` is "refuse" and the size does not fit, or the picture is empty or would be cut (`check_pixels`).
    """
    if resize not in _RESIZES:
        raise ValueError(unknown("resize", resize, _RESIZES))
    transforms.check_pixels(picture, name)
    remarks = []
    if transforms.TURNED in picture.info:
        remarks.append("turned upright, as its EXIF orientation says")
    if shape[-1] == 1 and options.color_space is None and _has_colours(picture):
        remarks.append("converted from colour to grey (luminance)")
    given, entry = (picture.height, picture.width), catalogue.find(options.name)
    raw = entry.shape[:2] if entry and entry.shape and not options.resize else None
    usual = raw is None or given in (raw, shape[:2])
    if min(given) > 0 and not (usual and transforms.prepared_size(given, options) == shape[:2]):
        if resize == "refuse":
            raise ValueError(
                f"{name}: the image is {_size(given)}, the network takes {_size(shape)}: resize it, or train with "
                "dataset.resize"
            )
        target = raw or shape[:2]
        picture = transforms.resize(picture, target, "crop")
        remarks.append(f"resized to {_size(target)} by the shorter side and the central crop")
    try:
        pixels = transforms.prepare(picture, options, shape[-1])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return Fitted(pixels, (*remarks, *_brightness(pixels, statistics)))


def summarize(remarks: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """The remarks on pictures, a line each, with how many pictures it concerns.

    Args:
      remarks: of every picture, its name and what was remarked on it.

    >>> summarize([("a.png", ["resized"]), ("b.png", []), ("c.png", ["resized"])])
    ['2 of 3 images (the first: a.png): resized']
    """
    lines = []
    for remark in dict.fromkeys(remark for _, own in remarks for remark in own):
        names = [name for name, own in remarks if remark in own]
        who = names[0] if len(remarks) == 1 else f"{len(names)} of {len(remarks)} images (the first: {names[0]})"
        lines.append(f"{who}: {remark}")
    return lines


def _size(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size[:2]))


def _has_colours(picture: Image.Image) -> bool:
    if picture.mode in ("1", "L", "LA"):
        return False
    pixels = np.asarray(picture.convert("RGB"))
    return bool((pixels != pixels[..., :1]).any())


def _brightness(
    pixels: UInt8[np.ndarray, "height width channel"], statistics: transforms.Statistics | None
) -> list[str]:
    """A remark if the image's mean lies outside the range of the training images' means, in any channel.

    Of n training images and one more drawn as they were, this one is outermost with probability 2 / (n + 1) a channel,
    whatever the distribution.
    """
    if statistics is None or statistics.darkest is None:
        return []
    mean, low, high = pixels.mean((0, 1)), np.array(statistics.darkest), np.array(statistics.brightest)
    where = "" if len(mean) == 1 else " in a channel"
    for how, outside in (("darker", mean < low), ("brighter", mean > high)):
        if outside.any():
            channel = outside.argmax()
            return [
                f"{how} than every training image{where} (their means are {low[channel]:.0f} to {high[channel]:.0f} of 255): "
                "the prediction may mean nothing; are dark and bright exchanged, as black on white for white on black?"
            ]
    return []
