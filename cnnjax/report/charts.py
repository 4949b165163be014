"""Small charts of a page, as blocks: their geometry is computed here, the templates draw it."""

import math

import numpy as np
from jaxtyping import Float, Int

from cnnjax.report.blocks import Block, Template, Text
from cnnjax.tasks.classification_metrics import Calibration


def histogram_chart(
    counts: Int[np.ndarray, "bin"], low: float, high: float, label: str, deviation: float | None = None, digits: int = 2
) -> Block:
    """A histogram, the ends of its axis beneath.

    Args:
      counts: the number of values in each bin.
      low: the lower end of the first bin.
      high: the upper end of the last bin.
      label: what the chart shows, for those who cannot see it.
      deviation: the values' standard deviation, which is written beneath.
      digits: the digits of the numbers beneath.
    """
    width, height = 180, 44
    step, top = width / len(counts), max(int(counts.max()), 1)
    points = [
        (f"{(place + end) * step:.1f}", f"{height - height * count / top:.1f}")
        for place, count in enumerate(counts)
        for end in (0, 1)
    ]
    texts = [f"{low:.{digits}g}", f"{high:.{digits}g}"]
    ends = texts if deviation is None else [texts[0], f"σ {deviation:.{digits}g}", texts[1]]
    zero = f"{-low / (high - low) * width:.1f}" if low < 0 < high else None
    return Template(
        "histogram.html",
        {"width": width, "height": height, "points": points, "zero": zero, "label": label, "ends": ends},
    )  # fmt: skip


def reliability_chart(found: Calibration) -> Block:
    """Accuracy against confidence, the diagonal where they agree, and beneath it the number of examples in each bin."""
    side, foot, left = 240, 50, 34
    busiest = max(int(found.counts.max()), 1)
    width = side / len(found.counts)
    bars = [
        {
            "label": f"confidence {found.edges[place]:.2f} to {found.edges[place + 1]:.2f}: {count} examples, mean "
            f"confidence {found.confidence[place]:.3f}, accuracy {found.accuracy[place]:.3f}",
            "opacity": 0.4 + 0.6 * math.sqrt(count / busiest),
            "x": left + place * width + 1,
            "accuracy": side * float(found.accuracy[place]),
            "confidence": left + side * float(found.confidence[place]),
            "count": foot * count / busiest,
        }
        for place, count in enumerate(found.counts)
        if count
    ]
    return Template("reliability.html", {"side": side, "foot": foot, "left": left, "width": width - 2, "bars": bars})


def sparkline(epochs: Float[np.ndarray, "epoch"], values: Float[np.ndarray, "epoch"]) -> Block:
    """A line by epoch without axes."""
    kept = np.isfinite(values)
    if kept.sum() < 2:
        return Text("—")
    epochs, values = epochs[kept], values[kept]
    low, high = values.min(), values.max()
    x = 116 * (epochs - epochs[0]) / max(epochs[-1] - epochs[0], 1e-12) + 2
    y = 38 - 36 * (values - low) / max(high - low, 1e-12)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    label = f"from {values[0]:.3g} to {values[-1]:.3g}, least {low:.3g}, greatest {high:.3g}"
    return Template("sparkline.html", {"points": points, "label": label})
