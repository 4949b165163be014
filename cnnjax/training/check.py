"""Checks a user's task, model and loss before anything is written, by tracing them on two small batches."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cnnjax.core.randomness import AXIS
from cnnjax.data.datasets import Dataset
from cnnjax.tasks.task import directions_of
from cnnjax.training.evaluation import checked_metrics
from cnnjax.training.experiment import Experiment, measuring_step, training_step
from cnnjax.training.state import State

# The sizes of the two batches, which are unlikely to equal the dimensions of images or labels.
SIZES = (6, 9)


def check_steps(config: ConfigDict, experiment: Experiment, dataset: Dataset, shapes: State) -> None:
    """Traces one training step and one evaluation step, without computing anything.

    Args:
      config: the resolved config.
      experiment: the experiment built from the config.
      dataset: the data set, which determines the shapes of images and labels.
      shapes: the shapes of the state.

    Raises:
      ValueError: the task, the model or the loss fails, the shape of a sum depends on the batch, or a metric is missing.
    """
    task, labels = experiment.task, dataset.splits["train"].labels
    name = type(task).__name__
    train = training_step(config, experiment, dataset.statistics, config.seed)
    measure = measuring_step(config, experiment, dataset)

    def sums(step: Any, state: Any, size: int) -> Any:
        def of(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((1, size, *shape), dtype)  # for one device

        batch = {
            "image": of(dataset.image_shape, dataset.image_dtype),
            "label": of(labels.shape[1:], labels.dtype),
            "mask": of((), np.float32),
            "index": of((), np.int32),
        }
        return jax.eval_shape(jax.vmap(step, in_axes=(None, 0), axis_name=AXIS), state, batch)

    try:
        trained = [sums(train, shapes, size)[1] for size in SIZES]
        measured = sums(measure, shapes.variables, SIZES[0])
    except ValueError as error:
        if str(error).startswith((f"{name}.", "the model's collection")):
            raise
        raise ValueError(_failure(experiment, error)) from error
    except Exception as error:
        raise ValueError(_failure(experiment, error)) from error
    for key, first, second in ((key, trained[0][key].shape[1:], trained[1][key].shape[1:]) for key in trained[0]):
        if first != second:
            raise ValueError(
                f"{name}.loss returned the sum {key!r} whose shape depends on the batch: {(SIZES[0], *first)} for {SIZES[0]} "
                f"examples, {(SIZES[1], *second)} for {SIZES[1]}"
            )
    try:
        summarized = task.summarize({key: np.ones(array.shape[1:]) for key, array in measured.items()})
    except Exception:  # these sums are not of real data; a true error appears in the first evaluation
        return
    # The names of what `score` returns are known by their directions alone.
    scores = directions_of(task) if task.validates_predictions else ()
    metrics = [*checked_metrics(summarized, task), *scores]
    if experiment.metric not in metrics:
        raise ValueError(
            f"config: evaluate.metric={experiment.metric!r} is not a metric of {name}: choose from {', '.join(metrics)}"
        )


def _failure(experiment: Experiment, error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return (
        f"{type(experiment.task).__name__}.loss fails with model {type(experiment.model).__name__} on a batch of "
        f"{' or '.join(map(str, SIZES))} examples: {type(error).__name__}: {text}"
    )
