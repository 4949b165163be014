import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax
from cnnjax.data import batches, transforms
from cnnjax.data.augment import AugmentOptions, check_channels
from cnnjax.data.datasets import DatasetOptions, select

generator = np.random.RandomState(0)
BYTES = generator.randint(0, 256, (60, 6, 5, 4)).astype(np.uint8)
FLOATS = (generator.standard_normal((60, 6, 5, 7)) * [1, 10, 100, 1, 1, 1, 1] + 1000).astype(np.float32)
CLASSES = np.arange(60) % 3
VALUES = generator.standard_normal((60, 2))


def test_given_splits_are_kept_as_they_are():
    data = cnnjax.from_arrays((BYTES[:40], CLASSES[:40]), (BYTES[40:50], CLASSES[40:50]), (BYTES[50:], CLASSES[50:]))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 40, "valid": 10, "test": 10}
    np.testing.assert_array_equal(data.splits["test"].images, BYTES[50:])
    np.testing.assert_array_equal(data.splits["valid"].labels, CLASSES[40:50])
    assert data.image_shape == (6, 5, 4) and data.image_dtype == np.uint8
    assert data.label_names == ("0", "1", "2") and data.class_counts == np.bincount(CLASSES[:40]).tolist()


def test_missing_splits_are_drawn_from_train_by_seed_each_class_alike():
    images = np.arange(60, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 1), np.float32)
    data = cnnjax.from_arrays((images, CLASSES))
    parts = {name: split.images[:, 0, 0, 0].astype(int) for name, split in data.splits.items()}
    np.testing.assert_array_equal(np.sort(np.concatenate([*parts.values()])), np.arange(60))
    assert {name: np.bincount(split.labels).tolist() for name, split in data.splits.items()} == {
        "train": [16, 16, 16], "valid": [2, 2, 2], "test": [2, 2, 2],
    }  # fmt: skip
    for name, split in data.splits.items():
        np.testing.assert_array_equal(split.labels, CLASSES[parts[name]])
    again, other = cnnjax.from_arrays((images, CLASSES)), cnnjax.from_arrays((images, CLASSES), seed=1)
    assert again.fingerprint == data.fingerprint != other.fingerprint
    regression = cnnjax.from_arrays((images, VALUES), test=(images[:3], VALUES[:3]))
    assert {name: len(split) for name, split in regression.splits.items()} == {"train": 54, "valid": 6, "test": 3}
    with pytest.raises(ValueError, match="arrays: 4 examples are too few to draw valid and test from"):
        cnnjax.from_arrays((images[:4], CLASSES[:4]))


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (VALUES[:, 0], ()),
        (VALUES, ()),
        (generator.randint(0, 2, (60, 3)), ()),
        (generator.randint(0, 2, (60, 3)).astype(bool), ("day", "rain", "car")),
        (generator.randint(0, 4, (60, 6, 5)), ()),
    ],
)
def test_targets_that_are_no_classes_are_carried_as_they_are(targets, names):
    data = cnnjax.from_arrays((BYTES, targets), valid=(BYTES, targets), label_names=names or None)
    np.testing.assert_array_equal(data.splits["valid"].labels, targets)
    assert data.splits["valid"].labels.dtype == targets.dtype
    assert data.class_counts is None and data.label_names == names
    split, index = data.splits["valid"], np.array([7, 0, 7])
    fetched = batches.fetch(split, {"index": index})
    arrays = {name: jnp.asarray(array) for name, array in batches.resident_arrays(split).items()}
    for batch in (fetched, batches.gather(arrays, {"index": jnp.asarray(index)})):
        np.testing.assert_allclose(batch["label"], targets[index], rtol=1e-6)
        np.testing.assert_array_equal(batch["image"], BYTES[index])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_float_images_keep_their_values_and_have_exact_statistics(dtype):
    images = FLOATS.astype(dtype)
    data = cnnjax.from_arrays((images, VALUES), (images, VALUES), (images, VALUES))
    stored = data.splits["train"].images
    assert stored.dtype == (np.float16 if dtype == np.float16 else np.float32)
    np.testing.assert_array_equal(stored, images.astype(stored.dtype))
    np.testing.assert_allclose(data.statistics.mean, stored.mean((0, 1, 2), dtype=np.float64))
    np.testing.assert_allclose(data.statistics.std, stored.std((0, 1, 2), dtype=np.float64))
    own = stored.mean((1, 2), dtype=np.float64)
    np.testing.assert_allclose(data.statistics.darkest, own.min(0))
    np.testing.assert_allclose(data.statistics.brightest, own.max(0))
    for scale in ("none", "unit", "signed"):
        x = transforms.normalize(jnp.asarray(stored), DatasetOptions(scale=scale), data.statistics)
        np.testing.assert_allclose(np.asarray(x).mean((0, 1, 2)), 0, atol=0.05 if dtype == np.float16 else 5e-3)
        np.testing.assert_allclose(np.asarray(x).std((0, 1, 2)), 1, atol=5e-3)
    np.testing.assert_array_equal(
        transforms.normalize(jnp.asarray(stored), DatasetOptions(scale="none", normalize="none"), None), stored
    )


