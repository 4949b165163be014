"""Semantic segmentation: a class for each pixel of an image."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key
from ml_collections import ConfigDict

from cnnjax.core.options import not_negative
from cnnjax.data.augment import AugmentOptions, check_maps
from cnnjax.data.map_files import IGNORE
from cnnjax.data.subsets import MAP_CLASSES, are_maps
from cnnjax.data.views import central_map
from cnnjax.tasks.losses import CROSS_ENTROPY, dice, focal
from cnnjax.tasks.task import Batch, Details, Mode, Prepared, Task, class_names


@dataclasses.dataclass(frozen=True)
class Segmentation(Task):
    """A class for each pixel: labels are maps of class numbers, (batch, height, width), with the size of the images.

    The network's output is logits (batch, height, width, class). The config's loss is a loss by pixel (`cross_entropy`, `focal`),
    averaged over the pixels of an image, or a loss by map (`dice`); the options `dice` and `focal` are added to it. Pixels with the
    number `ignore` are excluded from all losses and metrics.

    All metrics are computed from one integer confusion matrix, the sum `confusion` (batch, label, predicted): `mean_iou`, the mean
    over classes of TP / (TP + FP + FN); `dice`, the mean of 2 TP / (2 TP + FP + FN); both leave out classes that neither occur nor
    are predicted; `pixel_accuracy`, the fraction of correct pixels; `mean_accuracy`, the mean of this fraction over occurring classes.
    """

    ignore: Annotated[
        int, "the class number of pixels without a class, and of pixels that augmentation adds around a map"
    ] = 255
    dice: Annotated[float, "the weight of a Dice loss that is added to the config's loss", not_negative] = 0.0
    focal: Annotated[float, "the weight of a focal loss (gamma 2) that is added to the config's loss", not_negative] = (
        0.0
    )

    monitor: ClassVar[str] = "mean_iou"
    mode: ClassVar[Mode] = "max"
    directions: ClassVar[Mapping[str, Mode]] = {"pixel_accuracy": "max", "mean_accuracy": "max", "dice": "max"}
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = dict.fromkeys(
        ("mean_iou", "pixel_accuracy", "mean_accuracy", "dice"), (0.0, 1.0)
    )

    def check_config(self, config: ConfigDict) -> None:
        check_maps(AugmentOptions(**config.augment))
        if config.dataset.streaming and config.augment.resized_crop is not None:
            raise ValueError(
                "config: augment.resized_crop crops streamed images when they are decoded, which cannot be applied to their maps: "
                "leave it out, or set dataset.streaming to False"
            )
        if config.dataset.pad is not None and self.ignore != IGNORE:
            raise ValueError(
                f"config: task.ignore={self.ignore}: dataset.pad pads maps with {IGNORE}: set task.ignore to {IGNORE}, or pad the files"
            )
        if config.evaluate.views not in ("one", "flip"):
            raise ValueError(
                f"config: evaluate.views={config.evaluate.views!r}: the views of a segmentation are the image and its mirror image: "
                "set it to 'one' or 'flip'"
            )

    def outputs(self, dataset: Any) -> Mapping[str, Any]:
        labels = next(iter(dataset.splits.values())).labels
        if not are_maps(labels) or labels.shape[1:] != dataset.image_shape[:-1]:
            raise ValueError(
                f"task segmentation: expected a map of class numbers for each example, integers of {dataset.image_shape[:-1]} like its "
                f"image; {dataset.name} has {labels.dtype} of {labels.shape[1:] or 'one value'} for each example"
            )
        values = {split: set(counts) - {self.ignore} for split, counts in dataset.map_values.items()}
        classes = len(dataset.label_names) or 1 + max((max(found) for found in values.values() if found), default=0)
        for split, found in values.items():
            wrong = sorted(value for value in found if not 0 <= value < classes)
            if wrong:
                raise ValueError(
                    f"task segmentation: {dataset.name}, {split}: the maps contain {wrong[0]}, which is neither a class number of 0 to "
                    f"{classes - 1} nor task.ignore, {self.ignore}: correct the maps, or set task.ignore"
                )
        if classes < 2:
            raise ValueError(
                f"task segmentation: {dataset.name}: the maps contain one class besides task.ignore, {self.ignore}: number the classes "
                "from 0 (save masks of 0 and 255 as 0 and 1), or set task.ignore"
            )
        if self.ignore == IGNORE < classes:
            raise ValueError(
                f"task segmentation: {dataset.name} has {classes} classes, and task.ignore={IGNORE} is one of them: set task.ignore=-1"
            )
        if classes > MAP_CLASSES:
            raise ValueError(
                f"task segmentation: {dataset.name}: the maps contain numbers up to {classes - 1}, but at most {MAP_CLASSES} classes are "
                "supported: number the classes from 0"
            )
        return {"num_classes": classes}

    def class_counts(self, dataset: Any) -> Sequence[int] | None:
        counts, classes = dataset.map_values["train"], self.outputs(dataset)["num_classes"]
        return [0 if number == self.ignore else counts.get(number, 0) for number in range(classes)]

    def inputs(self, batch: Batch, keys: Key[Array, "batch"], train: bool, prepared: Prepared) -> Batch:
        batch = prepared.augment_examples(batch, keys, self.ignore)
        return {**batch, "image": prepared.normalize(batch["image"])}

    def loss(self, net: Any, batch: Batch, train: bool) -> tuple[Float[Array, "batch"], Mapping[str, Array]]:
        logits = net(batch["image"], train).astype(jnp.float32)
        labels = self._labels_of(logits, batch)
        return self._loss(logits, labels, train), {
            "confusion": self._confusion(labels, logits.argmax(-1), logits.shape[-1])
        }

    def auxiliary_loss(self, outputs: Float[Array, "batch height width class"], batch: Batch) -> Float[Array, "batch"]:
        logits = outputs.astype(jnp.float32)
        return self._loss(logits, self._labels_of(logits, batch), True)

    def _labels_of(self, logits: Array, batch: Batch) -> Int[Array, "batch height width"]:
        """The labels of a batch.

        Raises:
          ValueError: the network's outputs are not logits with the size of the labels.
        """
        labels = batch["label"].astype(jnp.int32)
        if logits.shape[:-1] != labels.shape:
            raise ValueError(
                f"task segmentation: the network's outputs are {logits.shape}, expected logits (batch, height, width, class) for "
                f"labels of {labels.shape}: choose a network for segmentation"
            )
        return labels

    def _loss(
        self, logits: Float[Array, "batch height width class"], labels: Int[Array, "batch height width"], train: bool
    ) -> Float[Array, "batch"]:
        """The loss of each image."""
        criterion, counted = self.criterion or CROSS_ENTROPY, labels != self.ignore
        # All zeros for ignored pixels, which excludes them from losses by map.
        targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32) * counted[..., None]
        values = _by_image((criterion.train if train else criterion.evaluate)(logits, targets), counted)
        if self.dice:
            values = values + self.dice * dice(logits, targets)
        if self.focal:
            values = values + self.focal * _by_image(focal(logits, targets), counted)
        return values

    def _confusion(
        self, labels: Int[Array, "batch height width"], predicted: Int[Array, "batch height width"], classes: int
    ) -> Int[Array, "batch label predicted"]:
        """The confusion matrix of each image, in integers: float32 is exact only to 2**24, which the pixels of a batch exceed."""
        images, (cells, pixels) = len(labels), (classes**2, math.prod(labels.shape[1:]))
        cell = (labels * classes + predicted).reshape(images, pixels) + cells * jnp.arange(images)[:, None]
        cell = jnp.where(
            labels.reshape(images, pixels) == self.ignore, images * cells, cell
        )  # beyond the last cell, so that it is not counted
        return jnp.bincount(cell.ravel(), length=images * cells).reshape(images, classes, classes)

    def summarize(self, sums: Mapping[str, Any]) -> dict[str, float]:
        return {"loss": float(sums["loss"]) / float(sums["count"]), **map_metrics(sums["confusion"])}

    def predict(self, net: Any, batch: Batch) -> Float[Array, "batch height width class"]:
        criterion = self.criterion or CROSS_ENTROPY
        return criterion.probabilities(net(batch["image"], False).astype(jnp.float32))

    def mirrored_back(self, predictions: Float[Array, "batch height width class"]) -> Float[Array, "batch h w class"]:
        return predictions[:, :, ::-1]

    def tally(
        self, predictions: Float[np.ndarray, "example height width class"], labels: Int[np.ndarray, "example h w"]
    ) -> Mapping[str, Any]:
        return {"confusion": self.confusion(predictions, labels)}

    def score_of_sums(self, sums: Mapping[str, Any]) -> dict[str, float]:
        return map_metrics(sums["confusion"])

    def details_of_sums(self, sums: Mapping[str, Any], names: Sequence[str]) -> Details:
        confusion = np.rint(sums["confusion"]).astype(np.int64)
        return Details([f"{confusion.sum():,} pixels"], CLASS_COLUMNS, class_rows(confusion, names))

    def confusion(
        self, predictions: Float[np.ndarray, "example height width class"], labels: Int[np.ndarray, "example h w"]
    ) -> Int[np.ndarray, "label predicted"]:
        """The confusion matrix of predicted probabilities: rows are labels; ignored pixels are left out.

        Labels that are larger than the predictions are cropped to the centre, which is the network's input.
        """
        classes, labels = predictions.shape[-1], central_map(labels, predictions.shape[1:-1])
        return sum(
            map_confusion(np.asarray(own), probabilities.argmax(-1), classes, self.ignore)
            for own, probabilities in zip(labels, predictions, strict=True)
        )

    def columns(self, predictions: Any, names: Sequence[str], topk: int | None = None) -> Mapping[str, Sequence[Any]]:
        """The fraction of each image's pixels that is predicted as each class."""
        classes = predictions.shape[-1]
        chosen = predictions.argmax(-1).reshape(len(predictions), -1)
        return {
            name: [f"{share:.6f}" for share in (chosen == number).mean(1)]
            for number, name in enumerate(class_names(names, classes))
        }

    def describe(self, predictions: Any, names: Sequence[str], topk: int | None = None) -> Sequence[str]:
        columns = self.columns(predictions, names, topk)
        rows = (
            [(float(share), name) for name, share in zip(columns, row, strict=True)]
            for row in zip(*columns.values(), strict=True)
        )
        return [
            "  ".join(f"{name} {share:.1%}" for share, name in sorted(row, key=lambda one: -one[0])[:topk] if share)
            for row in rows
        ]


