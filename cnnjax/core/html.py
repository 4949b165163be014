"""HTML and SVG for notebooks: a card of facts, tables, curves and pictures, readable on a light and on a dark page.

A notebook's front end strips scripts and may strip style sheets, so styles are attributes of the elements. Text and lines have the
page's own colour, `currentColor`; the colours of `SERIES` are distinguishable from each other, from white and from black.
"""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cnnjax.core.terminal import are_figures, printable

SERIES = ("#3f87d9", "#e07b1f", "#2fa36b", "#b565c9")
# A grey that is visible on white and on black.
FAINT = "rgba(128,128,128,.45)"
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:13px;line-height:1.45"
# The longest text of a table that stays on its line.
SHORT = 40
# The size of a PNG in bytes from which JPEG is tried for a picture, which may be a photograph.
PHOTOGRAPH = 4096
# The largest number of points of a curve: about the number of pixels of a small chart.
POINTS = 400


def escaped(text: Any) -> str:
    """A text for HTML in which markup and control characters are escaped.

    >>> escaped("<b>\\n")
    '&lt;b&gt;\\\\n'
    """
    return html.escape(printable(text))


def card(title: str, *parts: str) -> str:
    """A card: parts (HTML) below a title (text)."""
    return (
        f'<div style="{_FONT};max-width:62em"><div style="font-weight:600">{escaped(title)}</div>{"".join(parts)}</div>'
    )


def facts(pairs: Mapping[str, Any]) -> str:
    """Names with their values, one per line; empty values are left out."""
    cells = "".join(
        f'<div style="opacity:.65">{escaped(name)}</div><div>{escaped(value)}</div>'
        for name, value in pairs.items()
        if value not in (None, "")
    )
    return (
        f'<div style="display:grid;grid-template-columns:max-content 1fr;column-gap:1.2em;margin:.3em 0">{cells}</div>'
    )


def remark(text: str) -> str:
    """A line in small type."""
    return f'<div style="opacity:.65;font-size:12px">{escaped(text)}</div>'


