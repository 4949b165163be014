"""Adaptation of any image to the input of a trained network, with remarks on steps that training did not take."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from cnnjax.core.options import unknown
from cnnjax.data import catalogue, transforms
from cnnjax.data.datasets import DatasetOptions

Resize = Literal["auto", "refuse"]
# A doubt about at most this fraction of the images is left unsaid.
RARE = 0.05
_RESIZES: tuple[Resize, ...] = ("auto", "refuse")


@dataclasses.dataclass(frozen=True)
class Fitted:
    """An image in the form of the network's input.

    Attributes:
      pixels: the pixels, prepared as the training images.
      remarks: the remarks on additional steps, and on brightness outside the range of the training images.
    """

    pixels: Shaped[np.ndarray, "*spatial channel"]
    remarks: tuple[str, ...]


def fit(
    image: transforms.Decoded,
    name: str,
    options: DatasetOptions,
    shape: tuple[int, ...],
    statistics: transforms.Statistics | None,
    resize: Resize = "auto",
    dtype: str = "uint8",
) -> Fitted:
    """Prepares an image as the training images were prepared; an image of another size is resized first.

    If the config has no `dataset.resize`, the image is resized by its shorter side and cropped to the centre, to the size of the
    training images before cropping and padding if the catalogue has that size, else to the size of the network's input.

    Args:
      image: a picture, or an array with an axis of channels.
      name: the name of the image in messages.
      options: the `dataset` section of the training's config.
      shape: the shape of a prepared training image, channels last.
      statistics: the statistics of the training images; None makes no remark on brightness.
      resize: "refuse" raises ValueError instead of resizing where training did not.
      dtype: the type of the prepared training images.

    Raises:
      ValueError: `resize` is "refuse" and the size does not fit; the image is empty or of another kind (`check_kind`); or it is a
        signal or a volume of another size.
    """
    if resize not in _RESIZES:
        raise ValueError(unknown("resize", resize, _RESIZES))
    given = transforms.size_of(image)
    if len(given) != len(shape) - 1 or (len(given) != 2 and given != shape[:-1]):
        raise ValueError(
            f"{name}: it holds {transforms.holds(image)}, of {_size(given)}: the network takes {_size(shape[:-1])}"
        )
    with transforms.naming(name):
        found = image.dtype.name if isinstance(image, np.ndarray) else "uint8"
        if options.depth is None and found != dtype:  # too late for dataset.depth, which arrays do not use
            raise ValueError(
                f"it holds {transforms.holds(image)}, but the data set's images are {dtype}: pass values of that type, in the same unit"
            )
        transforms.check_kind(image, options, shape[-1], dtype)
    remarks = []
    if transforms.was_turned(image):
        remarks.append("turned upright, as its EXIF orientation says")
    if shape[-1] == 1 and options.color_space is None and isinstance(image, Image.Image) and _has_colours(image):
        remarks.append("converted from colour to grey (luminance)")
    target = _resized_to(given, options, shape)
    if target is not None:
        if resize == "refuse":
            raise ValueError(
                f"{name}: the image is {_size(given)}, the network takes {_size(shape[:-1])}: resize it, or train with "
                "dataset.resize"
            )
        image = transforms.resize(image, target, "crop")
        remarks.append(f"resized to {_size(target)} by the shorter side and the central crop")
    with transforms.naming(name):
        pixels = transforms.prepare(image, options, shape[-1], dtype)
    return Fitted(pixels, (*remarks, *_brightness(pixels, statistics)))


def _resized_to(given: tuple[int, ...], options: DatasetOptions, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """The height and width to which `fit` resizes an image of this size before it is prepared; None if it does not."""
    entry = catalogue.find(options.name)
    raw = entry.shape[:2] if entry and entry.shape and not options.resize else None
    usual = raw is None or given in (raw, shape[:2])
    fits = len(given) != 2 or (usual and transforms.prepared_size(given, options) == shape[:2])
    return None if fits or min(given) == 0 else raw or shape[:2]


def place_of(
    given: tuple[int, int], options: DatasetOptions, shape: tuple[int, ...]
) -> tuple[float, float, float, float]:
    """The place of a whole image in what `fit` makes of it, which may cut it: left, top, width scale and height scale.

    Args:
      given: the height and width of the image.
      options: the `dataset` section of the training's config.
      shape: the shape of a prepared training image, channels last.
    """
    target = _resized_to(given, options, shape)
    (left, top, across, down), size = transforms.placement(given, transforms.TransformOptions(resize=target))
    (further_left, further_top, wider, taller), _ = transforms.placement(size, options)
    return left * wider + further_left, top * taller + further_top, across * wider, down * taller


def examples_of(
    array: Shaped[np.ndarray, "..."], name: str, shape: tuple[int, ...]
) -> tuple[Shaped[np.ndarray, "example ..."], bool]:
    """An array as a batch of examples, and whether it was a batch (has one more axis than an example).

    If the network's input has one channel, the axis of channels may be left out.

    Args:
      array: one example, or several.
      name: the name of the array in messages.
      shape: the shape of a training image, channels last.

    Raises:
      ValueError: the array has another number of axes.
    """
    axes = len(shape) - 1
    if array.ndim == axes + 2:
        return array, True
    if array.ndim == axes + 1:
        # (example, height, width), and not (height, width, channel)
        grey = axes == 2 and array.shape[-1] not in (1, 3, 4)
        batch = shape[-1] == 1 and (array.shape[1:] == shape[:-1] or grey)
        return (array, True) if batch else (array[None], False)
    if array.ndim == axes and shape[-1] == 1:
        return array[None], False
    raise ValueError(
        f"{name}: an array of {array.shape}: expected one example of {shape}, or several, (example, {', '.join(map(str, shape))})"
    )


def in_type(array: Shaped[np.ndarray, "..."], dtype: np.dtype) -> Shaped[np.ndarray, "..."]:
    """Converts an array from Python's and NumPy's default types to the type of the training images; other types are left, to be refused.

    32-bit integers are converted if all values fit, and floats are converted to floats. 8 bits are not converted to 16, nor
    integers to floats, since the values may have been scaled.
    """
    if array.dtype.kind == dtype.kind == "f":
        with np.errstate(over="ignore"):
            converted = array.astype(dtype)
        return converted if np.isfinite(converted).all() else array
    whole = array.dtype == np.int32 and dtype.kind in "iu" and array.size
    if whole and np.iinfo(dtype).min <= array.min() and array.max() <= np.iinfo(dtype).max:
        return array.astype(dtype)
    return array


class Doubt(str):
    """A remark that single images among many get by chance, even if they are like the training images."""


def summarize(remarks: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """The remarks on images, one line each, with the number of images that each concerns; without doubts about few of many images.

    Args:
      remarks: the name of each image, and the remarks on it.

    >>> summarize([("a.png", ["resized"]), ("b.png", []), ("c.png", ["resized"])])
    ['2 of 3 images (the first: a.png): resized']
    """
    lines = []
    for remark in dict.fromkeys(remark for _, own in remarks for remark in own):
        names = [name for name, own in remarks if remark in own]
        if isinstance(remark, Doubt) and len(names) <= RARE * len(remarks):
            continue
        who = names[0] if len(remarks) == 1 else f"{len(names)} of {len(remarks)} images (the first: {names[0]})"
        lines.append(f"{who}: {remark}")
    return lines


def _size(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _has_colours(picture: Image.Image) -> bool:
    if picture.mode in ("1", "L", "LA"):
        return False
    pixels = np.asarray(picture.convert("RGB"))
    return bool((pixels != pixels[..., :1]).any())


def _brightness(pixels: Shaped[np.ndarray, "*spatial channel"], statistics: transforms.Statistics | None) -> list[str]:
    """A remark if the image's mean in any channel is outside the range of the training images' means.

    An image from the distribution of the n training images is outside their range with probability 2 / (n + 1) per channel,
    whatever the distribution.
    """
    if statistics is None or statistics.darkest is None:
        return []
    mean = pixels.mean(tuple(range(pixels.ndim - 1)), dtype=np.float64)
    low, high = np.array(statistics.darkest), np.array(statistics.brightest)
    of = {"uint8": " of 255", "uint16": " of 65535"}.get(pixels.dtype.name, "")
    form = ".0f" if of or pixels.dtype.kind == "i" else ".3g"
    where = "" if len(mean) == 1 else " in a channel"
    seen = bool(of) and pixels.ndim == 3  # visible brightness, hence "darker"
    for how, outside in (("darker" if seen else "lower", mean < low), ("brighter" if seen else "higher", mean > high)):
        if outside.any():
            channel = outside.argmax()
            if not seen:
                how = f"its mean is {how}"
            advice = "; are dark and bright inverted, such as black on white for white on black?" if seen else ""
            means = f"{low[channel]:{form}} to {high[channel]:{form}}{of}"
            return [
                Doubt(
                    f"{how} than every training image{where} (their means are {means}): the prediction may be meaningless{advice}"
                )
            ]
    return []
