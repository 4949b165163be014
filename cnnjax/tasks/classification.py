"""Classification: one of several classes for each image. The default task."""

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cnnjax.data.boxes import are_boxes
from cnnjax.data.subsets import are_classes
from cnnjax.tasks.losses import CROSS_ENTROPY, cross_entropy, one_hot
from cnnjax.tasks.task import Batch, Details, Mode, Prepared, Task, class_names


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Predicts one of several classes, trained with the config's loss on logits.

    Batches have a `target` (batch, class): one-hot for an ordinary example, a mixture for mixed images. The sums are `correct`
    (batch,) and `predicted` (batch, class), one-hot for the class with the greatest logit. Predictions are class
    probabilities. They are scored by `accuracy` and `nll`, the negative log-likelihood: the mean of -log p(label), in nats.
    Detailed scores are listed in `classification_metrics.DETAILS`.
    """

    monitor: ClassVar[str] = "accuracy"
    mode: ClassVar[Mode] = "max"
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "accuracy": (0.0, 1.0), "loss": (0.0, math.inf), "nll": (0.0, math.inf),
    }  # fmt: skip

    def outputs(self, dataset: Any) -> Mapping[str, Any]:
        labels = next(iter(dataset.splits.values())).labels
        if are_boxes(labels):
            raise ValueError(
                f"task classification: {dataset.name} has boxes of objects: set task.name=detection and a detector, such as "
                "model.name=retinanet"
            )
        if not are_classes(labels):
            raise ValueError(
                f"task classification: expected one class number per example; {dataset.name} has {labels.dtype} with "
                f"{labels.shape[1:] or 'one value'} per example: choose task.name=multilabel, regression or segmentation, or use "
                "integers"
            )
        return {"num_classes": len(dataset.label_names)}

    def inputs(self, batch: Batch, keys: Key[Array, "batch"], train: bool, prepared: Prepared) -> Batch:
        batch = super().inputs(batch, keys, train, prepared)
        targets = one_hot(batch["label"], prepared.outputs["num_classes"])
        images, targets = prepared.mix(batch["image"], targets)
        return {**batch, "image": images, "target": targets}

    def loss(self, net: Any, batch: Batch, train: bool) -> tuple[Float[Array, "batch"], Mapping[str, Array]]:
        logits = net(batch["image"], train).astype(jnp.float32)
        return self.loss_of_logits(logits, batch, train)

    def loss_of_logits(
        self, logits: Float[Array, "batch class"], batch: Batch, train: bool
    ) -> tuple[Float[Array, "batch"], Mapping[str, Array]]:
        """The return value of `loss`, computed from the network's output."""
        criterion = self.criterion or CROSS_ENTROPY
        values = (criterion.train if train else criterion.evaluate)(logits, batch["target"])
        chosen = logits.argmax(-1)
        predicted = jax.nn.one_hot(chosen, logits.shape[-1], dtype=jnp.int32)
        return values, {"correct": chosen == batch["label"], "predicted": predicted}

    def auxiliary_loss(self, outputs: Float[Array, "batch class"], batch: Batch) -> Float[Array, "batch"]:
        return (self.criterion or CROSS_ENTROPY).train(outputs.astype(jnp.float32), batch["target"])

    def summarize(self, sums: Mapping[str, Any]) -> dict[str, float]:
        count = float(sums["count"])
        return {"loss": float(sums["loss"]) / count, "accuracy": float(sums["correct"]) / count}

    def predict(self, net: Any, batch: Batch) -> Float[Array, "batch class"]:
        criterion = self.criterion or CROSS_ENTROPY
        return criterion.probabilities(net(batch["image"], False).astype(jnp.float32))

    def score(self, predictions: Float[np.ndarray, "example class"], split: Any) -> dict[str, float]:
        return probabilities_score(predictions, split.labels)

    def score_in_detail(
        self, predictions: Float[np.ndarray, "example class"], labels: Int[np.ndarray, "example"]
    ) -> dict[str, float]:
        from cnnjax.tasks import classification_metrics

        return classification_metrics.measure_details(predictions, labels)

    def sentence(self, metrics: Mapping[str, float]) -> str:
        if not {"accuracy", "nll"} <= metrics.keys():  # a subclass with other scores
            return super().sentence(metrics)
        own = (
            {self.monitor: metrics[self.monitor]}
            if self.monitor in metrics.keys() - {"accuracy", "loss", "nll"}
            else {}
        )
        known = {name: metrics[name] for name in ("accuracy", "loss", "nll") if name in metrics}
        return super().sentence({**own, **known}).replace("nll", "negative log-likelihood")

    def details(self, predictions: Any, labels: np.ndarray, names: Sequence[str]) -> Details:
        from cnnjax.tasks import classification_metrics as classification

        hits, names = int((predictions.argmax(-1) == labels).sum()), class_names(names, predictions.shape[-1])
        low, high = classification.wilson_interval(hits, len(labels))
        detail = self.score_in_detail(predictions, labels)
        sentences = [
            f"{hits:,} of {len(labels):,} correct, 95 % interval of the accuracy {low:.4f} to {high:.4f} (Wilson)"
        ]
        sentences += [f"{classification.title_of(name)} {value:.4f}" for name, value in detail.items()]
        confusion = classification.confusion_matrix(predictions, labels)
        rows = [
            (s.name, s.examples, f"{s.precision:.4f}", f"{s.recall:.4f}", f"{s.f1:.4f}",
             classification.taken_for(confusion[label], label, names))
            for label, s in enumerate(classification.class_scores(confusion, names))
        ]  # fmt: skip
        return Details(sentences, ("class", "examples", "precision", "recall", "F1", "most often taken for"), rows)

    def columns(
        self, predictions: Float[np.ndarray, "example class"], names: Sequence[str], topk: int | None = None
    ) -> Mapping[str, Sequence[Any]]:
        ranked, columns = _ranked(predictions, names, topk or 1), {}
        for rank in range(topk or 1):
            columns[f"label_{rank + 1}"] = [classes[rank][0] for classes in ranked]
            columns[f"probability_{rank + 1}"] = [f"{classes[rank][1]:.6f}" for classes in ranked]
        return columns

    def describe(
        self, predictions: Float[np.ndarray, "example class"], names: Sequence[str], topk: int | None = None
    ) -> Sequence[str]:
        ranked = _ranked(predictions, names, topk or 1)
        return ["  ".join(f"{name} {probability:.4f}" for name, probability in classes) for classes in ranked]

    def score_of_metrics(self, metrics: Mapping[str, float]) -> dict[str, float] | None:
        kind = type(self)
        if kind.loss is not Classification.loss or kind.loss_of_logits is not Classification.loss_of_logits:
            return None  # a subclass's own loss may differ from the criterion
        loss = inspect.unwrap((self.criterion or CROSS_ENTROPY).evaluate)
        return {"nll": metrics["loss"]} if loss is cross_entropy else None  # which is -log p(label)


def _ranked(
    probabilities: Float[np.ndarray, "example class"], names: Sequence[str], count: int
) -> list[list[tuple[str, float]]]:
    """The most probable classes of each example with their probabilities; ties are ordered by class number."""
    names = class_names(names, probabilities.shape[-1])
    return [
        [(names[index], float(row[index])) for index in np.argsort(-row, kind="stable")[:count]]
        for row in probabilities
    ]


def probabilities_score(
    probabilities: Float[np.ndarray, "example class"], labels: Int[np.ndarray, "example"]
) -> dict[str, float]:
    """The negative log-likelihood, mean -log p(label) in nats, and the accuracy of predicted class probabilities."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return {
        "nll": float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean()),
        "accuracy": float((probabilities.argmax(-1) == labels).mean()),
    }
