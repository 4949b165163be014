"""The contents of a run directory for a report, and what is missing: a broken or unfinished run gives what it can."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import flax.linen as nn
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnjax.core import files
from cnnjax.data.datasets import Dataset
from cnnjax.report.predictions import ArrayPredictions, Predictions, close_ups, embedded_count
from cnnjax.runs import Run, load_split, network_shape, restore, stored_config, stored_facts
from cnnjax.tasks.classification import Classification
from cnnjax.tasks.multilabel import MultiLabel
from cnnjax.tasks.regression import Regression, as_rows
from cnnjax.tasks.task import class_names, number_names
from cnnjax.training import run_directory
from cnnjax.training.experiment import build
from cnnjax.training.logs import training_seconds

T = TypeVar("T")
# The kinds of predictions that sections show, each with its task.
PREDICTIONS = {
    "class_predictions": Classification, "label_predictions": MultiLabel, "number_predictions": Regression,
}  # fmt: skip
# The errors of reading damaged or absent files, data and checkpoints.
EXPECTED = (ValueError, TypeError, KeyError, OSError, RuntimeError)


@dataclasses.dataclass(frozen=True)
class NetworkInputs:
    """Test images as the network takes them.

    Attributes:
      first: the split's first images, which are embedded.
      close_ups: the images that are looked at closely.
    """

    first: Float[np.ndarray, "example *size channel"]
    close_ups: Float[np.ndarray, "example *size channel"]


@dataclasses.dataclass(frozen=True)
class RunContents:
    """The contents of a run directory. What is None is missing, or the run's task has no such thing.

    Attributes:
      workdir: the run directory.
      config: the resolved config.
      history: the lines of `metrics.jsonl` that can be read.
      environment: the contents of `environment.json`.
      described: the contents of `dataset.json`.
      model: the network, built from the config.
      run: the run with its checkpoint's weights.
      class_predictions: the test split with the classes that the run predicts, of a classification.
      label_predictions: the same with the labels, of a multi-label classification.
      number_predictions: the same with the numbers, of a regression.
      missing: a sentence on each thing that is missing.
      examples: the number of examples of a split that predictions are made for.
      dataset: the run's, where training was given one from Python.
    """

    workdir: Path
    config: ConfigDict | None
    history: list[dict[str, Any]]
    environment: Mapping[str, Any] | None
    described: Mapping[str, Any] | None
    model: nn.Module | None
    run: Run | None
    class_predictions: Predictions | None
    label_predictions: ArrayPredictions | None
    number_predictions: ArrayPredictions | None
    missing: tuple[str, ...]
    examples: int = 10_000
    dataset: Dataset | None = None

    def has(self, need: str) -> bool:
        """Whether there is what a section needs: an attribute or property that is neither None nor empty."""
        value = getattr(self, need)
        return value is not None and value != []

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The lines at the ends of epochs."""
        return [line for line in self.history if "train/loss" in line]

    @property
    def test_metrics(self) -> dict[str, float]:
        """The metrics of the test split, from the last line; empty if the run has not come to it."""
        lines = [line for line in self.history if any(key.startswith("test/") for key in line)]
        return {key: value for key, value in lines[-1].items() if key.startswith("test/")} if lines else {}

    @property
    def predictions(self) -> Predictions | ArrayPredictions | None:
        """The predictions, of whichever task."""
        return next((p for p in (self.class_predictions, self.label_predictions, self.number_predictions) if p), None)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of an image as the network takes it."""
        return network_shape(self.config, self.described["image_shape"])

    @property
    def image_size(self) -> tuple[int, int] | None:
        """The height and width of an image as the network takes it; None of signals and volumes."""
        return self.input_shape[:2] if len(self.input_shape) == 3 else None

    @cached_property
    def network_inputs(self) -> NetworkInputs:
        """The images that several sections look at; they are normalised in one batch, so that one program serves all."""
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


def read_contents(workdir: Path, examples: int, dataset: Dataset | None = None) -> RunContents:
    """The contents of a run directory, as far as they can be read.

    Args:
      workdir: the run directory.
      examples: the number of examples of the test split, its first, that predictions are made for.
      dataset: the run's, where training was given one from Python.

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
    described = attempt("What the run knows of its data", lambda: run_directory.read_description(workdir))
    environment = attempt("The environment", lambda: files.read_json(workdir / run_directory.ENVIRONMENT))
    history, damage = readable_history(workdir)
    missing += damage
    model = run = None
    predictions: dict[str, Any] = {}
    if config is not None and described is not None:
        model = attempt("The network", lambda: _model(config, described))
        run = attempt("Weights", lambda: restore(workdir, config, described, history))
    if run is not None:
        predictions = attempt("Test examples", lambda: predict_examples(run, examples, dataset)) or {}
    each = (predictions.get(kind) for kind in PREDICTIONS)
    contents = RunContents(
        workdir, config, history, environment, described, model, run, *each, tuple(missing), examples, dataset
    )
    return dataclasses.replace(contents, missing=(*missing, *_unfinished(contents)))


def _model(config: ConfigDict, described: Mapping[str, Any]) -> nn.Module:
    return build(config, stored_facts(config, described)).model


def predict_examples(run: Run, examples: int, dataset: Dataset | None = None) -> dict[str, Any]:
    """The run's predictions for the first examples of the test split, by the kind of its task; {} of a task of another kind."""
    kind = next((kind for kind, task in PREDICTIONS.items() if isinstance(run.task, task)), None)
    if kind is None:
        return {}
    split = load_split(run, dataset=dataset)
    pixels = np.asarray(split.images[np.arange(min(examples, len(split)))])  # streamed ones are read here
    labels, predicted = np.asarray(split.labels[: len(pixels)]), run.predict_prepared(pixels)
    statistics = run_directory.read_statistics(run.described)
    if kind == "class_predictions":
        return {kind: Predictions(pixels, labels, predicted, run.label_names, len(split), statistics)}
    naming = class_names if kind == "label_predictions" else number_names
    names = tuple(naming(run.label_names, predicted.shape[1]))
    return {kind: ArrayPredictions(pixels, as_rows(labels), predicted, names, len(split), statistics)}


def readable_history(workdir: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines of `metrics.jsonl` that can be read, and a sentence on those that cannot be."""
    path = workdir / run_directory.METRICS
    if not path.exists():
        return [], [f"{path.name} is not there: nothing has been measured, or it was deleted."]
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
    """Sentences on what a run that has ended would have."""
    sentences = []
    if contents.described is not None and contents.described.get("imported"):
        return ["These are imported weights: there is no training to show."]
    done, planned = len(contents.epochs), contents.config.train.epochs if contents.config else None
    if not (contents.workdir / run_directory.DONE).exists():
        of = f" of {planned}" if planned else ""
        sentences.append(f"The run has not ended: {done}{of} epochs are done.")
    if not contents.test_metrics:
        here = " The test figures here were computed for this report." if contents.class_predictions else ""
        sentences.append(f"The run's own test figures are not there: it has not come to its end.{here}")
    bad = sorted(
        {
            name
            for line in contents.history
            for name, value in line.items()
            if isinstance(value, float) and not math.isfinite(value)
        }
    )
    if bad:
        sentences.append(f"Not finite at some time: {', '.join(bad)}. The curves leave these points out.")
    return sentences


def one_line(error: Exception) -> str:
    """An error's message as one line, of 300 characters at most."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"
