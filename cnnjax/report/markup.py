"""HTML, SVG and Markdown of tables, pictures and small charts."""

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cnnjax.analysis.classification import Calibration
from cnnjax.analysis.distributions import Histogram

escape = html.escape


def png(pixels: UInt8[np.ndarray, "height width channel"]) -> bytes:
    """Pixels as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    """A PNG file as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def fitted(pixels: UInt8[np.ndarray, "height width channel"], side: int) -> UInt8[np.ndarray, "height width channel"]:
    """The picture, made smaller where its longer side is more than this."""
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    shrink = side / max(height, width)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    size = max(round(width * shrink), 1), max(round(height * shrink), 1)
    array = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    return array[..., None] if array.ndim == 2 else array


def image(pixels: UInt8[np.ndarray, "height width channel"], alt: str, width: str | None = None) -> str:
    """A picture in the page, its pixels as squares."""
    style = f' style="width:{width}"' if width else ""
    return f'<img class="pixels" src="{data_uri(png(pixels))}" alt="{escape(alt)}"{style}>'


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[int] = ()) -> str:
    """A table that scrolls sideways where it is too wide; the columns of `numbers` are set to the right."""
    right = set(numbers)

    def row(cells: Sequence[object], tag: str) -> str:
        inner = (
            f"<{tag}{' class=number' if place in right else ''}>{escape(str(cell))}</{tag}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr>{''.join(inner)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return (
        f'<div class="wide" tabindex="0"><table><thead>{row(columns, "th")}</thead><tbody>{body}</tbody></table></div>'
    )


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The same in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def details(summary: str, inner: str) -> str:
    """What is shown when it is asked for."""
    return f"<details><summary>{escape(summary)}</summary>{inner}</details>"


def histogram_chart(found: Histogram, name: str) -> str:
    """A small chart of a histogram, the ends of its axis beneath."""
    if not found.finite:
        return '<p class="quiet">not finite</p>'
    width, height = 180, 44
    top = max(int(found.counts.max()), 1)
    step = width / len(found.counts)
    points = "".join(
        f"L{place * step:.1f} {height - height * count / top:.1f}L{(place + 1) * step:.1f} {height - height * count / top:.1f}"
        for place, count in enumerate(found.counts)
    )
    low, high = found.edges[0], found.edges[-1]
    zero = -low / (high - low) * width if low < 0 < high else None
    mark = f'<line x1="{zero:.1f}" x2="{zero:.1f}" y1="0" y2="{height}"/>' if zero is not None else ""
    label = f"{name}: mean {found.mean:.3g}, standard deviation {found.deviation:.3g}, from {low:.3g} to {high:.3g}"
    return (
        f'<svg class="histogram" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f'<path d="M0 {height}{points}L{width} {height}Z"/>{mark}</svg>'
        f'<p class="ends"><span>{low:.2g}</span><span>σ {found.deviation:.2g}</span><span>{high:.2g}</span></p>'
    )


def reliability_chart(found: Calibration) -> str:
    """Accuracy against confidence, the diagonal where they agree, and beneath it how many examples each bin has."""
    side, foot, left = 240, 50, 34
    parts = [f'<line class="diagonal" x1="{left}" y1="{side}" x2="{left + side}" y2="0"/>']
    busiest = max(int(found.counts.max()), 1)
    bin_width = side / len(found.counts)
    for place, count in enumerate(found.counts):
        if not count:
            continue
        x, tall = left + place * bin_width, side * float(found.accuracy[place])
        label = (
            f"confidence {found.edges[place]:.2f} to {found.edges[place + 1]:.2f}: {count} examples, mean confidence "
            f"{found.confidence[place]:.3f}, accuracy {found.accuracy[place]:.3f}"
        )
        parts.append(
            f'<g><title>{label}</title><rect class="bar" opacity="{0.4 + 0.6 * math.sqrt(count / busiest):.2f}" x="{x + 1:.1f}" y="{side - tall:.1f}" width="{bin_width - 2:.1f}" '
            f'height="{tall:.1f}"/><circle cx="{left + side * float(found.confidence[place]):.1f}" cy="{side - tall:.1f}" r="3"/>'
            f'<rect class="count" x="{x + 1:.1f}" y="{side + 12 + foot * (1 - count / busiest):.1f}" width="{bin_width - 2:.1f}" '
            f'height="{foot * count / busiest:.1f}"/></g>'
        )
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = side * (1 - share)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + side}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{share:g}</text>')
        parts.append(f'<text x="{left + side * share}" y="{side + foot + 28}" text-anchor="middle">{share:g}</text>')
    grid = [part for part in parts if 'class="grid"' in part]
    others = [part for part in parts if 'class="grid"' not in part]
    return (
        f'<svg class="reliability" viewBox="0 -8 {left + side + 12} {side + foot + 40}" role="img" '
        f'aria-label="reliability diagram: accuracy by confidence">{"".join(grid + others)}</svg>'
    )


def atlas(
    pictures: Sequence[UInt8[np.ndarray, "height width channel"]], largest: int = 1_000_000
) -> tuple[bytes, dict[str, int]]:
    """All pictures as squares of one PNG file, as large as it stays below so many bytes; and how it is laid out."""
    channels = pictures[0].shape[-1]
    columns = math.ceil(math.sqrt(len(pictures)))
    for side in (96, 64, 48, 32, 20):
        if side > max(32, *pictures[0].shape[:2]) and side != 20:
            continue
        sheet = np.zeros((side * -(-len(pictures) // columns), side * columns, channels), np.uint8)
        for place, picture in enumerate(pictures):
            small = fitted(picture, side)
            top, left = place // columns * side, place % columns * side
            top, left = top + (side - small.shape[0]) // 2, left + (side - small.shape[1]) // 2
            sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
        content = png(sheet)
        if len(content) <= largest:
            break
    return content, {"columns": columns, "rows": -(-len(pictures) // columns), "side": side}


def finite(value: object) -> object:
    """The same with None for every number that JSON has no word for."""
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return finite(value.tolist())
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