def test_the_statistics_of_bytes_are_the_same_as_of_floats():
    by_bytes, by_floats = transforms.measure(BYTES), transforms.measure(BYTES.astype(np.float32))
    for one, other in zip(by_bytes.__dict__.values(), by_floats.__dict__.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_the_fingerprint_is_of_the_content():
    def fingerprint(images=BYTES, targets=CLASSES, **options):
        return cnnjax.from_arrays((images, targets), **options).fingerprint

    changed = BYTES.copy()
    changed[59, 5, 4, 3] ^= 1
    others = [
        fingerprint(changed),
        fingerprint(targets=np.roll(CLASSES, 1)),
        fingerprint(BYTES.astype(np.float32)),
        fingerprint(label_names=("a", "b", "c")),
        fingerprint(np.ascontiguousarray(BYTES.transpose(0, 2, 1, 3))),
    ]
    assert len({fingerprint(), *others}) == 6
    assert fingerprint(np.asfortranarray(BYTES), list(CLASSES)) == fingerprint()


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        ((BYTES[..., 0], CLASSES), {}, r"arrays, train: expected images .*got \(60, 6, 5\): add the channels' axis"),
        ((BYTES.astype(np.uint16), CLASSES), {}, "expected images of uint8 or floats, got uint16"),
        ((BYTES, CLASSES[:59]), {}, r"expected a target for each of 60 images.*shape \(59,\)"),
        (BYTES, {}, r"expected a pair \(images, targets\), got ndarray"),
        ((BYTES, np.array(["cat"] * 60)), {}, "expected targets of numbers, got <U3"),
        ((BYTES, CLASSES - 1), {}, "target -1 at position .* is no class number of 0 to 1: for regression give floats"),
        ((BYTES, CLASSES), {"label_names": ("a", "b")}, "target 2 at position .* is no class number of 0 to 1"),
        ((BYTES, VALUES[:, 0]), {"label_names": ("a", "b")}, "label_names are for class numbers"),
        ((BYTES, CLASSES * 100_000), {}, "whole numbers up to 200000 are taken for class numbers"),
        ((BYTES, CLASSES + 2**40), {}, "do not fit 32 bits"),
        ((np.where(FLOATS[3, 0, 0, 0] == FLOATS, np.nan, FLOATS), CLASSES), {}, "image 3 has values that are not fin"),
        ((BYTES, CLASSES), {"test": (BYTES[:, :5], CLASSES)}, r"images of test are uint8 of \(5, 5, 4\), of train"),
        ((BYTES, CLASSES), {"valid": (BYTES, VALUES)}, "targets of valid are float64"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_a_line(train, options, message):
    with pytest.raises(ValueError, match=message):
        cnnjax.from_arrays(train, **options)


def test_the_configs_classes_folds_and_few_examples_hold_for_arrays():
    data = cnnjax.from_arrays((BYTES, CLASSES), label_names=("a", "b", "c"))
    assert select(data, DatasetOptions()) is data
    few = select(data, DatasetOptions(classes=("c", "a"), examples_per_class=5))
    assert few.label_names == ("c", "a") and few.class_counts == [5, 5] and few.fingerprint != data.fingerprint
    assert few.statistics == transforms.measure(few.splits["train"].images)
    values = cnnjax.from_arrays((BYTES, VALUES))
    folds = [select(values, DatasetOptions(folds=3, fold=fold)) for fold in range(3)]
    assert [len(fold.splits["valid"]) for fold in folds] == [18, 18, 18]
    whole = np.concatenate([fold.splits["valid"].labels for fold in folds])
    both = np.concatenate([values.splits[split].labels for split in ("train", "valid")])
    np.testing.assert_array_equal(np.sort(whole, axis=0), np.sort(both, axis=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"balanced": True},
            r"config: dataset.balanced goes by class, and the targets are float64 of \('example', 2\)",
        ),
        ({"examples_per_class": 2}, "dataset.examples_per_class goes by class"),
        ({"classes": ("a", "b")}, "dataset.classes goes by class"),
        ({"folds": 60}, "dataset.folds=60: expected at most 54, the examples of arrays's train and valid"),
        ({"resize": (8, 8)}, "dataset.resize is for images in files, and data set arrays is given as arrays"),
        ({"normalize": "none"}, "dataset.scale='unit' divides by 255, and the images are float32"),
    ],
)
def test_fields_without_meaning_for_the_data_are_refused(options, message):
    data = cnnjax.from_arrays((FLOATS, VALUES))
    with pytest.raises(ValueError, match=message):
        select(data, DatasetOptions(**options))
    with pytest.raises(ValueError, match="dataset.balanced goes by class"):
        batches.training_order(0, 0, True, VALUES)


def test_changes_of_bytes_are_refused_for_floats():
    check_channels(AugmentOptions(rotation=10.0, cutout=2), 7, FLOATS.dtype)
    with pytest.raises(ValueError, match=r"augment.brightness changes values of 0 to 255, and the images are float32"):
        check_channels(AugmentOptions(brightness=0.1), 7, FLOATS.dtype)
