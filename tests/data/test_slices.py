import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.data import datasets, slices
from cnnjax.data.datasets import DatasetOptions, load_dataset
from cnnjax.data.slices import slice_bounds

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
                "144 of the 1442 images of test (train) are in valid (train[90%:]) too: its figures are measured on images",
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
    datasets.warn_once.cache_clear()
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


def test_default_splits_follow_what_is_published():
    def defaults(*names):
        return slices.default_splits(dict.fromkeys(names, 1))

    assert defaults("train", "test") == ("train[:90%]", "train[90%:]", "test")
    assert defaults("train", "validation") == ("train[:90%]", "train[90%:]", "validation")
    assert defaults("train", "validation", "test") == ("train", "validation", "test")
    assert defaults("train") == ("train[:80%]", "train[80%:90%]", "train[90%:]")
