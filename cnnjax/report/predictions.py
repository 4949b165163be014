"""Predictions of a split, the selection of examples that a page shows, and their captions."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from cnnjax.data.boxes import CLASS, COUNTED, STATUS
from cnnjax.data.displayed import displayed
from cnnjax.data.transforms import Statistics, measure
from cnnjax.data.views import central_view
from cnnjax.detection import Detections
from cnnjax.report.images import Atlas, make_atlas
from cnnjax.tasks.detection_metrics import match
from cnnjax.tasks.segmentation import map_confusion, map_metrics

# The largest number of embedded examples, and of their bytes as floating-point numbers.
EMBEDDED, EMBEDDED_BYTES = 1000, 256 * 2**20
# Pictures of one cell of the confusion matrix.
CELL_EXAMPLES = 12


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The first examples of a split with the network's class probabilities.

    Attributes:
      pixels: the prepared images.
      labels: the examples' labels.
      probabilities: the probabilities of the classes.
      label_names: the classes' names.
      total: the number of examples in the whole split.
      statistics: the statistics of the training images, by which images are displayed; None measures these images.
    """

    pixels: Shaped[np.ndarray, "example *spatial channel"]
    labels: Int[np.ndarray, "example"]
    probabilities: Float[np.ndarray, "example class"]
    label_names: tuple[str, ...]
    total: int
    statistics: Statistics | None = None

    def pictures(self, examples: Sequence[int]) -> UInt8[np.ndarray, "example height width channel"]:
        """Some examples as a page shows them."""
        return pictures_of(self.pixels, examples, self.statistics)

    @cached_property
    def predicted(self) -> Int[np.ndarray, "example"]:
        """The most probable class."""
        return self.probabilities.argmax(-1)

    @cached_property
    def confidence(self) -> Float[np.ndarray, "example"]:
        """The probability of the most probable class."""
        return self.probabilities.max(-1)

    @cached_property
    def right(self) -> Bool[np.ndarray, "example"]:
        """Whether the most probable class is the label."""
        return self.predicted == self.labels

    @cached_property
    def atlas(self) -> Atlas:
        """The pictures that the page's script shows: of each kind of mistake the most confident, and the embedded examples."""
        examples = atlas_examples(self)
        return make_atlas(list(self.pictures(examples)), examples)


@dataclasses.dataclass(frozen=True)
class ArrayPredictions:
    """The first examples of a split with the predictions of a multi-label classification or a regression.

    Attributes:
      pixels: the prepared images.
      labels: the examples' labels, (example, class or number).
      predictions: the predictions, in the shape of the labels.
      names: the names of the classes or numbers.
      total: the number of examples in the whole split.
      statistics: the training images' statistics, by which pictures are made; None measures these images.
    """

    pixels: Shaped[np.ndarray, "example *spatial channel"]
    labels: Float[np.ndarray, "example target"]
    predictions: Float[np.ndarray, "example target"]
    names: tuple[str, ...]
    total: int
    statistics: Statistics | None = None

    def pictures(self, examples: Sequence[int]) -> UInt8[np.ndarray, "example height width channel"]:
        """Some examples as a page shows them."""
        return pictures_of(self.pixels, examples, self.statistics)

    @cached_property
    def distance(self) -> Float[np.ndarray, "example"]:
        """The mean absolute distance of each example's prediction from its label."""
        return np.abs(self.predictions - self.labels).mean(-1)


