"""The objects and the detections of images, as arrays padded to a fixed number, so that one program serves all images."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Bool, Float, Int

from cnnjax.detection.boxes import area


class Objects(NamedTuple):
    """The objects of each image, padded to the same number.

    Attributes:
      boxes: the boxes, (x0, y0, x1, y1) in pixels.
      classes: the classes, from 0; background is none of them.
      ignore: whether an object, such as a crowd, counts neither as an object to be found nor as background.
      mask: whether there is an object; False is padding, whose other values mean nothing.
    """

    boxes: Float[Array, "batch objects 4"]
    classes: Int[Array, "batch objects"]
    ignore: Bool[Array, "batch objects"]
    mask: Bool[Array, "batch objects"]

    @property
    def wanted(self) -> Bool[Array, "batch objects"]:
        """Whether each object is to be found: it is not padding, is not ignored, and has an area."""
        return self.mask & ~self.ignore & (area(self.boxes) > 0)

    @property
    def ignored(self) -> Bool[Array, "batch objects"]:
        """Whether each object is to be ignored."""
        return self.mask & self.ignore


class Detections(NamedTuple):
    """The detections in each image, highest score first, padded to the same number.

    Attributes:
      boxes: the boxes, (x0, y0, x1, y1) in pixels, within the image.
      scores: the scores, from 0 to 1; 0 for padding.
      classes: the classes, from 0; 0 for padding.
      mask: whether there is a detection; False is padding.
    """

    boxes: Float[Array, "batch detections 4"]
    scores: Float[Array, "batch detections"]
    classes: Int[Array, "batch detections"]
    mask: Bool[Array, "batch detections"]


def taken(values: Array, places: Int[Array, "batch *place"]) -> Array:
    """The values at indices of each example.

    Args:
      values: the values, (batch, value, ...).
      places: the indices into each example's values.
    """
    return jax.vmap(lambda values, places: values[places])(values, places)
