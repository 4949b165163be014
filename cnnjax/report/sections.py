"""The parts of a report: each a function of what there is of a run, to a section of the page."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cnnjax.analysis import attribution, classification, curves, pictures
from cnnjax.analysis.distributions import histograms
from cnnjax.analysis.embedding import embed
from cnnjax.analysis.features import feature_maps
from cnnjax.analysis.filters import filter_picture, kernels
from cnnjax.analysis.networks import layer_names
from cnnjax.analysis.summary import summarize
from cnnjax.config import COMPONENTS, differences, load_config, to_json
from cnnjax.report.diagnosis import NONE_FOUND, cannot_see, diagnose
from cnnjax.report.markup import (
    atlas,
    data_uri,
    details,
    escape,
    fitted,
    histogram_chart,
    image,
    markdown_table,
    reliability_chart,
    table,
)
from cnnjax.report.material import EXPECTED, Judged, Material, one_line
from cnnjax.runs import Run, judge

# How much of a large run is shown.
CELLS = 30  # classes of a confusion matrix
CELL_EXAMPLES = 12  # pictures of one of its cells
GALLERY = 12
LAYERS = 12  # of feature maps and histograms
MAPS = 12  # of one layer
EMBEDDED = 1000  # examples of the embedding
BYTES = 256 * 2**20  # of what is in memory at once
SIDE = 112  # pixels of a picture


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
      anchor: its name in addresses.
      title: its heading.
      html: what stands below it.
      markdown: the same for `report.md`.
      figures: by their files' names, without ".png".
      data: for the page's script.
    """

    anchor: str
    title: str
    html: str
    markdown: str
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def note(text: str) -> str:
    """A remark."""
    return f'<p class="quiet">{escape(text)}</p>'


def figure_link(name: str, text: str) -> str:
    """A figure in Markdown."""
    return f"![{text}]({name}.png)"


def spread(names: Sequence[str], count: int) -> list[str]:
    """So many of the names, the first and the last among them, evenly between.

    >>> spread("abcdefg", 3)
    ['a', 'd', 'g']
    """
    if len(names) <= count:
        return list(names)
    return [names[round(place * (len(names) - 1) / (count - 1))] for place in range(count)]


def seconds(value: float | None) -> str:
    """A duration for a person.

    >>> [seconds(value) for value in (None, 9.84, 75, 7300)]
    ['unknown', '9.8 s', '1 min 15 s', '2 h 1 min']
    """
    if value is None:
        return "unknown"
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{int(value) // 60} min {int(value) % 60} s"
    return f"{int(value) // 3600} h {int(value) % 3600 // 60} min"


def caption(test: Judged, index: int, names: Sequence[str]) -> str:
    """What an example is and what the network takes it for."""
    label, predicted = names[test.labels[index]], names[test.predicted[index]]
    share = f"{100 * test.confidence[index]:.1f} %"
    return f"{label}, {share}" if test.right[index] else f"{label}, taken for {predicted}, {share}"


def accuracy_figures(hits: int, examples: int) -> dict[str, str]:
    """The test accuracy, of how many examples, and how sure it is."""
    low, high = classification.wilson_interval(hits, examples)
    return {
        "test accuracy": f"{100 * hits / examples:.2f} %",
        "right": f"{hits:,} of {examples:,}",
        "95 % interval (Wilson)": f"{100 * low:.2f} to {100 * high:.2f} %",
    }


def key_figures(material: Material) -> dict[str, str]:
    """The figures that a reader looks for first, as far as they are known."""
    found: dict[str, str] = {}
    if material.test is not None:
        values = judge(material.test.probabilities, material.test.labels)
        found |= accuracy_figures(int(material.test.right.sum()), len(material.test.labels))
        found["test negative log-likelihood"] = f"{values['nll']:.4f}"
        if len(material.label_names) > 10:
            found["top-5 accuracy"] = f"{100 * values['top5_accuracy']:.2f} %"
        found["calibration error"] = f"{values['calibration_error']:.4f}"
    elif material.tested:
        accuracy, examples = (
            material.tested["test/accuracy"],
            (material.described or {}).get("examples", {}).get("test"),
        )
        if examples:
            found |= accuracy_figures(round(accuracy * examples), examples)
        else:
            found["test accuracy"] = f"{100 * accuracy:.2f} %"
        found["test loss"] = f"{material.tested['test/loss']:.4f}"
    best = curves.series(material.epochs, "valid/accuracy")[1]
    if len(best):
        found["best validation accuracy"] = f"{100 * best.max():.2f} %"
    if material.epochs and material.config:
        found["epochs"] = f"{len(material.epochs)} of {material.config.train.epochs}"
    if material.model is not None:
        found["parameters"] = f"{summarize(material.model, material.input_shape).total_parameters:,}"
    if material.training_seconds is not None:
        found["training"] = seconds(material.training_seconds)
    return found


def headline(material: Material) -> Section:
    """The figures of one run that a reader looks for first."""
    found = key_figures(material)
    tiles = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in found.items())
    partial = ""
    if material.test is not None and len(material.test.labels) < material.test.total:
        partial = f"Test figures are of the first {len(material.test.labels):,} of {material.test.total:,} examples."
    html = f'<dl class="tiles">{tiles}</dl>{note(partial) if partial else ""}'
    return Section("figures", "", html, f"{markdown_table(('figure', 'value'), found.items())}\n\n{partial}".rstrip())


