"""Conversion of stored images of any kind to pictures for a screen."""

import numpy as np
from jaxtyping import Shaped, UInt8

from cnnjax.data.transforms import Statistics, measure

# For images other than 8-bit photographs: the number of standard deviations from grey to black and to white, the grey level
# behind transparent pixels, and the total number of rows of a signal's stripes.
STRETCH, BACKGROUND, STRIPES = 2.5, 224, 32


def displayed(
    images: Shaped[np.ndarray, "image *spatial channel"], statistics: Statistics | None = None
) -> UInt8[np.ndarray, "image height width c"]:
    """Converts images of any kind for display: 8-bit grey or RGB.

    8-bit images with 1 or 3 channels are unchanged. For other images
    - values of other types are rescaled: black is `STRETCH` standard deviations below the mean and white as far above. 3 or 4
      channels share one range, which preserves their colours; otherwise each channel has its own range;
    - 2 channels are shown as red and green; of more channels the first three are red, green and blue; the fourth of 4 channels of
      unsigned integers is opacity, over light grey;
    - a volume is shown by its middle slice, a signal by stripes along its length, one per channel.

    Args:
      images: the stored images.
      statistics: the statistics of the stored training images; None measures the given images, so that the display of an image
        depends on the others.
    """
    if images.ndim == 5:
        images = images[:, images.shape[1] // 2]
    elif images.ndim == 3:
        height = -(-STRIPES // images.shape[-1])
        images = np.repeat(np.moveaxis(images, -1, 1), height, 1)[..., None]
        statistics = None  # statistics are per channel
    channels = images.shape[-1]
    opacity = images[..., 3:] / np.iinfo(images.dtype).max if channels == 4 and images.dtype.kind == "u" else None
    shown = images[..., :3] if channels > 1 else images
    if images.dtype != np.uint8:
        found = statistics or measure(images)
        mean, std = (np.array(values)[: shown.shape[-1]] for values in (found.mean, found.std))
        low, high = mean - STRETCH * std, mean + STRETCH * std
        if channels in (3, 4):
            low, high = low.min(keepdims=True), high.max(keepdims=True)
        if images.dtype.kind == "u":
            low = np.maximum(low, 0)
        share = (shown - low) / np.where(high > low, high - low, 1)
        shown = (255 * np.where(high > low, share, 0.5).clip(0, 1)).round().astype(np.uint8)
    if channels == 2:
        shown = np.concatenate([shown, np.zeros_like(shown[..., :1])], -1)
    if opacity is not None:
        shown = (shown * opacity + BACKGROUND * (1 - opacity)).round().astype(np.uint8)
    return shown
