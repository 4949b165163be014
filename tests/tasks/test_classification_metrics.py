import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from cnnjax.tasks.classification_metrics import (
    Z,
    calibration,
    class_scores,
    cohen_kappa,
    confusion_matrix,
    measure_details,
    paired_interval,
    title_of,
    top_k_accuracy,
    wilson_interval,
)

# Six examples of three classes, predicted as 0 0 1 1 2 0.
PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.5, 0.3, 0.2], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.05, 0.05, 0.9], [0.4, 0.3, 0.3]]
)
LABELS = np.array([0, 1, 1, 1, 2, 2])


def test_worked_out_by_hand():
    confusion = confusion_matrix(PROBABILITIES, LABELS)
    np.testing.assert_array_equal(confusion, [[1, 0, 0], [1, 2, 0], [1, 0, 1]])
    zero, one, two = class_scores(confusion, ("a", "b", "c"))
    assert (zero.precision, zero.recall, zero.f1) == (1 / 3, 1.0, 0.5)
    assert (one.precision, one.recall, one.f1, one.examples) == (1.0, 2 / 3, 0.8, 3)
    assert (two.precision, two.recall) == (1.0, 0.5)
    assert top_k_accuracy(PROBABILITIES, LABELS, 1) == pytest.approx(4 / 6)
    # in the last example classes 1 and 2 are equal, and 1 goes first
    assert top_k_accuracy(PROBABILITIES, LABELS, 2) == pytest.approx(5 / 6)
    assert top_k_accuracy(PROBABILITIES, LABELS, 3) == 1


def test_kappa_is_the_agreement_beyond_chance():
    # p_o = 4 / 6; p_e = (1 * 3 + 3 * 2 + 2 * 1) / 36
    assert cohen_kappa(confusion_matrix(PROBABILITIES, LABELS)) == pytest.approx((4 / 6 - 11 / 36) / (1 - 11 / 36))
    assert cohen_kappa(np.diag([3, 2])) == 1 and cohen_kappa(np.array([[3, 3], [2, 2]])) == 0
    assert cohen_kappa(np.array([[0, 4], [4, 0]])) == -1
    assert np.isnan(cohen_kappa(np.array([[5, 0], [0, 0]])))
    # Fleiss, Statistical methods for rates and proportions, 1981, table 13.1: 100 subjects, three diagnoses
    assert cohen_kappa(np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]])) == pytest.approx(0.68, abs=0.005)


def test_details_leave_out_what_has_no_meaning():
    found = measure_details(PROBABILITIES, LABELS)
    assert found["kappa"] == cohen_kappa(confusion_matrix(PROBABILITIES, LABELS)) and set(found) == {
        "calibration_error",
        "kappa",
    }
    six = np.eye(6)[[0, 0]]
    assert set(measure_details(six, np.array([0, 0]))) == {"top5_accuracy", "calibration_error"}
    assert [title_of(name) for name in ("kappa", "mine_alone")] == ["Cohen's kappa", "mine alone"]


def test_a_class_never_predicted_and_one_never_there_are_not_numbers():
    scores = class_scores(np.array([[2, 0, 1], [1, 0, 1], [0, 0, 0]]), ("a", "b", "c"))
    assert np.isnan(scores[1].precision) and scores[1].recall == 0 and scores[1].f1 == 0
    assert np.isnan(scores[2].recall) and scores[2].precision == 0


def test_calibration_by_hand():
    found = calibration(PROBABILITIES, LABELS, bins=2)
    # confidences .8 .5 .6 .7 .9 .4, right: 1 0 1 1 1 0; up to .5: .5 and .4; above: .8 .6 .7 .9
    np.testing.assert_array_equal(found.counts, [2, 4])
    np.testing.assert_allclose(found.confidence, [0.45, 0.75])
    np.testing.assert_allclose(found.accuracy, [0.0, 1.0])
    assert found.error == pytest.approx((2 * 0.45 + 4 * 0.25) / 6)


@given(st.integers(1, 40), st.integers(2, 6), st.integers(0, 1000))
def test_figures_agree_with_each_other(examples, classes, seed):
    generator = np.random.RandomState(seed)
    probabilities = generator.dirichlet(np.ones(classes), examples)
    labels = generator.randint(0, classes, examples)
    confusion = confusion_matrix(probabilities, labels)
    assert confusion.sum() == examples
    accuracy = np.trace(confusion) / examples
    assert top_k_accuracy(probabilities, labels, 1) == pytest.approx(accuracy)
    tops = [top_k_accuracy(probabilities, labels, k) for k in range(1, classes + 1)]
    assert tops == sorted(tops) and tops[-1] == 1
    found = calibration(probabilities, labels)
    assert 0 <= found.error <= 1 and found.counts.sum() == examples
    # the bins' mean difference is at least the difference of the means
    assert found.error >= abs(accuracy - probabilities.max(-1).mean()) - 1e-9


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_as_published(hits, total, low, high):
    """Newcombe, Statistics in Medicine 17, 1998, pages 857 to 872, table I, method 3."""
    np.testing.assert_allclose(wilson_interval(hits, total), [low, high], atol=5e-5)
    np.testing.assert_allclose(wilson_interval(total - hits, total), [1 - high, 1 - low], atol=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilsons_interval_is_scipys(case):
    ends = stats.binomtest(*case).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson_interval(*case), [ends.low, ends.high], atol=1e-12)


def test_the_paired_interval_as_published():
    """Fagerland, Lydersen and Laake, Statistics in Medicine 33, 2014, on 21 children before and after a transplantation."""
    np.testing.assert_allclose(paired_interval(1, 7, 21), [-0.517, -0.026], atol=5e-4)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), st.data())
def test_the_paired_interval_has_the_score_tests_properties(case, data):
    total, first = case
    second = data.draw(st.integers(0, total - first))
    low, high = paired_interval(first, second, total)
    assert -1 <= low <= (first - second) / total <= high <= 1 and low < high
    np.testing.assert_allclose(paired_interval(second, first, total), [-high, -low], atol=1e-9)
    if first + second:  # 0 is outside exactly where McNemar's asymptotic test says so
        assert (low > 0 or high < 0) == ((first - second) ** 2 / (first + second) > Z**2)
    else:
        np.testing.assert_allclose([low, high], [-(Z**2) / (total + Z**2), Z**2 / (total + Z**2)], rtol=1e-9)


@pytest.mark.parametrize(("first", "second", "total"), [(1, 7, 21), (40, 20, 160), (3, 0, 50), (5, 5, 355)])
def test_the_ends_of_the_paired_interval_are_those_of_the_likelihood(first, second, total):
    """At each end the score statistic, with the likelihood maximised numerically, is z."""
    for end in paired_interval(first, second, total):

        def unlikely(q, end=end):  # -log likelihood where the second alone is right with probability q
            cells = np.array([q + end, q, 1 - 2 * q - end])
            counts = np.array([first, second, total - first - second])
            return -np.sum(counts[counts > 0] * np.log(cells[counts > 0]))

        edges = max(0.0, -end) + 1e-12, (1 - end) / 2 - 1e-12
        q = optimize.minimize_scalar(unlikely, bounds=edges, method="bounded", options={"xatol": 1e-12}).x
        statistic = (first - second - total * end) / np.sqrt(total * (2 * q + end * (1 - end)))
        assert abs(statistic) == pytest.approx(Z, rel=1e-4)
