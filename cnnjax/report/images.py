"""Pictures for a page: pixels as PNG files and addresses, and many small pictures in one file."""

import base64
import dataclasses
import io
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

# Bytes of a PNG from which a picture may be a photograph.
PHOTOGRAPH = 4096


@dataclasses.dataclass(frozen=True)
class Atlas:
    """Many small pictures in one PNG file, in rows of equal squares.

    Attributes:
      content: the PNG file.
      columns: the number of pictures in a row.
      rows: the number of rows.
      places: {example: the place of its picture}.
    """

    content: bytes
    columns: int
    rows: int
    places: dict[int, int]


def png(pixels: UInt8[np.ndarray, "height width channel"]) -> bytes:
    """Pixels as a PNG file."""
    buffer = io.BytesIO()
    _image(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    """A PNG file as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def picture_uri(pixels: UInt8[np.ndarray, "height width channel"]) -> str:
    """Pixels as an address that holds them: as PNG, or as JPEG where that halves what a colour photograph takes."""
    content = png(pixels)
    if pixels.shape[-1] == 3 and len(content) > PHOTOGRAPH:
        buffer = io.BytesIO()
        _image(pixels).save(buffer, format="JPEG", quality=90, subsampling=0)
        if 2 * len(buffer.getvalue()) < len(content):
            return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return data_uri(content)


def fitted(pixels: UInt8[np.ndarray, "height width channel"], side: int) -> UInt8[np.ndarray, "height width channel"]:
    """The picture, made smaller if its longer side exceeds `side`."""
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    shrink = side / max(height, width)
    size = max(round(width * shrink), 1), max(round(height * shrink), 1)
    array = np.asarray(_image(pixels).resize(size, Image.Resampling.LANCZOS))
    return array[..., None] if array.ndim == 2 else array


def make_atlas(
    pictures: Sequence[UInt8[np.ndarray, "height width channel"]], examples: Sequence[int], largest: int = 1_000_000
) -> Atlas:
    """The atlas of pictures, their squares as large as the file stays below `largest` bytes."""
    channels = pictures[0].shape[-1]
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = -(-len(pictures) // columns)
    content = b""
    for side in (96, 64, 48, 32, 20):
        if side > max(32, *pictures[0].shape[:2]) and side != 20:
            continue
        sheet = np.zeros((side * rows, side * columns, channels), np.uint8)
        for place, picture in enumerate(pictures):
            small = fitted(picture, side)
            top, left = place // columns * side, place % columns * side
            top, left = top + (side - small.shape[0]) // 2, left + (side - small.shape[1]) // 2
            sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
        content = png(sheet)
        if len(content) <= largest:
            break
    return Atlas(content, columns, rows, {example: place for place, example in enumerate(examples)})


def _image(pixels: UInt8[np.ndarray, "height width channel"]) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
