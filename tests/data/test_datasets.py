import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tensorflow_datasets.image_classification import mnist

from cnnjax.config import load_config
from cnnjax.data import datasets, digests, downloads, folders
from cnnjax.data.builders import digits, drawn_signs, spirals
from cnnjax.data.datasets import DatasetOptions, load_dataset, slice_bounds
from tests.data import archives


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache and data directory."""
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tensorflow_datasets"))
    return tmp_path


@pytest.fixture(scope="module")
def _digits_once(tmp_path_factory):
    """A cache with the digits as arrays and as an index for streaming."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNNJAX_CACHE_DIR", str(folder))
        for streaming in (False, True):
            load_dataset(DatasetOptions(streaming=streaming))
    return folder


@pytest.fixture
def cached_digits(cache, _digits_once):
    """That cache in place of the empty one."""
    shutil.copytree(_digits_once, cache / "cache")


def save_picture(path, height=8, width=8, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


# --- digits


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
    counts, known = drawn_signs.training_counts(), datasets.KNOWN["drawn_signs"]
    assert (sum(counts.values()), 9 * drawn_signs.TESTED, len(counts)) == (known.train, known.test, known.classes)
    assert max(counts.values()) == counts["speed 30"] == 60 and min(counts.values()) == counts["ahead only"] == 12
    test = load_dataset(DatasetOptions(name="drawn_signs"), splits=("test",)).splits["test"]
    assert test.images.shape == (540, 32, 32, 3) and np.bincount(test.labels).tolist() == [60] * 9
    red, green, blue = (
        test.images[test.labels == list(counts).index(name)].mean((0, 1, 2))
        for name in ("no entry", "priority", "ahead only")
    )
    assert red[0] > red[1] + 10 and green[:2].min() > green[2] + 5 and blue[2] > blue[0] + 10


def test_chosen_classes_are_the_others_left_out_and_numbered_anew(cache):
    whole = load_dataset(DatasetOptions())
    few = load_dataset(DatasetOptions(classes=("7", "2", "4"), examples_per_class=20))
    assert few.label_names == ("7", "2", "4") and few.class_counts == [20, 20, 20]
    assert few.fingerprint != load_dataset(DatasetOptions(classes=("2", "7", "4"), examples_per_class=20)).fingerprint
    for split in ("valid", "test"):
        chosen = np.isin(whole.splits[split].labels, [7, 2, 4])
        np.testing.assert_array_equal(few.splits[split].images, whole.splits[split].images[chosen])
        names = [few.label_names[label] for label in few.splits[split].labels]
        assert names == [str(label) for label in whole.splits[split].labels[chosen]]
    mean = load_dataset(DatasetOptions(classes=("0", "1"))).splits["train"].images.mean()
    assert load_dataset(DatasetOptions(classes=("0", "1"))).statistics.mean[0] == pytest.approx(mean)
    with pytest.raises(ValueError, match=r"unknown class 'eight'.*'8'|unknown class 'eight'"):
        load_dataset(DatasetOptions(classes=("eight", "1")))


def test_the_second_load_reads_arrays_without_tfds_and_agrees(cache):
    first = load_dataset(DatasetOptions())
    code = """
import json, sys
from cnnjax.data.datasets import DatasetOptions, load_dataset
d = load_dataset(DatasetOptions())
print(json.dumps([d.fingerprint, d.statistics.mean, int(d.splits["train"].images.sum()), "tensorflow_datasets" in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    total = int(first.splits["train"].images.sum())
    assert json.loads(done.stdout) == [first.fingerprint, list(first.statistics.mean), total, False]


def test_statistics_are_those_of_the_training_split_alone(cache):
    dataset = load_dataset(DatasetOptions())
    images = np.asarray(dataset.splits["train"].images)
    np.testing.assert_allclose(dataset.statistics.mean, [images.mean()])
    np.testing.assert_allclose(dataset.statistics.std, [images.std()])
    other = load_dataset(DatasetOptions(train_split="train[:50%]"))
    assert other.statistics != dataset.statistics and other.fingerprint != dataset.fingerprint


def flip(path, position):
    """One bit, the file's times of change and access left as they were."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap(one, other):
    one.rename(one.parent / "third")
    other.rename(one)
    (one.parent / "third").rename(other)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


DAMAGES = {
    "labels written": lambda arrays: np.save(arrays / "test" / "labels.npy", np.zeros(355, np.int32)),
    "images shortened": lambda arrays: (arrays / "train" / "images.npy").write_bytes(b"\x93NUMPY"),
    "images gone": lambda arrays: (arrays / "train" / "images.npy").unlink(),
    "a bit of the images": lambda arrays: flip(arrays / "train" / "images.npy", 700_000),
    "the images' last bit": lambda arrays: flip(arrays / "test" / "images.npy", -1),
    "a bit of the labels": lambda arrays: flip(arrays / "test" / "labels.npy", 500),
    "files swapped": lambda arrays: swap(arrays / "train" / "labels.npy", arrays / "test" / "labels.npy"),
    "splits swapped": lambda arrays: swap(arrays / "train", arrays / "test"),
    "about damaged": lambda arrays: (arrays / "test" / "about.json").write_text("{"),
    "about edited": lambda arrays: edit(arrays / "test" / "about.json", lambda about: about.update(sha256="0" * 64)),
    "source damaged": lambda arrays: (arrays.parent / "source.json").write_text(""),
    "source's count": lambda arrays: edit(
        arrays.parent / "source.json", lambda facts: facts["counts"].update(train=900)
    ),
    "statistics damaged": lambda arrays: next(arrays.glob("statistics-*.json")).write_text("[]"),
    "statistics edited": lambda arrays: edit(
        next(arrays.glob("statistics-*.json")), lambda found: found.update(mean=[1])
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_again(cache, cached_digits, damage):
    whole = load_dataset(DatasetOptions())
    expected = (whole.fingerprint, whole.statistics, whole.splits["test"].labels.tolist())
    pixels, train = whole.splits["train"].images.tobytes(), whole.splits["train"].labels.tolist()
    [arrays] = [path.parent for path in (cache / "cache" / "arrays" / "digits").glob("*/*/test")]
    DAMAGES[damage](arrays)
    (arrays / ".train.left").mkdir()  # of a process that was killed as it cached
    said = []
    again = load_dataset(DatasetOptions(), said.append)
    assert (again.fingerprint, again.statistics, again.splits["test"].labels.tolist()) == expected
    assert (again.splits["train"].images.tobytes(), again.splits["train"].labels.tolist()) == (pixels, train)
    if not damage.startswith(("source", "statistics")):  # found out or measured again, in a moment
        assert (arrays / ".train.left").exists() == all("(test)" in line for line in said)
        assert said and all(
            re.search(r"caching .* of digits .* anew, since what was cached is damaged \(", line) for line in said
        )
    assert load_dataset(DatasetOptions(), pytest.fail).fingerprint == whole.fingerprint


def test_a_cache_without_its_source_is_refused_once_it_is_damaged(cache, cached_digits, monkeypatch):
    load_dataset(DatasetOptions())
    [arrays] = [path.parent for path in (cache / "cache" / "arrays" / "digits").glob("*/*/test")]
    flip(arrays / "train" / "images.npy", 700_000)

    def unreachable(*_, **__):
        raise ConnectionError("data set digits must be downloaded")

    monkeypatch.setattr(downloads, "prepare", unreachable)
    shutil.rmtree(cache / "cache" / "embedded")
    with pytest.raises(ConnectionError, match="must be downloaded"):
        load_dataset(DatasetOptions())


PREPARED = {
    "records shortened": lambda folder, records: records.write_bytes(records.read_bytes()[:300_000]),
    "a bit of the records": lambda folder, records: flip(records, 70_000),
    "info damaged": lambda folder, records: (folder / "dataset_info.json").write_text("{"),
    "info empty of facts": lambda folder, records: (folder / "dataset_info.json").write_text("{}"),
    "info not text": lambda folder, records: (folder / "dataset_info.json").write_bytes(b"\xff\xfe"),
    "info gone": lambda folder, records: (folder / "dataset_info.json").unlink(),
}


@pytest.mark.parametrize("damage", PREPARED)
def test_damaged_prepared_data_are_prepared_anew_where_they_are_ours(cache, cached_digits, damage):
    options = DatasetOptions(streaming=damage == "records shortened")
    expected = load_dataset(options).fingerprint
    [folder] = (cache / "cache" / "embedded").glob("digits/*")
    [records] = folder.glob("*train*")
    PREPARED[damage](folder, records)
    shutil.rmtree(cache / "cache" / "arrays")
    said = []
    dataset = load_dataset(options, said.append)
    assert dataset.fingerprint == expected and len(dataset.splits["train"].images[:]) == 1298
    assert any(re.search(r"embedded/digits.* is damaged \(.*\): preparing it anew", line) for line in said)


@pytest.mark.parametrize("damage", ["a bit of the records", "info not text"])
def test_damaged_prepared_data_of_the_users_are_named_with_what_to_do(cache, monkeypatch, damage):
    manual = cache / "manual"
    manual.mkdir()
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 200)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 50)
    archives.mnist(manual, np.random.RandomState(0), {"train": 200, "test": 50})
    archives.register(monkeypatch, "mnist", manual)
    options = DatasetOptions(name="mnist", manual_dir=str(manual))
    load_dataset(options)
    [folder] = (cache / "tensorflow_datasets" / "mnist").glob("*")
    [records] = folder.glob("*train*")
    PREPARED[damage](folder, records)
    shutil.rmtree(cache / "cache" / "arrays")
    with pytest.raises(
        ValueError, match=r"tensorflow_datasets/mnist.* is damaged \(.*\): delete it, and it is prepared anew"
    ):
        load_dataset(options)
    assert folder.exists()


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text"])
def test_a_damaged_streaming_index_is_made_again(cache, cached_digits, damage):
    options = DatasetOptions(streaming=True, normalize="none")
    expected = load_dataset(options)
    [path] = (cache / "cache" / "arrays" / "digits").glob("*/*/index-train-*.npz")
    content = path.read_bytes()
    {
        "cut": lambda: path.write_bytes(content[: len(content) // 2]),
        "bit": lambda: flip(path, len(content) // 3),
        "empty": lambda: path.write_bytes(b""),
        "text": lambda: path.write_text("hello"),
    }[damage]()
    said = []
    again = load_dataset(options, said.append)
    assert again.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(again.splits["train"].labels, expected.splits["train"].labels)
    assert said == ["indexing 1442 images of digits (train) anew, since the index is damaged"]


# --- splits

COUNTS = {"train": 1000, "test": 77}
POSITION = st.one_of(st.none(), st.integers(-1100, 1100).map(str), st.integers(-100, 100).map(lambda n: f"{n}%"))


@given(st.sampled_from(sorted(COUNTS)), POSITION, POSITION)
def test_slices_mean_what_tfds_says(name, start, stop):
    spec = f"{name}[{start or ''}:{stop or ''}]"
    if start and stop and start.endswith("%") != stop.endswith("%"):
        with pytest.raises(ValueError, match="both percentages"):
            slice_bounds(spec, COUNTS)
        return
    infos = {
        split: tfds.core.SplitInfo(name=split, shard_lengths=[count], num_bytes=0, filename_template=None)
        for split, count in COUNTS.items()
    }
    try:
        [expected] = tfds.core.ReadInstruction.from_spec(spec).to_absolute(infos)
    except (AssertionError, ValueError):  # TFDS refuses positions outside the split; we take what is there
        return
    first = expected.from_ or 0
    last = COUNTS[name] if expected.to is None else expected.to
    [(_, from_, to)] = slice_bounds(spec, COUNTS)
    assert (to - from_, from_ if to > from_ else None) == (max(last - first, 0), first if last > first else None)


def test_slices_add_up():
    assert slice_bounds("train[:90%] + test", COUNTS) == [("train", 0, 900), ("test", 0, 77)]
    dataset = load_dataset(DatasetOptions(train_split="train[:10]+test[:5]"))
    assert len(dataset.splits["train"]) == 15


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ({}, []),
        (
            {"valid_split": "train[80%:]"},
            ["144 of the 288 images of valid (train[80%:]) are in train (train[:90%]) too: its figures are not"],
        ),
        (
            {"train_split": "train", "test_split": "train"},
            [
                "144 of the 144 images of valid (train[90%:]) are in train (train) too",
                "1442 of the 1442 images of test (train) are in train (train) too",
                "144 of the 1442 images of test (train) are in valid (train[90%:]) too: its figures are of images that",
            ],
        ),
        (
            {"train_split": "train[:100]+test[50:60]+test[55:70]", "test_split": "test[:58]+train[95:200]"},
            ["13 of the 163 images of test"],
        ),
        ({"valid_split": "test[10:20]"}, ["10 of the 355 images of test (test) are in valid (test[10:20]) too"]),
    ],
)
def test_splits_that_share_images_are_said_once_with_how_many(caplog, given, lines):
    datasets._warn_once.cache_clear()
    for _ in range(2):
        load_dataset(DatasetOptions(**given))
    said = [record.getMessage() for record in caplog.records if record.name == "cnnjax.data.datasets"]
    assert len(said) == len(lines)
    for line, expected in zip(said, lines, strict=True):
        assert line.startswith(f"data set digits: {expected}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("train[:90", "expected a TFDS slice"),
        ("", "expected a TFDS slice"),
        ("trian", "unknown split 'trian': did you mean 'train'"),
    ],
)
def test_bad_slices_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        slice_bounds(spec, COUNTS)


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match=r"split valid \(train\[5:5\]\) is empty: set dataset.valid_split"):
        load_dataset(DatasetOptions(valid_split="train[5:5]"))


def test_labels_out_of_range_are_found(cache):
    load_dataset(DatasetOptions())
    [path] = (cache / "cache" / "arrays" / "digits").glob("*/*/test/labels.npy")
    labels = np.load(path)
    labels[3] = -1
    np.save(path, labels)
    about = digests.read_sealed(path.parent / "about.json")
    about["files"]["labels.npy"] = digests.file_digests(path)
    digests.write_sealed(path.parent / "about.json", about)
    with pytest.raises(
        ValueError, match=r"split test.*1 of 355 labels are outside 0\.\.9, the first is -1 at position 3"
    ):
        load_dataset(DatasetOptions())


# --- published sets, through TFDS's own builders


def test_cifar10_from_its_archive(cache, monkeypatch):
    manual = cache / "manual"
    manual.mkdir()
    truth = archives.cifar10(manual, np.random.RandomState(0))
    archives.register(monkeypatch, "cifar10", manual)
    dataset = load_dataset(
        DatasetOptions(name="cifar10", manual_dir=str(manual), train_split="train", valid_split="train[10:]")
    )
    assert dataset.label_names[0] == "airplane" and dataset.image_shape == (32, 32, 3)
    for split in ("train", "test"):
        expected = {(image.tobytes(), int(label)) for image, label in zip(*truth[split], strict=True)}
        part = dataset.splits[split]
        assert {
            (image.tobytes(), int(label)) for image, label in zip(part.images, part.labels, strict=True)
        } == expected


def test_sets_whose_files_have_the_same_names_are_not_mixed_up(cache, monkeypatch):
    """MNIST's four files and KMNIST's are called the same."""
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 200)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 50)
    for seed, name in enumerate(("kmnist", "mnist")):  # in this order: the one builder inherits from the other
        manual = cache / name
        manual.mkdir()
        images, labels = archives.mnist(manual, np.random.RandomState(seed), {"train": 200, "test": 50})["test"]
        archives.register(monkeypatch, name, manual)
        dataset = load_dataset(DatasetOptions(name=name, manual_dir=str(manual), pad=(32, 32)))
        test = dataset.splits["test"]
        assert test.images.shape == (50, 32, 32, 1)
        padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
        expected = sorted((image.tobytes(), int(label)) for image, label in zip(padded, labels, strict=True))
        found = sorted((image.tobytes(), int(label)) for image, label in zip(test.images, test.labels, strict=True))
        assert found == expected


