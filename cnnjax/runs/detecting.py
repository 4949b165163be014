"""Objects in images of any size: the detections of a run in the images' own pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnjax.data import fitting, transforms
from cnnjax.data.datasets import DatasetOptions
from cnnjax.data.fitting import Fitted, Resize
from cnnjax.detection import Detections
from cnnjax.runs.run import Run


def detect(
    run: Run, images: Sequence[Any], names: Sequence[str] | None = None, resize: Resize = "auto"
) -> tuple[Detections, list[Fitted]]:
    """The detections of a run in images of any size, with boxes in pixels of each image, and the images as the network gets them.

    An image is prepared as the training images were: resized, cropped, padded. What a crop leaves out is not searched; a detection that
    lies in the padding alone is none.

    Args:
      run: a run whose task is detection.
      images: arrays or Pillow images of the training's kind.
      names: the name of each image in messages.
      resize: "refuse" raises ValueError for images of a size that training did not have.

    Raises:
      ValueError: an image is of another kind or size; the message has its name.
    """
    names = [f"image {number}" for number in range(len(images))] if names is None else names
    decoded = [run.decoded(image, name) for image, name in zip(images, names, strict=True)]
    fitted = [run.fit(image, name, resize) for image, name in zip(images, names, strict=True)]
    if not fitted:
        return run.predict(()), []
    found = run.predict_prepared(np.stack([one.pixels for one in fitted]))
    return in_own_pixels(run, found, [transforms.size_of(image) for image in decoded]), fitted


def in_own_pixels(run: Run, found: Detections, sizes: Sequence[tuple[int, int]]) -> Detections:
    """Detections with boxes in pixels of each image, from those in images that `run.fit` made of them.

    Args:
      run: a run whose task is detection.
      found: the detections in the pixels of the prepared images.
      sizes: the height and width of each image before it was prepared.
    """
    options, shape = DatasetOptions(**run.config.dataset), tuple(run.described["image_shape"])
    boxes = np.array(found.boxes, np.float32)
    for own, (height, width) in zip(boxes, sizes, strict=True):
        left, top, across, down = fitting.place_of((height, width), options, shape)
        own[:] = ((own - [left, top] * 2) / ([across, down] * 2)).clip(0, [width, height] * 2)
    mask = np.asarray(found.mask) & (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    return found._replace(boxes=boxes * mask[..., None], mask=mask)
