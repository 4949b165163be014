import json
import re
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.image_classification import mnist

from cnnjax.data import sources
from cnnjax.data.builders import digits
from cnnjax.data.datasets import DatasetOptions, load_dataset
from tests.data import archives
from tests.data.files import flip

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
    assert any(re.search(r"embedded/digits.* is damaged \(.*\): preparing it again", line) for line in said)


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
        ValueError, match=r"tensorflow_datasets/mnist.* is damaged \(.*\): delete it, and it will be prepared again"
    ):
        load_dataset(options)
    assert folder.exists()


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
    assert any(re.search("is damaged .digits-train.* ends within a record.: preparing it again", line) for line in said)


def test_an_unknown_name_has_near_ones():
    with pytest.raises(ValueError, match=r"unknown data set 'cifer10': .* did you mean 'cifar10'"):
        load_dataset(DatasetOptions(name="cifer10"))
    with pytest.raises(ValueError, match=r"data set emnist/nothing: BuilderConfig nothing not found"):
        load_dataset(DatasetOptions(name="emnist/nothing"))


def test_an_unknown_name_without_near_ones_lists_none_and_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"there is no folder or file /.*/qqqq/zzzz9, and no data set with this name \(`cnnjax"
    ) as raised:
        load_dataset(DatasetOptions(name="qqqq/zzzz9"))
    assert len(str(raised.value)) < 300 + len(str(tmp_path))
    (tmp_path / "scans.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"data set scans.tar: an unsupported kind of file: expected a table \(.csv"):
        load_dataset(DatasetOptions(name="scans.tar"))


def test_files_to_be_got_by_hand_are_named(cache):
    with pytest.raises(FileNotFoundError, match=r"imagenet2012.*ILSVRC2012_img_train.tar"):
        load_dataset(DatasetOptions(name="imagenet2012", resize=(64, 64)))


@pytest.mark.parametrize(
    ("values", "streaming"),
    [
        (np.random.RandomState(0).randint(0, 601, (6, 4, 5, 1)).astype(np.uint16), False),
        (np.random.RandomState(0).randint(0, 601, (6, 4, 5, 3)).astype(np.uint16), False),
        (np.random.RandomState(0).randint(0, 256, (6, 4, 5, 4)).astype(np.uint8), True),
        (np.random.RandomState(0).normal(size=(6, 4, 5, 1)).astype(np.float32), False),
        (np.random.RandomState(0).normal(size=(6, 4, 5, 1)).astype(np.float32), True),
        (np.random.RandomState(0).normal(0, 1e4, (6, 4, 5, 13)).astype(np.int16), True),
        (np.random.RandomState(0).normal(size=(6, 3, 4, 5, 2)).astype(np.float32), False),
    ],
)
def test_builders_of_deep_and_transparent_images_are_read_as_they_are(cache, monkeypatch, values, streaming):
    shape, dtype = (None, None, values.shape[-1]), values.dtype.type
    if values.ndim == 4 and values.shape[-1] <= 4:
        image = tfds.features.Image(shape=shape, dtype=dtype, encoding_format="png")
    else:
        image = tfds.features.Tensor(shape=values.shape[1:], dtype=dtype)

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = "deep"
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = None

        def _info(self):
            features = {"image": image, "label": tfds.features.ClassLabel(num_classes=2)}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(values[:4]), "test": self._generate_examples(values[4:])}

        def _generate_examples(self, images):
            yield from ((index, {"image": image, "label": index % 2}) for index, image in enumerate(images))

    monkeypatch.setattr(tfds, "builder", lambda name, data_dir, **kwargs: Builder(data_dir=cache / "made", **kwargs))
    for _ in range(2):
        made = load_dataset(DatasetOptions(name="deep", streaming=streaming, train_split="train", valid_split="test"))
        assert made.image_dtype == dtype and made.image_shape == values.shape[1:]
        found = np.concatenate([made.splits[split].images[:] for split in ("train", "test")])
        assert sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in values)
        np.testing.assert_allclose(
            made.statistics.mean, made.splits["train"].images[:].mean(tuple(range(values.ndim - 1))), rtol=1e-5
        )


def test_builders_of_images_that_are_not_read_are_refused_before_anything_is_downloaded():
    class Deep(digits.Builder, skip_registration=True):
        def _info(self):
            image = tfds.features.Image(shape=(2, 2, 2), encoding_format="png")
            features = {"image": image, "label": tfds.features.ClassLabel(num_classes=2)}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    with pytest.raises(
        ValueError, match=r"data set deep: its images are uint8 with 2 channel.*, but only 1 .grey., 3 .RGB. or 4"
    ):
        sources._image_and_label("deep", Deep())
