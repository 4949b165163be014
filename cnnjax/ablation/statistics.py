"""Means over seeds with confidence intervals, paired differences between trials with the same seed, their tests and power."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

CONFIDENCE = 0.95
# The probability with which a difference is to be found, as is usual in the planning of experiments (Cohen 1988).
POWER = 0.8
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


def p_value(difference: Estimate) -> float | None:
    """The p-value of a mean difference: the probability of one at least as far from zero if the true one is zero.

    Of the two-sided t-test of paired values; None for a single pair.

    >>> round(p_value(estimate([1.0, 2.0, 3.0])), 3)
    0.074
    """
    from scipy import special

    if difference.deviation is None:
        return None
    if difference.deviation == 0:
        return float(difference.mean == 0)
    t = difference.mean / difference.deviation * math.sqrt(difference.count)
    return float(2 * special.stdtr(difference.count - 1, -abs(t)))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number, so that one of them is below 0.05 by chance with probability 0.05 at most.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979: the k-th smallest of n
    is multiplied by n - k + 1, and is at least the one before it.

    >>> holm([0.03, 0.01, 0.5])
    [0.06, 0.03, 0.5]
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, float)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted.tolist()


def smallest_difference(deviation: float, count: int) -> float:
    """The smallest true difference that a paired t-test finds with probability `POWER`, by the number of pairs.

    The test statistic of a true difference d has a noncentral t distribution with noncentrality d sqrt(n) / s; the probability is that
    it exceeds the 97.5th percentile of Student's t.

    Args:
      deviation: the standard deviation of the differences, s.
      count: the number of pairs, n, at least 2.

    >>> round(smallest_difference(1.0, 34), 2)  # the textbook's half a standard deviation
    0.5
    """
    from scipy import special

    degrees = count - 1
    return float(special.nctdtrinc(degrees, 1 - POWER, student_t(degrees))) * deviation / math.sqrt(count)


def pairs_needed(difference: float, deviation: float, most: int = 10_000) -> int | None:
    """The number of pairs with which a paired t-test finds a true difference with probability `POWER`.

    Args:
      difference: the true difference.
      deviation: the standard deviation of the differences.
      most: the largest number that is tried; None is returned if it does not suffice.

    >>> pairs_needed(0.5, 1.0)
    34
    """
    low, high = 1, most  # `low` pairs do not suffice
    if smallest_difference(deviation, high) > abs(difference):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if smallest_difference(deviation, middle) <= abs(difference) else (middle, high)
    return high
