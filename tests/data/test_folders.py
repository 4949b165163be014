import os

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import folders, sources, tensorflow_standin
from cnnjax.data.datasets import DatasetOptions, load_dataset
from experiments.benchmarks.folder_builder import Builder
from tests.data.files import save_picture


def test_a_folder_of_classes_is_split_by_seed_within_each_class(cache):
    root = cache / "pets"
    for name in ("cat", "dog"):
        for index in range(20):
            save_picture(root / name / f"{index}.png", seed=index)
    dataset = load_dataset(DatasetOptions(name=str(root)))
    assert dataset.label_names == ("cat", "dog")
    sizes = {split: np.bincount(part.labels).tolist() for split, part in dataset.splits.items()}
    assert sizes == {"train": [16, 16], "valid": [2, 2], "test": [2, 2]}
    again, other = (folders.list_folder(root, seed).splits for seed in (0, 1))
    assert folders.list_folder(root, 0).splits == again != other
    assert load_dataset(DatasetOptions(name=str(root), split_seed=1)).fingerprint != dataset.fingerprint


def test_a_folder_of_splits_keeps_them_and_a_changed_file_is_noticed(cache):
    root = cache / "signs"
    for split, count in (("train", 10), ("test", 3)):
        for name in ("stop", "yield"):
            for index in range(count):
                save_picture(root / split / name / f"{index}.jpg", seed=index)
    dataset = load_dataset(DatasetOptions(name=str(root)))
    assert {split: len(part) for split, part in dataset.splits.items()} == {"train": 18, "valid": 2, "test": 6}
    pixels = save_picture(root / "test" / "stop" / "0.jpg", seed=99)
    Image.fromarray(pixels).save(root / "test" / "stop" / "new.png")
    changed = load_dataset(DatasetOptions(name=str(root)))
    assert len(changed.splits["test"]) == 7 and changed.fingerprint != dataset.fingerprint
    assert any(np.array_equal(image, pixels) for image in changed.splits["test"].images)


def test_a_folder_is_read_in_place_in_the_order_of_tfds(cache):
    root = cache / "pets"
    for name in ("cat", "dog café"):
        for index in range(15):
            save_picture(root / name / "more" / f"{index}.png", seed=index)
    listing, read = folders.list_folder(root, 0), sources.folder_source(str(root), 0, print)
    tensorflow_standin.install()
    builder = Builder(listing, data_dir=cache / "tfds", file_format=sources._file_format())
    builder.download_and_prepare()
    for split in ("train", "validation", "test"):
        prepared = list(sources._read_builder(builder, split, ("image", "label")))
        assert list(read.read(split)) == prepared
        record = read.open(split)
        assert [record(position) for position in range(len(prepared))] == [(image, name) for image, _, name in prepared]
    load_dataset(DatasetOptions(name=str(root)))
    assert {path.name for path in (cache / "cache").iterdir()} == {"arrays"}  # no copy of the files


def test_files_that_are_not_images_are_ignored_and_reported(cache):
    root, said = cache / "pets", []
    for name in ("cat", "dog"):
        for index in range(4):
            save_picture(root / name / f"{index}.png", seed=index)
    (root / "cat" / "notes.txt").write_text("hello")
    (root / "cat" / ".DS_Store").write_text("")
    load_dataset(DatasetOptions(name=str(root)), said.append)
    assert any("ignored 2 files other than images" in line and "notes.txt" in line for line in said)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: (root / "cat").mkdir(), r"class folder .*/cat has no images"),
        (lambda root: None, "two or more classes, found 1"),
        (lambda root: save_picture(root / "cat" / "0.png"), "no images for validation and test: at least 3 images"),
    ],
)
def test_folders_that_are_no_data_set_are_refused(cache, make, message):
    root = cache / "pets"
    save_picture(root / "dog" / "0.png")
    make(root)
    with pytest.raises(ValueError, match=message):
        load_dataset(DatasetOptions(name=str(root)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: save_picture(root / "test" / "bird" / "0.png"), "classes bird are not in"),
        (lambda root: save_picture(root / "extra" / "bird" / "0.png"), "extra beside Train is not a split"),
        (lambda root: (save_picture(root / "val/dog/0.png"), save_picture(root / "valid/dog/0.png")), "the same split"),
    ],
)
def test_folders_of_splits_that_contradict_themselves_are_refused(cache, make, message):
    root = cache / "pets"
    for name in ("cat", "dog"):
        save_picture(root / "Train" / name / "0.png")
    make(root)
    with pytest.raises(ValueError, match=message):
        load_dataset(DatasetOptions(name=str(root)))


def test_splits_without_classes_are_not_taken_for_classes(cache):
    root = cache / "pets"
    for name in ("Training", "Testing"):
        for index in range(5):
            save_picture(root / name / f"{index}.png")
    with pytest.raises(ValueError, match="expected a folder for each class in .*/train"):
        load_dataset(DatasetOptions(name=str(root)))


