"""Metrics of classification, computed from class probabilities and labels."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

Probabilities = Float[np.ndarray, "example class"]
Labels = Int[np.ndarray, "example"]


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """Scores of one class, each from 0 to 1; NaN where the class was never predicted or does not occur.

    Attributes:
      name: the name of the class.
      examples: the number of examples of the class.
      precision: the share of correct predictions among all predictions of the class.
      recall: the share of the class's examples that are predicted correctly.
      f1: the harmonic mean of precision and recall.
    """

    name: str
    examples: int
    precision: float
    recall: float
    f1: float


# Standard errors to each side of a 95 % interval: the normal distribution's 97.5th percentile.
Z = 1.959963984540054


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a proportion by the score test (Wilson, J. Am. Stat. Assoc. 22, 1927).

    (p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) with p = hits / n. The interval is always within 0 to 1
    and has a positive width even if all or none are hits.

    >>> [round(end, 4) for end in wilson_interval(81, 263)]
    [0.2553, 0.3662]
    """
    share, extra = hits / total, Z**2 / total
    half = Z * math.sqrt(share * (1 - share) / total + extra / (4 * total))
    low, high = ((share + extra / 2 + side * half) / (1 + extra) for side in (-1, 1))
    return (low if hits else 0.0), (high if hits < total else 1.0)


def top_k_accuracy(probabilities: Probabilities, labels: Labels, k: int) -> float:
    """The share of examples whose label is among the k most probable classes; ties are ordered by class number."""
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(-1).mean())


