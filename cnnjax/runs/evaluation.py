"""Evaluates runs on a split: one run, or the averaged predictions of several runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cnnjax.core.locate import OBJECT
from cnnjax.data.datasets import SPLITS, Dataset, DatasetOptions, Split, load_dataset
from cnnjax.data.sequences import as_dataset
from cnnjax.runs.run import Run, reporter
from cnnjax.tasks.task import Details, takes_all_predictions
from cnnjax.training import evaluation, run_directory


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
    runs: Sequence[Run], split: str = "test", dataset: Any = None, details: bool = False
) -> tuple[dict[str, float], Details | None]:
    """The metrics of `evaluate`, and the task's details where they are asked for; other arguments and errors as in `evaluate`."""
    task = runs[0].task
    if takes_all_predictions(task, details):
        return _judge_predictions(runs, split, dataset, details)
    parts = _load_splits(runs, split, dataset)
    measured = runs[0].sums(parts[0]) if len(runs) == 1 else {}
    if len(runs) == 1 and runs[0].config.evaluate.views == "one":
        sums = measured
    else:
        sums = evaluation.tally(task, _average_by_batch(runs, parts), parts[0].labels)
    metrics = evaluation.checked_metrics(task.summarize(measured), task) if measured else {}
    return metrics | task.score_of_sums(sums), task.details_of_sums(sums, runs[0].label_names) if details else None


def _judge_predictions(
    runs: Sequence[Run], split: str, dataset: Any, details: bool
) -> tuple[dict[str, float], Details | None]:
    """The result of `judge_split` for a task that scores all predictions at once."""
    predictions, labels = predict_split(runs, split, dataset)
    task = runs[0].task
    scored = task.score(predictions, Split(np.zeros(len(labels)), labels)) | task.score_in_detail(predictions, labels)
    detailed = task.details(predictions, labels, runs[0].label_names) if details else None
    if len(runs) > 1:
        return scored, detailed
    [run] = runs
    likely = run.config.evaluate.views == "one" and run.task.score_of_metrics({"loss": scored.get("nll", 0.0)})
    if likely and likely.get("nll") == scored.get("nll"):  # the loss is the score
        measured = {"loss": scored["nll"]}
    else:
        measured = run.measure(load_split(run, split, dataset))
    return {**measured, **scored}, detailed


def load_split(run: Run, split: str = "test", dataset: Any = None) -> Split:
    """A split of the data on which a run was trained; arguments and errors as in `load_splits`.

    Raises:
      ValueError: the split is unknown.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: expected train, valid or test")
    return load_splits(run, (split,), dataset)[split]


def load_splits(run: Run, splits: Sequence[str] = SPLITS, dataset: Any = None) -> Mapping[str, Split]:
    """The splits of the data on which a run was trained.

    Args:
      run: the loaded run.
      splits: the splits that are needed: train, valid or test.
      dataset: the data set of the run, if one was passed to `train`.

    Raises:
      ValueError: the data have changed since the training, or the run was trained on a data set from Python that is not passed.
    """
    options, was_given = DatasetOptions(**run.config.dataset), run.config.dataset.name.startswith(OBJECT)
    if dataset is None and was_given:
        raise ValueError(
            f"run {run.workdir}: its data set ({run.config.dataset.name.removeprefix(OBJECT)}) was passed from Python and has no name: "
            "pass it again, as in cnnjax.evaluate([run], dataset=...)"
        )
    # For imported weights there are no other splits to compare.
    read = splits if run.described.get("imported") else SPLITS
    if dataset is None:
        dataset = load_dataset(options, reporter(run.config), read, run.config.folder)
    elif was_given or not isinstance(
        dataset, Dataset
    ):  # the whole data set, of which the run may use some classes or a fold
        dataset = as_dataset(dataset, options, reporter(run.config))
    run_directory.check_same_data(run.described, dataset, f"run {run.workdir}")
    return dataset.splits


def predict_split(runs: Sequence[Run], split: str = "test", dataset: Any = None) -> tuple[Any, np.ndarray]:
    """The predictions (example, ...) for a split, averaged over several runs in double precision, and the labels of the split.

    Args:
      runs: the runs, which must have the same data set and task.
      split: the split: train, valid or test.
      dataset: the data set of the runs, if one was passed to `train`.

    Raises:
      ValueError: the split is unknown, or the runs have different data.
    """
    parts = _load_splits(runs, split, dataset)
    batches = list(_average_by_batch(runs, parts))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *batches), parts[0].labels


def _load_splits(runs: Sequence[Run], split: str, dataset: Any) -> list[Split]:
    """The split of each run, all with the same labels.

    Raises:
      ValueError: the split is unknown, or the runs have different data.
    """
    parts = [load_split(run, split, dataset) for run in runs]
    for run, part in zip(runs[1:], parts[1:], strict=True):
        if run.label_names != runs[0].label_names or not np.array_equal(part.labels, parts[0].labels):
            raise ValueError(
                f"{run.workdir} and {runs[0].workdir} cannot be averaged: their {split} splits have different examples or classes"
            )
    return parts


def _average_by_batch(runs: Sequence[Run], parts: Sequence[Split]) -> Iterator[Any]:
    """The predictions for each batch of a split, averaged over several runs in double precision; those of one run as they are."""
    size = runs[0].config.evaluate.batch_size  # of all, so that their batches have the same examples
    for predicted in zip(
        *(run.predict_by_batch(part.images, size) for run, part in zip(runs, parts, strict=True)), strict=True
    ):
        yield predicted[0] if len(runs) == 1 else jax.tree.map(_mean, *predicted)


def _mean(*arrays: np.ndarray) -> np.ndarray:
    if arrays[0].dtype.kind != "f":  # such as the classes of detections, which differ in number and order
        raise ValueError(f"predictions of type {arrays[0].dtype} cannot be averaged over runs: evaluate each run alone")
    return sum(array.astype(np.float64) for array in arrays) / len(arrays)
