"""Runs -> figures of a split, of one run or of several runs' mean predictions."""

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
    """Metrics of a run, or of several runs' mean predictions, on a split.

    Of one run there are the task's sums, the config's loss among them, of the central view of each image; and, of one or
    several, what the task scores of the predictions (`score`, `score_in_detail`; `tasks.Classification` says what a
    classification's are), which are averaged over `evaluate.views` and runs.

    Args:
      runs: of the same data set and task.
      split: train, valid or test.
      dataset: the runs', where `train` was given one.

    Raises:
      ValueError: an unknown split, or runs of different data.
    """
    return judge_split(runs, split, dataset)[0]


def judge_split(
    runs: Sequence[Run], split: str = "test", dataset: Any = None
) -> tuple[dict[str, float], Any, np.ndarray]:
    """What `evaluate` returns, and the predictions and labels that it is of; arguments and errors as there."""
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
    """A split of the data that a run was trained on.

    Args:
      run: loaded.
      split: train, valid or test.
      dataset: the run's, where `train` was given one.

    Raises:
      ValueError: an unknown split, the data have changed since, or they were given from Python and are not here.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: expected train, valid or test")
    options, was_given = DatasetOptions(**run.config.dataset), run.config.dataset.name.startswith(OBJECT)
    if dataset is None and was_given:
        raise ValueError(
            f"run {run.workdir}: its data set ({run.config.dataset.name.removeprefix(OBJECT)}) was given from Python and has no name: "
            "give it again, as in cnnjax.evaluate([run], dataset=...)"
        )
    # Of imported weights there is no more to compare than the one split.
    needed = (split,) if run.described.get("imported") else SPLITS
    if dataset is None:
        dataset = load_dataset(options, reporter(run.config), needed, run.config.folder)
    elif was_given or not isinstance(dataset, Dataset):  # whole; the run may be of some classes, or of a fold
        dataset = as_dataset(dataset, options, reporter(run.config))
    run_directory.check_same_data(run.described, dataset, f"run {run.workdir}")
    return dataset.splits[split]


def predict_split(runs: Sequence[Run], split: str = "test", dataset: Any = None) -> tuple[Any, np.ndarray]:
    """The predictions, (example, ...), of a run, or the mean of several runs', for a split; and its labels.

    Args:
      runs: of the same data set and task.
      split: train, valid or test.
      dataset: the runs', where `train` was given one.

    Raises:
      ValueError: an unknown split, or runs of different data.
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
