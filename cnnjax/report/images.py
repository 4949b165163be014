"""Atlases: many small pictures of a page in one PNG file."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from cnnjax.core.html import fitted, png


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


def make_atlas(
    pictures: Sequence[UInt8[np.ndarray, "height width channel"]], examples: Sequence[int], largest: int = 1_000_000
) -> Atlas:
    """The atlas of pictures, with the largest squares that keep the file below `largest` bytes."""
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
