"""The key figures."""

from collections.abc import Mapping

from cnnjax.analysis import curves
from cnnjax.analysis.summary import summarize
from cnnjax.report.blocks import Section, Table, Template, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.words import duration
from cnnjax.tasks import classification_metrics as classification
from cnnjax.tasks.classification import probabilities_score
from cnnjax.tasks.task import monitored

NEEDS = ()


def section(contents: RunContents) -> Section:
    """The key figures of one run."""
    found = list(key_figures(contents).items())
    blocks = [Template("tiles.html", {"figures": found}, [Table(("figure", "value"), found)])]
    predictions = contents.predictions
    if predictions is not None and len(predictions.labels) < predictions.total:
        what = "Test figures" if contents.kind == "class_predictions" else "The examples shown here"
        blocks.append(Text(f"{what} are of the first {len(predictions.labels):,} of {predictions.total:,} examples."))
    return Section("", blocks)


def compare(runs: Mapping[str, RunContents]) -> Section:
    """The key figures, one row per run."""
    found = {name: key_figures(contents) for name, contents in runs.items()}
    columns = list(dict.fromkeys(column for values in found.values() for column in values))
    rows = [(name, *(values.get(column, "—") for column in columns)) for name, values in found.items()]
    return Section("Figures", [Table(("run", *columns), rows, range(1, len(columns) + 1))])


def key_figures(contents: RunContents) -> dict[str, str]:
    """The key figures of a run, as far as they are known."""
    found = test_figures(contents)
    found |= best_figures(contents)
    if contents.epochs and contents.config:
        found["epochs"] = f"{len(contents.epochs)} of {contents.config.train.epochs}"
    if contents.model is not None:
        found["parameters"] = f"{summarize(contents.model, contents.input_shape).total_parameters:,}"
    if contents.training_seconds is not None:
        found["training"] = duration(contents.training_seconds)
    return found


def best_figures(contents: RunContents) -> dict[str, str]:
    """The best values of the validation split: the accuracy of a classification, and the metric that selects the checkpoint."""
    found, described = {}, contents.described or {}
    accuracies = curves.series(contents.epochs, "valid/accuracy")[1]
    classes = described.get("class_counts") is not None
    if classes and len(accuracies):
        found["best validation accuracy"] = f"{100 * accuracies.max():.2f} %"
    if contents.run is None:
        return found
    options = contents.run.config.evaluate
    metric, mode = monitored(contents.run.task, options.metric, options.mode)
    values = curves.series(contents.epochs, f"valid/{metric}")[1]
    if len(values) and not (classes and metric == "accuracy"):
        found[f"best validation {metric.replace('_', ' ')}"] = f"{values.max() if mode == 'max' else values.min():.4g}"
    return found


def test_figures(contents: RunContents) -> dict[str, str]:
    """The figures of the test split: of the predictions if there are any, otherwise as logged by the run."""
    if contents.kind == "class_predictions":
        predictions = contents.predictions
        values = probabilities_score(predictions.probabilities, predictions.labels)
        found = accuracy_figures(int(predictions.right.sum()), len(predictions.labels))
        found["test negative log-likelihood"] = f"{values['nll']:.4f}"
        detail = classification.measure_details(predictions.probabilities, predictions.labels)
        return found | {classification.title_of(name): f"{value:.4f}" for name, value in detail.items()}
    metrics = contents.test_metrics
    classes = (contents.described or {}).get("class_counts") is not None
    if "test/accuracy" not in metrics or not classes:  # of another task than classification
        return {key.replace("/", " ").replace("_", " "): f"{value:.4g}" for key, value in metrics.items()}
    accuracy, examples = metrics["test/accuracy"], (contents.described or {}).get("examples", {}).get("test")
    known = (
        accuracy_figures(round(accuracy * examples), examples)
        if examples
        else {"test accuracy": f"{100 * accuracy:.2f} %"}
    )
    return known | {"test loss": f"{metrics['test/loss']:.4f}"}


def accuracy_figures(hits: int, examples: int) -> dict[str, str]:
    """An accuracy, its counts, and its confidence interval."""
    low, high = classification.wilson_interval(hits, examples)
    return {
        "test accuracy": f"{100 * hits / examples:.2f} %",
        "right": f"{hits:,} of {examples:,}",
        "95 % interval (Wilson)": f"{100 * low:.2f} to {100 * high:.2f} %",
    }
