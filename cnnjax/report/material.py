"""What a run directory still has for a report, and what is missing: a broken or unfinished run gives what it can."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import flax.linen as nn
import numpy as np
from jaxtyping import Float, Int, UInt8
from ml_collections import ConfigDict

from cnnjax.core import files
from cnnjax.runs import Run, load_split, network_shape, restore, stored_config
from cnnjax.training import run_directory
from cnnjax.training.logs import training_seconds
from cnnjax.training.loop import build

T = TypeVar("T")
# What reading damaged or absent files, data and checkpoints raises.
EXPECTED = (ValueError, TypeError, KeyError, OSError, RuntimeError)


@dataclasses.dataclass(frozen=True)
class Judged:
    """Examples of a split with the network's probabilities.

    Attributes:
      pixels: the images, prepared.
      labels: of the examples.
      probabilities: of the classes.
      total: how many the whole split has; these are its first.
    """

    pixels: UInt8[np.ndarray, "example height width channel"]
    labels: Int[np.ndarray, "example"]
    probabilities: Float[np.ndarray, "example class"]
    total: int

    @cached_property
    def predicted(self) -> Int[np.ndarray, "example"]:
        """The most probable class."""
        return self.probabilities.argmax(-1)

    @cached_property
    def confidence(self) -> Float[np.ndarray, "example"]:
        """Its probability."""
        return self.probabilities.max(-1)

    @cached_property
    def right(self) -> np.ndarray:
        """Whether it is the label."""
        return self.predicted == self.labels


@dataclasses.dataclass(frozen=True)
class Material:
    """What there is of one run. What is None is missing, and a sentence of `missing` says why.

    Attributes:
      workdir: the directory.
      config: resolved.
      history: the lines of `metrics.jsonl` that can be read.
      environment: what `environment.json` holds.
      described: what `dataset.json` holds.
      model: built of the config.
      run: with its checkpoint's weights.
      test: the test split and what the run says of it.
      missing: a sentence each.
    """

    workdir: Path
    config: ConfigDict | None
    history: list[dict[str, Any]]
    environment: Mapping[str, Any] | None
    described: Mapping[str, Any] | None
    model: nn.Module | None
    run: Run | None
    test: Judged | None
    missing: tuple[str, ...]

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The lines at the ends of epochs."""
        return [line for line in self.history if "train/loss" in line]

    @property
    def tested(self) -> Mapping[str, Any]:
        """The last line, of the test; empty where the run has not come to it."""
        return next((line for line in reversed(self.history) if "test/accuracy" in line), {})

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes' names."""
        return tuple(self.described["label_names"])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Of an image as the network takes it."""
        return network_shape(self.config, self.described["image_shape"])

    @property
    def training_seconds(self) -> float | None:
        """In steps of training alone; None where it is not known."""
        timed = [line for line in self.epochs if isinstance(line.get("time/images_per_second"), int | float)]
        return training_seconds(timed, self.config.train.batch_size) if timed and self.config else None

    @property
    def wall_seconds(self) -> float | None:
        """From when `config.json` was written to the end, by the files' times; None of a run that has not ended."""
        done, begun = self.workdir / run_directory.DONE, self.workdir / run_directory.CONFIG
        return done.stat().st_mtime - begun.stat().st_mtime if done.exists() else None


def gather(workdir: Path, examples: int) -> Material:
    """Reads a run directory as far as it can be read, and judges the first so many examples of the test split.

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
    model = run = test = None
    if config is not None and described is not None:
        model = attempt("The network", lambda: _model(config, described))
        run = attempt("Weights", lambda: restore(workdir, config, described, history))
    if run is not None:
        test = attempt("Test examples", lambda: judged(run, examples))
    material = Material(workdir, config, history, environment, described, model, run, test, tuple(missing))
    return dataclasses.replace(material, missing=(*missing, *_unfinished(material)))


def _model(config: ConfigDict, described: Mapping[str, Any]) -> nn.Module:
    counts = described["class_counts"] or [config.train.batch_size] * len(described["label_names"])
    return build(config, counts).model


def judged(run: Run, examples: int) -> Judged:
    """The first so many examples of the test split, and the run's probabilities for them."""
    split = load_split(run)
    pixels = np.asarray(split.images[np.arange(min(examples, len(split)))])  # streamed ones are read here
    return Judged(pixels, np.asarray(split.labels[: len(pixels)]), run.predict_prepared(pixels), len(split))


def readable_history(workdir: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines of `metrics.jsonl` that can be read, and a sentence on those that cannot."""
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


def _unfinished(material: Material) -> list[str]:
    """Sentences on what an ended run would have."""
    sentences = []
    if material.described is not None and material.described.get("imported"):
        return ["These are imported weights: there is no training to show."]
    done, planned = len(material.epochs), material.config.train.epochs if material.config else None
    if not (material.workdir / run_directory.DONE).exists():
        of = f" of {planned}" if planned else ""
        sentences.append(f"The run has not ended: {done}{of} epochs are done.")
    if not material.tested:
        here = " The test figures here were computed for this report." if material.test else ""
        sentences.append(f"The run's own test figures are not there: it has not come to its end.{here}")
    bad = sorted(
        {
            name
            for line in material.history
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
