"""Histograms of weights, activations and gradients by layer."""

from cnnjax.analysis import pictures
from cnnjax.analysis.distributions import Histogram, histograms
from cnnjax.analysis.networks import layer_names
from cnnjax.analysis.summary import summarize
from cnnjax.report.blocks import Block, Figure, Section, Table, Template, Text
from cnnjax.report.charts import histogram_chart
from cnnjax.report.contents import RunContents
from cnnjax.report.words import evenly

NEEDS = ("run", "class_predictions")
KINDS = ("weights", "activations", "gradients")
LAYERS, IMAGES = 12, 64
# Bytes of the activations that are held at once.
BYTES = 256 * 2**20


def section(contents: RunContents) -> Section:
    """The histograms over a few test images, limited by memory."""
    run, inputs, labels = contents.run, contents.network_inputs.first, contents.predictions.labels
    room = BYTES // max(summarize(run.model, contents.input_shape).activation_bytes, 1)
    used = max(min(len(inputs), IMAGES, room), 1)
    order = layer_names(run.model, inputs)
    found = histograms(
        (run.model, run.selected.variables), inputs[:used], labels[:used], evenly(order, LAYERS),
        probabilities=run.probabilities,
    )  # fmt: skip
    text = f"From {used} test images. Activations are before the layer's activation function; gradients are those of the loss."
    if len(order) > len(found):
        text += f" {len(found)} of the {len(order)} layers."
    charts = {
        layer: [(kind, chart(getattr(one, kind), f"{layer}, {kind}")) for kind in KINDS] for layer, one in found.items()
    }
    table = Table(
        ("layer", *(f"{kind}: mean ± standard deviation" for kind in KINDS)),
        [
            (layer, *(f"{getattr(one, kind).mean:.3g} ± {getattr(one, kind).deviation:.3g}" for kind in KINDS))
            for layer, one in found.items()
        ],
    )
    markdown = [table, Figure(pictures.plot_histograms(found), "histograms by layer")]
    return Section(
        "Histograms", [Text(text), Template("histograms.html", {"kinds": KINDS, "layers": charts}, markdown)]
    )


def chart(found: Histogram, name: str) -> Block:
    """The chart of one histogram."""
    if not found.finite:
        return Text("not finite")
    low, high = found.edges[0], found.edges[-1]
    label = f"{name}: mean {found.mean:.3g}, standard deviation {found.deviation:.3g}, from {low:.3g} to {high:.3g}"
    return histogram_chart(found.counts, low, high, label, found.deviation)
