"""Evaluates runs on a split: one run, or the averaged predictions of several runs."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.core.locate import OBJECT
from cnnjax.data.datasets import SPLITS, Dataset, DatasetOptions, Split, load_dataset
from cnnjax.data.sequences import as_dataset
from cnnjax.runs.run import Run, reporter
from cnnjax.training import run_directory


def evaluate(runs: Sequence[Run], split: str = "test", dataset: Any = None) -> dict[str, float]:
    """The metrics of a run, or of the averaged predictions of several runs, on a split.

    For a single run they include the task's metrics for the central view of each image, such as the config's loss. For one or
    several runs they include the task's scores (`score` and `score_in_detail`; see `tasks.Classification` for those of a
    classification) of the predictions, averaged over `evaluate.views` and runs.

    Args:
      runs: the runs, which must have the same data set and task.
      split: the split: train, valid or test.
      dataset: the data set of the runs, if one was passed to `train`.

    Raises:
      ValueError: the split is unknown, or the runs have different data.
    """
    return judge_split(runs, split, dataset)[0]


def judge_split(
    runs: Sequence[Run], split: str = "test", dataset: Any = None
) -> tuple[dict[str, float], Any, np.ndarray]:
    """The metrics of `evaluate` with the predictions and labels; arguments and errors as in `evaluate`."""
    predictions, labels = predict_split(runs, split, dataset)
    task = runs[0].task
    scored = task.score(predictions, Split(np.zeros(len(labels)), labels)) | task.score_in_detail(predictions, labels)
    if len(runs) > 1:
        return scored, predictions, labels
    [run] = runs
    likely = run.config.evaluate.views == "one" and run.task.score_of_metrics({"loss": scored.get("nll", 0.0)})
    if likely and likely.get("nll") == scored.get("nll"):  # the loss is the score
        measured = {"loss": scored["nll"]}
    else:
        measured = run.measure(load_split(run, split, dataset))
    return {**measured, **scored}, predictions, labels


def load_split(run: Run, split: str = "test", dataset: Any = None) -> Split:
    """A split of the data on which a run was trained.

    Args:
      run: the loaded run.
      split: the split: train, valid or test.
      dataset: the data set of the run, if one was passed to `train`.

    Raises:
      ValueError: the split is unknown, the data have changed since the training, or the run was trained on a data set from
        Python that is not passed.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: expected train, valid or test")
    options, was_given = DatasetOptions(**run.config.dataset), run.config.dataset.name.startswith(OBJECT)
    if dataset is None and was_given:
        raise ValueError(
            f"run {run.workdir}: its data set ({run.config.dataset.name.removeprefix(OBJECT)}) was passed from Python and has no name: "
            "pass it again, as in cnnjax.evaluate([run], dataset=...)"
        )
    # For imported weights there are no other splits to compare.
    needed = (split,) if run.described.get("imported") else SPLITS
    if dataset is None:
        dataset = load_dataset(options, reporter(run.config), needed, run.config.folder)
    elif was_given or not isinstance(
        dataset, Dataset
    ):  # the whole data set, of which the run may use some classes or a fold
        dataset = as_dataset(dataset, options, reporter(run.config))
    run_directory.check_same_data(run.described, dataset, f"run {run.workdir}")
    return dataset.splits[split]


def predict_split(runs: Sequence[Run], split: str = "test", dataset: Any = None) -> tuple[Any, np.ndarray]:
    """The predictions (example, ...) for a split, averaged over runs, and the labels of the split.

    Args:
      runs: the runs, which must have the same data set and task.
      split: the split: train, valid or test.
      dataset: the data set of the runs, if one was passed to `train`.

    Raises:
      ValueError: the split is unknown, or the runs have different data.
    """
    labels, total = None, None
    for run in runs:
        part = load_split(run, split, dataset)
        if labels is not None and (run.label_names != runs[0].label_names or not np.array_equal(part.labels, labels)):
            raise ValueError(
                f"{run.workdir} and {runs[0].workdir} cannot be averaged: their {split} splits have different examples or classes"
            )
        labels = part.labels
        predicted = jax.tree.map(lambda array: array.astype(np.float64), run.predict_prepared(part.images))
        total = predicted if total is None else jax.tree.map(np.add, total, predicted)
    return jax.tree.map(lambda array: array / len(runs), total), labels
