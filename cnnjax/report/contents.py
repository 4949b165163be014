"""The contents of a run directory for a report; damaged or missing parts become sentences instead of errors."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import flax.linen as nn
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnjax.core import files
from cnnjax.data import streaming
from cnnjax.data.datasets import Split
from cnnjax.data.transforms import Statistics
from cnnjax.data.views import central_map
from cnnjax.report.predictions import (
    AnyPredictions,
    ArrayPredictions,
    BoxPredictions,
    MapPredictions,
    Predictions,
    close_ups,
    embedded_count,
)
from cnnjax.runs import Run, load_splits, network_shape, restore, stored_config, stored_facts
from cnnjax.tasks.classification import Classification
from cnnjax.tasks.detection import Detection, counted_rows
from cnnjax.tasks.multilabel import MultiLabel
from cnnjax.tasks.regression import Regression, as_rows
from cnnjax.tasks.segmentation import Segmentation
from cnnjax.tasks.task import Task, class_names, number_names
from cnnjax.training import run_directory
from cnnjax.training.evaluation import evaluation_crop
from cnnjax.training.experiment import build
from cnnjax.training.logs import training_seconds

T = TypeVar("T")
# The errors of reading damaged or absent files, data and checkpoints.
EXPECTED = (ValueError, TypeError, KeyError, OSError, RuntimeError)


@dataclasses.dataclass(frozen=True)
class NetworkInputs:
    """Test images in the form of the network's input.

    Attributes:
      first: the first images of the split, which are embedded.
      close_ups: the images that are shown in detail.
    """

    first: Float[np.ndarray, "example *size channel"]
    close_ups: Float[np.ndarray, "example *size channel"]


@dataclasses.dataclass(frozen=True)
class RunContents:
    """The contents of a run directory; parts that are missing, or do not exist for the run's task, are None.

    Attributes:
      workdir: the run directory.
      config: the resolved config.
      history: the lines of `metrics.jsonl` that can be read.
      environment: the contents of `environment.json`.
      described: the contents of `dataset.json`.
      model: the network, built from the config.
      run: the run with its checkpoint's weights.
      kind: the kind of the run's predictions, a name in `KINDS`, by which sections are selected.
      predictions: the test split with the run's predictions.
      missing: a sentence on each missing part.
      examples: the largest number of examples of a split that are predicted.
      splits: the splits of the run's data set.
    """

    workdir: Path
    config: ConfigDict | None
    history: list[dict[str, Any]]
    environment: Mapping[str, Any] | None
    described: Mapping[str, Any] | None
    model: nn.Module | None
    run: Run | None
    kind: str | None
    predictions: AnyPredictions | None
    missing: tuple[str, ...]
    examples: int = 10_000
    splits: Mapping[str, Split] | None = None

    def has(self, need: str) -> bool:
        """Whether a section's need is met: predictions of a kind, or an attribute that is neither None nor empty."""
        if need in KINDS:
            return self.kind == need
        value = getattr(self, need)
        return value is not None and value != []

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The lines at the ends of epochs."""
        return [line for line in self.history if "train/loss" in line]

    @property
    def test_metrics(self) -> dict[str, float]:
        """The metrics of the test split, from the last line; empty if the run has not measured them."""
        lines = [line for line in self.history if any(key.startswith("test/") for key in line)]
        return {key: value for key, value in lines[-1].items() if key.startswith("test/")} if lines else {}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the network's input image."""
        return network_shape(self.config, self.described["image_shape"])

    @property
    def image_size(self) -> tuple[int, int] | None:
        """The height and width of the network's input image; None for signals and volumes."""
        return self.input_shape[:2] if len(self.input_shape) == 3 else None

    @cached_property
    def network_inputs(self) -> NetworkInputs:
        """The images that several sections use, normalised in one batch, so that they share one compiled program."""
        predictions = self.predictions
        count, closely = embedded_count(predictions), close_ups(predictions)
        inputs = self.run.network_inputs(predictions.pixels[[*range(count), *closely]])
        return NetworkInputs(inputs[:count], inputs[count:])

    @property
    def training_seconds(self) -> float | None:
        """The time that the training steps took; None if it is not known."""
        timed = [line for line in self.epochs if isinstance(line.get("time/images_per_second"), int | float)]
        return training_seconds(timed, self.config.train.batch_size) if timed and self.config else None

    @property
    def wall_seconds(self) -> float | None:
        """The time from writing `config.json` to the end, by the files' times; None if the run has not ended."""
        done, begun = self.workdir / run_directory.DONE, self.workdir / run_directory.CONFIG
        return done.stat().st_mtime - begun.stat().st_mtime if done.exists() else None