def beside(*parts: str) -> str:
    """Parts side by side, in several lines if the page is narrow."""
    return f'<div style="display:flex;flex-wrap:wrap;gap:.4em 1.6em;align-items:flex-start">{"".join(parts)}</div>'


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], strong: Sequence[int] = ()) -> str:
    """A table; columns of numbers are aligned to the right.

    Args:
      columns: the columns' names.
      rows: the rows' cells, as text.
      strong: the positions of the rows in bold type.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    right = [bool(texts) and are_figures([row[place] for row in texts]) for place in range(len(columns))]

    def style(text: str, at_right: bool) -> str:
        """A short text stays on its line."""
        return f"padding:2px 12px 2px 0;text-align:{'right' if at_right else 'left'}" + ";white-space:nowrap" * (
            len(text) <= SHORT
        )

    def line(cells: Sequence[str], tag: str, extra: str) -> str:
        inner = "".join(
            f'<{tag} style="{style(text, at_right)}{extra}">{escaped(text)}</{tag}>'
            for text, at_right in zip(cells, right, strict=True)
        )
        return f'<tr style="background:none">{inner}</tr>'

    head = line(columns, "th", f";font-weight:600;border-bottom:1px solid {FAINT}")
    body = "".join(line(row, "td", ";font-weight:600" if place in strong else "") for place, row in enumerate(texts))
    return (
        f'<div style="overflow-x:auto"><table style="border-collapse:collapse;margin:.3em 0;font-size:12.5px;'
        f'font-variant-numeric:tabular-nums"><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    )


def bar(share: float) -> str:
    """A bar that is filled to a fraction from 0 to 1; empty for NaN."""
    percent = 0.0 if math.isnan(share) else 100 * min(max(share, 0), 1)
    filled = f"width:{percent:.1f}%;height:100%;border-radius:3px;background:{SERIES[0]}"
    return f'<div style="height:6px;border-radius:3px;background:{FAINT};max-width:40em"><div style="{filled}"></div></div>'


def png(pixels: UInt8[np.ndarray, "height width channel"]) -> bytes:
    """Pixels of 1, 3 or 4 channels as a PNG file."""
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


def _image(pixels: UInt8[np.ndarray, "height width channel"]) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def gallery(images: Sequence[UInt8[np.ndarray, "height width channel"]], captions: Sequence[str], side: int) -> str:
    """Pictures side by side with a caption beneath each.

    Args:
      images: the pictures' pixels; the pixels of one that is smaller than `side` are shown as squares.
      captions: the texts beneath them.
      side: the height of a picture on the page.
    """
    figures = "".join(
        f'<div style="text-align:center;font-size:11px;width:min-content">'
        f'<img src="{picture_uri(fitted(image, 2 * side))}" alt="{escaped(caption)}" '
        f'style="height:{side}px;width:auto;max-width:none;margin:0;{"image-rendering:pixelated" if image.shape[0] < side else ""}">'
        f'<div style="overflow-wrap:anywhere">{escaped(caption)}</div></div>'
        for image, caption in zip(images, captions, strict=True)
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:.5em;margin:.4em 0">{figures}</div>'


def curves(
    title: str, lines: Mapping[str, Sequence[tuple[float, float]]], marked: tuple[float, str] | None = None
) -> str:
    """A small chart of lines over the epochs, as SVG.

    Args:
      title: what is drawn.
      lines: {name: its points (epoch, value)}; values that are not finite are left out.
      marked: an epoch with a dashed line across, and what it is.
    """
    lines = {name: [point for point in points if math.isfinite(point[1])] for name, points in lines.items()}
    lines = {name: _thinned(points) for name, points in lines.items() if points}
    if not lines:
        return ""
    width, height, left, top, foot = 330, 190, 48, 24, 22
    places = [x for points in lines.values() for x, _ in points]
    values = [y for points in lines.values() for _, y in points]
    (x_low, x_high), (y_low, y_high) = _ends(places), _ends(values)
    x = lambda place: left + (place - x_low) / (x_high - x_low) * (width - left - 8)  # noqa: E731
    y = lambda value: height - foot - (value - y_low) / (y_high - y_low) * (height - foot - top)  # noqa: E731
    parts = [f'<text x="{left}" y="13" font-weight="600" fill="currentColor">{escaped(title)}</text>']
    for value in ticks(y_low, y_high, 4):
        parts.append(f'<path d="M{left} {y(value):.1f}H{width - 8}" stroke="{FAINT}" stroke-width=".6"/>')
        parts.append(_text(left - 5, y(value) + 4, f"{value:.6g}", "end"))
    for place in ticks(x_low, x_high, 6, whole=True):
        parts.append(_text(x(place), height - 8, f"{place:.6g}", "middle"))
    parts.append(_text(width - 8, height - 8, "epoch", "end") if len(ticks(x_low, x_high, 6, whole=True)) < 2 else "")
    if marked is not None and x_low <= marked[0] <= x_high:
        at = x(marked[0])
        dashed = f'stroke="{FAINT}" stroke-width="1.4" stroke-dasharray="4 3"'
        parts.append(f'<path d="M{at:.1f} {top}V{height - foot}" {dashed}><title>{escaped(marked[1])}</title></path>')
    names = width - 8
    for number, (name, points) in reversed([*enumerate(lines.items())]):
        colour = SERIES[number % len(SERIES)]
        drawn = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in points)
        said = f"<title>{escaped(name)}: {points[-1][1]:.4g} at epoch {points[-1][0]:.6g}</title>"
        if len(points) == 1:
            parts.append(
                f'<circle cx="{x(points[0][0]):.1f}" cy="{y(points[0][1]):.1f}" r="3" fill="{colour}">{said}</circle>'
            )
        else:
            line = f'fill="none" stroke="{colour}" stroke-width="1.7" stroke-linejoin="round"'
            parts.append(f'<polyline points="{drawn}" {line}>{said}</polyline>')
        parts.append(f'<text x="{names}" y="13" fill="{colour}" text-anchor="end">{escaped(name)}</text>')
        names -= 7 * len(name) + 8
    return svg(width, height, f"{title} by epoch", parts)


def spreads(
    title: str,
    names: Sequence[str],
    values: Sequence[Sequence[float]],
    intervals: Sequence[tuple[float, float] | None],
) -> str:
    """Groups of values below one another, as SVG: each value a dot, the group's mean a line, its interval a bar.

    Args:
      title: what the values are.
      names: the groups' names, from the top.
      values: the values of each group; a group may be empty.
      intervals: the interval of each group's mean; None where it is not known.
    """
    every = [value for group in values for value in group if math.isfinite(value)]
    if not every:
        return ""
    left, row, width = min(7 * max(map(len, names)), 260) + 12, 20, 620
    # The interval of two values is about nine times as wide as their distance, so it is clipped to keep them distinguishable.
    ends = [end for interval in filter(None, intervals) for end in interval if math.isfinite(end)]
    spread = max(every) - min(every)
    low, high = _ends([*every, *(min(max(end, min(every) - spread), max(every) + spread) for end in ends)])
    x = lambda value: left + 8 + (value - low) / (high - low) * (width - left - 24)  # noqa: E731
    foot = row * len(names) + 6
    parts = []
    for value in ticks(low, high, 5):
        parts.append(f'<path d="M{x(value):.1f} 4V{foot}" stroke="{FAINT}" stroke-width=".6"/>')
        parts.append(_text(x(value), foot + 13, f"{value:.6g}", "middle"))
    for place, (name, group, interval) in enumerate(zip(names, values, intervals, strict=True)):
        y = row * place + 14
        shown = name if len(name) <= 38 else f"{name[:37]}…"
        parts.append(
            f'<text x="{left}" y="{y + 4}" text-anchor="end" fill="currentColor">{escaped(shown)}'
            f"<title>{escaped(name)}</title></text>"
        )
        if interval and all(map(math.isfinite, interval)):
            line = f"M{x(max(interval[0], low)):.1f} {y}H{x(min(interval[1], high)):.1f}"
            said = f"<title>{interval[0]:.6g} to {interval[1]:.6g}</title>"
            parts.append(f'<path d="{line}" stroke="{SERIES[0]}" stroke-width="3" opacity=".55">{said}</path>')
        finite = [value for value in group if math.isfinite(value)]
        for value in finite:
            dot = f'r="3.2" fill="currentColor" opacity=".6"><title>{value:.6g}</title></circle>'
            parts.append(f'<circle cx="{x(value):.1f}" cy="{y}" {dot}')
        if finite:
            mean = x(sum(finite) / len(finite))
            parts.append(f'<path d="M{mean:.1f} {y - 7}V{y + 7}" stroke="{SERIES[0]}" stroke-width="2.5"/>')
    parts.append(_text(left + 8, foot + 27, escaped(title), "start"))
    return svg(width, foot + 32, title, parts)


def svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    """A drawing of elements that are SVG, with a label for those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}" '
        f'role="img" aria-label="{escaped(label)}" font-family="system-ui,sans-serif" font-size="11" '
        f'style="max-width:100%;height:auto">{"".join(parts)}</svg>'
    )


def ticks(low: float, high: float, count: int, whole: bool = False) -> list[float]:
    """Round numbers from low to high, about `count` of them.

    Args:
      low: the lower end.
      high: the upper end.
      count: how many, roughly.
      whole: whole numbers alone.

    >>> ticks(0.013, 0.987, 4)
    [0.25, 0.5, 0.75]
    >>> ticks(1, 20, 6, whole=True)
    [5, 10, 15, 20]
    """
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    if whole:
        step = max(math.ceil(step), 1)
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The least and the greatest of some values, drawn apart where they are equal."""
    low, high = min(values), max(values)
    margin = 0.5 if low == high else 0.0
    return low - margin, high + margin


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor" opacity=".65" font-size="10">{text}</text>'


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    every = -(-len(points) // POINTS)
    return [*points[:-1:every], points[-1]]
