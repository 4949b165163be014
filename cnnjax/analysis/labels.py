"""Labels that look wrong: the examples whose label a network's probabilities contradict."""

import numpy as np
from jaxtyping import Float, Int


def label_margins(
    probabilities: Float[np.ndarray, "example class"], labels: Int[np.ndarray, "example"]
) -> Float[np.ndarray, "example"]:
    """The probability of each label less that of the most probable other class: from -1, contradicted, to 1.

    After Northcutt, Jiang and Chuang, "Confident learning: Estimating uncertainty in dataset labels", Journal of Artificial
    Intelligence Research 70, 2021, who prune the examples with the greatest margin against their label. They predict every
    example by a network that was not trained on it; a network's predictions of its own training examples miss those labels
    that it has memorised.

    >>> label_margins(np.array([[0.1, 0.7, 0.2], [0.1, 0.7, 0.2]]), np.array([1, 2])).round(2).tolist()
    [0.5, -0.5]
    """
    rows = np.arange(len(labels))
    others = probabilities.astype(np.float64)
    others[rows, labels] = -np.inf
    return probabilities[rows, labels].astype(np.float64) - others.max(1)


def contradicted_labels(
    probabilities: Float[np.ndarray, "example class"], labels: Int[np.ndarray, "example"]
) -> Int[np.ndarray, "contradicted"]:
    """The examples whose label is not the most probable class, those first that are contradicted most.

    >>> contradicted_labels(np.array([[0.4, 0.6], [0.9, 0.1], [0.8, 0.2]]), np.array([0, 1, 0])).tolist()
    [1, 0]
    """
    margins = label_margins(probabilities, labels)
    order = np.argsort(margins, kind="stable")
    return order[margins[order] < 0]
