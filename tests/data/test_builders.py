import numpy as np
import pytest

from cnnjax.data import catalogue
from cnnjax.data.builders import digits, drawn_signs, spirals
from cnnjax.data.datasets import DatasetOptions, load_dataset


def test_digits_are_the_published_ones_in_stratified_splits(cache):
    images, labels = digits.read_digits()
    assert images.shape == (1797, 8, 8) and images.min() == 0 and images.max() == 16
    assert labels[:10].tolist() == list(range(10))
    dataset = load_dataset(DatasetOptions())
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 1298, "valid": 144, "test": 355}
    test = np.bincount(dataset.splits["test"].labels)
    np.testing.assert_array_equal(test, np.bincount(labels) // 5)
    together = np.concatenate([split.labels for split in dataset.splits.values()])
    np.testing.assert_array_equal(np.bincount(together), np.bincount(labels))
    assert dataset.image_shape == (32, 32, 1) and dataset.label_names == tuple("0123456789")
    assert (
        dataset.fingerprint == "c4960a95c91f2d4c"
    )  # runs have it in their dataset.json: another refuses to resume them


def test_no_digit_is_in_two_splits(cache):
    dataset = load_dataset(DatasetOptions())
    seen = [image.tobytes() for split in dataset.splits.values() for image in split.images]
    assert len(seen) == 1797 and len(set(seen)) == 1797


def test_spirals_are_points_whose_best_classifier_errs_as_often_as_is_said(cache):
    points, labels = spirals.draw_points(7, 20_000)
    radius, angle = np.hypot(*points.T), np.arctan2(points[:, 1], points[:, 0])
    # The nearest arm at a point's radius, by the angles alone.
    offset = angle[:, None] - (np.arange(4) * np.pi / 2 + spirals.TURN * radius[:, None])
    nearest = np.abs(np.angle(np.exp(1j * offset))).argmin(1)
    assert 1 - (nearest == labels).mean() == pytest.approx(2 * 0.01242, abs=0.003)  # the normal beyond pi / 4 / 0.35
    np.testing.assert_array_equal(spirals.to_images(np.array([[-1.0, 1.0]])), np.array([[[[0], [255]]]]))
    dataset = load_dataset(DatasetOptions(name="spirals"))
    assert dataset.image_shape == (1, 2, 1) and {k: len(v) for k, v in dataset.splits.items()} == {
        "train": 900,
        "valid": 100,
        "test": 1000,
    }
    assert np.bincount(dataset.splits["valid"].labels, minlength=4).min() > 10


def test_drawn_signs_are_as_many_as_is_known_and_differ_by_kind(cache):
    counts, entry = drawn_signs.training_counts(), catalogue.CATALOGUE["drawn_signs"]
    assert (sum(counts.values()), 9 * drawn_signs.TESTED, len(counts)) == (entry.train, entry.test, entry.classes)
    assert max(counts.values()) == counts["speed 30"] == 60 and min(counts.values()) == counts["ahead only"] == 12
    test = load_dataset(DatasetOptions(name="drawn_signs"), splits=("test",)).splits["test"]
    assert test.images.shape == (540, 32, 32, 3) and np.bincount(test.labels).tolist() == [60] * 9
    red, green, blue = (
        test.images[test.labels == list(counts).index(name)].mean((0, 1, 2))
        for name in ("no entry", "priority", "ahead only")
    )
    assert red[0] > red[1] + 10 and green[:2].min() > green[2] + 5 and blue[2] > blue[0] + 10
