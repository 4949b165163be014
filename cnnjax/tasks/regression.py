"""Regression: one or several real numbers for each image."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cnnjax.tasks.losses import MEAN_SQUARED_ERROR
from cnnjax.tasks.task import Batch, Details, Mode, Prepared, Task, number_names


@dataclasses.dataclass(frozen=True)
class Regression(Task):
    """Predicts real numbers; labels have shape (batch,) or (batch, number).

    Metrics, averaged over examples and numbers:
    - `mae`: the mean absolute error, in the unit of the labels;
    - `rmse`: the root of the mean squared error, in the unit of the labels;
    - `r2`: the explained share of the labels' variance, 1 - sum (y - f)^2 / sum (y - mean y)^2.

    Centre labels that are many standard deviations from 0 beforehand: a network learns them slowly, and `r2`, computed from
    sums of squares in single precision, loses digits.
    """

    monitor: ClassVar[str] = "mae"
    mode: ClassVar[Mode] = "min"
    directions: ClassVar[Mapping[str, Mode]] = {"rmse": "min", "r2": "max"}
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "mae": (0.0, math.inf), "rmse": (0.0, math.inf), "r2": (-math.inf, 1.0),
    }  # fmt: skip
    default_loss: ClassVar[str] = "mean_squared_error"

    def outputs(self, dataset: Any) -> Mapping[str, Any]:
        parts = [np.asarray(split.labels) for split in dataset.splits.values()]
        labels = next((part for part in parts if not np.isfinite(part).all()), parts[0])
        if labels.ndim > 2 or not np.isfinite(labels).all():
            raise ValueError(
                f"task regression: expected one or several finite numbers per example; {dataset.name} has {labels.dtype} of shape "
                f"{labels.shape[1:]}{'' if labels.ndim > 2 else ', some not finite'}"
            )
        return {"num_classes": 1 if labels.ndim == 1 else labels.shape[1]}

    def inputs(self, batch: Batch, keys: Key[Array, "batch"], train: bool, prepared: Prepared) -> Batch:
        batch = super().inputs(batch, keys, train, prepared)
        targets = batch["label"].astype(jnp.float32)
        targets = targets[:, None] if targets.ndim == 1 else targets
        images, targets = prepared.mix(batch["image"], targets)
        return {**batch, "image": images, "target": targets}

    def loss(self, net: Any, batch: Batch, train: bool) -> tuple[Float[Array, "batch"], Mapping[str, Array]]:
        criterion = self.criterion or MEAN_SQUARED_ERROR
        outputs, targets = net(batch["image"], train).astype(jnp.float32), batch["target"]
        values = (criterion.train if train else criterion.evaluate)(outputs, targets)
        error = outputs - targets
        return values, {
            "absolute": jnp.abs(error), "squared": error**2, "target": targets, "target_squared": targets**2,
        }  # fmt: skip

    def summarize(self, sums: Mapping[str, Any]) -> dict[str, float]:
        count = float(sums["count"])
        absolute, squared, target, target_squared = (
            np.asarray(sums[name], np.float64) / count for name in ("absolute", "squared", "target", "target_squared")
        )
        variance = target_squared - target**2
        explained = 1 - squared[variance > 0] / variance[variance > 0]
        return {
            "loss": float(sums["loss"]) / count,
            "mae": float(absolute.mean()),
            "rmse": float(np.sqrt(squared.mean())),
            **({"r2": float(explained.mean())} if explained.size else {}),
        }

    def predict(self, net: Any, batch: Batch) -> Float[Array, "batch number"]:
        return net(batch["image"], False).astype(jnp.float32)

    def score(self, predictions: Float[np.ndarray, "example number"], split: Any) -> dict[str, float]:
        labels = as_rows(split.labels)
        error = np.asarray(predictions, np.float64) - labels
        variance, squared = labels.var(0), np.square(error).mean(0)
        explained = 1 - squared[variance > 0] / variance[variance > 0]
        return {
            "mae": float(np.abs(error).mean()),
            "rmse": float(np.sqrt(squared.mean())),
            **({"r2": float(explained.mean())} if explained.size else {}),
        }

    def details(self, predictions: Any, labels: np.ndarray, names: Sequence[str]) -> Details:
        return Details(
            [], ("number", "mean", "deviation", "MAE", "RMSE", "R2", "bias"), number_rows(predictions, labels, names)
        )

    def score_of_metrics(self, metrics: Mapping[str, float]) -> dict[str, float] | None:
        return {}


def as_rows(labels: Any) -> Float[np.ndarray, "example number"]:
    """Labels, (example,) or (example, number), as rows of numbers in double precision."""
    return np.asarray(labels, np.float64).reshape(len(labels), -1)


def number_rows(predictions: Any, labels: Any, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The table rows of the numbers: name, mean and deviation of the labels, errors, and bias: the mean of prediction - label."""
    labels = as_rows(labels)
    error, rows = np.asarray(predictions, np.float64) - labels, []
    for place, name in enumerate(number_names(names, labels.shape[1])):
        own, squared = error[:, place], np.square(error[:, place]).mean()
        variance = labels[:, place].var()
        explained = f"{1 - squared / variance:.4f}" if variance else "—"
        figures = labels[:, place].mean(), math.sqrt(variance), np.abs(own).mean(), math.sqrt(squared)
        rows.append((name, *(f"{value:.4g}" for value in figures), explained, f"{own.mean():+.4g}"))
    return rows