def diagnosis(material: Material) -> Section:
    """What is wrong, in words with evidence."""
    run = material.run
    if run is None and material.model is not None:  # a run without weights still has what was measured
        run = Run(
            material.workdir, material.config, material.model, None, None, material.history, None, material.described
        )
    if run is None:
        text = "It needs the run's config and the description of its data."
        return Section("diagnosis", "Diagnosis", note(text), text)
    try:
        findings, unseen = diagnose(run), cannot_see(run)
    except (*EXPECTED, AttributeError) as error:
        text = f"It could not be made: {one_line(error)}"
        return Section("diagnosis", "Diagnosis", note(text), text)
    cards = "".join(
        f'<article class="finding"><h3>{escape(found.name)}</h3><p>{escape(found.words)}</p>'
        f'<p class="quiet">{escape(found.evidence)}</p><p class="advice">{escape(found.advice)}</p></article>'
        for found in findings
    )
    nothing = f"{NONE_FOUND[0].upper()}{NONE_FOUND[1:]}."
    cards = cards or f'<article class="finding fine"><p>{nothing}</p></article>'
    blind = "".join(f"<li>{escape(sentence)}</li>" for sentence in unseen)
    blind = f'<p class="quiet">What could not be judged:</p><ul class="quiet">{blind}</ul>' if blind else ""
    lines = [f"- **{found.name}**: {found.words} {found.evidence} {found.advice}" for found in findings]
    lines = lines or [nothing]
    lines += ["", "What could not be judged:", *(f"- {sentence}" for sentence in unseen)] if unseen else []
    return Section("diagnosis", "Diagnosis", cards + blind, "\n".join(lines))


def training(materials: Mapping[str, Material]) -> Section | None:
    """Loss, accuracy and learning rate by epoch, of one run or several."""
    histories = {name: material.history for name, material in materials.items() if material.epochs}
    if not histories:
        return None
    lines = [
        {
            "name": name,
            **{
                measured: np.stack(curves.series(history, measured), 1)
                for measured in curves.TRAINING
                if len(curves.series(history, measured)[0])
            },
        }
        for name, history in histories.items()
    ]
    controls = """
<form class="controls" data-for="curves">
  <label>smoothing <input type="range" name="smoothing" min="0" max="0.95" step="0.05" value="0"><output>0</output></label>
  <label><input type="checkbox" name="log"> logarithmic loss</label>
</form>
<div class="charts" id="curves">
  <div class="chart" data-chart="loss"></div><div class="chart" data-chart="accuracy"></div>
  <div class="chart low" data-chart="learning_rate"></div>
</div>
<div class="legend" id="curves-legend"></div>"""
    probes = [_probe_charts(name, history) for name, history in histories.items()]
    shown = details("Probes", "".join(probes)) if any(probes) else ""
    return Section(
        "curves", "Training", controls + shown, figure_link("curves", "loss, accuracy and learning rate by epoch"),
        {"curves": curves.plot_histories(histories)}, {"curves": lines},
    )  # fmt: skip


