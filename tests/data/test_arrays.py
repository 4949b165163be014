import dataclasses

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies
from hypothesis.extra import numpy as arrays

import cnnjax
from cnnjax.data import batches, datasets, transforms
from cnnjax.data.augment import AugmentOptions, check_images
from cnnjax.data.datasets import DatasetOptions, select
from cnnjax.tasks import Classification, MultiLabel, Regression

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
        ((BYTES[:, 0, 0], CLASSES), {}, r"arrays, train: expected images .*got \(60, 4\): add an axis of channels"),
        ((BYTES[:, None, None], CLASSES), {}, r"with one to three spatial axes, got \(60, 1, 1, 6, 5, 4\)$"),
        ((BYTES[:, :0], CLASSES), {}, r"with one to three spatial axes, got \(60, 0, 5, 4\)$"),
        ((FLOATS.astype(complex), CLASSES), {}, "arrays, train: expected integers or real numbers, got complex128"),
        ((BYTES.astype(str), CLASSES), {}, "expected integers or real numbers, got <U3"),
        ((BYTES.astype(np.uint32) + 2**31, CLASSES), {}, "train: uint32 values of 2147483648 to .* do not fit int32"),
        ((BYTES.astype(float) * 1e38, CLASSES), {}, "values that are not finite in float32"),
        (([*BYTES[:2], BYTES[2, 1:]], CLASSES[:3]), {}, r"images: examples differ in shape, \(6, 5, 4\) at position 0 and \(5, "),
        ((BYTES, [[0, 1]] * 59 + [[0]]), {}, r"train, targets: examples differ in shape, \(2,\) at .* \(1,\) at position 59"),
        ((None, CLASSES), {}, "train, images: expected an array of numbers, got NoneType"),
        ((BYTES, CLASSES[:59]), {}, r"expected a target for each of 60 images.*shape \(59,\)"),
        (BYTES, {}, r"expected a pair \(images, targets\), got ndarray"),
        ((BYTES, np.array(["cat"] * 60)), {}, "expected numbers as targets, got <U3"),
        ((BYTES, CLASSES - 1), {}, "target -1 at position .* is not a class number of 0 to 1: for regression give floats"),
        ((BYTES, CLASSES), {"label_names": ("a", "b")}, "target 2 at position .* is not a class number of 0 to 1"),
        ((BYTES, VALUES[:, 0]), {"label_names": ("a", "b")}, "label_names are for class numbers"),
        ((BYTES, CLASSES * 100_000), {}, "integers up to 200000 are read as class numbers"),
        ((BYTES, CLASSES + 2**40), {}, "do not fit 32 bits"),
        ((np.where(FLOATS[3, 0, 0, 0] == FLOATS, np.nan, FLOATS), CLASSES), {}, "train: image 3 has values that are not fin"),
        ((BYTES, CLASSES), {"test": (BYTES[:, :5], CLASSES)}, r"images of test are uint8 of \(5, 5, 4\), those of train"),
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
            r"config: dataset.balanced needs classes, but the targets are float64 of \('example', 2\)",
        ),
        ({"examples_per_class": 2}, "dataset.examples_per_class needs classes"),
        ({"classes": ("a", "b")}, "dataset.classes needs classes"),
        ({"folds": 60}, "dataset.folds=60: expected at most 54, the number of examples of arrays's train and valid"),
        ({"resize": (8, 8)}, "dataset.resize is for images in files, but data set arrays is given as arrays"),
        ({"normalize": "none"}, "dataset.scale='unit' divides by the largest value .* float32 has no range"),
        ({"normalize": "channel", "local_contrast": 3}, "dataset.scale='unit' divides by the largest value"),
    ],
)
def test_fields_without_meaning_for_the_data_are_refused(options, message):
    data = cnnjax.from_arrays((FLOATS, VALUES))
    with pytest.raises(ValueError, match=message):
        select(data, DatasetOptions(**options))
    with pytest.raises(ValueError, match="dataset.balanced needs classes"):
        batches.training_order(0, 0, True, VALUES)


