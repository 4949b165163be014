"""The objects that a detector finds: figures by class and size, curves of precision over recall, and hits, misses and false alarms."""

from collections.abc import Sequence

import numpy as np

from cnnjax.analysis.boxes import ALARM, HIT, MISS, drawn_boxes, plot_precision_recall
from cnnjax.analysis.pictures import plot_gallery
from cnnjax.data.boxes import CLASS
from cnnjax.report.blocks import Block, Columns, Figure, Heading, Section, Table, Template, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import BoxPredictions
from cnnjax.tasks.detection import CLASS_COLUMNS, class_rows
from cnnjax.tasks.detection_metrics import AREAS, RECALLS, Curves

NEEDS = ("box_predictions",)
# Images of each kind, and classes whose curves are drawn.
PICTURES, CURVES = 8, 12


def section(contents: RunContents) -> Section:
    """The boxes of the test split."""
    predictions = contents.predictions
    curves = contents.run.task.curves(predictions.detections, predictions.labels, len(predictions.names))
    rows = class_rows(predictions.detections, predictions.labels, curves, predictions.names, predictions.shown)
    by_class = Table(CLASS_COLUMNS, rows, range(1, len(CLASS_COLUMNS)))
    found = predictions.verdicts
    sentence = (
        f"Of the detections with a score of at least {predictions.shown:g}, {found.hit.sum():,} hit an object of their class with an IoU "
        f"of at least 0.5 and {found.alarm.sum():,} are false alarms; {found.missed.sum():,} objects are missed."
    )
    worst = np.argsort(-predictions.distance, kind="stable")[:PICTURES].tolist()
    typical = np.linspace(0, len(predictions.labels) - 1, min(PICTURES, len(predictions.labels))).astype(int).tolist()
    return Section(
        "Objects",
        [
            Text(sentence, quiet=False),
            Template("tall.html", {"block": by_class}, [by_class]),
            Heading("Precision over recall"),
            Columns({"by class": [_by_class(predictions, curves)], "by size": _by_size(curves)}),
            *pictures(predictions, worst, "Worst images", "worst"),
            *pictures(predictions, typical, "Images throughout the split", "examples"),
        ],
    )


def _by_class(predictions: BoxPredictions, curves: Curves) -> Block:
    """The curves at an IoU of 0.5 of the classes with the lowest average precision."""
    precision = curves.precision[0][:, 0]
    known = np.flatnonzero(~np.isnan(precision[:, 0]))
    lowest = known[np.argsort(precision[known].mean(1), kind="stable")[:CURVES]]
    lines = [
        (f"{predictions.names[number]} {precision[number].mean():.2f}", precision[number]) for number in sorted(lowest)
    ]
    title = (
        "at an IoU of 0.5" if len(known) <= CURVES else f"at an IoU of 0.5, the lowest {CURVES} of {len(known)} classes"
    )
    return Figure(plot_precision_recall(lines, RECALLS, title), "precision over recall by class, with AP50", "classes")


def _by_size(curves: Curves) -> list[Block]:
    """The curves at an IoU of 0.5 by the size of objects, means over classes."""
    lines = []
    for place, name in enumerate(AREAS):
        precision = curves.precision[place][:, 0]
        known = ~np.isnan(precision[:, 0])
        if known.any():
            mean = precision[known].mean(0)
            lines.append((f"{name} {mean.mean():.2f}", mean))
    drawn = plot_precision_recall(lines, RECALLS, "at an IoU of 0.5, means over classes")
    text = "Small objects have an area below 32x32 pixels, medium ones below 96x96."
    return [Figure(drawn, "precision over recall by size, with AP50", "sizes"), Text(text)]


def pictures(predictions: BoxPredictions, examples: Sequence[int], title: str, name: str) -> list[Block]:
    """Images with hits in green, missed objects in orange and false alarms in red."""
    found, labels, detections = predictions.verdicts, predictions.labels, predictions.detections
    drawn, captions = [], []
    for index, picture in zip(examples, predictions.pictures(examples), strict=True):
        boxes, colours, texts = [], [], []
        for place in np.flatnonzero(found.missed[index]):
            boxes.append(labels[index, place, :4])
            colours.append(MISS)
            texts.append(predictions.names[int(labels[index, place, CLASS])])
        for colour, chosen in ((ALARM, found.alarm[index]), (HIT, found.hit[index])):
            for place in np.flatnonzero(chosen):
                boxes.append(detections.boxes[index, place])
                colours.append(colour)
                named = predictions.names[int(detections.classes[index, place])]
                texts.append(f"{named} {detections.scores[index, place]:.2f}")
        drawn.append(drawn_boxes(picture, np.array(boxes).reshape(-1, 4), colours, texts))
        counts = (found.hit[index].sum(), found.missed[index].sum(), found.alarm[index].sum())
        captions.append(f"{index}: {counts[0]} hit, {counts[1]} missed, {counts[2]} false")
    text = (
        "Hits are green, with class and score; missed objects orange, with their class; false alarms red. Each caption has the image's "
        "position in the split."
    )
    return [Heading(title), Text(text), Figure(plot_gallery(drawn, captions, columns=4), title.lower(), name)]