@dataclasses.dataclass(frozen=True)
class MapPredictions:
    """The first examples of a split with the predicted maps of a segmentation.

    Attributes:
      pixels: the prepared images, which may be mapped or streamed.
      crop: the height and width of the central crop that is the network's input; None is the whole image.
      labels: the maps of class numbers of the crop.
      predicted: the most probable class of each pixel.
      names: the names of the classes.
      ignore: the class number of ignored pixels.
      total: the number of examples in the whole split.
      statistics: the training images' statistics, by which pictures are made; None measures these images.
    """

    pixels: Shaped[np.ndarray, "example rows columns channel"]
    crop: tuple[int, ...] | None
    labels: Int[np.ndarray, "example height width"]
    predicted: Int[np.ndarray, "example height width"]
    names: tuple[str, ...]
    ignore: int
    total: int
    statistics: Statistics | None = None

    def pictures(self, examples: Sequence[int]) -> UInt8[np.ndarray, "example height width channel"]:
        """The centres of some examples as a page shows them."""
        shown = pictures_of(self.pixels, examples, self.statistics)
        return np.asarray(central_view(self.crop, lambda images: images)(shown))

    @cached_property
    def _measured(self) -> tuple[Int[np.ndarray, "label predicted"], Float[np.ndarray, "example"]]:
        """`confusion` and `distance`, for which each map is read once."""
        total, distances = np.zeros((len(self.names),) * 2, np.int64), []
        for pair in zip(self.labels, self.predicted, strict=True):
            confusion = map_confusion(*pair, len(self.names), self.ignore)
            total += confusion
            distances.append(1 - map_metrics(confusion)["mean_iou"] if confusion.any() else 0.0)
        return total, np.array(distances)

    @property
    def confusion(self) -> Int[np.ndarray, "label predicted"]:
        """The confusion matrix of all pixels."""
        return self._measured[0]

    @property
    def distance(self) -> Float[np.ndarray, "example"]:
        """The distance of each example's map from its label: 1 - mean IoU."""
        return self._measured[1]


@dataclasses.dataclass(frozen=True)
class BoxPredictions:
    """The first examples of a split with the objects that a detector finds.

    Attributes:
      pixels: the prepared images, which may be mapped or streamed.
      labels: the objects, as `data.boxes` stores them; rows without an object have class -1.
      detections: the detections of each image, the highest score first.
      names: the names of the classes.
      shown: the score from which detections are shown, and count as hits or false alarms in pictures.
      total: the number of examples in the whole split.
      statistics: the training images' statistics, by which pictures are made; None measures these images.
    """

    pixels: Shaped[np.ndarray, "example rows columns channel"]
    labels: Float[np.ndarray, "example object 6"]
    detections: Detections
    names: tuple[str, ...]
    shown: float
    total: int
    statistics: Statistics | None = None

    def pictures(self, examples: Sequence[int]) -> UInt8[np.ndarray, "example height width channel"]:
        """Some examples as a page shows them."""
        return pictures_of(self.pixels, examples, self.statistics)

    @cached_property
    def verdicts(self) -> "BoxVerdicts":
        """What becomes of each object and detection at an IoU of 0.5, among the detections that are shown."""
        shown = self.detections.mask & (self.detections.scores >= self.shown)
        return box_verdicts(self.detections._replace(mask=shown), self.labels, len(self.names))

    @cached_property
    def distance(self) -> Float[np.ndarray, "example"]:
        """The distance of each example's detections from its objects: 1 - 2 hits / (objects + detections); 0 without either."""
        found = self.verdicts
        hits, misses, alarms = (part.sum(1) for part in (found.hit, found.missed, found.alarm))
        return np.divide(
            misses + alarms, 2 * hits + misses + alarms, out=np.zeros(len(hits)), where=misses + alarms > 0
        )


@dataclasses.dataclass(frozen=True)
class BoxVerdicts:
    """What becomes of objects and detections; those that are ignored are none of these.

    Attributes:
      hit: whether each detection hits an object of its class.
      alarm: whether each detection is a false alarm.
      missed: whether each object is missed.
    """

    hit: Bool[np.ndarray, "example detection"]
    alarm: Bool[np.ndarray, "example detection"]
    missed: Bool[np.ndarray, "example object"]


def box_verdicts(
    detections: Detections, rows: Float[np.ndarray, "example object 6"], classes: int, threshold: float = 0.5
) -> BoxVerdicts:
    """What becomes of the objects of images and of their detections at one IoU."""
    hit, alarm = np.zeros((2, *detections.mask.shape), bool)
    missed = (rows[..., CLASS] >= 0) & (rows[..., STATUS] == COUNTED)
    for number in range(classes):
        found = match(detections, rows, number, [threshold])
        objects, ignored = found.object[0, 0], found.ignored[0, 0]
        hit[found.image, found.row] = (objects >= 0) & ~ignored
        alarm[found.image, found.row] = (objects < 0) & ~ignored
        taken = objects >= 0
        missed[found.image[taken], objects[taken]] = False
    return BoxVerdicts(hit, alarm, missed)