def read_contents(workdir: Path, examples: int, dataset: Any = None) -> RunContents:
    """Reads the contents of a run directory, as far as possible.

    Args:
      workdir: the run directory.
      examples: the largest number of examples of the test split that are predicted, from the first on.
      dataset: the run's data set, if it was passed to `train`, as it was passed.

    Raises:
      FileNotFoundError: the directory holds no run.
    """
    if not run_directory.is_run(workdir):
        raise FileNotFoundError(
            f"{workdir} holds no run ({run_directory.CONFIG} is missing): train one with `cnnjax train`"
        )
    missing: list[str] = []

    def attempt(what: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except EXPECTED as error:
            missing.append(f"{what}: {one_line(error)}")
            return None

    config = attempt("The config", lambda: stored_config(workdir))
    described = attempt("The description of the data", lambda: run_directory.read_description(workdir))
    environment = attempt("The environment", lambda: files.read_json(workdir / run_directory.ENVIRONMENT))
    history, damage = readable_history(workdir)
    missing += damage
    model = run = None
    kind = splits = predictions = None
    if config is not None and described is not None:
        model = attempt("The network", lambda: _model(config, described))
        run = attempt("Weights", lambda: restore(workdir, config, described, history))
    if run is not None and (found := attempt("Test examples", lambda: predict_examples(run, examples, dataset))):
        kind, splits, predictions = found
    contents = RunContents(
        workdir,
        config,
        history,
        environment,
        described,
        model,
        run,
        kind,
        predictions,
        tuple(missing),
        examples,
        splits,
    )
    return dataclasses.replace(contents, missing=(*missing, *_unfinished(contents)))


def _model(config: ConfigDict, described: Mapping[str, Any]) -> nn.Module:
    return build(config, stored_facts(config, described)).model


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of predictions that sections show.

    Attributes:
      task: the task that predicts them.
      predict: the run, prepared images, their labels, and the number of examples in the whole split -> the predictions.
    """

    task: type[Task]
    predict: Callable[[Run, np.ndarray, np.ndarray, int], AnyPredictions]


def predict_examples(
    run: Run, examples: int, dataset: Any = None
) -> tuple[str, Mapping[str, Split], AnyPredictions] | None:
    """The run's predictions for the first examples of the test split, with their kind and all splits; None for other tasks."""
    name = next((name for name, kind in KINDS.items() if isinstance(run.task, kind.task)), None)
    if name is None:
        return None
    splits = load_splits(run, ("test",), dataset)
    split = splits["test"]
    count = min(examples, len(split))
    # What is mapped or streamed is read where it is predicted or shown.
    images = split.images if count == len(split) else streaming.take(split.images, np.arange(count))
    return name, splits, KINDS[name].predict(run, images, np.asarray(split.labels[:count]), len(split))


def _classes(run: Run, pixels: np.ndarray, labels: np.ndarray, total: int) -> Predictions:
    return Predictions(pixels, labels, run.predict_prepared(pixels), run.label_names, total, _statistics(run))


def _numbers(
    naming: Callable[[Sequence[str], int], list[str]], run: Run, pixels: np.ndarray, labels: np.ndarray, total: int
) -> ArrayPredictions:
    predicted = run.predict_prepared(pixels)
    names = tuple(naming(run.label_names, predicted.shape[1]))
    return ArrayPredictions(pixels, as_rows(labels), predicted, names, total, _statistics(run))


def _maps(run: Run, pixels: np.ndarray, labels: np.ndarray, total: int) -> MapPredictions:
    classes = run.facts.outputs["num_classes"]
    smallest = np.min_scalar_type(classes - 1)
    predicted = np.concatenate([batch.argmax(-1).astype(smallest) for batch in run.predict_by_batch(pixels)])
    crop = evaluation_crop(run.config)
    return MapPredictions(
        pixels,
        crop,
        np.asarray(central_map(labels, crop)),
        predicted,
        tuple(class_names(run.label_names, classes)),
        run.task.ignore,
        total,
        _statistics(run),
    )


def _boxes(run: Run, pixels: np.ndarray, labels: np.ndarray, total: int) -> BoxPredictions:
    classes = run.facts.outputs["num_classes"]
    return BoxPredictions(
        pixels,
        counted_rows(labels),
        run.predict_prepared(pixels),
        tuple(class_names(run.label_names, classes)),
        run.task.shown,
        total,
        _statistics(run),
    )


def _statistics(run: Run) -> Statistics | None:
    return run_directory.read_statistics(run.described)


# The kinds of predictions, by the names in the `NEEDS` of sections.
KINDS: Mapping[str, Kind] = {
    "class_predictions": Kind(Classification, _classes),
    "label_predictions": Kind(MultiLabel, partial(_numbers, class_names)),
    "number_predictions": Kind(Regression, partial(_numbers, number_names)),
    "map_predictions": Kind(Segmentation, _maps),
    "box_predictions": Kind(Detection, _boxes),
}


def readable_history(workdir: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines of `metrics.jsonl` that can be read, and a sentence on those that cannot be."""
    path = workdir / run_directory.METRICS
    if not path.exists():
        return [], [f"{path.name} does not exist: nothing has been measured, or it was deleted."]
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    history = []
    for line in lines:
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(content, dict) and {"step", "epoch"} <= content.keys():
            history.append(content)
    lost = len(lines) - len(history)
    return history, [f"{lost} of the {len(lines)} lines of {path.name} cannot be read."] if lost else []


def _unfinished(contents: RunContents) -> list[str]:
    """Sentences on the missing parts of an unfinished run."""
    sentences = []
    if contents.described is not None and contents.described.get("imported"):
        return ["These are imported weights, so there is no training to show."]
    done, planned = len(contents.epochs), contents.config.train.epochs if contents.config else None
    if not (contents.workdir / run_directory.DONE).exists():
        of = f" of {planned}" if planned else ""
        sentences.append(f"The run is not finished: {done}{of} epochs are done.")
    if not contents.test_metrics:
        here = " The test figures here were computed for this report." if contents.kind == "class_predictions" else ""
        sentences.append(f"The run has not measured its test figures, since it is not finished.{here}")
    bad = sorted(
        {
            name
            for line in contents.history
            for name, value in line.items()
            if isinstance(value, float) and not math.isfinite(value)
        }
    )
    if bad:
        sentences.append(f"Not always finite: {', '.join(bad)}. The curves leave these points out.")
    return sentences


def one_line(error: Exception) -> str:
    """An error's message as one line, of 300 characters at most."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"
