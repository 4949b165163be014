"""Boxes of objects: how the labels of a detection are stored.

The label of an example is an array of rows, a fixed number for all examples, each (x0, y0, x1, y1, class, status) in float32:
the left, top, right and bottom edges in pixels, where pixel 0 covers 0 to 1; the class number, -1 in rows without an object; and
whether the object counts (0), is ignored (1), or is a crowd of many (2), which is ignored too.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from cnnjax.data import transforms
from cnnjax.data.transforms import TransformOptions

Rows = Float[np.ndarray, "object 6"]

# The columns of a row after its edges, and the number of columns.
CLASS, STATUS, COLUMNS = 4, 5, 6
# The class of rows without an object, and the statuses of objects.
PADDING = -1
COUNTED, IGNORED, CROWD = 0, 1, 2
# Objects of which a crop or a padding leaves less than this fraction are ignored.
VISIBLE = 0.25


@dataclasses.dataclass(frozen=True)
class BoxContent:
    """The objects of an image before they are prepared.

    Attributes:
      rows: the objects.
      name: the name of their file in messages.
      size: the height and width of the image for which they were drawn; None if that is not known.
      room: the number of rows to store.
    """

    rows: Rows
    name: str
    size: tuple[int, int] | None
    room: int


def are_boxes(targets: Shaped[np.ndarray, "example ..."]) -> bool:
    """Whether targets are boxes of objects: rows of six floats for each example."""
    return targets.ndim == 3 and targets.shape[2] == COLUMNS and targets.dtype.kind == "f"


def present(rows: Float[np.ndarray, "*examples object 6"]) -> Bool[np.ndarray, "*examples object"]:
    """The rows that hold an object: they have a class, and a box with an area."""
    return (rows[..., CLASS] >= 0) & (rows[..., 2] > rows[..., 0]) & (rows[..., 3] > rows[..., 1])


def as_rows(
    boxes: Float[np.ndarray, "object 4"], classes: Sequence[int] | Int[np.ndarray, "object"], status: Sequence[int] = ()
) -> Rows:
    """The rows of boxes with their classes; all objects count if no status is given."""
    rows = np.zeros((len(classes), COLUMNS), np.float32)
    rows[:, :4] = np.reshape(boxes, (-1, 4))
    rows[:, CLASS] = classes
    if len(status):
        rows[:, STATUS] = status
    return rows


def padded(rows: Rows, room: int) -> Rows:
    """The rows of an image in a fixed number; of more objects than there is room for, those with the largest boxes, in their order.

    >>> padded(as_rows([[0, 0, 4, 4]], [7]), 2)[:, CLASS].tolist()
    [7.0, -1.0]
    """
    if len(rows) > room:
        size = (rows[:, 2] - rows[:, 0]) * (rows[:, 3] - rows[:, 1])
        rows = rows[np.sort(np.argsort(-size, kind="stable")[:room])]
    whole = np.zeros((room, COLUMNS), np.float32)
    whole[:, CLASS] = PADDING
    whole[: len(rows)] = rows
    return whole


def prepare_boxes(given: BoxContent, image: transforms.Decoded, options: TransformOptions) -> Rows:
    """Resizes, crops and pads the boxes of an image as the image is; objects that a crop leaves out are dropped.

    Raises:
      ValueError: the boxes were drawn for an image of another size.
    """
    with transforms.naming(given.name):
        if given.size is not None and given.size != transforms.size_of(image):
            drawn, size = ("x".join(map(str, shape)) for shape in (given.size, transforms.size_of(image)))
            raise ValueError(f"the boxes are for an image of {drawn} and its image is {size}: give them the same size")
        if not (options.resize or options.crop or options.pad):
            return padded(given.rows, given.room)
        placed, size = transforms.placement(transforms.height_and_width(image), options)
        return padded(moved(given.rows, placed, size), given.room)


def moved(rows: Rows, placed: tuple[float, float, float, float], size: tuple[int, int]) -> Rows:
    """The rows of an image that was scaled, shifted and cut.

    Args:
      rows: the objects.
      placed: the place of the whole image in the new one: left, top, width scale, height scale.
      size: the height and width of the new image.
    """
    left, top, across, down = placed
    rows = rows.astype(np.float32)
    edges = rows[:, :4].astype(np.float64) * [across, down, across, down] + [left, top, left, top]
    clipped = edges.clip(0, [size[1], size[0]] * 2)
    area, visible = ((box[:, 2:] - box[:, :2]).prod(1) for box in (edges, clipped))
    rows[:, :4] = clipped
    rows[:, STATUS] = np.where((visible < VISIBLE * area) & (rows[:, STATUS] == COUNTED), IGNORED, rows[:, STATUS])
    return rows[visible > 0]
