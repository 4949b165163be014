"""Streamed images are the cached ones, in the same order; what cannot be read is refused or skipped, and named."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax.data import batches
from cnnjax.data.datasets import DatasetOptions, load_dataset, select
from cnnjax.data.streaming import RandomCrop, made_ahead
from tests.test_runs import measured, same_bits

QUIET = {"progress": "off", "tensorboard": False}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 3 classes, 8 train and 4 test photographs each, of differing sizes."""
    root, generator = tmp_path_factory.mktemp("photos"), np.random.RandomState(0)
    for split, count in (("train", 8), ("test", 4)):
        for label in "abc":
            (root / split / label).mkdir(parents=True)
            for index in range(count):
                pixels = generator.randint(0, 256, (*generator.randint(20, 40, 2), 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{index}.png")
    return root


def options(photos, **changes):
    return DatasetOptions(name=str(photos), resize=(24, 24), **changes)


def test_streamed_images_are_the_cached_ones(photos):
    cached, streamed = (load_dataset(options(photos, streaming=value)) for value in (False, True))
    for split, part in cached.splits.items():
        other = streamed.splits[split]
        np.testing.assert_array_equal(part.labels, other.labels)
        assert other.images.shape == part.images.shape and len(other.images) == len(part.images)
        np.testing.assert_array_equal(other.images[:], part.images)
        order = np.random.RandomState(1).permutation(len(part))
        np.testing.assert_array_equal(other.images[order], part.images[order])
        np.testing.assert_array_equal(other.images[1], part.images[1])
    assert streamed.statistics == cached.statistics and streamed.image_shape == cached.image_shape


@pytest.mark.parametrize(
    "changes",
    [
        {"folds": 3, "fold": 1},
        {"examples_per_class": 4},
        {"train_split": "train[:50%]+test[2:5]", "valid_split": "train[60%:]"},
        {"folds": 2, "examples_per_class": 3},
    ],
)
def test_folds_slices_and_few_examples_are_the_same_too(photos, changes):
    cached, streamed = (load_dataset(options(photos, streaming=value, **changes)) for value in (False, True))
    for split, part in cached.splits.items():
        np.testing.assert_array_equal(streamed.splits[split].labels, part.labels)
        np.testing.assert_array_equal(streamed.splits[split].images[:], part.images)
        for index in (-1, [-2, 0], np.arange(len(part)) % 3 == 0):
            np.testing.assert_array_equal(streamed.splits[split].images[index], part.images[index])


def config(photos, **dataset):
    return {
        "dataset": {"name": str(photos), "resize": (24, 24), **dataset},
        "augment": {"flip_horizontal": True, "rotation": 10.0},
        "devices": 1,
        "log": QUIET,
        "model": {"name": "cnn_8_16_32"},
        "train": {"batch_size": 4, "epochs": 2},
    }


def test_a_streamed_run_is_the_resident_run_to_the_bit(photos, tmp_path):
    runs = [cnnjax.train(config(photos, streaming=value), tmp_path / str(value)) for value in (False, True)]
    assert same_bits(runs[0].state, runs[1].state)
    assert measured(runs[0].history) == measured(runs[1].history)
    assert cnnjax.evaluate([runs[1]])["accuracy"] == runs[0].metrics["test/accuracy"]


def test_a_stream_that_needs_no_statistics_is_not_read_for_them(photos, tmp_path):
    plain = load_dataset(options(photos, streaming=True, normalize="none"))
    assert plain.statistics is None
    run = cnnjax.train(config(photos, streaming=True, normalize="image"), tmp_path / "run")
    assert run.predict_prepared(plain.splits["test"].images[:]).shape == (12, 3)


def test_statistics_that_a_given_stream_has_not_are_measured_where_the_config_needs_them(photos):
    plain, whole = (load_dataset(options(photos, streaming=True, normalize=name)) for name in ("none", "dataset"))
    chosen = select(plain, DatasetOptions(normalize="dataset"))
    assert chosen.statistics == whole.statistics and chosen.fingerprint == plain.fingerprint
    assert select(plain, DatasetOptions(normalize="image")) is plain
    assert select(whole, DatasetOptions(normalize="dataset")) is whole
    assert select(whole, DatasetOptions(normalize="none", folds=2)).statistics is None


def test_an_interrupted_stream_resumes_to_the_same_bits(photos, tmp_path, monkeypatch):
    import os
    import signal

    from cnnjax.training.interruption import Interrupted

    given = config(photos, streaming=True)
    given["augment"] = given["augment"] | {"resized_crop": (0.3, 1.0)}
    whole = cnnjax.train(given, tmp_path / "whole")
    original, count = batches.fetch, 0

    def fetch(split, batch, crop=None):
        nonlocal count
        count += crop is not None
        if count == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(split, batch, crop)

    monkeypatch.setattr(batches, "fetch", fetch)
    with pytest.raises(Interrupted):
        cnnjax.train(given, tmp_path / "run")
    monkeypatch.undo()
    resumed = cnnjax.train(given, tmp_path / "run")
    assert same_bits(resumed.state, whole.state) and measured(resumed.history) == measured(whole.history)


def test_random_parts_are_of_the_right_size_and_follow_the_key_alone(photos):
    images = load_dataset(options(photos, streaming=True)).splits["train"].images
    crop = RandomCrop((0.2, 0.8), (16, 18), seed=3, epoch=0)
    shares, ratios = [], []
    for drawn in crop.draws(np.arange(300)):
        left, top, right, bottom = crop.box(40, 30, drawn)
        assert 0 <= left < right <= 40 + 1e-9 and 0 <= top < bottom <= 30 + 1e-9
        shares.append((right - left) * (bottom - top) / 1200)
        ratios.append((right - left) / (bottom - top))
    assert 0.19 < min(shares) < 0.25 and 0.7 < max(shares) < 0.81
    assert 0.749 < min(ratios) < 0.8 and 1.25 < max(ratios) < 1.334
    index = np.array([5, 1, 9])
    parts = images.read(index, crop)
    assert parts.shape == (3, 16, 18, 3)
    np.testing.assert_array_equal(images.read(index[::-1], crop)[::-1], parts)
    assert not np.array_equal(images.read(index, dataclasses.replace(crop, epoch=1)), parts)
    whole = RandomCrop((1.0, 1.0), (24, 24), 0, 0)
    constant = whole.box(24, 24, whole.draws(np.array([0]))[0])
    assert constant[2] - constant[0] <= 24 and constant[3] - constant[1] <= 24


def test_batches_made_ahead_come_in_order_and_errors_in_their_turn():
    assert list(made_ahead(lambda number: number**2, 3, 40, 4)) == [number**2 for number in range(3, 40)]

    def make(number):
        if number == 5:
            raise ValueError("photo.jpg: a damaged image")
        return number

    ahead = made_ahead(make, 0, 9, 4)
    assert [next(ahead) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="photo.jpg: a damaged image"):
        next(ahead)


@pytest.fixture
def damaged(photos, tmp_path):
    import shutil

    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    whole = (root / "train" / "b" / "3.png").read_bytes()
    (root / "train" / "b" / "3.png").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.mark.parametrize("streaming", [False, True])
def test_a_damaged_image_is_skipped_where_the_config_says_so(damaged, photos, streaming):
    lines = []
    dataset = load_dataset(options(damaged, streaming=streaming, unreadable="skip"), lines.append)
    assert sum("skipped 1 of 24 images" in line and "3.png" in line for line in lines) == 1
    whole = load_dataset(options(photos))
    counts = [np.bincount(np.concatenate([part.splits[name].labels for name in ("train", "valid")]), minlength=3)
              for part in (whole, dataset)]  # fmt: skip
    np.testing.assert_array_equal(counts[0] - counts[1], [0, 1, 0])
    rest = {image.tobytes() for name in ("train", "valid") for image in dataset.splits[name].images[:]}
    assert rest < {image.tobytes() for name in ("train", "valid") for image in whole.splits[name].images}
    lines.clear()
    again = load_dataset(options(damaged, streaming=streaming, unreadable="skip"), lines.append)
    assert again.fingerprint == dataset.fingerprint
    assert sum("skipped 1 of 24 images" in line for line in lines) == (
        not streaming
    )  # once for both splits, from the cache


def test_a_damaged_image_is_refused_otherwise(damaged, tmp_path):
    with pytest.raises(ValueError, match=r"1 of 24 images cannot be read: .*3.png: a damaged image"):
        load_dataset(options(damaged))
    with pytest.raises(
        ValueError, match=r"3.png: a damaged image.*dataset.unreadable=\"skip\""
    ):  # a stream comes to it in training
        cnnjax.train(config(damaged, streaming=True, normalize="none"), tmp_path / "run")
