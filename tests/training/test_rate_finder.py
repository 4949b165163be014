import numpy as np
import pytest

import cnnjax
from cnnjax.training.rate_finder import RateTest


@pytest.fixture(scope="module")
def found(digits_config):
    return cnnjax.find_learning_rate(digits_config, lowest=1e-4, highest=100.0, steps=40)


def test_rates_rise_by_one_factor_and_the_loss_falls_then_diverges(found):
    ratios = np.divide(found.rates[1:], found.rates[:-1])
    np.testing.assert_allclose(ratios, 1e6 ** (1 / 39), rtol=1e-6)
    assert found.rates[0] == 1e-4 and len(found.rates) == len(found.losses) < 40  # it diverged before the end
    assert min(found.smoothed) < 0.8 * found.smoothed[0]
    assert found.smoothed[-1] > 4 * min(found.smoothed) or not np.isfinite(found.losses[-1])
    least = found.rates[int(np.argmin(found.smoothed))]
    assert found.suggestion == pytest.approx(least / 10) and found.rates[0] < found.steepest <= least


def test_the_configs_own_rate_and_schedule_play_no_part(digits_config, found):
    other = digits_config | {
        "optimizer": digits_config["optimizer"] | {"learning_rate": 77.0, "accumulate": 2},
        "schedule": {"name": "constant"},
    }
    again = cnnjax.find_learning_rate(other, lowest=1e-4, highest=100.0, steps=40)
    np.testing.assert_array_equal(again.losses, found.losses)


def test_smoothing_is_the_corrected_running_mean(found):
    mean = 0.0
    for count, (loss, smoothed) in enumerate(zip(found.losses, found.smoothed, strict=True), start=1):
        mean = 0.9 * mean + 0.1 * loss
        assert smoothed == pytest.approx(mean / (1 - 0.9**count))


def test_the_steepest_fall_of_a_known_curve():
    rates = np.logspace(-4, 0, 9)
    smoothed = [2.0, 2.0, 1.9, 1.5, 0.9, 0.6, 0.5, 0.7, 3.0]
    test = RateTest(rates, smoothed, smoothed)
    assert test.steepest == pytest.approx(10**-2.5) or test.steepest == pytest.approx(1e-2)
    assert test.suggestion == pytest.approx(0.1 * 0.1)


@pytest.mark.parametrize(("lowest", "highest", "steps"), [(0.0, 1.0, 10), (1.0, 0.1, 10), (0.1, 1.0, 1)])
def test_rates_out_of_order_are_refused(digits_config, lowest, highest, steps):
    with pytest.raises(ValueError, match="expected 0 < lowest < highest, at least 2 steps"):
        cnnjax.find_learning_rate(digits_config, lowest, highest, steps)
