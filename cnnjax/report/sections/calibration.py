"""Calibration: accuracy by confidence."""

from collections.abc import Mapping

from cnnjax.analysis import pictures
from cnnjax.report.blocks import Block, Figure, Section, Template, Text
from cnnjax.report.charts import CONFIDENCE, column_chart, reliability_chart
from cnnjax.report.contents import RunContents
from cnnjax.tasks import classification_metrics as classification

NEEDS = ("class_predictions",)


def section(contents: RunContents) -> Section:
    """The reliability diagram of one run."""
    return compare({contents.workdir.name: contents})


def compare(runs: Mapping[str, RunContents]) -> Section:
    """The reliability diagrams of several runs."""
    text = (
        "Each bar is the accuracy of the predictions at one level of confidence; a calibrated network lies on the diagonal, an "
        "overconfident one below it. Beside it: the number of examples at each level."
    )
    blocks: list[Block] = [Text(text)]
    for number, (name, contents) in enumerate(runs.items(), start=1):
        predictions = contents.predictions
        found = classification.calibration(predictions.probabilities, predictions.labels)
        caption = f"{name + ': ' if len(runs) > 1 else ''}expected calibration error {found.error:.4f}"
        counts = column_chart(found.counts, 0.0, 1.0, CONFIDENCE, "examples", "number of examples by confidence")
        drawn = Figure(pictures.plot_calibration(found), "reliability diagram", str(number) if len(runs) > 1 else "")
        values = {"charts": [reliability_chart(found), counts], "caption": caption}
        blocks.append(Template("two_charts.html", values, [Text(caption), drawn]))
    return Section("Calibration", blocks)