def test_a_file_by_hand_that_is_not_the_published_one_is_refused(cache):
    manual = cache / "manual"
    manual.mkdir()
    archives.cifar10(manual, np.random.RandomState(0))
    with pytest.raises(ValueError, match=r"data set cifar10: cifar-10-binary.tar.gz is not the published file"):
        load_dataset(DatasetOptions(name="cifar10", manual_dir=str(manual)))
    assert not list((cache / "tensorflow_datasets").glob("cifar10/*/*.json"))


def test_flowers_of_differing_sizes_must_be_resized(cache, monkeypatch):
    manual = cache / "manual"
    manual.mkdir()
    counts = archives.tf_flowers(manual, np.random.RandomState(0))
    archives.register(monkeypatch, "tf_flowers", manual)
    options = DatasetOptions(name="tf_flowers", manual_dir=str(manual))
    with pytest.raises(ValueError, match=r"tf_flowers.*an earlier image.*set dataset.resize to one size"):
        load_dataset(options)
    assert not list((cache / "cache" / "arrays").glob("*/*/*/train"))  # nothing half-written
    dataset = load_dataset(DatasetOptions(name="tf_flowers", manual_dir=str(manual), resize=(24, 24)))
    labels = np.concatenate([split.labels for split in dataset.splits.values()])
    assert {name: int((labels == index).sum()) for index, name in enumerate(dataset.label_names)} == counts
    assert dataset.image_shape == (24, 24, 3)