def _probe_charts(name: str, history: curves.History) -> str:
    """A line by epoch for each quantity of each layer that was probed, small."""
    keys = sorted({key for line in history for key in line if key.startswith("probe/")})
    quantities = sorted({key.rpartition("/")[2] for key in keys})
    rows = []
    for quantity in quantities:
        lines = []
        for key in (key for key in keys if key.endswith(f"/{quantity}")):
            epochs, values = curves.series(history, key)
            layer = key.removeprefix("probe/").rpartition("/")[0]
            lines.append(f"<figure>{_sparkline(epochs, values)}<figcaption>{escape(layer)}</figcaption></figure>")
        rows.append(f"<h4>{escape(quantity.replace('_', ' '))}</h4><div class='sparks'>{''.join(lines)}</div>")
    return f"<h3>{escape(name)}</h3>{''.join(rows)}" if rows else ""


def _sparkline(epochs: np.ndarray, values: np.ndarray) -> str:
    kept = np.isfinite(values)
    if kept.sum() < 2:
        return "<p class='quiet'>—</p>"
    epochs, values = epochs[kept], values[kept]
    low, high = values.min(), values.max()
    x = 116 * (epochs - epochs[0]) / max(epochs[-1] - epochs[0], 1e-12) + 2
    y = 38 - 36 * (values - low) / max(high - low, 1e-12)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    label = f"from {values[0]:.3g} to {values[-1]:.3g}, least {low:.3g}, greatest {high:.3g}"
    return (
        f'<svg class="spark" viewBox="0 0 120 40" role="img" aria-label="{label}"><title>{label}</title>'
        f'<polyline points="{points}"/></svg>'
    )


def mistakes(material: Material, places: Mapping[int, int]) -> Section:
    """The confusion matrix, whose cells show their examples, and each class's figures.

    Args:
      material: of the run.
      places: {example: its place in the atlas}.
    """
    test, names = material.test, material.label_names
    confusion = classification.confusion_matrix(test.probabilities, test.labels)
    shown = classes_shown(confusion)
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    cells: dict[str, list[int]] = {}
    for index in places:
        cells.setdefault(f"{test.labels[index]},{test.predicted[index]}", []).append(index)
    head = "".join(f'<th scope="col"><span>{escape(names[column])}</span></th>' for column in shown)
    turned = " turned" if max(map(len, names)) > 3 else ""
    rows = []
    for row in shown:
        inner = "".join(
            _cell(names, row, column, int(confusion[row, column]), float(share[row, column])) for column in shown
        )
        rows.append(f'<tr><th scope="row">{escape(names[row])}</th>{inner}</tr>')
    left_out = ""
    if len(shown) < len(names):
        left_out = note(f"The {len(shown)} of the {len(names)} classes that are most often confused.")
    matrix = f"""
<p class="quiet">Rows are labels, columns predictions. Choose a cell to see its examples.</p>{left_out}
<div class="beside"><div class="wide"><table class="confusion{turned}"><thead><tr><td></td>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>
<div id="examples" class="examples" role="region" aria-live="polite" aria-label="examples of the chosen cell"></div></div>"""
    scores = classification.class_scores(confusion, names)
    columns = ("class", "examples", "precision", "recall", "F1", "most often taken for")
    figures = [
        (
            s.name, s.examples, f"{s.precision:.4f}", f"{s.recall:.4f}", f"{s.f1:.4f}",
            classification.taken_for(confusion[label], label, names),
        )
        for label, s in enumerate(scores)
    ]  # fmt: skip
    by_class = f"<h3>By class</h3><div class='tall'>{table(columns, figures, (1, 2, 3, 4))}</div>"
    markdown = f"{figure_link('confusion', 'confusion matrix')}\n\n{markdown_table(columns, figures)}"
    figure = pictures.plot_confusion(confusion[np.ix_(shown, shown)], [names[label] for label in shown])
    data = {
        "cells": {
            key: [(places[i], caption(test, i, names)) for i in found[: 2 * CELL_EXAMPLES]]
            for key, found in cells.items()
        }
    }
    return Section("classes", "Confusion matrix", matrix + by_class, markdown, {"confusion": figure}, data)


