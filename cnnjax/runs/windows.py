"""Predicted maps of images larger than the training images, combined from overlapping windows."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from cnnjax.data import transforms
from cnnjax.data.datasets import DatasetOptions
from cnnjax.runs.run import Run, network_shape

# The number of windows that are predicted at a time.
BATCH = 64


def predict_map(
    run: Run,
    image: Shaped[np.ndarray, "height width *channel"] | Image.Image,
    name: str = "image",
    overlap: int | None = None,
) -> Float[np.ndarray, "height width class"]:
    """The class probabilities at every pixel of an image of any size, without resizing or cropping.

    The network is applied to windows with the size of its training images, and each pixel is taken from the window in which it is
    farthest from the border. The result equals the prediction for the whole image if the receptive field extends at most
    half the overlap from a pixel and windows begin at multiples of the network's stride. (With dataset.normalize set to
    "image" or "channel", each window is normalised separately.)

    Args:
      run: a run whose task is segmentation.
      image: a Pillow image, or an array with or without an axis of channels, of the same kind as the training images.
      name: the image's name in messages.
      overlap: the pixels that neighbouring windows share; None is half a window.

    Raises:
      ValueError: the run does not predict maps, the image is of another kind, or the overlap is not smaller than a window.
    """
    stored = tuple(run.described["image_shape"])
    size = network_shape(run.config, stored)[:-1]
    overlap = min(size) // 2 if overlap is None else overlap
    if not 0 <= overlap < min(size):
        raise ValueError(f"predict_map: overlap={overlap}: expected 0 to {min(size) - 1}, less than a window of {size}")
    pixels = at_own_size(run, image, name)
    height, width = (max(side, part) for side, part in zip(pixels.shape[:-1], size, strict=True))
    large = np.zeros((height, width, pixels.shape[-1]), pixels.dtype)
    large[: pixels.shape[0], : pixels.shape[1]] = pixels
    rows, columns = (window_starts(side, part, overlap) for side, part in zip((height, width), size, strict=True))
    places = [(top, left) for top in rows for left in columns]
    found = None
    for begin in range(0, len(places), BATCH):
        chosen = places[begin : begin + BATCH]
        windows = np.stack([large[top : top + size[0], left : left + size[1]] for top, left in chosen])
        predictions = run.predict_prepared(_centred(windows, stored))
        if predictions.shape[1:-1] != size:
            raise ValueError(
                f"predict_map: expected a map of {size} for each image, the run predicts {predictions.shape[1:]}"
            )
        if found is None:
            found = np.zeros((height, width, predictions.shape[-1]), predictions.dtype)
        for (top, left), own in zip(chosen, predictions, strict=True):
            (above, below), (before, after) = kept(top, rows, size[0], height), kept(left, columns, size[1], width)
            found[above:below, before:after] = own[above - top : below - top, before - left : after - left]
    return found[: pixels.shape[0], : pixels.shape[1]]


def window_starts(side: int, window: int, overlap: int) -> list[int]:
    """The starts of windows along a side; each overlaps the next by `overlap` pixels, and the last ends at the end of the side.

    >>> window_starts(100, 40, 10)
    [0, 30, 60]
    >>> window_starts(90, 40, 10)
    [0, 30, 50]
    """
    return [*range(0, side - window, window - overlap), side - window]


def kept(start: int, starts: Sequence[int], window: int, side: int) -> tuple[int, int]:
    """The range of pixels along a side that is taken from a window: up to the middle of the overlap with its neighbours.

    >>> [kept(start, [0, 30, 50], 40, 90) for start in (0, 30, 50)]
    [(0, 35), (35, 60), (60, 90)]
    """
    place = starts.index(start)
    begin = 0 if place == 0 else (starts[place - 1] + window + start) // 2
    end = side if place == len(starts) - 1 else (start + window + starts[place + 1]) // 2
    return begin, end


def at_own_size(
    run: Run, image: Shaped[np.ndarray, "height width *channel"] | Image.Image, name: str = "image"
) -> Shaped[np.ndarray, "h w channel"]:
    """An image in the channels and type of the training images, at its own size."""
    decoded = run.decoded(image, name)
    options = dataclasses.replace(DatasetOptions(**run.config.dataset), resize=None, crop=None, pad=None)
    with transforms.naming(name):
        transforms.height_and_width(decoded)
        return transforms.prepare(decoded, options, run.described["image_shape"][-1], run.facts.image_dtype)


def _centred(
    windows: Shaped[np.ndarray, "window height width channel"], stored: tuple[int, ...]
) -> Shaped[np.ndarray, "window *stored"]:
    """Windows padded to the stored size of the training images, whose centre is the network's input."""
    before = [round((whole - part) / 2) for whole, part in zip(stored[:-1], windows.shape[1:-1], strict=True)]
    around = [
        (first, whole - part - first) for first, whole, part in zip(before, stored, windows.shape[1:-1], strict=False)
    ]
    return np.pad(windows, ((0, 0), *around, (0, 0)))
