import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.analysis.classification import calibration, class_scores, confusion_matrix, top_k_accuracy

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
