"""Exact evaluation: every example counted once, whatever the batch size and the number of devices."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import numpy as np
from jaxtyping import Float

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

    every: Annotated[int, "evaluate on the validation split every so many epochs, and after the last", positive] = 1
    checkpoint: Annotated[Literal["best", "last"], "which checkpoint the test and predictions use"] = "best"
    batch_size: Annotated[int, "examples at a time, over all devices; changes no result", positive] = 256
    views: Annotated[
        ViewName,
        "of the test and predictions, whose probabilities are averaged: one (the centre), flip (it and its mirror image), ten "
        "(AlexNet's: centre, corners, mirror images) or scales (the centre enlarged by 1, 1.1, 1.25)",
    ] = "one"


# Threads that decode streamed images ahead of an evaluation.
EVALUATION_WORKERS = 8


def host_batches(split: Split, batch_size: int, devices: Sequence[jax.Device]) -> Iterator[Batch]:
    """A split's batches in order, images included, cut for the devices, the last one padded."""
    process, together = processes.index(), processes.count()
    everywhere = len(devices) * together
    size = -(-min(batch_size, len(split)) // everywhere) * everywhere
    indices = [
        own_part({"index": index, "mask": mask}, process, together)
        for index, mask in evaluation_batches(len(split), size)
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
) -> dict[str, float]:
    """Loss (nats, mean over examples) and accuracy of a split.

    Args:
      compiled: `step.evaluation_step` over the devices.
      variables: the model's.
      split: images and labels.
      batch_size: changes speed and memory, not the result.
      devices: that share each batch.
    """
    return summarize(add_up(jax.device_get(_run(compiled, variables, split, batch_size, devices))))


def predict(
    compiled: Callable[[Any, Mapping[str, Any], Batch], Any],
    variables: Mapping[str, Any],
    split: Split,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> Float[np.ndarray, "example class"]:
    """The probabilities of every example of a split; arguments as in `evaluate`."""
    results = _run(compiled, variables, split, batch_size, devices)
    return np.concatenate(jax.device_get(results))[: len(split)]


def _run(compiled: Any, variables: Any, split: Split, batch_size: int, devices: Sequence[jax.Device]) -> list[Any]:
    results, run_ahead = [], RunAhead(devices)
    for batch in host_batches(split, batch_size, devices):
        results.append(compiled(variables, {}, batch))
        run_ahead(results[-1])
    return results


def add_up(results: Iterable[Mapping[str, Any]], start: Mapping[str, float] | None = None) -> dict[str, float]:
    """Sums over steps, in double precision and in order, so that an interrupted sum continues to the same bits.

    Args:
      results: the sums of each step: loss, correct, count, and whatever else a step returns.
      start: of the steps before.

    Raises:
      ValueError: a step returns other names than those before.
    """
    total = dict(start or {})
    for result in results:
        if total and total.keys() != result.keys():
            raise ValueError(f"a step returned {', '.join(sorted(result))}, those before {', '.join(sorted(total))}")
        for name in result:
            total[name] = total.get(name, 0.0) + float(result[name])
    return total


def summarize(total: Mapping[str, float]) -> dict[str, float]:
    """Sums -> means: each divided once by the number of examples; that of `correct` is the accuracy."""
    means = {name: float(value) / float(total["count"]) for name, value in total.items() if name != "count"}
    return {"loss": means.pop("loss"), "accuracy": means.pop("correct"), **means}


def score(probabilities: Float[np.ndarray, "example class"], labels: np.ndarray) -> dict[str, float]:
    """Negative log-likelihood, mean -log p(label) in nats, and accuracy of probabilities, which views or an ensemble average."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "nll": float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean()),
        "accuracy": float((probabilities.argmax(-1) == labels).mean()),
    }
