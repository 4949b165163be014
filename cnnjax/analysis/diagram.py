"""Drawings of networks as SVG: one bar per block, whose height shows the side of its maps and its width the channels."""

import math
from typing import TYPE_CHECKING

from cnnjax.core import html

if TYPE_CHECKING:
    from cnnjax.analysis.summary import Layer, Summary

# The height of the bar of the input's size, the space between bars, and that before the first, for its name.
HEIGHT, GAP, LEFT = 110, 7, 36
# The colours of the kinds of layers.
KINDS = {"convolution": html.SERIES[0], "pooling": html.SERIES[1], "dense": html.SERIES[2], "other": "#8a8f98"}


def draw(summary: "Summary") -> str:
    """Draws the layers of a summary, or the blocks they are folded into, from left to right; pointing at a bar shows its figures."""
    parts, before, top = [], 0, 28
    x = float(LEFT)
    middle = top + HEIGHT / 2
    largest = max(summary.input_shape[:-1])
    for layer in summary.layers:
        size = max(layer.output_shape[:-1], default=0)
        width = 6 + 2.2 * math.log2(1 + (layer.output_shape[-1] if layer.output_shape else 1))
        height, colour = bar_height(layer, largest), KINDS[kind(layer)]
        box = f'x="{x:.1f}" y="{middle - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2.5"'
        parts.append(f'<rect {box} fill="{colour}" fill-opacity=".8"><title>{html.escaped(said(layer))}</title></rect>')
        if size != before:
            at = f'x="{x + width / 2:.1f}" y="{middle - height / 2 - 5:.1f}"'
            sides = dict.fromkeys(layer.output_shape[:-1] or layer.output_shape)  # of a square map one
            text = "x".join(map(str, sides if len(sides) == 1 else layer.output_shape[:-1]))
            parts.append(
                f'<text {at} text-anchor="middle" fill="currentColor" opacity=".7" font-size="9">{text}</text>'
            )
        at = f"{x + width / 2 + 3:.1f} {top + HEIGHT + 8}"
        name = html.escaped(layer.name if len(layer.name) <= 18 else f"…{layer.name[-17:]}")
        parts.append(
            f'<text transform="translate({at}) rotate(-60)" text-anchor="end" fill="currentColor" font-size="9.5">{name}</text>'
        )
        before, x = size, x + width + GAP
    foot = top + HEIGHT + 24 + 5 * min(max((len(layer.name) for layer in summary.layers), default=0), 18)
    at = 2.0
    for name, colour in KINDS.items():
        if any(kind(layer) == name for layer in summary.layers):
            parts.append(f'<rect x="{at:.1f}" y="{foot - 8}" width="9" height="9" rx="2" fill="{colour}"/>')
            parts.append(f'<text x="{at + 13:.1f}" y="{foot}" fill="currentColor" font-size="10">{name}</text>')
            at += 26 + 6 * len(name)
    return html.svg(max(x, at), foot + 6, f"the layers of {summary.model}", parts)


def bar_height(layer: "Layer", largest: int) -> float:
    """The height of a layer's bar: the square root of its maps' side; of an output without maps the logarithm of its size."""
    *sides, channels = layer.output_shape or (1,)
    height = HEIGHT * math.sqrt(max(sides) / largest) if sides else 8 + 4 * math.log2(1 + channels)
    return min(max(height, 8), HEIGHT)


def kind(layer: "Layer") -> str:
    """The kind of a layer, or of most layers of a block: a key of `KINDS`."""
    if layer.operation.startswith("conv") or (layer.operation.endswith(" layers") and layer.macs):
        return "convolution"
    if "pool" in layer.operation:
        return "pooling"
    return "dense" if layer.operation.startswith("dense") else "other"


def said(layer: "Layer") -> str:
    """The figures of a layer in one line."""
    shape = "x".join(map(str, layer.output_shape))
    return f"{layer.name}: {layer.operation}, {shape}, {layer.parameters:,} parameters, {layer.macs:,} MACs"
