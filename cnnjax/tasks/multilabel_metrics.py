"""Metrics of multi-label classification, computed from probabilities and labels."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

Probabilities = Float[np.ndarray, "example class"]
Present = Bool[np.ndarray, "example class"]


@dataclasses.dataclass(frozen=True)
class LabelScores:
    """Scores of one class, each from 0 to 1; NaN where the class was never predicted or does not occur.

    Attributes:
      name: the class's name.
      examples: the number of examples that have the class.
      precision: the share of examples with the class among those predicted to have it.
      recall: the share of examples predicted to have the class among those that have it.
      f1: the harmonic mean of precision and recall.
      average_precision: the area under the precision-recall curve over all thresholds.
    """

    name: str
    examples: int
    precision: float
    recall: float
    f1: float
    average_precision: float


@dataclasses.dataclass(frozen=True)
class ThresholdCurve:
    """Precision, recall and F1 of one class at several thresholds; precision is NaN where nothing is predicted."""

    thresholds: Float[np.ndarray, "threshold"]
    precision: Float[np.ndarray, "threshold"]
    recall: Float[np.ndarray, "threshold"]
    f1: Float[np.ndarray, "threshold"]

    @property
    def best(self) -> tuple[float, float]:
        """The threshold with the greatest F1, and that F1; of ties the threshold nearest to 0.5."""
        highest = np.nanmax(self.f1)
        ties = self.thresholds[self.f1 == highest]
        return float(ties[np.abs(ties - 0.5).argmin()]), float(highest)


def label_scores(
    probabilities: Probabilities, present: Present, threshold: float, names: Sequence[str]
) -> list[LabelScores]:
    """The scores of each class, which is predicted where its probability exceeds the threshold."""
    predicted = probabilities > threshold
    hits, named, there = (each.sum(0).astype(np.float64) for each in (predicted & present, predicted, present))
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = hits / named, hits / there, 2 * hits / (named + there)
    areas = [average_precision(probabilities[:, place], present[:, place]) for place in range(len(names))]
    rows = zip(names, there, *columns, areas, strict=True)
    return [LabelScores(name, int(count), *map(float, figures)) for name, count, *figures in rows]


def average_precision(scores: Float[np.ndarray, "example"], present: Bool[np.ndarray, "example"]) -> float:
    """The average precision of one class: sum_n (R_n - R_(n-1)) P_n over the distinct scores in falling order.

    It is NaN if the class does not occur.

    >>> average_precision(np.array([0.9, 0.8, 0.3]), np.array([True, False, True]))
    0.8333333333333333
    """
    if not present.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # the last example of each score
    hits = present[order].cumsum()[last]
    return float((np.diff(hits / present.sum(), prepend=0.0) * hits / (last + 1)).sum())


def threshold_curve(
    probabilities: Float[np.ndarray, "example"], present: Bool[np.ndarray, "example"], steps: int = 100
) -> ThresholdCurve:
    """The scores of one class at `steps` thresholds from 0 up to, not including, 1."""
    thresholds = np.arange(steps) / steps
    predicted = probabilities[None] > thresholds[:, None]
    hits, named = (predicted & present).sum(1).astype(np.float64), predicted.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = hits / named, hits / present.sum(), 2 * hits / (named + present.sum())
    return ThresholdCurve(thresholds, *figures)