# The columns of `class_rows`.
CLASS_COLUMNS = ("class", "pixels", "share", "IoU", "Dice", "precision", "recall", "most often taken for")


def class_rows(confusion: Int[np.ndarray, "label predicted"], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Each class's name, pixels and figures, as text."""
    from cnnjax.tasks.classification_metrics import taken_for

    names, total, rows = class_names(names, len(confusion)), max(int(confusion.sum()), 1), []
    for number, name in enumerate(names):
        hits, pixels, named = confusion[number, number], confusion[number].sum(), confusion[:, number].sum()
        parts = ((hits, pixels + named - hits), (2 * hits, pixels + named), (hits, named), (hits, pixels))
        figures = (f"{part / whole:.4f}" if whole else "—" for part, whole in parts)
        rows.append(
            (name, f"{pixels:,}", f"{pixels / total:.2%}", *figures, taken_for(confusion[number], number, names))
        )
    return rows


def map_confusion(
    labels: Int[np.ndarray, "..."], predicted: Int[np.ndarray, "..."], classes: int, ignore: int
) -> Int[np.ndarray, "label predicted"]:
    """The confusion matrix of maps of class numbers; rows are labels, and pixels whose label is `ignore` are left out."""
    counted = labels != ignore
    cells = labels[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def map_metrics(confusion: Any) -> dict[str, float]:
    """The metrics of a confusion matrix of pixels."""
    confusion = np.asarray(confusion, np.float64)
    hits, occurring, named = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    union, known = occurring + named - hits, occurring > 0
    seen = union > 0
    if not seen.any():  # every pixel is ignored
        return dict.fromkeys(("mean_iou", "pixel_accuracy", "mean_accuracy", "dice"), 0.0)
    return {
        "mean_iou": float((hits[seen] / union[seen]).mean()),
        "pixel_accuracy": float(hits.sum() / confusion.sum()),
        "mean_accuracy": float((hits[known] / occurring[known]).mean()),
        "dice": float((2 * hits[seen] / (occurring + named)[seen]).mean()),
    }


def _by_image(
    values: Float[Array, "batch *spatial"], counted: Bool[Array, "batch height width"]
) -> Float[Array, "batch"]:
    """The mean of a loss over each image's pixels that are not ignored (0 if there are none); a loss by map unchanged."""
    if values.ndim == 1:
        return values
    pixels = tuple(range(1, counted.ndim))
    return jnp.where(counted, values, 0).sum(pixels) / jnp.maximum(counted.sum(pixels), 1)
