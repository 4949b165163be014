"""The result in a sentence, the circumstances of the training, and a strip of images."""

import datetime
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np

from cnnjax.core.terminal import count_of
from cnnjax.report.blocks import Section, Template, Text
from cnnjax.report.contents import RunContents
from cnnjax.report.predictions import AnyPredictions, Predictions
from cnnjax.report.words import duration, listed
from cnnjax.tasks import classification_metrics as classification
from cnnjax.tasks.task import monitored
from cnnjax.training import run_directory

NEEDS = ()
# The number of pictures in the strip, and of kinds of mistakes in the sentence.
PICTURES, CONFUSIONS = 12, 3


def section(contents: RunContents) -> Section:
    """The summary of one run."""
    blocks = [Template("lead.html", {"text": (text := answer(contents))}, [Text(text)]), Text(circumstances(contents))]
    if (predictions := contents.predictions) is not None:
        examples = one_of_each(predictions)
        names = [
            predictions.label_names[predictions.labels[index]]
            if isinstance(predictions, Predictions)
            else f"test[{index}]"
            for index in examples
        ]
        shown = list(zip(predictions.pictures(examples), names, strict=True))
        blocks.append(Template("strip.html", {"images": shown}))
    return Section("", blocks)


def compare(runs: Mapping[str, RunContents]) -> Section | None:
    """The best of several classifications, and the interval of its difference from the second."""
    ranked = sorted(
        ((name, contents.predictions) for name, contents in runs.items() if contents.kind == "class_predictions"),
        key=lambda named: -named[1].right.mean(),
    )
    if len(ranked) < 2:
        return None
    (first, a), (second, b) = ranked[:2]
    best, next_best = (f"{100 * predictions.right.mean():.1f} %" for predictions in (a, b))
    text = f"{first} gets the most test images right, {best}; {second} follows with {next_best}."
    if a.right.mean() == b.right.mean():
        text = f"{first} and {second} get the most test images right, {best} each."
    if a.label_names == b.label_names and np.array_equal(a.labels, b.labels):
        found = classification.compare(a.predicted, b.predicted, a.labels)
        apart = "does not contain zero" if found.low > 0 else "contains zero: these images do not show which is better"
        text += f" The 95 % interval of the difference, {100 * found.low:+z.1f} to {100 * found.high:+z.1f} points, {apart}."
    return Section("", [Template("lead.html", {"text": text}, [Text(text)])])


def answer(contents: RunContents) -> str:
    """The network's result in one or two sentences."""
    name = "The network" if contents.config is None else contents.config.model.name
    if contents.kind == "class_predictions":
        return class_answer(name, contents.predictions)
    if contents.test_metrics:
        return f"{name}, on the test images: {listed(first_figures(contents))}."
    if contents.epochs:
        return f"{name} has been trained for {count_of(len(contents.epochs), 'epoch')}; its test figures are not known."
    return f"{name} has no test figures."


def class_answer(name: str, predictions: Predictions) -> str:
    """The number of images that a classifier gets right, and the classes that it confuses most."""
    right, count = int(predictions.right.sum()), len(predictions.labels)
    low, high = classification.wilson_interval(right, count)
    text = (
        f"{name} gets {right:,} of {count:,} test images right: {100 * right / count:.1f} %, with a 95 % interval of "
        f"{100 * low:.1f} to {100 * high:.1f} %."
    )
    confusion = classification.confusion_matrix(predictions.probabilities, predictions.labels)
    wrong = confusion - np.diag(np.diag(confusion))
    names = predictions.label_names
    often = [label for label in np.argsort(-wrong.sum(1), kind="stable")[:CONFUSIONS] if wrong[label].any()]
    taken = [
        f"{names[label]} for {listed([names[k] for k in np.argsort(-wrong[label], kind='stable')[:2] if wrong[label, k]], 'or')}"
        for label in often
    ]
    return f"{text} Most often it takes {listed(taken)}." if taken else text


def first_figures(contents: RunContents) -> list[str]:
    """Three test metrics, first the one that selects the checkpoint."""
    known = {key.partition("/")[2]: value for key, value in contents.test_metrics.items()}
    names = [name for name in known if name != "loss"] or list(known)
    if contents.run is not None:
        options = contents.run.config.evaluate
        names.sort(key=lambda name: name != monitored(contents.run.task, options.metric, options.mode)[0])
    return [f"{name.replace('_', ' ')} {known[name]:.4g}" for name in names[:3]]


def circumstances(contents: RunContents) -> str:
    """The data, the date, the devices and the time, as far as they are known."""
    described, environment = contents.described or {}, contents.environment or {}
    kinds = [str(device.get("kind")) for device in environment.get("devices", [])]
    steps = contents.training_seconds
    epochs = len(contents.epochs)
    return " · ".join(
        part
        for part in (
            described
            and f"{described.get('examples', {}).get('train', 0):,} training images of {described.get('name')}",
            epochs and count_of(epochs, "epoch") + (f" in {duration(steps)}" if steps is not None else ""),
            kinds and f"{len(kinds)} x {kinds[0]}".removeprefix("1 x ").replace("cpu", "CPU"),
            ended(contents),
            environment and f"cnnjax {environment.get('packages', {}).get('cnnjax', '')}",
        )
        if part
    )


def ended(contents: RunContents) -> str:
    """The day on which the run's last file was written."""
    known = [contents.workdir / name for name in (run_directory.DONE, run_directory.METRICS, run_directory.CONFIG)]
    path = next(path for path in known if path.exists())
    day = datetime.datetime.fromtimestamp(path.stat().st_mtime)
    return f"{day.day} {day:%B %Y}"


def one_of_each(predictions: AnyPredictions) -> list[int]:
    """The first examples of a split, from each class in turn."""
    if not isinstance(predictions, Predictions):
        return list(range(min(PICTURES, len(predictions.labels))))
    of_each: Sequence[np.ndarray] = [
        np.flatnonzero(predictions.labels == label)[:PICTURES] for label in np.unique(predictions.labels)
    ]
    turns = [int(index) for turn in zip_longest(*of_each) for index in turn if index is not None]
    return sorted(turns[:PICTURES], key=lambda index: (predictions.labels[index], index))