def test_a_class_may_be_called_train(cache):
    root = cache / "vehicles"
    for name in ("train", "bus"):
        for index in range(5):
            save_picture(root / name / f"{index}.png", seed=index)
    assert load_dataset(DatasetOptions(name=str(root))).label_names == ("bus", "train")


def test_file_names_that_are_not_utf_8_are_named(cache):
    root = cache / "pets"
    for name in (b"cat", b"dog"):
        folder = os.fsencode(root) + b"/" + name
        os.makedirs(folder)
        with open(folder + b"/\xff.png", "wb") as file:
            file.write(b"")
    with pytest.raises(ValueError, match=r"xff.png' is not UTF-8: rename it"):
        load_dataset(DatasetOptions(name=str(root)))


def test_a_folder_that_does_not_exist_is_named(cache):
    with pytest.raises(FileNotFoundError, match="/nowhere does not exist"):
        load_dataset(DatasetOptions(name=str(cache / "nowhere")))


def test_the_first_training_file_that_can_be_read_says_what_a_folder_holds(cache):
    root = cache / "icons"
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for index in range(1, 4):
                save_picture(root / split / name / f"{index}.png", seed=index)
    clear = np.random.RandomState(0).randint(0, 255, (8, 8, 4)).astype(np.uint8)
    (root / "train" / "cat" / "0.png").write_text("hello")
    usual = DatasetOptions(name=str(root), unreadable="skip")
    assert load_dataset(usual).image_shape == (8, 8, 3)  # of 1.png, an opaque one
    Image.fromarray(clear).save(root / "train" / "dog" / "9.png")
    with pytest.raises(
        ValueError, match=r"9.png: an alpha channel that is not opaque .*set dataset.color_space to 'rgba'"
    ):
        load_dataset(DatasetOptions(name=str(root), train_split="train"))
    Image.fromarray(clear).save(root / "train" / "cat" / "0.png")
    Image.fromarray(clear[..., 0]).save(root / "train" / "cat" / "1.png")
    for options in (DatasetOptions(name=str(root)), DatasetOptions(name=str(root), color_space="rgba", streaming=True)):
        dataset = load_dataset(options)
        assert dataset.image_shape == (8, 8, 4)
        images = [image for part in dataset.splits.values() for image in part.images[:]]
        assert sum(np.array_equal(image, clear) for image in images) == 2
        grey = np.concatenate([np.repeat(clear[..., :1], 3, -1), np.full((8, 8, 1), 255)], -1)
        assert sum(np.array_equal(image, grey) for image in images) == 1
    assert load_dataset(DatasetOptions(name=str(root), color_space="rgba")).splits["test"].images.shape == (6, 8, 8, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda root: [save_picture(root / f"pets/{name}/0.png") for name in ("cat", "dog")],
            r"found 1 \(pets\): did you mean .*pets\?",
        ),
        (lambda root: save_picture(root / "cat/0.png"), r"found 1 \(cat\): add a folder for another class"),
        (lambda root: save_picture(root / "0.png"), "found 0: its 1 images are not in class folders: sort them into"),
        (
            lambda root: [
                (root / name).mkdir() or (root / name / "IMG_1.HEIC").write_text("") for name in ("cat", "dog")
            ],
            "class folder .*cat has no images: convert its .HEIC files to JPEG",
        ),
    ],
)
def test_a_folder_that_is_nearly_a_data_set_is_refused_with_advice(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        folders.list_folder(tmp_path, 0)


def test_what_a_folder_lacks_is_said(tmp_path):
    for name, count in (("cat", 5), ("dog", 1)):
        for index in range(count):
            save_picture(tmp_path / name / f"{index}.png", seed=index)
    (tmp_path / "cat" / "IMG_1.heic").write_text("")
    assert folders.list_folder(tmp_path, 0).remarks() == [
        "ignored 1 photograph to be converted to JPEG first: cat/IMG_1.heic",
        "no validation images of 1 of 2 classes: dog",
        "no test images of 1 of 2 classes: dog",
    ]


def test_a_folder_of_damaged_images_alone_is_refused(cache):
    for name in ("cat", "dog"):
        for index in range(3):
            (cache / "pets" / name).mkdir(parents=True, exist_ok=True)
            (cache / "pets" / name / f"{index}.jpg").write_text("no image")
    for _ in range(2):  # the second time from the cache
        said = []
        with pytest.raises(ValueError, match="split train .* is empty: none of its images can be read"):
            load_dataset(DatasetOptions(name=str(cache / "pets"), unreadable="skip"), said.append)
        assert any(line.startswith("skipped 2 of 2 images") and line.count("not an image") == 2 for line in said)