def test_sets_prepared_with_tensorflow_are_read_without_it(cache):
    """The usual case where a data directory is shared: TFRecord files. The same examples, written in that format."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    expected = load_dataset(DatasetOptions())
    [folder] = (cache / "cache" / "embedded").glob("digits/*")
    for path in folder.glob("*array_record*"):
        source = ArrayRecordDataSource(str(path))
        framed = b"".join(
            len(record).to_bytes(8, "little") + bytes(4) + record + bytes(4)
            for record in source.__getitems__([*range(len(source))])
        )
        (folder / path.name.replace("array_record", "tfrecord")).write_bytes(framed)
        path.unlink()
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    shutil.rmtree(cache / "cache" / "arrays")
    again = load_dataset(DatasetOptions())
    assert again.fingerprint == expected.fingerprint
    damaged = next(folder.glob("*train.tfrecord*"))
    damaged.write_bytes(damaged.read_bytes()[:-3])
    shutil.rmtree(cache / "cache" / "arrays")
    said = []
    assert load_dataset(DatasetOptions(), said.append).fingerprint == expected.fingerprint
    assert any(re.search("is damaged .digits-train.* ends within a record.: preparing it anew", line) for line in said)


needs_fashion_mnist = pytest.mark.skipif(
    downloads.debian_fashion_mnist() is None, reason="Debian's dataset-fashion-mnist is not installed"
)


@needs_fashion_mnist
def test_fashion_mnist_of_debian_is_rebuilt_to_the_published_set():
    dataset = load_dataset(DatasetOptions(name="fashion_mnist", train_split="train"))
    train, test = dataset.splits["train"], dataset.splits["test"]
    assert train.images.shape == (60_000, 28, 28, 1) and test.images.shape == (10_000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(train.labels), [6000] * 10)
    np.testing.assert_array_equal(np.bincount(test.labels), [1000] * 10)
    np.testing.assert_allclose(np.divide(dataset.statistics.mean, 255), 0.28604, atol=5e-6)
    np.testing.assert_allclose(np.divide(dataset.statistics.std, 255), 0.35302, atol=5e-6)
    assert train.labels[:8].tolist() == [2, 1, 8, 4, 1, 9, 2, 2]


@needs_fashion_mnist
def test_a_file_that_is_not_debians_is_refused(tmp_path):
    for name in downloads._FASHION_MNIST_FILES:
        (tmp_path / f"{name}.gz").write_bytes(b"\x1f\x8b\x08\x00" + bytes(6) + b"not the data")
    with pytest.raises(ValueError, match="is not the published file"):
        downloads.rebuild_fashion_mnist(tmp_path, tmp_path / "out")


# --- no network, no such set


def test_without_a_network_it_is_said_within_seconds_what_works(cache, monkeypatch):
    def unreachable(*_, **__):
        raise requests.exceptions.ConnectionError("Name or service not known")

    monkeypatch.setattr(requests, "head", unreachable)
    start = time.perf_counter()
    with pytest.raises(ConnectionError) as caught:
        load_dataset(DatasetOptions(name="kmnist"))
    assert time.perf_counter() - start < 10
    message = str(caught.value)
    for part in (
        "kmnist (20 MiB)",
        "codh.rois.ac.jp",
        "train-images-idx3-ubyte.gz",
        "dataset.manual_dir",
        "kmnist/3",
        "digits",
    ):
        assert part in message
    assert "what works offline" in message
    assert not list((cache / "cache").glob("arrays/*"))


def test_an_unknown_name_has_near_ones():
    with pytest.raises(ValueError, match=r"unknown data set 'cifer10': did you mean 'cifar10'"):
        load_dataset(DatasetOptions(name="cifer10"))
    with pytest.raises(ValueError, match=r"data set emnist/nothing: BuilderConfig nothing not found"):
        load_dataset(DatasetOptions(name="emnist/nothing"))


def test_files_to_be_got_by_hand_are_named(cache):
    with pytest.raises(FileNotFoundError, match=r"imagenet2012.*ILSVRC2012_img_train.tar"):
        load_dataset(DatasetOptions(name="imagenet2012", resize=(64, 64)))


def test_every_known_set_is_one_of_tfds_and_its_splits_exist():
    names = set(tfds.list_builders(with_community_datasets=False))
    for name, known in datasets.KNOWN.items():
        if known.download != "embedded":
            assert name.split("/")[0] in names
        for spec in known.splits:
            slice_bounds(spec, {"train": known.train, "test": known.test, "validation": known.test})


def test_default_splits_follow_what_is_published():
    def defaults(*names):
        return datasets._Source((), dict.fromkeys(names, 1), None, 1, None, None, None).default_splits()

    assert defaults("train", "test") == ("train[:90%]", "train[90%:]", "test")
    assert defaults("train", "validation") == ("train[:90%]", "train[90%:]", "validation")
    assert defaults("train", "validation", "test") == ("train", "validation", "test")
    assert defaults("train") == ("train[:80%]", "train[80%:90%]", "train[90%:]")


# --- folders


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


def test_files_that_are_no_images_are_passed_over_and_said(cache):
    root, said = cache / "pets", []
    for name in ("cat", "dog"):
        for index in range(4):
            save_picture(root / name / f"{index}.png", seed=index)
    (root / "cat" / "notes.txt").write_text("hello")
    (root / "cat" / ".DS_Store").write_text("")
    load_dataset(DatasetOptions(name=str(root)), said.append)
    assert any("ignored 2 files that are not images" in line and "notes.txt" in line for line in said)


def test_damaged_images_are_named_and_counted(cache):
    root = cache / "pets"
    for name in ("cat", "dog"):
        for index in range(12):
            save_picture(root / name / f"{index}.png", seed=index)
    (root / "cat" / "3.png").write_text("hello")
    (root / "dog" / "5.png").write_bytes((root / "dog" / "5.png").read_bytes()[:60])
    with pytest.raises(ValueError) as caught:
        load_dataset(DatasetOptions(name=str(root), train_split="train+validation+test"))
    message = str(caught.value)
    assert "images cannot be read" in message and (
        "cat/3.png: not an image" in message or "dog/5.png: a damaged" in message
    )


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
        (lambda root: save_picture(root / "extra" / "bird" / "0.png"), "extra beside Train is no split"),
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


def test_images_that_would_be_cut_are_refused_or_left_out_and_turned_ones_are_said(cache):
    root, said = cache / "pets", []
    for name in ("cat", "dog"):
        for index in range(5):
            save_picture(root / "train" / name / f"{index}.png", seed=index)
            save_picture(root / "test" / name / f"{index}.png", seed=10 + index)
    pixels, exif = save_picture(root / "train" / "cat" / "held.png", seed=20), Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels).save(root / "train" / "cat" / "held.png", exif=exif)
    turned = load_dataset(DatasetOptions(name=str(root)), said.append).splits["train"].images
    assert any("turned 1 of 11 images of" in line and "(train) upright, as their EXIF" in line for line in said)
    assert any(np.array_equal(image, np.rot90(pixels, -1)) for image in turned)
    Image.fromarray(np.full((8, 8), 600, np.uint16)).save(root / "train" / "cat" / "deep.png")
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(root / "train" / "dog" / "clear.png")
    with pytest.raises(
        ValueError, match=r"2 of 13 images .*deep.png: values of .*dataset.unreadable=\"skip\""
    ) as caught:
        load_dataset(DatasetOptions(name=str(root)))
    assert "clear.png: an alpha channel that is not opaque (4 to 4)" in str(caught.value)
    for streamed in (False, True):
        options = DatasetOptions(name=str(root), unreadable="skip", streaming=streamed, train_split="train")
        assert len(load_dataset(options).splits["train"]) == 11
    with pytest.raises(ValueError, match="deep.png: values of more than 8 bits"):
        images = (
            load_dataset(DatasetOptions(name=str(root), streaming=True, train_split="train")).splits["train"].images
        )
        images[:]


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ({"shape": (2, 2, 4)}, "uint8 of 4"),
        ({"shape": (2, 2, 1), "dtype": np.uint16, "encoding_format": "png"}, "uint16 of 1"),
        ({"shape": (None, None, 1), "dtype": np.float32}, "float32 of 1"),
    ],
)
def test_builders_whose_images_would_be_cut_are_refused_before_anything_is_downloaded(given, held):
    class Deep(digits.Builder, skip_registration=True):
        def _info(self):
            features = {"image": tfds.features.Image(**given), "label": tfds.features.ClassLabel(num_classes=2)}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    with pytest.raises(ValueError, match=rf"data set deep: its images are {held} channel.*uint8 of 1 .grey. or 3"):
        datasets._image_and_label("deep", Deep())


@pytest.mark.parametrize(
    "given",
    [
        DatasetOptions(name="digits", pad=(36, 36)),
        {"name": "digits", "pad": [36, 36]},
        load_config({"dataset": {"name": "digits", "pad": (36, 36)}}).dataset,
    ],
)
def test_a_data_set_is_loaded_by_a_section_of_a_config(given):
    assert datasets.dataset_options(given) == DatasetOptions(name="digits", pad=(36, 36))
    assert load_dataset(given).image_shape == (36, 36, 1)


def test_a_data_set_is_loaded_by_its_name_alone(tmp_path):
    assert load_dataset("digits").fingerprint == load_dataset(DatasetOptions()).fingerprint
    assert datasets.dataset_options(tmp_path) == DatasetOptions(name=str(tmp_path))
    with pytest.raises(ValueError, match="unknown data set 'digit': did you mean 'digits'"):
        load_dataset("digit")
    with pytest.raises(ValueError, match="unknown field of dataset 'resise': did you mean 'resize'"):
        load_dataset({"name": "digits", "resise": (8, 8)})
    with pytest.raises(TypeError, match=r"dataset\.pad: expected"):
        load_dataset({"name": "digits", "pad": "wide"})
    with pytest.raises(TypeError, match="expected a name, a folder or a config's dataset section, got 3"):
        load_dataset(3)