def test_changes_of_bytes_are_refused_for_floats():
    check_images(AugmentOptions(rotation=10.0, cutout=2, brightness=0.1), (6, 5, 7), FLOATS.dtype)
    with pytest.raises(ValueError, match=r"augment.erasing needs values with a range .* the images are float32"):
        check_images(AugmentOptions(erasing=0.1), (6, 5, 7), FLOATS.dtype)


SPATIAL = [(9,), (4, 5), (3, 4, 2)]
KINDS = {
    "bool": (0, 1), "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65_535), "int16": (-32_768, 32_767),
    "int32": (2**31 - 400, 2**31 - 1), "int64": (-(2**31), 2**31 - 1), "uint64": (0, 600), ">i2": (-600, 600),
    "float16": (-2, 2), "float32": (1e6, 1e6 + 50), "float64": (-1e-6, 1e-6),
}  # fmt: skip
STORED = {"bool": "uint8", "int8": "int16", "int64": "int32", "uint64": "int32", ">i2": "int16", "float64": "float32"}


def of_kind(kind, shape):
    low, high = KINDS[kind]
    draw = generator.uniform if "float" in kind else generator.randint
    values = draw(low, high if "float" in kind else high + 1, shape)
    return values.astype(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spatial", SPATIAL)
def test_every_kind_of_array_keeps_its_values_and_is_normalised_as_numpy_does(kind, spatial):
    images = of_kind(kind, (40, *spatial, 6))
    data = cnnjax.from_arrays((images, CLASSES[:40]), (images[:3], CLASSES[:3]), (images[3:6], CLASSES[3:6]))
    stored, axes = data.splits["train"].images, tuple(range(1, images.ndim - 1))
    assert stored.dtype == STORED.get(kind, kind) and data.image_shape == (*spatial, 6)
    np.testing.assert_allclose(stored, images.astype(np.float64), rtol=1e-7)
    exact = stored.astype(np.float64)
    statistics = data.statistics
    np.testing.assert_allclose(statistics.mean, exact.mean((0, *axes)), rtol=1e-12, atol=1e-20)
    np.testing.assert_allclose(statistics.std, exact.std((0, *axes)), rtol=1e-11)
    np.testing.assert_allclose(statistics.darkest, exact.mean(axes).min(0), rtol=1e-12, atol=1e-20)
    np.testing.assert_allclose(statistics.brightest, exact.mean(axes).max(0), rtol=1e-12, atol=1e-20)

    def normalized(**options):
        given = DatasetOptions(**options), statistics, stored.dtype
        return np.asarray(jax.jit(lambda images: transforms.normalize(images, *given))(stored))

    by_split = (exact - exact.mean((0, *axes))) / exact.std((0, *axes))
    for scale in ("unit", "signed", "none"):
        np.testing.assert_allclose(normalized(scale=scale), by_split, atol=2e-5 if stored.dtype == np.uint8 else 2e-6)
    np.testing.assert_array_equal(normalized(scale="none", normalize="none"), stored.astype(np.float32))
    if stored.dtype == np.uint8:  # with the floor of its deviation
        return
    for name, own in (("image", (*axes, axes[-1] + 1)), ("channel", axes)):
        mean, std = exact.mean(own, keepdims=True), exact.std(own, keepdims=True)
        np.testing.assert_allclose(normalized(normalize=name), (exact - mean) / std, atol=1e-5)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_unsigned_values_are_scaled_by_the_greatest_of_their_type(dtype):
    images, greatest = of_kind(dtype, (3, 4, 5, 2)), np.iinfo(dtype).max
    for scale, expected in (("unit", images / greatest), ("signed", images / greatest * 2 - 1)):
        x = transforms.normalize(jnp.asarray(images), DatasetOptions(scale=scale, normalize="none"), None)
        np.testing.assert_allclose(x, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_values_that_never_change_are_0(dtype):
    images = np.full((5, 7, 2), 0.1 if dtype == "float32" else 600, dtype)
    data = cnnjax.from_arrays((images, CLASSES[:5]), (images, CLASSES[:5]), (images, CLASSES[:5]))
    assert data.statistics.std == (0.0, 0.0)
    for name in ("dataset", "image", "channel"):
        x = transforms.normalize(jnp.asarray(images), DatasetOptions(normalize=name), data.statistics, dtype)
        np.testing.assert_allclose(x, 0, atol=1e-7)
    least = np.array([[[0.0]], [[1e-45]]], np.float32)
    x = transforms.normalize(jnp.asarray(least), DatasetOptions(), transforms.measure(least), least.dtype)
    np.testing.assert_array_equal(x, 0)  # XLA takes such numbers for 0


def numbers(dtype):
    return {} if dtype != "float32" else {"min_value": -(2.0**100), "max_value": 2.0**100}


@hypothesis.given(
    strategies.sampled_from(["uint8", "uint16", "int16", "int32", "float32"]).flatmap(
        lambda dtype: arrays.arrays(
            dtype, arrays.array_shapes(min_dims=3, max_dims=5, max_side=5), elements=numbers(dtype)
        )
    )
)
@hypothesis.settings(max_examples=40)
def test_statistics_are_numpys_whatever_the_array(images):
    axes, exact = tuple(range(images.ndim - 1)), images.astype(np.float64)
    statistics = transforms.measure(images)
    reach = np.abs(exact).max() + 1e-37
    np.testing.assert_allclose(statistics.mean, exact.mean(axes), rtol=1e-9, atol=1e-12 * reach)
    np.testing.assert_allclose(statistics.std, exact.std(axes), rtol=1e-9, atol=1e-7 * reach)


def test_a_large_array_is_read_in_blocks_to_the_same_statistics(monkeypatch):
    whole = [transforms.measure(images) for images in (BYTES, FLOATS)]
    monkeypatch.setattr(transforms, "BLOCK_VALUES", 700)
    blocks = [transforms.measure(images) for images in (BYTES, FLOATS)]
    assert blocks[0] == whole[0]
    for one, other in zip(dataclasses.astuple(blocks[1]), dataclasses.astuple(whole[1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)


def test_a_mapped_file_is_not_copied(tmp_path):
    np.save(tmp_path / "images.npy", FLOATS)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    data = cnnjax.from_arrays((mapped, VALUES), (mapped[:9], VALUES[:9]), (mapped[9:12], VALUES[9:12]))
    assert all(np.shares_memory(split.images, mapped) for split in data.splits.values())


def said(caplog, **splits):
    caplog.clear()
    datasets.warn_once.cache_clear()
    cnnjax.from_arrays(**splits)
    return [record.getMessage() for record in caplog.records]


def test_examples_of_two_splits_and_classes_without_examples_are_counted_and_said(caplog):
    train, valid, test = (BYTES[:40], CLASSES[:40]), (BYTES[40:50], CLASSES[40:50]), (BYTES[50:], CLASSES[50:])
    assert said(caplog, train=train, valid=valid, test=test) == []
    both = (BYTES[37:50], CLASSES[37:50])
    assert said(caplog, train=train, valid=both, test=(BYTES[49:], CLASSES[49:])) == [
        "data set arrays: 3 of the 13 images of valid are in train too: its figures are not measured on unseen images",
        "data set arrays: 1 of the 11 images of test are in valid too: its figures are measured on images by which the checkpoint is chosen",
    ]
    named = {"train": train, "valid": valid, "test": test, "label_names": [*"abcdefghi"]}
    assert said(caplog, **named)[0] == ("data set arrays: 6 of 9 classes have no example in train: d, e, f, g, h, ...")
    assert said(caplog, train=train, valid=(BYTES[40:41], CLASSES[40:41]), test=test) == [
        "data set arrays: 2 of 3 classes have no example in valid: 0, 2"
    ]
    from_one = {
        "train": (BYTES[:40], CLASSES[:40] + 1),
        "valid": (valid[0], valid[1] + 1),
        "test": (test[0], test[1] + 1),
    }
    assert said(caplog, **from_one)[0] == (
        "data set arrays: 1 of 4 classes have no example in train: 0 (are they numbered from 1?)"
    )
    rows = np.eye(3, dtype=int)[CLASSES % 2]
    assert said(caplog, train=(BYTES, rows), valid=(255 - BYTES, rows), label_names=("day", "rain", "car"))[0] == (
        "data set arrays: 1 of 3 classes have no example in train: car"
    )


def test_grey_images_without_their_channels_axis_are_noticed(caplog):
    [line] = said(caplog, train=(BYTES[..., 0], CLASSES))
    assert line == (
        "data set arrays: images (48, 6, 5) of train are read as signals of length 6 with 5 channels: grey images need an "
        "axis of channels, images[..., None]"
    )
    assert said(caplog, train=(BYTES[:, 0], CLASSES)) == said(caplog, train=(FLOATS[..., 0], CLASSES)) == []


def test_a_column_of_whole_numbers_is_classes():
    data = cnnjax.from_arrays((BYTES, CLASSES[:, None]))
    assert data.class_counts == [16, 16, 16]
    assert cnnjax.from_arrays((BYTES, CLASSES[:, None] > 0)).class_counts is None
    with pytest.raises(
        ValueError, match="task classification: expected one class number per example; arrays has bool with"
    ):
        Classification().outputs(cnnjax.from_arrays((BYTES, CLASSES[:, None] > 0)))


def test_local_contrast_is_for_images():
    options = DatasetOptions(local_contrast=3, scale="none", normalize="none")
    for images in (FLOATS[:, 0], FLOATS[:, None]):
        with pytest.raises(
            ValueError, match="dataset.local_contrast is for images with two spatial axes, but these have"
        ):
            select(cnnjax.from_arrays((images, VALUES)), options)
        with pytest.raises(ValueError, match="local_contrast_normalize: expected images"):
            transforms.normalize(jnp.asarray(images), options, None)


def test_a_run_on_a_part_of_given_data_is_evaluated_on_that_part(tmp_path):
    """Given again whole: a fold, few examples or some classes of it are chosen as they were for training."""
    digits = cnnjax.load_dataset(DatasetOptions()).splits
    data = cnnjax.from_arrays(**{name: (part.images[:300], part.labels[:300]) for name, part in digits.items()})
    config = {
        "dataset": {"folds": 4, "fold": 1, "classes": ("0", "1", "2")},
        "devices": 1,
        "log": {"progress": "off", "tensorboard": False},
        "model": {"name": "mlp", "features": (8,)},
        "train": {"batch_size": 32, "epochs": 1},
    }
    run = cnnjax.train(config, tmp_path / "run", dataset=data)
    for split in ("valid", "test"):
        found = cnnjax.evaluate([run], split, dataset=data)
        assert found["loss"] == pytest.approx(run.metrics[f"{split}/loss"], rel=1e-5)
    assert sum(run.described["examples"].values()) < 300
    with pytest.raises(ValueError, match=r"pass them again, dataset=\.\.\. \(arrays\), or name them, as in ./file"):
        cnnjax.train(run.config, tmp_path / "run")
    with pytest.raises(ValueError, match="data set arrays was given from Python and has no name: give it again"):
        cnnjax.load_dataset(run.config.dataset)
    other = cnnjax.from_arrays((data.splits["test"].images, data.splits["test"].labels))
    with pytest.raises(ValueError, match="data set arrays has changed since the run began"):
        cnnjax.evaluate([run], dataset=other)


def test_targets_of_every_split_must_fit_the_task():
    rows = np.eye(3, dtype=int)[CLASSES]
    regression = cnnjax.from_arrays((BYTES, VALUES), valid=(255 - BYTES, np.where(VALUES > 1, np.nan, VALUES)))
    with pytest.raises(ValueError, match="task regression: expected one or several finite numbers .* some not finite"):
        Regression().outputs(regression)
    several = cnnjax.from_arrays((BYTES, rows), test=(255 - BYTES, 2 * rows))
    with pytest.raises(ValueError, match="task multilabel: expected labels of 0 and 1"):
        MultiLabel().outputs(several)
    for targets in (VALUES, rows, VALUES[:, 0]):
        with pytest.raises(ValueError, match="task classification: expected one class number per example"):
            Classification().outputs(cnnjax.from_arrays((BYTES, targets)))
