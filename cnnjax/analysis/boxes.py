"""Boxes drawn on images, and the curves of precision over recall."""

import colorsys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

# The smallest longer side of a drawn image: smaller images are enlarged by a whole factor, so that boxes and their texts are legible.
SIDE = 320
Colour = tuple[int, int, int]
GOLDEN = (5**0.5 - 1) / 2
# The colours of a report: objects that are hit, missed, and detections without an object.
HIT, MISS, ALARM = (46, 160, 67), (230, 81, 0), (215, 40, 40)


def class_colour(number: int) -> Colour:
    """The bright colour of a class: hues a golden section of the circle apart, so that those of neighbouring numbers differ much."""
    return tuple(round(255 * share) for share in colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.7, 1.0))


def drawn_boxes(
    image: UInt8[np.ndarray, "height width channel"],
    boxes: Float[np.ndarray, "box 4"],
    colours: Sequence[Colour],
    texts: Sequence[str] = (),
) -> UInt8[np.ndarray, "height width 3"]:
    """An image with boxes, and a text above each.

    Args:
      image: the image as it is seen.
      boxes: the edges (x0, y0, x1, y1) in pixels of the image.
      colours: the colour of each box.
      texts: the text of each box.
    """
    factor = max(1, -(-SIDE // max(image.shape[:2])))
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("RGB")
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    width = max(2, round(max(picture.size) / 400))
    for place, (box, colour) in enumerate(zip(np.asarray(boxes, np.float64) * factor, colours, strict=True)):
        x0, y0, x1, y1 = (round(float(value)) for value in box)
        draw.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=colour, width=width)
        if place < len(texts) and texts[place]:
            _, _, right, bottom = draw.textbbox((0, 0), texts[place], font=font)
            at = min(max(x0, 0), max(picture.width - right, 0)), y0 - bottom - 2 if y0 > bottom + 2 else y0
            draw.rectangle((at[0], at[1], at[0] + right + 2, at[1] + bottom + 2), fill=colour)
            draw.text((at[0] + 1, at[1]), texts[place], fill="white" if sum(colour) < 400 else "black", font=font)
    return np.asarray(picture)


def plot_precision_recall(
    curves: Sequence[tuple[str, Float[np.ndarray, "recall"]]], recalls: Float[np.ndarray, "recall"], title: str
) -> Figure:
    """Plots precision over recall, a line for each named curve.

    Args:
      curves: the name of each curve, and its precision at each recall.
      recalls: the recalls.
      title: the title of the figure.
    """
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axis = figure.subplots()
    for name, precision in curves:
        axis.plot(recalls, precision, label=name, linewidth=1.5)
    axis.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=title)
    axis.grid(alpha=0.3)
    if curves:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure
