"""Object detection: boxes with classes, of which an image may have any number."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key
from ml_collections import ConfigDict

from cnnjax.core.options import fraction, not_negative, unknown
from cnnjax.data.augment import AugmentOptions, check_boxes
from cnnjax.data.boxes import CLASS, COUNTED, PADDING, STATUS, are_boxes, present
from cnnjax.detection import Detections, Objects, Ratio
from cnnjax.tasks.detection_metrics import Curves, class_figures, coco_curves, coco_metrics, voc_metrics
from cnnjax.tasks.faster_coco_metrics import faster_coco_curves
from cnnjax.tasks.task import Batch, Details, Mode, Prepared, Task, class_names

Rows = Float[np.ndarray, "example object 6"]


def _weights(weights: tuple[tuple[str, float], ...]) -> str | None:
    return next((f"weights of {wrong}" for _, weight in weights if (wrong := not_negative(weight))), None)


@dataclasses.dataclass(frozen=True)
class Detection(Task):
    """Boxes with classes: labels are rows of objects, (batch, object, 6), as `data.boxes` stores them.

    The network has two methods: `losses(images, objects, train)` returns its losses by name, each (batch,) or a `Ratio`, a sum over the
    batch divided by a number over the batch, which are added up with `weights`; `detections(images)` returns `Detections` of a fixed
    number. The config's `loss` is not used.

    Metrics are COCO's, of all detections of a split together (`detection_metrics`): `AP`, the mean average precision over the
    thresholds 0.5, 0.55, ..., 0.95 of the IoU, `AP50` and `AP75` at one threshold, `AP_small`, `AP_medium` and `AP_large` by the area
    of objects (below 32^2 pixels, to 96^2, above), and the average recall `AR1`, `AR10` and `AR100` with 1, 10 and 100 detections of
    an image and class. Sizes are in pixels of the network's input. Classes without objects in a split are left out of its means. `cnnjax
    evaluate` adds PASCAL VOC's average precisions, `VOC_AP` and `VOC07_AP`.
    """

    weights: Annotated[
        tuple[tuple[str, float], ...],
        'the weights of the network\'s losses by name, such as (("regression", 2.0),); others have the weight 1',
        _weights,
    ] = ()
    visible: Annotated[
        float, "the fraction of a box that augmentation must leave inside the image for its object to be kept", fraction
    ] = 0.25
    shown: Annotated[float, "the score from which `cnnjax predict` and `cnnjax report` show a detection", fraction] = (
        0.5
    )

    evaluation: Annotated[
        Literal["numpy", "faster-coco-eval"],
        "what computes COCO's figures: code of cnnjax's own in NumPy, or the package faster-coco-eval (`cnnjax[detection]`) in C++, which "
        "is faster for thousands of images",
    ] = "numpy"

    monitor: ClassVar[str] = "AP"
    mode: ClassVar[Mode] = "max"
    validates_predictions: ClassVar[bool] = True
    directions: ClassVar[Mapping[str, Mode]] = dict.fromkeys(
        (
            *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100"),
            *("AR_small", "AR_medium", "AR_large", "VOC_AP", "VOC07_AP"),
        ),
        "max",
    )
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = dict.fromkeys(directions, (0.0, 1.0))

    def check_config(self, config: ConfigDict) -> None:
        check_boxes(AugmentOptions(**config.augment))
        if config.dataset.streaming and config.augment.resized_crop is not None:
            raise ValueError(
                "config: augment.resized_crop crops streamed images when they are decoded, which cannot be applied to their boxes: "
                "leave it out, or set dataset.streaming to False"
            )
        if config.evaluate.crop is not None:
            raise ValueError(f"config: evaluate.crop={config.evaluate.crop} would cut objects: leave it out")
        if config.evaluate.views != "one":
            raise ValueError(
                f"config: evaluate.views={config.evaluate.views!r}: detection evaluates one view: set it to 'one'"
            )

    def outputs(self, dataset: Any) -> Mapping[str, Any]:
        labels = next(iter(dataset.splits.values())).labels
        if not are_boxes(labels):
            raise ValueError(
                "task detection: expected boxes for each example, floats (example, object, 6); "
                f"{dataset.name} has {labels.dtype} of {labels.shape[1:] or 'one value'} for each example: set dataset.labels='boxes' "
                "for scenes and folders that have them"
            )
        if len(dataset.image_shape) != 3:
            raise ValueError(f"task detection: {dataset.name}: boxes need images with two spatial axes")
        classes = len(dataset.label_names)
        for split, part in dataset.splits.items():
            self._check_rows(np.asarray(part.labels), classes, f"task detection: {dataset.name}, {split}")
        found = np.asarray(dataset.splits[next(iter(dataset.splits))].labels)
        return {"num_classes": classes or int(found[..., CLASS].max(initial=0)) + 1}

    @staticmethod
    def _check_rows(rows: Rows, classes: int, where: str) -> None:
        """Raises ValueError for a split without objects, and for rows that are no boxes."""
        objects = rows[..., CLASS] >= 0
        if not objects.any():
            raise ValueError(f"{where}: there is no object in any image: choose another split, or correct the labels")
        for wrong, what in (
            (rows[..., CLASS] != np.rint(rows[..., CLASS]), "a class that is not a whole number"),
            (objects & (rows[..., CLASS] >= (classes or np.inf)), f"a class beyond the {classes} names"),
            (objects & ~np.isfinite(rows).all(-1), "a value that is not finite"),
            (
                objects & ((rows[..., 2] < rows[..., 0]) | (rows[..., 3] < rows[..., 1])),
                "a box that ends before it begins",
            ),
        ):
            if wrong.any():
                image, place = np.argwhere(wrong)[0]
                raise ValueError(f"{where}: image {image}, object {place} has {what}: {rows[image, place].tolist()}")

    def inputs(self, batch: Batch, keys: Key[Array, "batch"], train: bool, prepared: Prepared) -> Batch:
        batch = prepared.augment_examples(batch, keys, visible=self.visible)
        return {**batch, "image": prepared.normalize(batch["image"])}

    def loss(self, net: Any, batch: Batch, train: bool) -> tuple[Float[Array, "batch"], Mapping[str, Array]]:
        found = _method(net, "losses")(batch["image"], objects_of(batch["label"]), train)
        losses = {
            name: loss.by_example(batch["mask"]) if isinstance(loss, Ratio) else loss for name, loss in found.items()
        }
        weights = dict(self.weights)
        if absent := [name for name in weights if name not in losses]:
            raise ValueError(f"config: task.weights: {unknown('loss of the network', absent[0], losses)}")
        return sum(weights.get(name, 1.0) * value for name, value in losses.items()), losses

    def summarize(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """The loss, and each of the network's losses without its weight."""
        return {name: float(value) / float(sums["count"]) for name, value in sums.items() if name != "count"}

    def predict(self, net: Any, batch: Batch) -> Detections:
        return _method(net, "detections")(batch["image"])

    def score(self, predictions: Detections, split: Any) -> dict[str, float]:
        rows = counted_rows(split.labels)
        return coco_metrics(self.curves(predictions, rows, _classes(rows)))

    def curves(self, predictions: Detections, rows: Rows, classes: int) -> Curves:
        """COCO's precision and recall of every class, by what the option `evaluation` names."""
        return (coco_curves if self.evaluation == "numpy" else faster_coco_curves)(predictions, rows, classes)

    def score_in_detail(self, predictions: Detections, labels: Rows) -> dict[str, float]:
        rows = counted_rows(labels)
        return voc_metrics(predictions, rows, _classes(rows))

    def details(self, predictions: Detections, labels: Rows, names: Sequence[str]) -> Details:
        rows = counted_rows(labels)
        classes = len(names) or _classes(rows)
        curves = self.curves(predictions, rows, classes)
        table = class_rows(predictions, rows, curves, class_names(names, classes), self.shown)
        objects = int((counted(rows)).sum())
        text = f"{objects:,} objects in {len(rows):,} images; detections with a score of at least {self.shown:g} are counted"
        return Details([text], CLASS_COLUMNS, table)

    def columns(
        self, predictions: Detections, names: Sequence[str], topk: int | None = None
    ) -> Mapping[str, Sequence[Any]]:
        """The number of objects found in each image, and these as text: `name score x0 y0 x1 y1`, the best score first."""
        found = self.found(predictions, names, topk)
        return {
            "objects": [len(own) for own in found],
            "detections": ["; ".join(f"{name} {score:.4f} {_edges(box)}" for name, score, box in own) for own in found],
        }

    def describe(self, predictions: Detections, names: Sequence[str], topk: int | None = None) -> Sequence[str]:
        return [
            "; ".join(f"{name} {score:.1%} at {_edges(box)}" for name, score, box in own) or "nothing"
            for own in self.found(predictions, names, topk)
        ]

    def found(
        self, predictions: Detections, names: Sequence[str], most: int | None = None
    ) -> list[list[tuple[str, float, np.ndarray]]]:
        """The class, score and box of each image's detections from the score `shown` on, the best first, and no more than `most`."""
        classes = max(len(names), int(np.max(predictions.classes, initial=0)) + 1)
        named = class_names(names, classes)
        return [
            [
                (
                    named[int(predictions.classes[image, place])],
                    float(predictions.scores[image, place]),
                    predictions.boxes[image, place],
                )
                for place in np.flatnonzero(shown)[:most]
            ]
            for image, shown in enumerate(predictions.mask & (predictions.scores >= self.shown))
        ]


# The columns of `Detection.details`.
CLASS_COLUMNS = ("class", "objects", "detections", "AP", "AP50", "AP75", "AR100")


def counted(rows: Rows) -> Bool[np.ndarray, "example object"]:
    """The rows that hold an object that is to be found."""
    return (rows[..., CLASS] >= 0) & (rows[..., STATUS] == COUNTED)


def class_rows(
    predictions: Detections, rows: Rows, curves: Curves, names: Sequence[str], shown: float
) -> list[tuple[str, ...]]:
    """Each class's name, its objects, its detections from the score `shown` on, and its figures, as text."""
    objects = np.bincount(rows[..., CLASS][counted(rows)].astype(int), minlength=len(names))
    above = predictions.mask & (predictions.scores >= shown)
    found = np.bincount(predictions.classes[above], minlength=len(names))
    return [
        (name, f"{objects[number]:,}", f"{found[number]:,}", *("—" if np.isnan(one) else f"{one:.4f}" for one in own))
        for number, (name, own) in enumerate(zip(names, class_figures(curves), strict=True))
    ]


def objects_of(rows: Float[Array, "batch object 6"]) -> Objects:
    """The objects that a network receives, from rows as `data.boxes` stores them."""
    mask = present(rows)
    classes = jnp.where(mask, rows[..., CLASS], 0).astype(jnp.int32)
    return Objects(rows[..., :4], classes, mask & (rows[..., STATUS] > 0), mask)


def counted_rows(labels: Rows) -> Rows:
    """The rows of a split for its metrics, those without an area as padding."""
    rows = np.array(labels, np.float32)
    rows[..., CLASS] = np.where(present(rows), rows[..., CLASS], PADDING)
    return rows


def _classes(rows: Rows) -> int:
    """One more than the highest class that occurs: classes beyond it have no objects, and are in no mean."""
    return int(rows[..., CLASS].max(initial=0)) + 1


def _method(net: Any, name: str) -> Any:
    """A method of the network.

    Raises:
      ValueError: the network has no such method.
    """
    method = getattr(net, name, None)
    if method is None:
        raise ValueError(
            f"task detection: the network has no method `{name}`: choose a detector, such as model.name='retinanet' (`cnnjax models` "
            "lists them)"
        )
    return method


def _edges(box: Float[np.ndarray, "4"]) -> str:
    return " ".join(f"{value:.1f}" for value in box)
