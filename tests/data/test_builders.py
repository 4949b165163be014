import importlib.util
import sys

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import catalogue
from cnnjax.data.builders import digits, drawn_signs, elpv, spirals
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


needs_elpv = pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="pip install 'cnnjax[elpv]'")


@needs_elpv
def test_solar_cells_are_split_alike_for_every_probability_and_type():
    cells = elpv.read_cells()
    kinds = [cell[2] for cell in cells]
    assert (len(cells), kinds.count("mono"), kinds.count("poly")) == (2624, 1074, 1550)  # as published
    splits = elpv.split_of(cells)
    shares = {"train": 0.65, "validation": 0.1, "test": 0.25}
    for kind in ("mono", "poly"):
        for probability in (0, 1 / 3, 2 / 3, 1):
            group = [part for cell, part in zip(cells, splits, strict=True) if cell[1:] == (probability, kind)]
            for split, share in shares.items():
                assert abs(group.count(split) - share * len(group)) < 2
    for name, chosen in (("elpv", ("mono", "poly")), ("elpv/mono", ("mono",)), ("elpv/poly", ("poly",))):
        entry = catalogue.CATALOGUE[name]
        own = [part for part, kind in zip(splits, kinds, strict=True) if kind in chosen]
        assert (own.count("train"), own.count("test")) == (entry.train, entry.test)
    assert sum(cell[1] >= elpv.DEFECTIVE for cell in cells) == 821  # 106 of probability 2/3 and 715 of 1


@needs_elpv
def test_solar_cells_are_the_packages_files_and_each_type_keeps_its_split(cache, monkeypatch):
    # An eighth of them, streamed and not measured: a PNG file is decoded when it is asked for, and most are not.
    cells = elpv.read_cells()[::8]
    monkeypatch.setattr(elpv, "read_cells", lambda: cells)
    quick = {"streaming": True, "normalize": "image"}
    datasets = {name: load_dataset({"name": name, **quick}) for name in ("elpv", "elpv/poly")}
    for name, dataset in datasets.items():
        entry = catalogue.CATALOGUE[name]
        assert dataset.label_names == ("functional", "defective") and dataset.image_shape == entry.shape
    both, poly = (
        {split: np.bincount(part.labels) for split, part in dataset.splits.items()} for dataset in datasets.values()
    )
    assert sum(both.values()).sum() == len(cells)
    parted = list(zip(cells, elpv.split_of(cells), strict=True))
    for ours, theirs in (("train", "train"), ("valid", "validation"), ("test", "test")):
        own = [cell for cell, part in parted if part == theirs]
        assert both[ours].sum() == len(own) and both[ours][1] == sum(cell[1] >= 0.5 for cell in own)
        assert poly[ours].sum() == sum(cell[2] == "poly" for cell in own)
    test = datasets["elpv/poly"].splits["test"]
    image, defective = test.images[:1][0, ..., 0], bool(test.labels[0])
    same = [cell for cell in cells if np.array_equal(np.asarray(Image.open(cell[0])), image)]
    assert [(cell[2], cell[1] >= 0.5) for cell in same] == [("poly", defective)]


def test_without_its_package_elpv_says_what_to_install(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)  # as if it were not there
    assert catalogue.availability("elpv") == catalogue.availability("elpv/mono") == "needs elpv-dataset"
    with pytest.raises(ValueError, match=r"^data set elpv .* not installed: pip install 'cnnjax\[elpv\]'$"):
        load_dataset({"name": "elpv/mono"})