def classes_shown(confusion: np.ndarray) -> list[int]:
    """All classes, or those of many that take part in most mistakes, in order."""
    if len(confusion) <= CELLS:
        return list(range(len(confusion)))
    wrong = confusion - np.diag(np.diag(confusion))
    return sorted(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:CELLS].tolist())


def _cell(names: Sequence[str], row: int, column: int, count: int, share: float) -> str:
    kind = "right" if row == column else "wrong"
    if not count:
        return f'<td class="{kind}"></td>'
    label = f"label {names[row]}, predicted {names[column]}: {count} example{'s' if count > 1 else ''}"
    strong = " strong" if share > 0.5 else ""
    return (
        f'<td class="{kind}"><button type="button" class="cell{strong}" data-cell="{row},{column}" style="--share:{share:.3f}" '
        f'aria-label="{escape(label)}" aria-pressed="false">{count}</button></td>'
    )


def atlas_examples(test: Judged) -> list[int]:
    """The examples whose pictures the page holds: the first ones, for the embedding, and of each cell the surest mistakes."""
    first = list(range(embedded(test)))
    by_cell: dict[tuple[int, int], int] = {}
    chosen = []
    for index in [*_surest_mistakes(test), *np.flatnonzero(test.right).tolist()]:
        cell = int(test.labels[index]), int(test.predicted[index])
        if by_cell.get(cell, 0) < CELL_EXAMPLES and len(chosen) < EMBEDDED:
            by_cell[cell] = by_cell.get(cell, 0) + 1
            chosen.append(index)
    return [*chosen, *(index for index in first if index not in set(chosen))]