def confusion_matrix(probabilities: Probabilities, labels: Labels) -> Int[np.ndarray, "label predicted"]:
    """The number of examples of each label (row) that are predicted as each class (column)."""
    classes = probabilities.shape[-1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(-1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def cohen_kappa(confusion: Int[np.ndarray, "label predicted"]) -> float:
    """Agreement beyond chance, (p_o - p_e) / (1 - p_e), from the confusion matrix (Cohen, 1960); NaN where all is one class.

    p_o is the accuracy and p_e the expected accuracy of predictions with the same class frequencies that are independent of the
    labels. A kappa of 0 is no better than chance.

    >>> round(cohen_kappa(np.array([[20, 5], [10, 15]])), 4)
    0.4
    """
    total = confusion.sum()
    observed, expected = np.trace(confusion) / total, float(confusion.sum(0) @ confusion.sum(1)) / float(total) ** 2
    return float((observed - expected) / (1 - expected)) if expected < 1 else math.nan


def class_scores(confusion: Int[np.ndarray, "label predicted"], names: Sequence[str]) -> list[ClassScores]:
    """Precision, recall and F1 of every class, from the confusion matrix."""
    hits = np.diag(confusion).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = hits / confusion.sum(0), hits / confusion.sum(1)
        f1 = 2 * hits / (confusion.sum(0) + confusion.sum(1))
    columns = zip(names, confusion.sum(1), precision, recall, f1, strict=True)
    return [ClassScores(name, int(count), float(p), float(r), float(f)) for name, count, p, r, f in columns]


def taken_for(row: Int[np.ndarray, "predicted"], label: int, names: Sequence[str]) -> str:
    """The three classes that a label is most often confused with, and the counts, from its row of the confusion matrix.

    >>> taken_for(np.array([7, 0, 2]), 0, ("cat", "dog", "bird"))
    'bird (2)'
    """
    ranked = sorted((count, index) for index, count in enumerate(row.tolist()) if count and index != label)
    return ", ".join(f"{names[index]} ({count})" for count, index in ranked[:-4:-1])


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The difference between confidence, the highest class probability, and accuracy.

    Attributes:
      error: the expected calibration error, sum_b (n_b / n) |accuracy_b - confidence_b| (Guo et al., ICML 2017).
      edges: the edges of the confidence bins.
      counts: the number of examples in each bin.
      confidence: the mean confidence in each bin; 0 in an empty bin.
      accuracy: the accuracy in each bin; 0 in an empty bin.
    """

    error: float
    edges: Float[np.ndarray, "edge"]
    counts: Int[np.ndarray, "bin"]
    confidence: Float[np.ndarray, "bin"]
    accuracy: Float[np.ndarray, "bin"]


def calibration(probabilities: Probabilities, labels: Labels, bins: int = 15) -> Calibration:
    """The calibration in confidence bins of equal width from 0 to 1; each bin includes its upper edge."""
    highest = probabilities.max(-1).astype(np.float64)
    correct = probabilities.argmax(-1) == labels
    place = np.clip(np.ceil(highest * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    total = np.maximum(counts, 1)
    confidence = np.bincount(place, highest, bins) / total
    accuracy = np.bincount(place, correct, bins) / total
    error = float((counts * np.abs(accuracy - confidence)).sum() / counts.sum())
    return Calibration(error, np.linspace(0, 1, bins + 1), counts, confidence, accuracy)


@dataclasses.dataclass(frozen=True)
class PairedComparison:
    """A comparison of two classifiers on the same examples.

    Attributes:
      examples: the number of examples.
      only_first: the number of examples that only the first classifier gets right.
      only_second: the number of examples that only the second classifier gets right.
      difference: the accuracy of the first minus the accuracy of the second.
      low: the lower end of the difference's 95 % confidence interval (see `paired_interval`).
      high: the upper end of the interval.
      p_value: the p-value of McNemar's exact test: the probability that `only_first` and `only_second` differ at least as much
        if each of these examples were equally likely to be one or the other.
    """

    examples: int
    only_first: int
    only_second: int
    difference: float
    low: float
    high: float
    p_value: float


def compare(first: Int[np.ndarray, "example"], second: Int[np.ndarray, "example"], labels: Labels) -> PairedComparison:
    """Compares two classifiers' predicted classes on the same examples (McNemar, Psychometrika 12, 1947; exact).

    >>> compare(np.array([0, 1, 1, 0]), np.array([0, 0, 0, 0]), np.array([0, 1, 1, 1])).p_value
    0.5
    """
    from scipy import special  # imports in a tenth of the time of scipy.stats

    right, also = first == labels, second == labels
    total, only_first, only_second = len(labels), int((right & ~also).sum()), int((also & ~right).sum())
    tail = float(
        special.bdtr(min(only_first, only_second), only_first + only_second, 0.5)
    )  # of the binomial distribution
    low, high = paired_interval(only_first, only_second, total)
    return PairedComparison(
        total, only_first, only_second, (only_first - only_second) / total, low, high, min(1.0, 2 * tail)
    )


def paired_interval(only_first: int, only_second: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of the difference of two proportions on the same examples, by the score test.

    The interval holds all d with |b - c - n d| <= z sqrt(n (2 q + d (1 - d))). Here b and c of n examples are hits of only the
    first and only the second, and q is the maximum-likelihood probability of a hit of only the second if the difference is d:
    2n q^2 + ((2n - b + c) d - b - c) q - c d (1 - d) = 0 (Tango, Statistics in Medicine 17, 1998). The interval is always
    within -1 to 1. It is ± z^2 / (n + z^2) if the two agree on all examples, and contains 0 exactly if McNemar's asymptotic test
    finds no difference.

    >>> [round(end, 3) for end in paired_interval(1, 7, 21)]
    [-0.517, -0.026]
    """
    return _lower_end(only_first, only_second, total), -_lower_end(only_second, only_first, total)


def _lower_end(b: int, c: int, n: int) -> float:
    from scipy import optimize

    def beyond(d: float) -> float:
        linear = (2 * n - b + c) * d - b - c
        q = (math.sqrt(max(linear**2 + 8 * n * c * d * (1 - d), 0.0)) - linear) / (4 * n)
        return b - c - n * d - Z * math.sqrt(max(n * (2 * q + d * (1 - d)), 0.0))

    near = (b - c) / n - 1e-9  # at the difference itself both sides vanish if the two never differ
    return -1.0 if near <= -1 else float(optimize.brentq(beyond, -1.0, near, xtol=1e-12))


class Detail(NamedTuple):
    """A metric that `cnnjax evaluate` and reports show in addition to accuracy and likelihood.

    Attributes:
      title: the metric's title.
      measure: (probabilities, labels) -> the metric; NaN where it is undefined, and is then left out.
    """

    title: str
    measure: Callable[[Probabilities, Labels], float]


DETAILS: Mapping[str, Detail] = {
    "top5_accuracy": Detail(
        "top-5 accuracy", lambda p, labels: top_k_accuracy(p, labels, 5) if p.shape[-1] > 5 else math.nan
    ),
    "calibration_error": Detail("calibration error", lambda p, labels: calibration(p, labels).error),
    "kappa": Detail("Cohen's kappa", lambda p, labels: cohen_kappa(confusion_matrix(p, labels))),
}


def title_of(name: str) -> str:
    """The title of a metric, from `DETAILS` or else its name with spaces."""
    return DETAILS[name].title if name in DETAILS else name.replace("_", " ")


def measure_details(probabilities: Probabilities, labels: Labels) -> dict[str, float]:
    """The metrics of `DETAILS`, without those that are undefined for these predictions."""
    found = {name: detail.measure(probabilities, labels) for name, detail in DETAILS.items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}
