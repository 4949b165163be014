import os

import numpy as np
import pytest

import cnnjax
from cnnjax.data import arrays, mapped_rows, named_arrays
from cnnjax.data.datasets import load_dataset

generator = np.random.RandomState(0)
IMAGES = generator.randint(0, 600, (60, 9, 7, 2)).astype(np.uint16)
CLASSES = np.arange(60) % 3
KERAS = {
    "x_train": IMAGES[:40], "y_train": CLASSES[:40, None], "x_test": IMAGES[40:], "y_test": CLASSES[40:, None],
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("spelled", ["x_train y_train x_test y_test", "train_images train_labels test_images test_labels",
                                     "X_TRAIN train_targets x_test labels_test"])  # fmt: skip
def test_an_npz_with_splits_is_what_from_arrays_makes_of_them(tmp_path, spelled):
    np.savez(tmp_path / "scans.npz", ids=np.arange(3), **dict(zip(spelled.split(), KERAS.values(), strict=True)))
    data = load_dataset({"name": str(tmp_path / "scans.npz"), "split_seed": 4})
    same = cnnjax.from_arrays((IMAGES[:40], CLASSES[:40]), test=(IMAGES[40:], CLASSES[40:]), seed=4)
    assert data.fingerprint == same.fingerprint and data.statistics == same.statistics
    assert data.label_names == ("0", "1", "2") and data.image_dtype == np.uint16
    for split in same.splits:
        np.testing.assert_array_equal(data.splits[split].images, same.splits[split].images)
        np.testing.assert_array_equal(data.splits[split].labels, same.splits[split].labels)


def test_all_examples_and_their_classes_names(tmp_path):
    np.savez_compressed(tmp_path / "all.npz", images=IMAGES, labels=CLASSES, label_names=np.array(["a", "b", "c"]))
    data = load_dataset({"name": str(tmp_path / "all.npz"), "classes": ("c", "a"), "examples_per_class": 5})
    assert data.label_names == ("c", "a") and data.class_counts == [5, 5]


def test_npy_files_beside_each_other_are_mapped(tmp_path):
    for name, array in KERAS.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "notes.npy", np.zeros(3))
    np.save(tmp_path / "x_valid.npy", IMAGES[:5] + 1)
    np.save(tmp_path / "y_valid.npy", CLASSES[:5])
    data = load_dataset(tmp_path / "x_test.npy")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 40, "valid": 5, "test": 20}
    assert isinstance(data.splits["train"].images.base, np.memmap)
    np.testing.assert_array_equal(data.splits["test"].images, IMAGES[40:])


def test_large_arrays_of_an_npz_are_mapped_and_the_others_read(tmp_path, monkeypatch):
    fortran = np.asfortranarray(IMAGES[40:])
    np.savez(tmp_path / "scans.npz", x_train=IMAGES[:40], y_train=CLASSES[:40], x_test=fortran, y_test=CLASSES[40:])
    np.savez_compressed(tmp_path / "small.npz", **KERAS)
    whole = load_dataset(tmp_path / "scans.npz")
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "other"))
    monkeypatch.setattr(named_arrays, "LEAST_MAPPED", 1000)
    for _ in range(2):
        mapped = load_dataset(tmp_path / "scans.npz")
        assert mapped.fingerprint == whole.fingerprint and mapped.statistics == whole.statistics
        for split, part in whole.splits.items():
            assert mapped_rows.is_mapped(mapped.splits[split].images) == (split == "test")  # train is a part, copied
            np.testing.assert_array_equal(mapped.splits[split].images, part.images)
            np.testing.assert_array_equal(mapped.splits[split].labels, part.labels)
    assert not mapped_rows.is_mapped(load_dataset(tmp_path / "small.npz").splits["test"].images)


def test_grey_images_as_keras_writes_them_get_their_channel(tmp_path):
    grey, said = generator.randint(0, 256, (20, 8, 8)).astype(np.uint8), []
    np.savez(tmp_path / "mnist.npz", x_train=grey, y_train=CLASSES[:20])
    data = load_dataset(tmp_path / "mnist.npz", said.append)
    assert data.image_shape == (8, 8, 1)
    assert said[0].endswith("mnist.npz, x_train: uint8 of 8x8 are read as images with one channel")


