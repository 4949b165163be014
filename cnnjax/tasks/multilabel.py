"""Multi-label classification: any number of the classes for each image."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from cnnjax.core.options import fraction
from cnnjax.tasks.losses import BINARY_CROSS_ENTROPY
from cnnjax.tasks.task import Batch, Details, Mode, Prepared, Task, class_names

# The sums over examples, in addition to the loss.
_SUMS = ("right", "exact", "hits", "predicted", "present")


@dataclasses.dataclass(frozen=True)
class MultiLabel(Task):
    """Predicts each class separately as present or absent; labels are rows of 0 and 1, (batch, class).

    Metrics:
    - `accuracy`: the share of correct answers over all examples and classes;
    - `exact`: the share of examples with only correct answers;
    - `macro_f1`: the mean over classes of 2 TP / (2 TP + FP + FN), without classes that neither occur nor are predicted;
    - `micro_f1`: the F1 of the counts summed over all classes.

    `score` computes them from predictions averaged over views and runs, and adds `mean_average_precision`: the area under the
    precision-recall curve, averaged over the classes that occur.
    """

    threshold: Annotated[float, "the probability above which a class is predicted", fraction] = 0.5

    monitor: ClassVar[str] = "macro_f1"
    mode: ClassVar[Mode] = "max"
    directions: ClassVar[Mapping[str, Mode]] = {
        "accuracy": "max", "exact": "max", "micro_f1": "max", "mean_average_precision": "max",
    }  # fmt: skip
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = dict.fromkeys(
        ("macro_f1", "accuracy", "exact", "micro_f1", "mean_average_precision"), (0.0, 1.0)
    )
    default_loss: ClassVar[str] = "binary_cross_entropy"

    def outputs(self, dataset: Any) -> Mapping[str, Any]:
        labels = _labels(dataset)
        parts = [np.asarray(split.labels) for split in dataset.splits.values()]
        if labels.ndim != 2 or not all(np.isin(np.unique(part), (0, 1)).all() for part in parts):
            raise ValueError(
                f"task multilabel: expected labels of 0 and 1, (example, class); {dataset.name} has {labels.dtype} with "
                f"{labels.shape[1:] or 'one value'} per example: choose task.name=classification or regression"
            )
        return {"num_classes": labels.shape[1]}

    def inputs(self, batch: Batch, keys: Key[Array, "batch"], train: bool, prepared: Prepared) -> Batch:
        batch = super().inputs(batch, keys, train, prepared)
        images, targets = prepared.mix(batch["image"], batch["label"].astype(jnp.float32))
        return {**batch, "image": images, "target": targets}

    def loss(self, net: Any, batch: Batch, train: bool) -> tuple[Float[Array, "batch"], Mapping[str, Array]]:
        criterion = self.criterion or BINARY_CROSS_ENTROPY
        logits = net(batch["image"], train).astype(jnp.float32)
        values = (criterion.train if train else criterion.evaluate)(logits, batch["target"])
        predicted, present = self._is_predicted(logits), batch["label"] > 0.5
        right = predicted == present
        return values, {
            "right": right,
            "exact": right.all(-1),
            "hits": predicted & present,
            "predicted": predicted,
            "present": present,
        }

    def _is_predicted(self, logits: Float[Array, "batch class"]) -> Array:
        return logits > float(np.log(self.threshold / (1 - self.threshold))) if self.threshold else logits > -jnp.inf

    def auxiliary_loss(self, outputs: Float[Array, "batch class"], batch: Batch) -> Float[Array, "batch"]:
        return (self.criterion or BINARY_CROSS_ENTROPY).train(outputs.astype(jnp.float32), batch["target"])

    def summarize(self, sums: Mapping[str, Any]) -> dict[str, float]:
        count = float(sums["count"])
        return {
            "loss": float(sums["loss"]) / count,
            **_metrics({name: np.asarray(sums[name]) for name in _SUMS}, count),
        }

    def predict(self, net: Any, batch: Batch) -> Float[Array, "batch class"]:
        return jax.nn.sigmoid(net(batch["image"], False).astype(jnp.float32))

    def score(self, predictions: Float[np.ndarray, "example class"], split: Any) -> dict[str, float]:
        from cnnjax.tasks.multilabel_metrics import average_precision

        present, predicted = np.asarray(split.labels) > 0.5, predictions > self.threshold
        right = predicted == present
        sums = (right, right.all(-1), predicted & present, predicted, present)
        found = _metrics({name: each.sum(0) for name, each in zip(_SUMS, sums, strict=True)}, len(present))
        areas = [
            average_precision(predictions[:, place], present[:, place]) for place in np.flatnonzero(present.any(0))
        ]
        return {**found, **({"mean_average_precision": float(np.mean(areas))} if areas else {})}

    def details(self, predictions: Any, labels: np.ndarray, names: Sequence[str]) -> Details:
        columns = ("class", "examples", "precision", "recall", "F1", "average precision")
        return Details(
            [f"a class is predicted if its probability is above {self.threshold:g}"],
            columns,
            self.class_rows(predictions, labels, names),
        )

    def class_rows(self, predictions: Any, labels: np.ndarray, names: Sequence[str]) -> list[tuple[Any, ...]]:
        """The table rows of the classes: name, examples, precision, recall, F1 and average precision."""
        from cnnjax.tasks.multilabel_metrics import label_scores

        names = class_names(names, predictions.shape[1])
        return [
            (s.name, s.examples, *(f"{value:.4f}" for value in (s.precision, s.recall, s.f1, s.average_precision)))
            for s in label_scores(predictions, np.asarray(labels) > 0.5, self.threshold, names)
        ]

    def columns(
        self, predictions: Float[np.ndarray, "example class"], names: Sequence[str], topk: int | None = None
    ) -> Mapping[str, Sequence[Any]]:
        names = class_names(names, predictions.shape[1])
        return {name: [f"{value:.6f}" for value in predictions[:, place]] for place, name in enumerate(names)}

    def describe(
        self, predictions: Float[np.ndarray, "example class"], names: Sequence[str], topk: int | None = None
    ) -> Sequence[str]:
        names, lines = class_names(names, predictions.shape[1]), []
        for row in predictions:
            order = np.argsort(-row, kind="stable")
            shown = order[row[order] > self.threshold] if topk is None else order[:topk]
            text = "  ".join(f"{names[index]} {row[index]:.4f}" for index in shown)
            lines.append(text or f"none (the most probable is {names[order[0]]} {row[order[0]]:.4f})")
        return lines


def _metrics(sums: Mapping[str, Any], count: float) -> dict[str, float]:
    """The metrics, without the loss, from the sums over `count` examples."""
    hits, named = sums["hits"], sums["predicted"] + sums["present"]
    return {
        "accuracy": float(np.mean(sums["right"])) / count,
        "exact": float(sums["exact"]) / count,
        "macro_f1": float(np.mean(2 * hits[named > 0] / named[named > 0])) if named.any() else 0.0,
        "micro_f1": float(2 * hits.sum() / max(named.sum(), 1)),
    }


def _labels(dataset: Any) -> Num[np.ndarray, "example *target"]:
    return np.asarray(next(iter(dataset.splits.values())).labels)
