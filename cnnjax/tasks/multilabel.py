"""Multi-label classification: any number of the classes for each image."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from cnnjax.core.options import fraction
from cnnjax.tasks.losses import BINARY_CROSS_ENTROPY
from cnnjax.tasks.task import Batch, Mode, Prepared, Task


@dataclasses.dataclass(frozen=True)
class MultiLabel(Task):
    """Each class by itself, present or absent: labels are rows of 0 and 1, (batch, class).

    Metrics: `accuracy`, the share of right answers over all examples and classes; `exact`, the share of examples all of whose
    answers are right; `macro_f1`, the mean over the classes of 2 TP / (2 TP + FP + FN), a class that neither occurs nor is
    predicted left out; `micro_f1`, the same of all classes' counts together. `score` adds `mean_average_precision`.
    """

    threshold: Annotated[float, "the probability from which a class is predicted", fraction] = 0.5

    monitor: ClassVar[str] = "macro_f1"
    mode: ClassVar[Mode] = "max"
    directions: ClassVar[Mapping[str, Mode]] = {
        "accuracy": "max", "exact": "max", "micro_f1": "max", "mean_average_precision": "max",
    }  # fmt: skip
    default_loss: ClassVar[str] = "binary_cross_entropy"

    def outputs(self, dataset: Any) -> Mapping[str, Any]:
        labels = _labels(dataset)
        if labels.ndim != 2 or not np.isin(np.unique(labels), (0, 1)).all():
            raise ValueError(
                f"task multilabel: expected labels of 0 and 1, (example, class); {dataset.name} has {labels.dtype} of "
                f"{labels.shape[1:] or 'one value'} an example: choose task.name=classification or regression"
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
            "right": right.mean(-1),
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
        hits, named = np.asarray(sums["hits"]), np.asarray(sums["predicted"]) + np.asarray(sums["present"])
        return {
            "loss": float(sums["loss"]) / count,
            "accuracy": float(sums["right"]) / count,
            "exact": float(sums["exact"]) / count,
            "macro_f1": float(np.mean(2 * hits[named > 0] / named[named > 0])) if named.any() else 0.0,
            "micro_f1": float(2 * hits.sum() / max(named.sum(), 1)),
        }

    def predict(self, net: Any, batch: Batch) -> Float[Array, "batch class"]:
        return jax.nn.sigmoid(net(batch["image"], False).astype(jnp.float32))

    def score(self, predictions: Float[np.ndarray, "example class"], split: Any) -> dict[str, float]:
        from sklearn.metrics import average_precision_score

        present = np.asarray(split.labels) > 0.5
        known = present.any(0)
        if not known.any():
            return {}
        return {"mean_average_precision": float(average_precision_score(present[:, known], predictions[:, known]))}


def _labels(dataset: Any) -> Num[np.ndarray, "example *target"]:
    return np.asarray(next(iter(dataset.splits.values())).labels)
