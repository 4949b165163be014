"""Statistics against scipy's and against numbers worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from cnnjax.ablation.statistics import (
    Estimate,
    estimate,
    holm,
    p_value,
    paired_difference,
    pairs_needed,
    smallest_difference,
    student_t,
)


def test_an_estimate_by_hand():
    # mean 5, deviations -3 -1 -1 -1 0 0 2 4: squares 32, variance 32/7; t(7) = 2.364624
    result = estimate([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert (result.count, result.mean) == (8, 5.0)
    assert result.deviation == pytest.approx(math.sqrt(32 / 7))
    assert result.high - 5 == pytest.approx(2.364624 * math.sqrt(32 / 7 / 8), rel=1e-6)
    assert 5 - result.low == pytest.approx(result.high - 5)


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_intervals_are_scipys(count):
    values = np.random.RandomState(count).normal(0.9, 0.01, count).tolist()
    result = estimate(values)
    low, high = stats.t.interval(0.95, count - 1, np.mean(values), stats.sem(values))
    np.testing.assert_allclose([result.low, result.high], [low, high], rtol=1e-12)
    assert student_t(count - 1) == pytest.approx(stats.t.ppf(0.975, count - 1), rel=1e-12)


def test_intervals_are_cut_to_the_bounds():
    assert estimate([0.9, 1.0], (0.0, 1.0)) == Estimate(2, 0.95, pytest.approx(0.0707107), pytest.approx(0.31469), 1.0)
    assert paired_difference({0: 1.0, 1: 0.0}, {0: 0.0, 1: 0.0}, (-1.0, 1.0)).low == -1


def test_one_value_has_no_spread_and_none_has_no_mean():
    assert estimate([0.5]) == Estimate(1, 0.5, None, None, None)
    assert estimate([]) is None


def test_paired_differences_are_those_of_a_paired_t_test():
    generator = np.random.RandomState(0)
    seeds = generator.normal(0.9, 0.05, 6)
    first = dict(enumerate((seeds + generator.normal(0.01, 0.002, 6)).tolist()))
    second = dict(enumerate(seeds.tolist()))
    result = paired_difference(first, second)
    interval = stats.ttest_rel(list(first.values()), list(second.values())).confidence_interval(0.95)
    np.testing.assert_allclose([result.low, result.high], [interval.low, interval.high], rtol=1e-9)
    alone = estimate(list(first.values()))
    assert result.high - result.low < (alone.high - alone.low) / 5  # what the seeds share has cancelled


def test_only_seeds_that_both_have_are_paired():
    assert paired_difference({0: 1.0, 1: 2.0, 5: 9.0}, {1: 1.5, 0: 0.5}) == Estimate(2, 0.5, 0.0, 0.5, 0.5)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


@pytest.mark.parametrize("count", [2, 3, 20])
def test_p_values_are_scipys(count):
    values = np.random.RandomState(count).normal(0.3, 1.0, count).tolist()
    assert p_value(estimate(values)) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue, rel=1e-9)


def test_equal_differences_are_certain_and_a_single_one_is_not_tested():
    assert (
        p_value(estimate([0.1, 0.1])) == 0 and p_value(estimate([0.0, 0.0])) == 1 and p_value(estimate([0.1])) is None
    )


def test_p_values_are_adjusted_by_hand():
    # Sorted .005 .01 .02 .04, times 4 3 2 1: .02 .03 .04 .04; a later one is never smaller than an earlier one.
    assert holm([0.04, 0.01, 0.005, 0.02]) == pytest.approx([0.04, 0.03, 0.02, 0.04])
    assert holm([0.03, 0.02]) == pytest.approx([0.04, 0.04]) and holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize("count", [2, 3, 5, 34])
def test_the_power_of_the_smallest_difference_is_that_of_the_noncentral_t(count):
    shift = smallest_difference(2.0, count) / 2.0 * math.sqrt(count)
    assert 1 - stats.nct.cdf(stats.t.ppf(0.975, count - 1), count - 1, shift) == pytest.approx(0.8, abs=1e-5)


def test_the_power_is_that_of_repeated_experiments():
    draws = np.random.RandomState(0).normal(smallest_difference(1.0, 5), 1.0, (4000, 5))
    found = stats.ttest_1samp(draws, 0.0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.025)  # four standard errors


def test_as_many_pairs_as_it_takes():
    assert pairs_needed(0.5, 1.0) == pairs_needed(-0.5, 1.0) == 34  # tables of Cohen, 1988: 33 to 34
    assert smallest_difference(1.0, 34) <= 0.5 < smallest_difference(1.0, 33)
    assert pairs_needed(100.0, 1.0) == 2 and pairs_needed(1e-6, 1.0) is None and pairs_needed(0.1, 0.0) == 2
