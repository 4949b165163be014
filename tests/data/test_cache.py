import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import cache as caching
from cnnjax.data import downloads, mapped_rows, sources, transforms
from cnnjax.data.datasets import DatasetOptions, load_dataset
from tests.data.files import edit, flip, save_picture, swap


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
            re.search(r"caching .* of digits .* again, since the cached arrays are damaged \(", line) for line in said
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
    assert said == ["indexing 1442 images of digits (train) again, since the index is damaged"]


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
        ValueError, match=r"2 of 13 images .*deep.png: it holds uint16, 1 channel.*dataset.unreadable=\"skip\""
    ) as caught:
        load_dataset(DatasetOptions(name=str(root)))
    assert "clear.png: an alpha channel that is not opaque (4 to 4)" in str(caught.value)
    for streamed in (False, True):
        options = DatasetOptions(name=str(root), unreadable="skip", streaming=streamed, train_split="train")
        assert len(load_dataset(options).splits["train"]) == 11
    with pytest.raises(
        ValueError, match="deep.png: it holds uint16, 1 channel, but the data set's images are uint8: set dataset.depth"
    ):
        images = (
            load_dataset(DatasetOptions(name=str(root), streaming=True, train_split="train")).splits["train"].images
        )
        images[:]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "labels",
    [
        np.random.RandomState(0).randint(0, 2, (7, 3)).astype(np.uint8),
        np.random.RandomState(0).standard_normal(7).astype(np.float32),
        np.random.RandomState(0).randint(0, 5, (7, 8, 8)).astype(np.int16),
        [0, 1, 2, 1, 0, 1, 2],
    ],
    ids=["rows", "numbers", "maps", "classes"],
)
def test_labels_of_any_shape_and_type_are_kept(cache, labels, streaming):
    for index in range(7):
        save_picture(cache / f"{index}.png", seed=index)
    contents = [(cache / f"{index}.png").read_bytes() for index in range(7)]
    contents[2] = b"hello"
    source = sources.Source(
        "made", "made/1", (), {"train": 7}, 3,
        read=lambda split: ((content, label, "made") for content, label in zip(contents, labels, strict=True)),
        open=lambda split: lambda position: (contents[position], "made"),
    )  # fmt: skip
    read = caching.streamed_slice if streaming else caching.cached_slice
    for _ in range(2):
        images, kept, _ = read(source, "train[1:]", DatasetOptions(), "skip", lambda line: None)
        expected = np.delete(np.asarray(labels), [0, 2], 0)
        np.testing.assert_array_equal(kept, expected)
        assert kept.dtype == (np.int32 if isinstance(labels, list) else expected.dtype) and len(images) == 5


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("labels", [[[1.0, 2.0], [1.0]], [0, 0.5]])
def test_labels_of_two_kinds_are_refused(cache, labels, streaming):
    save_picture(cache / "0.png")
    content = (cache / "0.png").read_bytes()
    source = sources.Source(
        "made", "made/1", (), {"train": 2}, 3,
        read=lambda split: ((content, label, f"{index}.png") for index, label in enumerate(labels)),
        open=lambda split: lambda position: (content, "made"),
    )  # fmt: skip
    read = caching.streamed_slice if streaming else caching.cached_slice
    with pytest.raises(
        ValueError, match=r"1.png: the label is float64 of shape .*, an earlier one .*: give all labels one"
    ):
        read(source, "train", DatasetOptions(), "refuse", lambda line: None)


def test_large_slices_of_several_splits_stay_on_the_disk(cache, cached_digits, monkeypatch):
    options = DatasetOptions(train_split="train[:100]+test[50:]", valid_split="train[100:]")
    read = load_dataset(options)
    monkeypatch.setattr(mapped_rows, "MOST_BYTES", 1000)
    mapped = load_dataset(options)
    assert isinstance(mapped.splits["train"].images, mapped_rows.MappedRows)
    np.testing.assert_array_equal(mapped.splits["train"].images[:], read.splits["train"].images)
    assert (mapped.fingerprint, mapped.statistics) == (read.fingerprint, read.statistics)


def test_images_that_are_kept_beside_skipped_ones_are_written_in_blocks(cache, monkeypatch):
    monkeypatch.setattr(transforms, "BLOCK_VALUES", 1)  # one at a time
    pictures = [save_picture(cache / f"{index}.png", seed=index) for index in range(7)]
    contents = [(cache / f"{index}.png").read_bytes() for index in range(7)]
    contents[2] = b"hello"
    source = sources.Source(
        "made", "made/1", ("a", "b"), {"train": 7}, 3, open=None,
        read=lambda split: ((content, index % 2, "made") for index, content in enumerate(contents)),
    )  # fmt: skip
    images, labels, _ = caching.cached_slice(source, "train", DatasetOptions(), "skip", lambda line: None)
    np.testing.assert_array_equal(images, np.delete(pictures, 2, 0))
    np.testing.assert_array_equal(labels, [0, 1, 1, 0, 1, 0])
