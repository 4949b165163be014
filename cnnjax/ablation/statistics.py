"""Means over seeds with confidence intervals, and paired differences between trials with the same seed."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

CONFIDENCE = 0.95
Bounds = tuple[float, float]
UNBOUNDED = -math.inf, math.inf


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean with its confidence interval.

    Attributes:
      count: the number of values.
      mean: the mean of the values.
      deviation: the standard deviation with count - 1 in the denominator; None for a single value.
      low: the lower end of the mean's 95 % confidence interval (Student's t, limited to the bounds); None for a single value.
      high: the upper end of the interval; None for a single value.
    """

    count: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None


def estimate(values: Sequence[float], bounds: Bounds = UNBOUNDED) -> Estimate | None:
    """Estimates the mean of values drawn independently from a normal distribution; None for no values.

    The interval is mean ± t s / sqrt(n), with t the 97.5th percentile of Student's distribution with n - 1 degrees of freedom.
    It is limited to the bounds, within which the true mean must lie.

    Args:
      values: the sample.
      bounds: the least and greatest possible value.

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
    """The half-width of a two-sided confidence interval in standard errors.

    >>> round(student_t(4), 3)
    2.776
    """
    from scipy import special  # imports in a tenth of the time of scipy.stats

    return float(special.stdtrit(degrees, (1 + confidence) / 2))


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], bounds: Bounds = UNBOUNDED
) -> Estimate | None:
    """Estimates the mean difference, value minus baseline, over the seeds that both have.

    Pairs share the seed, and thereby the order of examples and, if the shapes agree, the initial weights, so that much of the
    variation between seeds cancels. `bounds` are the least and greatest possible difference.

    >>> paired_difference({0: 0.9, 1: 0.8}, {0: 0.7, 1: 0.6, 2: 0.1}).count
    2
    """
    return estimate([values[seed] - baseline[seed] for seed in values if seed in baseline], bounds)
