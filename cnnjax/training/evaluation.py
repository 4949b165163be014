"""Exact evaluation: every example counts once, for any batch size and number of devices."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import numpy as np
from jaxtyping import Shaped
from ml_collections import ConfigDict

from cnnjax.core.options import all_positive, positive
from cnnjax.data.batches import Batch, evaluation_batches, fetch, own_part, split_over_devices
from cnnjax.data.datasets import Split
from cnnjax.data.streaming import StreamedImages, made_ahead
from cnnjax.data.views import ViewName
from cnnjax.tasks.task import Task
from cnnjax.training import processes
from cnnjax.training.parallel import RunAhead


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """The config's `evaluate` section."""

    every: Annotated[
        int,
        "number of epochs between evaluations of the validation split; the last epoch is always evaluated",
        positive,
    ] = 1
    checkpoint: Annotated[Literal["best", "last"], "the checkpoint used for testing and prediction"] = "best"
    metric: Annotated[
        str | None,
        "the validation metric that the best checkpoint, early stopping, the plateau schedule and searches follow; None is the "
        "task's default",
    ] = None
    mode: Annotated[
        Literal["min", "max"] | None,
        "whether a small or large value of that metric is better; None is the task's default",
    ] = None
    batch_size: Annotated[
        int,
        "examples per batch, over all devices; affects results only for a loss that is computed over a batch",
        positive,
    ] = 256
    views: Annotated[
        ViewName,
        "test-time augmentation: the views whose predictions are averaged: one (the centre), flip (the centre and its mirror "
        "image), ten (AlexNet's: centre, corners and their mirror images) or scales (the centre enlarged by 1, 1.1, 1.25)",
    ] = "one"
    crop: Annotated[
        tuple[int, ...] | None,
        "height and width of the central crop in evaluation, for networks that accept several sizes; None is augment.crop",
        all_positive,
    ] = None


def evaluation_crop(config: ConfigDict) -> tuple[int, ...] | None:
    """The size along each axis of the central crop in evaluation; None is the whole image."""
    return config.evaluate.crop or config.augment.crop


# Threads that decode streamed images ahead of an evaluation.
EVALUATION_WORKERS = 8
# Batches of predictions that a device may be ahead of the host.
FETCHED_BEHIND = 2