def test_the_content_is_read_once_and_a_change_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "scans.npz"
    np.savez(path, images=IMAGES, labels=CLASSES)
    first, said = load_dataset(path), []
    with monkeypatch.context() as patch:
        patch.setattr(arrays, "content_facts", lambda *given: pytest.fail("read again"))
        again = load_dataset(path, said.append)
    assert again.fingerprint == first.fingerprint and again.statistics == first.statistics and not said
    np.savez(path, images=IMAGES + 1, labels=CLASSES)
    os.utime(path, (1, 1))
    changed = load_dataset(path)
    assert changed.fingerprint != first.fingerprint
    [record, _] = (tmp_path / "cache" / "array-files").iterdir()
    record.write_text("{}")
    assert load_dataset(path).fingerprint == changed.fingerprint


def test_what_is_remarkable_is_said_each_time(tmp_path, caplog):
    from cnnjax.data import datasets

    np.savez(tmp_path / "scans.npz", x_train=IMAGES, y_train=CLASSES, x_test=IMAGES[:3], y_test=CLASSES[:3])
    for _ in range(2):
        datasets.warn_once.cache_clear()
        caplog.clear()
        load_dataset(tmp_path / "scans.npz")
        assert "scans.npz: 3 of the 3 images of test are in" in caplog.text.replace("2 of the 3", "3 of the 3")


def test_a_file_is_found_beside_the_config_and_then_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    np.savez(tmp_path / "configs" / "scans.npz", images=IMAGES, labels=CLASSES)
    (tmp_path / "configs" / "mine.py").write_text("def get_config():\n    return {'dataset': {'name': 'scans.npz'}}\n")
    monkeypatch.chdir(tmp_path)
    config = cnnjax.load_config("configs/mine.py")
    assert config.dataset.name == str(tmp_path / "configs" / "scans.npz")
    there = load_dataset(config.dataset)
    (tmp_path / "configs" / "scans.npz").rename(tmp_path / "scans.npz")
    config = cnnjax.load_config("configs/mine.py")
    assert config.dataset.name == "scans.npz" and load_dataset(config.dataset).fingerprint == there.fingerprint
    with pytest.raises(FileNotFoundError, match=r"config: dataset.name='none.npz': file .*none.npz does not exist"):
        load_dataset("none.npz")


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"image": IMAGES, "label": CLASSES}, "unknown array 'image': did you mean 'images'.*; name them images and"),
        ({"spam": IMAGES, "eggs": CLASSES}, "it has arrays spam, eggs; name them images and labels, or"),
        ({}, "it has no arrays"),
        ({"x_train": IMAGES}, "x_train has no matching targets: name them"),
        ({"labels": CLASSES}, "labels has no matching images"),
        ({"x_test": IMAGES, "y_test": CLASSES}, "it has x_test, y_test, but no training examples"),
        ({**KERAS, "images": IMAGES}, "expected either splits or all examples, not both"),
        ({**KERAS, "train_x": IMAGES}, "x_train and train_x are both images of train: keep one"),
        (
            {"images": np.array(["a", None], object), "labels": [0, 1]},
            "its array 'images' holds objects instead of numbers",
        ),
        ({"images": IMAGES.astype(float) * np.nan, "labels": CLASSES}, "train: image 0 has values that are not finite"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused_in_a_line(tmp_path, stored, message):
    np.savez(tmp_path / "scans.npz", **stored)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path / "scans.npz")


@pytest.mark.parametrize("least", [1000, named_arrays.LEAST_MAPPED])
def test_damaged_files_are_refused_in_a_line(tmp_path, monkeypatch, least):
    monkeypatch.setattr(named_arrays, "LEAST_MAPPED", least)
    np.savez(tmp_path / "scans.npz", images=IMAGES, labels=CLASSES)
    whole = (tmp_path / "scans.npz").read_bytes()
    for content in (b"", b"noise", whole[:500], whole[:9000] + b"spam" + whole[9004:]):
        (tmp_path / "scans.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"data set .*scans.npz: .*damaged"):
            load_dataset(tmp_path / "scans.npz")
    np.save(tmp_path / "scans.npy", IMAGES)
    with pytest.raises(
        ValueError, match=r"a .npy file is one array of a data set, whose other arrays are in the same folder"
    ):
        load_dataset(tmp_path / "scans.npy")
    (tmp_path / "images.npy").write_bytes(b"noise")
    with pytest.raises(ValueError, match=r"images.npy is damaged, or not a .npy file of numbers"):
        load_dataset(tmp_path / "images.npy")


def test_fields_of_files_have_no_meaning(tmp_path):
    np.savez(tmp_path / "scans.npz", images=IMAGES, labels=CLASSES)
    with pytest.raises(
        ValueError, match="dataset.resize is for images in files, but data set .*scans.npz is given as arrays"
    ):
        load_dataset({"name": str(tmp_path / "scans.npz"), "resize": (4, 4)})
    assert named_arrays.ACCEPTED["val_images"] == ("valid", "images")
