"""Maps of class numbers as pictures: a colour for each class, and files that hold the numbers themselves."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from cnnjax.analysis.pictures import on_grey, plot_images

# Classes that a palette's PNG can hold; its last number is for pixels without a class.
PALETTE = 256
# Classes that a figure names the colours of.
LEGEND = 30


def class_colours() -> UInt8[np.ndarray, "256 3"]:
    """The colours of class numbers as Pascal VOC's masks have them: the bits of a number, three by three, are its colour's highest.

    >>> class_colours()[[0, 1, 15, 255]].tolist()
    [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    numbers, colours = np.arange(PALETTE)[:, None], np.zeros((PALETTE, 3), np.int64)
    for bit in range(8):
        colours |= (numbers >> (3 * bit + np.arange(3)) & 1) << (7 - bit)
    return colours.astype(np.uint8)


def mask_png(classes: Int[np.ndarray, "height width"]) -> bytes:
    """A PNG file whose pixels are the class numbers: shown in their colours, or of more than 256 classes as 16 bits of grey."""
    buffer = io.BytesIO()
    if classes.max(initial=0) >= PALETTE:
        picture = Image.fromarray(classes.astype(np.uint16))
    else:
        picture = Image.fromarray(classes.astype(np.uint8))
        picture.putpalette(class_colours().tobytes())
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def overlaid_classes(
    image: UInt8[np.ndarray, "height width channel"], classes: Int[np.ndarray, "height width"], strength: float = 0.55
) -> UInt8[np.ndarray, "height width 3"]:
    """An image, in grey, under the colours of its pixels' classes; where the class is 0, usually the background, it is as it was."""
    colours = class_colours()[np.asarray(classes, int) % PALETTE].astype(np.float64)
    share = strength * (classes != 0)[..., None]
    return ((1 - share) * on_grey(image) + share * colours).round().astype(np.uint8)


def plot_maps(
    images: Sequence[UInt8[np.ndarray, "height width channel"]],
    maps: Mapping[str, Sequence[Int[np.ndarray, "height width"]]],
    names: Sequence[str],
    titles: Sequence[str] = (),
) -> Figure:
    """Images, a row each, beside their maps laid over them, and the colours' classes.

    Args:
      images: as they are seen.
      maps: by what they are, as {"label": ..., "prediction": ...}: a map for each image.
      names: the names of the classes.
      titles: of the rows.
    """
    rows = [
        [image, *(overlaid_classes(image, own[place]) for own in maps.values())] for place, image in enumerate(images)
    ]
    figure = plot_images(rows, titles, ["image", *maps])
    seen = sorted({int(number) for own in maps.values() for one in own for number in np.unique(one)} - {0})
    colours = class_colours() / 255
    shown = [(colours[number % PALETTE], names[number]) for number in seen if number < len(names)][:LEGEND]
    handles = [Patch(color=colour, label=name) for colour, name in shown]
    if handles:
        figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    return figure
