"""Exact evaluation: every example counted once, whatever the batch size and the number of devices."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import numpy as np

from cnnjax.core.options import positive
from cnnjax.data.batches import Batch, evaluation_batches, fetch, own_part, split_over_devices
from cnnjax.data.datasets import Split
from cnnjax.data.streaming import StreamedImages, made_ahead
from cnnjax.data.views import ViewName
from cnnjax.training import processes
from cnnjax.training.parallel import RunAhead


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """The config's `evaluate` section."""

    every: Annotated[
        int,
        "epochs from one evaluation of the validation split to the next; the last epoch is always evaluated",
        positive,
    ] = 1
    checkpoint: Annotated[Literal["best", "last"], "which checkpoint the test and predictions use"] = "best"
    metric: Annotated[
        str | None,
        "of the validation split, that the best checkpoint, early stopping, the plateau schedule and searches follow; None is "
        "the task's own",
    ] = None
    mode: Annotated[
        Literal["min", "max"] | None, "whether less or more of that metric is better; None is as the task says"
    ] = None
    batch_size: Annotated[
        int, "examples at a time, over all devices; changes no result but that of a loss over the batch", positive
    ] = 256
    views: Annotated[
        ViewName,
        "of the test and predictions, whose probabilities are averaged: one (the centre), flip (it and its mirror image), ten "
        "(AlexNet's: centre, corners, mirror images) or scales (the centre enlarged by 1, 1.1, 1.25)",
    ] = "one"


# Threads that decode streamed images ahead of an evaluation.
EVALUATION_WORKERS = 8


def host_batches(split: Split, batch_size: int, devices: Sequence[jax.Device]) -> Iterator[Batch]:
    """A split's batches in order, images included, cut for the devices and padded where these cannot share them equally.

    Each has the same examples on any number of devices.
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
    """The sums over a split's examples.

    Args:
      compiled: `step.evaluation_step` over the devices.
      variables: the model's.
      split: images and labels.
      batch_size: changes speed and memory, and the result of a loss over the batch alone.
      devices: that share each batch.
    """
    return add_up(jax.device_get(_run(compiled, variables, split, batch_size, devices)))


def predict(
    compiled: Callable[[Any, Mapping[str, Any], Batch], Any],
    variables: Mapping[str, Any],
    split: Split,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> Any:
    """The predictions for every example of a split, in order: arrays (example, ...); arguments as in `evaluate`."""
    results = jax.device_get(_run(compiled, variables, split, batch_size, devices))
    # The rest of each batch is padding.
    return jax.tree.map(lambda *arrays: np.concatenate([a[:batch_size] for a in arrays])[: len(split)], *results)


def _run(compiled: Any, variables: Any, split: Split, batch_size: int, devices: Sequence[jax.Device]) -> list[Any]:
    results, run_ahead = [], RunAhead(devices)
    for batch in host_batches(split, batch_size, devices):
        results.append(compiled(variables, {}, batch))
        run_ahead(results[-1])
    return results


def add_up(results: Iterable[Mapping[str, Any]], start: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Sums over steps, in double precision and in order, so that an interrupted sum continues to the same bits.

    Args:
      results: the sums of each step: loss, count, and whatever else the task adds up; numbers or arrays.
      start: of the steps before; an array may be a list, as JSON has it.

    Raises:
      ValueError: a step returns other names or shapes than those before.
    """
    total = {name: _in_double(value) for name, value in (start or {}).items()}
    for result in results:
        if total and total.keys() != result.keys():
            raise ValueError(f"a step returned {', '.join(sorted(result))}, those before {', '.join(sorted(total))}")
        for name, value in result.items():
            before, value = total.get(name, 0.0), _in_double(value)
            if name in total and np.shape(before) != np.shape(value):
                raise ValueError(
                    f"the task's sum {name!r} has shape {np.shape(value)}, in the steps before {np.shape(before)}: its shape must "
                    "not depend on the batch"
                )
            total[name] = before + value
    return total


def _in_double(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else np.asarray(value, np.float64)


def as_json(sums: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Sums as JSON has them: arrays as lists."""
    return sums and {name: value.tolist() if np.ndim(value) else float(value) for name, value in sums.items()}


def checked_metrics(metrics: Mapping[str, Any], task: Any) -> dict[str, float]:
    """What a task's `summarize` returned, as numbers.

    Raises:
      ValueError: "loss" is missing, or a value is no number.
    """
    name = type(task).__name__
    if not isinstance(metrics, Mapping) or "loss" not in metrics:
        raise ValueError(f"{name}.summarize returned {metrics!r}: expected a dict of numbers with 'loss' among them")
    for key, value in metrics.items():
        if np.ndim(value) or not np.issubdtype(np.asarray(value).dtype, np.number):
            raise ValueError(f"{name}.summarize returned {key}={value!r}: expected a number")
    return {key: float(value) for key, value in metrics.items()}
