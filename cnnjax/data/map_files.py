"""Mask files: the class number of every pixel of an image; the colours of a palette are ignored."""

import dataclasses
import io

import numpy as np
from jaxtyping import Int
from PIL import Image, UnidentifiedImageError

from cnnjax.data import array_files, transforms
from cnnjax.data.transforms import TransformOptions

# The number of pixels without a class in stored maps: padding, and values that are not a class.
IGNORE = 255


@dataclasses.dataclass(frozen=True)
class MapContent:
    """A map of class numbers before it is prepared.

    Attributes:
      content: the bytes of the file, or the map itself.
      name: the name of the file in messages.
      values: the value (or colour) of each class in the file, in the order of the class numbers; other values become `IGNORE`.
        None if the values are the class numbers.
    """

    content: bytes | Int[np.ndarray, "height width"]
    name: str
    values: tuple[int, ...] | tuple[tuple[int, int, int], ...] | None = None


def prepare_map(
    given: MapContent, image: transforms.Decoded, options: TransformOptions
) -> Int[np.ndarray, "height width"]:
    """Resizes (to the nearest pixel), crops and pads (with `IGNORE`) a map as its image is.

    Raises:
      ValueError: the file is not a map, or differs in size from its image.
    """
    with transforms.naming(given.name):
        numbers = _numbers(given)
        if numbers.shape != transforms.size_of(image):
            mask, size = ("x".join(map(str, shape)) for shape in (numbers.shape, transforms.size_of(image)))
            raise ValueError(f"the mask is {mask} and its image {size}: give them the same size")
        plane = numbers[..., None]
        if options.resize:
            plane = transforms.resize(plane, options.resize, options.resize_mode, Image.Resampling.NEAREST, IGNORE)
        if options.crop:
            plane = transforms.center_crop(plane, options.crop)
        if options.pad:
            plane = transforms.pad(plane, options.pad, IGNORE)
        return np.ascontiguousarray(plane[..., 0])


def _numbers(given: MapContent) -> Int[np.ndarray, "height width"]:
    """The class numbers of a map: uint8 if its file has 8 bits, else int32."""
    coloured = bool(given.values) and isinstance(given.values[0], tuple)
    values = _values(given.content, coloured)
    if given.values is None:
        return values if values.dtype == np.uint8 else values.astype(np.int32)
    if coloured:
        values = values.astype(np.int32) @ np.array([2**16, 2**8, 1])
    keys = np.array([np.dot(one, [2**16, 2**8, 1]) if coloured else one for one in given.values])
    order = np.argsort(keys)
    place = np.searchsorted(keys[order], values).clip(max=len(keys) - 1)
    small = len(keys) <= IGNORE
    return np.where(keys[order][place] == values, order[place], IGNORE).astype(np.uint8 if small else np.int32)


def _values(content: bytes | np.ndarray, coloured: bool) -> Int[np.ndarray, "height width *channel"]:
    """The pixel values of a file.

    Raises:
      ValueError: the file is damaged, or does not hold one integer per pixel (three if coloured).
    """
    if isinstance(content, bytes) and content.startswith(array_files.NPY):
        content = array_files.read_npy(content, "the mask")
    if isinstance(content, np.ndarray):
        array = content[..., 0] if content.ndim == 3 and content.shape[-1] == 1 else content
        if array.ndim != 2 or array.dtype.kind not in "biu":
            raise ValueError(f"an array {array.dtype} of {array.shape}: expected integers (height, width)")
        return array.astype(np.uint8) if array.dtype == bool else array
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"a damaged image ({error})") from None
    if picture.format == "JPEG":
        raise ValueError("a JPEG, whose compression changes class numbers: expected PNG, in grey or with a palette")
    if coloured:
        return np.asarray(picture.convert("RGB"))
    if picture.mode not in ("1", "L", "P") and not picture.mode.startswith("I"):
        raise ValueError(
            f"pixels of {transforms.picture_channels(picture)}: expected one class number per pixel, a PNG in grey or with a palette"
        )
    values = np.asarray(picture)  # for a palette, the numbers and not the colours
    return values.astype(np.uint8) if picture.mode == "1" else values
