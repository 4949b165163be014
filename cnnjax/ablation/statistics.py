"""Means over seeds and what is known of them; differences of pairs with the same seed."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

CONFIDENCE = 0.95
Bounds = tuple[float, float]
UNBOUNDED = -math.inf, math.inf


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean and how sure it is.

    Attributes:
      count: of values.
      mean: their mean.
      deviation: their standard deviation, by count - 1; None of one value.
      low: where the mean's 95 % confidence interval begins (Student's t, cut to what the mean can be); None of one value.
      high: where it ends.
    """

    count: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None


def estimate(values: Sequence[float], bounds: Bounds = UNBOUNDED) -> Estimate | None:
    """The mean of values drawn independently from one normal distribution; None of no values.

    The interval is mean ± t s / sqrt(n), t the 97.5th percentile of Student's distribution with n - 1 degrees of freedom, cut
    to the bounds, which loses nothing: the mean is within.

    Args:
      values: a sample.
      bounds: the least and the greatest that a value can be.

    >>> three = estimate([1.0, 2.0, 3.0])
    >>> three.mean, three.deviation, round(three.high, 3)
    (2.0, 1.0, 4.484)
    """
    count = len(values)
    if not count:
        return None
    mean = float(np.mean(values))
    if count == 1:
        return Estimate(1, mean, None, None, None)
    deviation = float(np.std(values, ddof=1))
    half = student_t(count - 1) * deviation / math.sqrt(count)
    return Estimate(count, mean, deviation, max(mean - half, bounds[0]), min(mean + half, bounds[1]))


def student_t(degrees: int, confidence: float = CONFIDENCE) -> float:
    """How many standard errors a two-sided confidence interval extends to each side.

    >>> round(student_t(4), 3)
    2.776
    """
    from scipy import special  # a tenth of the time to import scipy.stats

    return float(special.stdtrit(degrees, (1 + confidence) / 2))


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], bounds: Bounds = UNBOUNDED
) -> Estimate | None:
    """The mean of the differences, value less baseline, over the seeds that both have.

    Pairs share the seed, and with it the order of examples and where the numbers allow the initial weights, so that much of
    what varies between seeds cancels. `bounds` are the least and the greatest difference there can be.

    >>> paired_difference({0: 0.9, 1: 0.8}, {0: 0.7, 1: 0.6, 2: 0.1}).count
    2
    """
    return estimate([values[seed] - baseline[seed] for seed in values if seed in baseline], bounds)