def embedded(test: Judged) -> int:
    """How many examples are embedded: as many as fit into memory as floating-point numbers."""
    return min(len(test.labels), EMBEDDED, max(BYTES // (4 * int(np.prod(test.pixels.shape[1:]))), 50))


def _surest_mistakes(test: Judged) -> list[int]:
    wrong = np.flatnonzero(~test.right)
    return wrong[np.argsort(-test.confidence[wrong], kind="stable")].tolist()


def _least_sure_hits(test: Judged) -> list[int]:
    right = np.flatnonzero(test.right)
    return right[np.argsort(test.confidence[right], kind="stable")].tolist()


def atlas_style(test: Judged, chosen: Sequence[int]) -> tuple[str, dict[str, int]]:
    """The CSS that holds the atlas, and how it is laid out."""
    content, layout = atlas([test.pixels[index] for index in chosen])
    return f":root{{--atlas:url({data_uri(content)})}}", layout


def calibrated(materials: Mapping[str, Material]) -> Section | None:
    """How far confidence is from accuracy, of one run or several."""
    found = {
        name: classification.calibration(material.test.probabilities, material.test.labels)
        for name, material in materials.items()
        if material.test is not None
    }
    if not found:
        return None
    charts = "".join(
        f"<figure>{reliability_chart(one)}<figcaption>{escape(name + ': ') if len(found) > 1 else ''}expected calibration error "
        f"{one.error:.4f}</figcaption></figure>"
        for name, one in found.items()
    )
    figures = {
        ("calibration" if len(found) == 1 else f"calibration-{place}"): pictures.plot_calibration(one)
        for place, one in enumerate(found.values(), start=1)
    }
    text = (
        "Of the predictions made with a confidence, so many are right: on the diagonal, as many as the confidence says. "
        "Beneath: how many examples have it."
    )
    links = "\n\n".join(
        f"{name}: expected calibration error {one.error:.4f}\n\n{figure_link(file, 'reliability diagram')}"
        for (name, one), file in zip(found.items(), figures, strict=True)
    )
    return Section(
        "calibration", "Calibration", f'{note(text)}<div class="reliabilities">{charts}</div>', links, figures
    )


def gallery(material: Material) -> Section:
    """The mistakes that the network is surest of, and the hits that it is least sure of."""
    test, names = material.test, material.label_names
    groups = {
        "Most confident mistakes": ("mistakes", _surest_mistakes(test)[:GALLERY]),
        "Least sure hits": ("hits", _least_sure_hits(test)[:GALLERY]),
    }
    parts, lines, drawn = [], [], {}
    for title, (name, chosen) in groups.items():
        if not chosen:
            parts.append(f"<h3>{title}</h3>{note('There are none.')}")
            continue
        shown = "".join(pictured(test, i, names) for i in chosen)
        parts.append(f'<h3>{title}</h3><div class="gallery">{shown}</div>')
        captions = [caption(test, i, names).replace(", ", "\n", 1) for i in chosen]
        drawn[name] = pictures.plot_gallery([test.pixels[i] for i in chosen], captions)
        lines.append(f"### {title}\n\n{figure_link(name, title)}")
    return Section("gallery", "Gallery", "".join(parts), "\n\n".join(lines), drawn)


def pictured(test: Judged, index: int, names: Sequence[str]) -> str:
    """An example with its caption."""
    picture = image(fitted(test.pixels[index], SIDE), f"example {index}")
    return f"<figure>{picture}<figcaption>{two_lines(test, index, names)}</figcaption></figure>"


def two_lines(test: Judged, index: int, names: Sequence[str]) -> str:
    """What an example is, what it is taken for, and how surely: as HTML."""
    label, predicted = escape(names[test.labels[index]]), escape(names[test.predicted[index]])
    share = f"{100 * test.confidence[index]:.1f} %"
    first = f"<b>{label}</b>" if test.right[index] else f"<b>{label}</b> as <b class=wrong>{predicted}</b>"
    return f"{first}<br><span class=quiet>{share}</span>"


def chosen_examples(test: Judged) -> list[int]:
    """Eight to look at closely: the surest mistakes and, in turn with them, hits of different classes."""
    wrong = _surest_mistakes(test)[:4]
    hits = [int(np.flatnonzero(test.right & (test.labels == c))[0]) for c in np.unique(test.labels[test.right])]
    hits = hits[: 8 - len(wrong)]
    paired = [index for pair in zip(wrong, hits, strict=False) for index in pair]
    return [*paired, *wrong[len(hits) :], *hits[len(wrong) :]]


def first_filters(material: Material) -> Section | None:
    """What the first convolution looks for."""
    try:
        name, kernel = kernels(material.run)
    except ValueError:  # a dense network
        return None
    height, width, channels, count = kernel.shape
    picture = filter_picture(kernel)
    text = f"{name}: {count} filters of {height}x{width}x{channels}; the middle grey is zero, and all share one scale."
    if channels in (1, 3):
        largest = float(np.abs(kernel).max())
        shown = np.moveaxis(pictures.scaled(kernel, -largest, largest), -1, 0)
        html = "".join(image(one, f"filter {number} of {name}") for number, one in enumerate(shown, start=1))
        html = f'{note(text)}<div class="maps">{html}</div>'
    else:
        html = f"{note(text)}{image(picture, f'the filters of {name}', 'min(100%, 480px)')}"
    figure = pictures.plot_image(picture, f"{name}: {count} filters of {height}x{width}x{channels}")
    return Section("filters", "Filters", html, f"{text}\n\n{figure_link('filters', text)}", {"filters": figure})


def inside(material: Material, inputs: np.ndarray, chosen: Sequence[int]) -> Section:
    """Feature maps of chosen images by layer.

    Args:
      material: of the run.
      inputs: the chosen images as the network takes them.
      chosen: their places in the test split.
    """
    run, test, names = material.run, material.test, material.label_names
    count = min(4, len(chosen))
    order = layer_names(run.model, inputs)
    maps = feature_maps((run.model, run.selected.variables), inputs[:count], spread(order, LAYERS))
    buttons, panels = [], []
    for place in range(count):
        index = chosen[place]
        pressed = "true" if place == 0 else "false"
        buttons.append(
            f'<button type="button" data-panel="maps-{place}" aria-pressed="{pressed}">'
            f"{image(fitted(test.pixels[index], SIDE), '')}<span>{escape(caption(test, index, names))}</span></button>"
        )
        rows = "".join(_layer_row(layer, values[place]) for layer, values in maps.items())
        panels.append(f'<div id="maps-{place}" class="layers"{"" if place == 0 else " hidden"}>{rows}</div>')
    text = (
        f"The first {MAPS} maps of each layer before its activation, each from its least (dark) to its greatest value."
    )
    if len(order) > len(maps):
        text += f" {len(maps)} of the {len(order)} layers."
    html = f'{note(text)}<div class="choices">{"".join(buttons)}</div>{"".join(panels)}'
    figure = pictures.plot_feature_maps(test.pixels[list(chosen[:count])], maps, MAPS)
    markdown = f"{text}\n\n{figure_link('feature_maps', 'feature maps by layer')}"
    return Section("layers", "Feature maps", html, markdown, {"feature_maps": figure})


def _layer_row(layer: str, values: np.ndarray) -> str:
    shape = "x".join(map(str, values.shape))
    if values.ndim == 1:
        strip = pictures.scaled(values[None, :256, None], float(values.min()), float(values.max()))
        shown = image(strip, f"values of {layer}", f"min(100%, {max(4 * strip.shape[1], 120)}px);height:18px")
    else:
        shown = "".join(
            image(fitted(one, 40), f"map {number} of {layer}")
            for number, one in enumerate(pictures.map_pictures(values, MAPS), start=1)
        )
    return f'<div class="layer"><h4>{escape(layer)} <span class="quiet">{shape}</span></h4><div class="maps">{shown}</div></div>'


def spreads(material: Material, inputs: np.ndarray, labels: np.ndarray) -> Section:
    """Histograms of weights, activations and gradients by layer.

    Args:
      material: of the run.
      inputs: images as the network takes them; as many as memory allows are used.
      labels: of these.
    """
    run = material.run
    room = BYTES // max(summarize(run.model, material.input_shape).activation_bytes, 1)
    used = max(min(len(inputs), 64, room), 1)
    order = layer_names(run.model, inputs)
    found = histograms(
        (run.model, run.selected.variables), inputs[:used], labels[:used], spread(order, LAYERS),
        probabilities=run.probabilities,
    )  # fmt: skip
    kinds = ("weights", "activations", "gradients")
    head = "".join(f"<h4>{kind}</h4>" for kind in kinds)
    rows = "".join(
        f"<h4 class='name'>{escape(layer)}</h4>"
        + "".join(
            f'<div class="{kind}">{histogram_chart(getattr(one, kind), f"{layer}, {kind}")}</div>' for kind in kinds
        )
        for layer, one in found.items()
    )
    text = (
        f"Of {used} test images; activations are before the layer's activation function, gradients those of the loss."
    )
    if len(order) > len(found):
        text += f" {len(found)} of the {len(order)} layers."
    figure = pictures.plot_histograms(found)
    columns = ("layer", *(f"{kind}: mean ± standard deviation" for kind in kinds))
    lines = [
        (layer, *(f"{getattr(one, kind).mean:.3g} ± {getattr(one, kind).deviation:.3g}" for kind in kinds))
        for layer, one in found.items()
    ]
    return Section(
        "histograms", "Histograms",
        f'{note(text)}<div class="spreads"><h4 class="name"></h4>{head}{rows}</div>',
        f"{text}\n\n{markdown_table(columns, lines)}\n\n{figure_link('histograms', 'histograms by layer')}",
        {"histograms": figure},
    )  # fmt: skip


def evidence(material: Material, inputs: np.ndarray, chosen: Sequence[int]) -> Section:
    """Saliency, Grad-CAM and occlusion beside each other; arguments as for `inside`."""
    run, test, names = material.run, material.test, material.label_names
    source = run.model, run.selected.variables
    maps = {"saliency": attribution.saliency(source, inputs)}
    if any(len(values.shape) == 4 for values in _output_shapes(run.model, run.selected.variables, inputs)):
        maps["Grad-CAM"] = attribution.grad_cam(source, inputs)
    maps["occlusion"] = attribution.occlusion(source, inputs)
    pixels = [_as_seen(run, test.pixels[index]) for index in chosen]
    cards = []
    for place, index in enumerate(chosen):
        shown = [("image", pixels[place])]
        shown += [(method, pictures.overlaid(pixels[place], values[place])) for method, values in maps.items()]
        inner = "".join(
            f"<div>{image(fitted(picture, SIDE), f'{method} of example {index}')}<small>{method}</small></div>"
            for method, picture in shown
        )
        said = two_lines(test, index, names).replace("<br>", " ")
        cards.append(f"<figure><figcaption>{said}</figcaption><div class='quartet'>{inner}</div></figure>")
    text = (
        "For the predicted class. Saliency: where a small change of a pixel would move its logit most. Grad-CAM: which places of "
        "the last maps speak for it. Occlusion: where covering a square costs it most. Bright is much."
    )
    figure = pictures.plot_attributions(
        np.stack(pixels), maps, [caption(test, i, names).replace(", ", "\n", 1) for i in chosen]
    )
    return Section(
        "attribution", "Attribution", f'{note(text)}<div class="evidence">{"".join(cards)}</div>',
        f"{text}\n\n{figure_link('attribution', 'saliency, Grad-CAM and occlusion')}", {"attribution": figure},
    )  # fmt: skip


def _as_seen(run: Run, pixels: np.ndarray) -> np.ndarray:
    """The part of a picture that the network sees."""
    from cnnjax.data.views import central_view

    crop = run.config.augment.crop
    return pixels if crop is None else np.asarray(central_view(tuple(crop), lambda part: part)(pixels[None])[0])


def _output_shapes(model: Any, variables: Mapping[str, Any], inputs: np.ndarray) -> list[Any]:
    import jax

    from cnnjax.analysis.networks import outputs_of

    names = layer_names(model, inputs)
    return list(jax.eval_shape(lambda x: outputs_of(model, variables, x, names)[1], inputs[:1]).values())


def embedding(material: Material, inputs: np.ndarray, places: Mapping[int, int]) -> Section | None:
    """The test examples on a map, by what the last hidden layer makes of them.

    Args:
      material: of the run.
      inputs: the first examples of the test split, as the network takes them.
      places: {example: its place in the atlas}.
    """
    run, test, names = material.run, material.test, material.label_names
    if len(inputs) < 5:
        return None
    layer = layer_names(run.model, inputs)[-2:][0]
    features = feature_maps((run.model, run.selected.variables), inputs, [layer])[layer]
    features = features.mean((1, 2)) if features.ndim == 4 else features
    points = {"PCA": embed(features, "pca"), "t-SNE": embed(features, "tsne")}
    labels = test.labels[: len(inputs)]
    text = f"The first {len(inputs):,} test examples by the output of {layer}, coloured by their labels; mistakes have a ring."
    html = f"""{note(text)}
<div class="controls" data-for="embedding">
  <button type="button" data-method="PCA" aria-pressed="false">PCA</button>
  <button type="button" data-method="t-SNE" aria-pressed="true">t-SNE</button>
</div>
<div class="map"><div id="embedding"></div><div class="side"><div class="legend" id="embedding-legend"></div>
<div class="examples" id="point" aria-live="polite"></div></div></div>"""
    data = {
        "embedding": {
            "points": {
                method: (found - found.min(0)) / np.maximum(np.ptp(found, 0), 1e-12) for method, found in points.items()
            },
            "labels": labels,
            "names": names,
            "wrong": (~test.right[: len(inputs)]).astype(int),
            "captions": [caption(test, index, names) for index in range(len(inputs))],
            "places": [places[index] for index in range(len(inputs))],
        }
    }
    figure = pictures.plot_embedding(points, labels, names)
    return Section(
        "map",
        "Embedding",
        html,
        f"{text}\n\n{figure_link('embedding', 'PCA and t-SNE')}",
        {"embedding": figure},
        data,
    )


def network(material: Material) -> Section:
    """The model's table."""
    summary = summarize(material.model, material.input_shape)
    columns, rows = summary.table()
    columns[3] = "height of the output"
    shown = table(columns, rows, (4, 5, 6, 7))
    html = shown if len(rows) <= CELLS else details(f"{material.config.model.name}: {len(rows) - 1} layers", shown)
    return Section("network", "Network", html, markdown_table(columns, rows))


def settings(material: Material) -> Section:
    """The config: first what differs from the defaults."""
    usual = load_config({section: {"name": material.config[section].name} for section in COMPONENTS})
    changed = [
        (path, new)
        for path, (_, new) in sorted(differences(usual, material.config).items())
    ]  # fmt: skip
    changed += [(f"{section}.name", material.config[section].name) for section in COMPONENTS]
    rows = [(path, shown_value(value)) for path, value in sorted(dict(changed).items())]
    whole = escape(json.dumps(to_json(material.config), indent=2))
    html = f"{note('What is not at its default, and the components.')}{table(('field', 'value'), rows)}"
    html += details("The resolved config, whole", f'<pre tabindex="0">{whole}</pre>')
    markdown = (
        f"{markdown_table(('field', 'value'), rows)}\n\n```json\n{json.dumps(to_json(material.config), indent=2)}\n```"
    )
    return Section("config", "Config", html, markdown)


def shown_value(value: Any) -> str:
    """A config's value as it stands in a table."""
    return value if isinstance(value, str) else repr(value)


def environment(material: Material) -> Section:
    """Versions, devices, the time spent."""
    found = material.environment or {}
    described = material.described or {}
    devices = [f"{device.get('kind')} ({device.get('platform')})" for device in found.get("devices", [])]
    sizes = ", ".join(f"{split} {count:,}" for split, count in described.get("examples", {}).items())
    rows = [
        ("run directory", str(material.workdir)),
        ("data set", f"{described.get('name')} ({sizes})" if described else None),
        ("data fingerprint", described.get("fingerprint")),
        ("training steps took", seconds(material.training_seconds) if material.training_seconds is not None else None),
        ("from start to end", seconds(material.wall_seconds) if material.wall_seconds is not None else None),
        ("devices", ", ".join(dict.fromkeys(devices)) + (f", {len(devices)}" if len(devices) > 1 else "")),
        ("Python", found.get("python")),
        ("platform", found.get("platform")),
        *((name, version) for name, version in found.get("packages", {}).items()),
        ("git commit", found.get("git_commit")),
        ("command", " ".join(map(str, found.get("command", [])))),
    ]
    rows = [(name, value) for name, value in rows if value]
    return Section("environment", "Environment", table(("", ""), rows), markdown_table(("what", "value"), rows))
