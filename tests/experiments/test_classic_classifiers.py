import json

import numpy as np
import pytest

from experiments import classic_classifiers as classic


@pytest.mark.slow
def test_every_classifier_learns_a_few_digits_and_has_a_row(tmp_path):
    classic.main(["--scale", "smoke", "--out", str(tmp_path)])
    stored = json.loads((tmp_path / "classic_classifiers.json").read_text())
    rows = stored["sets"]["digits"]["rows"]
    assert list(rows) == list(classic.CLASSIFIERS) and stored["sets"]["digits"]["test"] == 60
    for title, error in rows.items():
        assert 0 <= error < (0.95 if "LeNet" in title or "perceptron" in title else 0.4)
    text = (tmp_path / "classic_classifiers.md").read_text()
    for title, classifier in classic.CLASSIFIERS.items():
        assert f"| {title} | {100 * rows[title]:.1f} % | {classifier.published} |" in text


def test_pixels_are_rows_from_0_to_1():
    import cnnjax

    images, labels = classic.pixels(cnnjax.load_dataset({"name": "digits", "test_split": "test[:7]"}), "test")
    assert images.shape == (7, 32 * 32) and labels.shape == (7,) and images.max() == 1 and images.min() == 0
    assert np.unique(images).size > 10


def test_the_committed_page_is_the_stored_results():
    stored = json.loads((classic.RESULTS / "classic_classifiers.json").read_text())
    assert (classic.RESULTS / "classic_classifiers.md").read_text() == classic.page(stored)
    assert list(stored["sets"]) == ["digits", "fashion_mnist"] and stored["scale"] == "small"