def host_batches(split: Split, batch_size: int, devices: Sequence[jax.Device]) -> Iterator[Batch]:
    """The batches of a split in order, with images, split over the devices and padded to equal shares.

    Each batch has the same examples on any number of devices.
    """
    process, together = processes.index(), processes.count()
    everywhere = len(devices) * together
    count = min(batch_size, len(split))
    size = -(-count // everywhere) * everywhere
    indices = [
        own_part({"index": index, "mask": mask}, process, together)
        for index, mask in evaluation_batches(len(split), count, size)
    ]
    make = lambda number: split_over_devices(fetch(split, indices[number]), len(devices))  # noqa: E731
    if isinstance(split.images, StreamedImages):
        yield from made_ahead(make, 0, len(indices), EVALUATION_WORKERS)
    else:
        yield from map(make, range(len(indices)))


def evaluate(
    compiled: Callable[[Any, Mapping[str, Any], Batch], Mapping[str, Any]],
    variables: Mapping[str, Any],
    split: Split,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> dict[str, Any]:
    """The sums over the examples of a split.

    Args:
      compiled: `step.evaluation_step`, compiled for the devices.
      variables: the variables of the model.
      split: the split, with images and labels.
      batch_size: the batch size; it affects speed and memory, but results only for a loss computed over a batch.
      devices: the devices that share each batch.
    """
    return add_up(jax.device_get(list(_run(compiled, variables, split, batch_size, devices))))


def predict(
    compiled: Callable[[Any, Mapping[str, Any], Batch], Any],
    variables: Mapping[str, Any],
    split: Split,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> Any:
    """The predictions for every example of a split, in order: arrays (example, ...); arguments as in `evaluate`."""
    parts = list(predict_by_batch(compiled, variables, split, batch_size, devices))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def predict_by_batch(
    compiled: Callable[[Any, Mapping[str, Any], Batch], Any],
    variables: Mapping[str, Any],
    split: Split,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> Iterator[Any]:
    """The predictions for each batch of a split, in order, of which only a few are in memory; arguments as in `evaluate`."""
    results = _run(compiled, variables, split, batch_size, devices)
    for number, result in enumerate(_fetched(results)):
        count = min(batch_size, len(split) - number * batch_size)  # the rest is padding
        yield jax.tree.map(lambda array, count=count: array[:count], result)


def tally(task: Task, batches: Iterable[Any], labels: Shaped[np.ndarray, "example ..."]) -> dict[str, Any]:
    """The sums of a task's `tally` over a split.

    Args:
      task: the task.
      batches: the predictions of each batch, in order.
      labels: the labels of the split.
    """

    def each() -> Iterator[Mapping[str, Any]]:
        start = 0
        for predictions in batches:
            stop = start + len(jax.tree.leaves(predictions)[0])
            yield task.tally(predictions, labels[start:stop])
            start = stop

    return add_up(each())


def _run(compiled: Any, variables: Any, split: Split, batch_size: int, devices: Sequence[jax.Device]) -> Iterator[Any]:
    run_ahead = RunAhead(devices)
    for batch in host_batches(split, batch_size, devices):
        result = compiled(variables, {}, batch)
        run_ahead(result)
        yield result


def _fetched(results: Iterator[Any]) -> Iterator[Any]:
    """Results on the host, each fetched when later ones are under way."""
    waiting: collections.deque[Any] = collections.deque()
    for result in results:
        waiting.append(result)
        if len(waiting) > FETCHED_BEHIND:
            yield jax.device_get(waiting.popleft())
    while waiting:
        yield jax.device_get(waiting.popleft())


def add_up(results: Iterable[Mapping[str, Any]], start: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Adds up the sums of steps in double precision and in order, so that a resumed sum has the same bits.

    Args:
      results: the sums of each step: loss, count, and further sums of the task, as numbers or arrays.
      start: the total of earlier steps, in which arrays may be lists, as in JSON.

    Raises:
      ValueError: a step returns other names or shapes than earlier steps.
    """
    total = {name: _in_double(value) for name, value in (start or {}).items()}
    for result in results:
        if total and total.keys() != result.keys():
            raise ValueError(f"a step returned {', '.join(sorted(result))}, earlier steps {', '.join(sorted(total))}")
        for name, value in result.items():
            before, value = total.get(name, 0.0), _in_double(value)
            if name in total and np.shape(before) != np.shape(value):
                raise ValueError(
                    f"the task's sum {name!r} has shape {np.shape(value)}, in earlier steps {np.shape(before)}: its shape must "
                    "not depend on the batch"
                )
            total[name] = before + value
    return total


def _in_double(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else np.asarray(value, np.float64)


def as_json(sums: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Sums in a form that JSON can hold, with arrays as lists."""
    return sums and {name: value.tolist() if np.ndim(value) else float(value) for name, value in sums.items()}


def checked_metrics(metrics: Mapping[str, Any], task: Any) -> dict[str, float]:
    """The metrics that a task's `summarize` returned, as floats.

    Raises:
      ValueError: "loss" is missing, or a value is not a number.
    """
    name = type(task).__name__
    if not isinstance(metrics, Mapping) or "loss" not in metrics:
        raise ValueError(f"{name}.summarize returned {metrics!r}: expected a dict of numbers that contains 'loss'")
    for key, value in metrics.items():
        if np.ndim(value) or not np.issubdtype(np.asarray(value).dtype, np.number):
            raise ValueError(f"{name}.summarize returned {key}={value!r}: expected a number")
    return {key: float(value) for key, value in metrics.items()}