AnyPredictions: TypeAlias = Predictions | ArrayPredictions | MapPredictions | BoxPredictions


def pictures_of(
    pixels: Shaped[np.ndarray, "example *spatial channel"], examples: Sequence[int], statistics: Statistics | None
) -> UInt8[np.ndarray, "chosen height width channel"]:
    """Some examples as a page shows them, on the scale of all where the training's is not known."""
    if statistics is None and pixels.dtype != np.uint8:
        statistics = measure(pixels)
    return displayed(pixels[np.asarray(examples, int)], statistics)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What an example is and what the network takes it for.

    Attributes:
      label: the class that it is of.
      predicted: the class that the network names.
      confidence: the probability of that class, in words.
      right: whether the two are the same.
    """

    label: str
    predicted: str
    confidence: str
    right: bool


def verdict(predictions: Predictions, index: int) -> Verdict:
    """The verdict on an example."""
    names = predictions.label_names
    return Verdict(
        names[predictions.labels[index]],
        names[predictions.predicted[index]],
        f"{100 * predictions.confidence[index]:.1f} %",
        bool(predictions.right[index]),
    )


def caption(predictions: AnyPredictions, index: int, separator: str = ", ") -> str:
    """The verdict on an example as text, with a separator after the label; of a task without classes its place alone."""
    if not isinstance(predictions, Predictions):
        return f"test example {index}"
    found = verdict(predictions, index)
    rest = found.confidence if found.right else f"taken for {found.predicted}, {found.confidence}"
    return f"{found.label}{separator}{rest}"


def most_confident_mistakes(predictions: Predictions) -> list[int]:
    """The mistakes, the most confident first."""
    wrong = np.flatnonzero(~predictions.right)
    return wrong[np.argsort(-predictions.confidence[wrong], kind="stable")].tolist()


def least_confident_hits(predictions: Predictions) -> list[int]:
    """The examples that are predicted right, the least confident first."""
    right = np.flatnonzero(predictions.right)
    return right[np.argsort(predictions.confidence[right], kind="stable")].tolist()


def embedded_count(predictions: AnyPredictions) -> int:
    """The number of examples that are embedded, the split's first: as many as fit into memory."""
    size = 4 * int(np.prod(predictions.pixels.shape[1:]))
    return min(len(predictions.labels), EMBEDDED, max(EMBEDDED_BYTES // size, 50))


def close_ups(predictions: AnyPredictions) -> list[int]:
    """Eight examples to look at closely: the most confident mistakes and, in turn with them, hits of different classes.

    Of a task without classes they are those farthest from their labels.
    """
    if not isinstance(predictions, Predictions):
        return np.argsort(-predictions.distance, kind="stable")[:8].tolist()
    wrong = most_confident_mistakes(predictions)[:4]
    labels, right = predictions.labels, predictions.right
    hits = [int(np.flatnonzero(right & (labels == label))[0]) for label in np.unique(labels[right])]
    hits = hits[: 8 - len(wrong)]
    paired = [index for pair in zip(wrong, hits, strict=False) for index in pair]
    return [*paired, *wrong[len(hits) :], *hits[len(wrong) :]]


def atlas_examples(predictions: Predictions) -> list[int]:
    """The examples of the atlas: of each cell of the confusion matrix the most confident mistakes, and all that are embedded."""
    by_cell: dict[tuple[int, int], int] = {}
    chosen: list[int] = []
    for index in [*most_confident_mistakes(predictions), *np.flatnonzero(predictions.right).tolist()]:
        cell = int(predictions.labels[index]), int(predictions.predicted[index])
        if by_cell.get(cell, 0) < CELL_EXAMPLES and len(chosen) < EMBEDDED:
            by_cell[cell] = by_cell.get(cell, 0) + 1
            chosen.append(index)
    taken = set(chosen)
    return [*chosen, *(index for index in range(embedded_count(predictions)) if index not in taken)]
