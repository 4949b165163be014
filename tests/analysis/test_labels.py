"""Labels that a network contradicts, against the definition by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.analysis import contradicted_labels
from cnnjax.analysis.labels import label_margins


@given(st.integers(2, 6), st.integers(1, 12), st.integers(0, 2**16))
def test_margins_and_their_order_are_those_of_the_definition(classes, examples, seed):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), examples).astype(np.float32)
    labels = generator.integers(0, classes, examples)
    margins = []
    for row, label in zip(probabilities.astype(float).tolist(), labels.tolist(), strict=True):
        margins.append(row[label] - max(value for place, value in enumerate(row) if place != label))
    np.testing.assert_allclose(label_margins(probabilities, labels), margins, atol=1e-12)
    found = contradicted_labels(probabilities, labels)
    assert set(found.tolist()) == {place for place, margin in enumerate(margins) if margin < 0}
    assert (np.diff(np.array(margins)[found]) >= 0).all()


def test_nothing_is_contradicted_where_every_label_is_the_most_probable_class():
    assert contradicted_labels(np.array([[0.6, 0.4], [0.5, 0.5]]), np.array([0, 1])).tolist() == []
