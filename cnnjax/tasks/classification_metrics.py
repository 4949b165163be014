"""How well classes are told apart: from probabilities and labels to figures."""

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
    """One class's figures, each from 0 to 1; NaN where nothing was predicted, or nothing was there.

    Attributes:
      name: of the class.
      examples: that have this label.
      precision: share of those predicted as the class that are of it.
      recall: share of the class's examples that are predicted as it.
      f1: their harmonic mean.
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

    (p + z^2 / 2n ± z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n) of p = hits / n: never outside 0 to 1, and of a
    positive width where all are hits, too.

    >>> [round(end, 4) for end in wilson_interval(81, 263)]
    [0.2553, 0.3662]
    """
    share, extra = hits / total, Z**2 / total
    half = Z * math.sqrt(share * (1 - share) / total + extra / (4 * total))
    low, high = ((share + extra / 2 + side * half) / (1 + extra) for side in (-1, 1))
    return (low if hits else 0.0), (high if hits < total else 1.0)


def top_k_accuracy(probabilities: Probabilities, labels: Labels, k: int) -> float:
    """Share of examples whose label is among the k most probable classes; of equals the lower class goes first."""
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(-1).mean())


def confusion_matrix(probabilities: Probabilities, labels: Labels) -> Int[np.ndarray, "label predicted"]:
    """How many examples of each label (row) are predicted as each class (column)."""
    classes = probabilities.shape[-1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(-1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def cohen_kappa(confusion: Int[np.ndarray, "label predicted"]) -> float:
    """Agreement beyond chance, (p_o - p_e) / (1 - p_e), from the confusion matrix (Cohen, 1960); NaN where all is one class.

    p_o is the accuracy, p_e that of predictions as frequent as these and independent of the labels: 0 is no better than chance.

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
    """The three other classes that a label's examples are most often taken for, with how often, from its row of the matrix.

    >>> taken_for(np.array([7, 0, 2]), 0, ("cat", "dog", "bird"))
    'bird (2)'
    """
    ranked = sorted((count, index) for index, count in enumerate(row.tolist()) if count and index != label)
    return ", ".join(f"{names[index]} ({count})" for count, index in ranked[:-4:-1])


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How far confidence, the highest probability, is from accuracy.

    Attributes:
      error: the expected calibration error, sum_b (n_b / n) |accuracy_b - confidence_b| (Guo et al., ICML 2017).
      edges: of the bins of confidence.
      counts: examples in each bin.
      confidence: the mean in each bin; 0 in an empty one.
      accuracy: the share of right answers in each bin; 0 in an empty one.
    """

    error: float
    edges: Float[np.ndarray, "edge"]
    counts: Int[np.ndarray, "bin"]
    confidence: Float[np.ndarray, "bin"]
    accuracy: Float[np.ndarray, "bin"]


def calibration(probabilities: Probabilities, labels: Labels, bins: int = 15) -> Calibration:
    """Bins of equal width, from 0 to 1; a bin holds its upper edge."""
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
    """Two classifiers on the same examples.

    Attributes:
      examples: how many.
      only_first: examples that the first alone gets right.
      only_second: that the second alone does.
      difference: of their accuracies, first less second.
      low: where the difference's 95 % confidence interval begins (see `paired_interval`).
      high: where it ends.
      p_value: of McNemar's exact test: how likely b and c would be this unequal, or more, if both were right on each such
        example with probability one half.
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
    from scipy import special  # a tenth of the time to import scipy.stats

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

    All d with |b - c - n d| <= z sqrt(n (2 q + d (1 - d))), where b and c of n examples are hits of the first and of the
    second alone, and q is the most likely probability of a hit of the second alone if the difference is d:
    2n q^2 + ((2n - b + c) d - b - c) q - c d (1 - d) = 0 (Tango, Statistics in Medicine 17, 1998). It stays within -1 to 1, and
    where the two agree on all examples it is ± z^2 / (n + z^2). 0 lies within it where McNemar's asymptotic test finds no
    difference.

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

    near = (b - c) / n - 1e-9  # at the difference itself both sides vanish where the two never differ
    return -1.0 if near <= -1 else float(optimize.brentq(beyond, -1.0, near, xtol=1e-12))


class Detail(NamedTuple):
    """A figure of predictions that `cnnjax evaluate` and reports show beside accuracy and likelihood.

    Attributes:
      title: in words.
      measure: (probabilities, labels) -> the figure; NaN where it has no meaning, and is left out.
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
    """A figure's title: that of `DETAILS`, or the name in words."""
    return DETAILS[name].title if name in DETAILS else name.replace("_", " ")


def measure_details(probabilities: Probabilities, labels: Labels) -> dict[str, float]:
    """The figures of `DETAILS`, without those that have no meaning here."""
    found = {name: detail.measure(probabilities, labels) for name, detail in DETAILS.items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}
