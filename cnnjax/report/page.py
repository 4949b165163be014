"""Self-contained HTML pages: one file, no network, light and dark, readable on a phone."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cnnjax.report.markup import data_uri, png

STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --quiet: #666; --line: #ddd; --ground: #fff; --bar: #3b76b0; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --quiet: #a0a0a0; --line: #3a3a3a; --ground: #161616; --bar: #6ea8dc; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; color: var(--text); background: var(--ground);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0.5rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 0.5rem; }
p { margin: 0.4rem 0; } .quiet { color: var(--quiet); font-size: 0.9rem; }
.wide { overflow-x: auto; }
td img { max-width: none; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; }
img { display: block; max-width: 100%; height: auto; image-rendering: pixelated; background: #808080; }
.bar { display: block; height: 0.7rem; min-width: 1px; background: var(--bar); }
.tiles { display: flex; flex-wrap: wrap; gap: 0.8rem; } figure { margin: 0; max-width: 9rem; }
figcaption { font-size: 0.8rem; color: var(--quiet); }
svg { width: 100%; max-width: 32rem; height: 8rem; } svg rect { fill: var(--bar); }
"""


def page(title: str, sections: Iterable[tuple[str, str]]) -> str:
    """A whole page.

    Args:
      title: plain text.
      sections: (heading in plain text, content in HTML), in order.
    """
    body = "\n".join(f"<section><h2>{html.escape(heading)}</h2>\n{content}</section>" for heading, content in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def paragraph(text: str, quiet: bool = False) -> str:
    """Plain text as a paragraph."""
    return f"<p{' class=quiet' if quiet else ''}>{html.escape(text)}</p>\n"


class Html(str):
    """Text that is HTML already, to stand in a table as it is."""


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of plain text and of `Html`, wider than the screen if it must be."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'


def _cell(cell: Any) -> str:
    return cell if isinstance(cell, Html) else html.escape(str(cell))


def bar(share: float) -> Html:
    """A share from 0 to 1 as a bar."""
    return Html(f'<span class="bar" style="width:{6 * share:.2f}rem"></span>')


def histogram(counts: Sequence[float], label: str) -> str:
    """Bars side by side, as a drawing that follows the page's colours.

    Args:
      counts: of the bins, from left to right.
      label: what is seen, for those who cannot see it.
    """
    top = max(counts, default=0) or 1
    bars = "".join(
        f'<rect x="{place}" y="{1 - count / top:.4f}" width="0.9" height="{count / top:.4f}"/>'
        for place, count in enumerate(counts)
    )
    return (
        f'<svg viewBox="0 0 {len(counts)} 1" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(label)}">{bars}</svg>\n'
    )


def image(pixels: UInt8[np.ndarray, "height width channel"], text: str, width: int) -> Html:
    """A picture, its pixels in the page.

    Args:
      pixels: of 1 or 3 channels.
      text: what it shows, for those who cannot see it.
      width: in CSS pixels; a phone makes it as narrow as its screen.
    """
    return Html(f'<img src="{data_uri(png(pixels))}" alt="{html.escape(text)}" width="{width}">')


def tiles(pictures: Iterable[tuple[str, str]]) -> str:
    """Pictures side by side, as many in a row as fit.

    Args:
      pictures: (picture in HTML, caption in plain text).
    """
    figures = "".join(
        f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>" for picture, caption in pictures
    )
    return f'<div class="tiles">{figures}</div>\n'


def strip(images: UInt8[np.ndarray, "image height width channel"], gap: int = 1) -> UInt8[np.ndarray, "h w channel"]:
    """Images side by side in one, grey between them."""
    between = np.full((images.shape[1], gap, images.shape[3]), 128, np.uint8)
    parts = [part for picture in images for part in (picture, between)]
    return np.concatenate(parts[:-1], 1)
