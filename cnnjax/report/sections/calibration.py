"""How far confidence is from accuracy."""

from collections.abc import Mapping

from cnnjax.analysis import pictures
from cnnjax.report.blocks import Figure, Section, Template, Text
from cnnjax.report.charts import reliability_chart
from cnnjax.report.contents import RunContents
from cnnjax.tasks import classification_metrics as classification

NEEDS = ("class_predictions",)


def section(contents: RunContents) -> Section:
    """The reliability diagram of one run."""
    return compare({contents.workdir.name: contents})


def compare(runs: Mapping[str, RunContents]) -> Section:
    """The reliability diagrams of several runs."""
    charts, markdown = [], []
    for number, (name, contents) in enumerate(runs.items(), start=1):
        predictions = contents.class_predictions
        found = classification.calibration(predictions.probabilities, predictions.labels)
        text = f"{name + ': ' if len(runs) > 1 else ''}expected calibration error {found.error:.4f}"
        charts.append((reliability_chart(found), text))
        file = str(number) if len(runs) > 1 else ""
        markdown += [Text(text), Figure(pictures.plot_calibration(found), "reliability diagram", file)]
    text = (
        "Each point is the accuracy of predictions at one confidence level; a calibrated model lies on the diagonal. Beneath: the "
        "number of examples at each level."
    )
    return Section("Calibration", [Text(text), Template("reliabilities.html", {"charts": charts}, markdown)])
