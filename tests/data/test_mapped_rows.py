import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

import cnnjax
from cnnjax.data import mapped_rows, streaming
from cnnjax.data.datasets import DatasetOptions, select
from cnnjax.data.mapped_rows import MappedRows

IMAGES = np.random.RandomState(0).standard_normal((60, 5, 4, 2)).astype(np.float32)
CLASSES = np.arange(60) % 3


@pytest.fixture
def mapped(tmp_path, monkeypatch):
    np.save(tmp_path / "images.npy", IMAGES)
    monkeypatch.setattr(mapped_rows, "MOST_BYTES", 1000)
    return np.load(tmp_path / "images.npy", mmap_mode="r")


positions = strategies.lists(strategies.integers(0, 59), min_size=1, max_size=30)


@hypothesis.given(positions, positions, strategies.data())
def test_rows_are_numpys(first, second, data):
    both = np.concatenate([IMAGES[first], IMAGES[second] + 1])
    found = MappedRows([(IMAGES, np.array(first)), (IMAGES + 1, np.array(second))])
    assert found.shape == both.shape and found.nbytes == both.nbytes and found.dtype == both.dtype
    assert len(found) == len(both) and found.ndim == 4
    index = np.array(data.draw(strategies.lists(strategies.integers(-len(both), len(both) - 1), min_size=1)))
    np.testing.assert_array_equal(found[index], both[index])
    np.testing.assert_array_equal(found[int(index[0])], both[index[0]])
    np.testing.assert_array_equal(found[3:9], both[3:9])
    np.testing.assert_array_equal(np.asarray(found), both)
    mask = np.arange(len(both)) % 3 == 0
    np.testing.assert_array_equal(found[mask], both[mask])
    np.testing.assert_array_equal(found[[]], both[:0])
    index = np.sort(index % len(both))
    np.testing.assert_array_equal(np.asarray(found.take(index)), both[index])


@pytest.mark.parametrize("index", [60, -61, [0, 60], np.ones(59, bool), 1.0])
def test_an_index_that_an_array_refuses_is_refused(index):
    with pytest.raises(IndexError, match="60"):
        MappedRows([(IMAGES, np.arange(60))])[index]
    assert sum(1 for _ in MappedRows([(IMAGES, np.arange(60))])) == 60


def test_a_large_mapped_array_is_drawn_from_and_folded_without_reading_it(mapped):
    data = cnnjax.from_arrays((mapped, CLASSES))
    same = cnnjax.from_arrays((IMAGES, CLASSES))
    assert isinstance(data.splits["train"].images, MappedRows) and data.fingerprint == same.fingerprint
    for options in (DatasetOptions(), DatasetOptions(folds=3), DatasetOptions(examples_per_class=5)):
        ours, expected = select(data, options), select(same, options)
        assert ours.statistics == expected.statistics
        for split in expected.splits:
            assert isinstance(ours.splits[split].images, MappedRows)
            np.testing.assert_array_equal(np.asarray(ours.splits[split].images), expected.splits[split].images)


def test_a_run_on_a_large_mapped_array_is_that_on_the_array(mapped, tmp_path):
    config = {
        "devices": 1, "model": {"name": "mlp", "features": (4,)}, "train": {"batch_size": 8, "epochs": 1},
        "log": {"progress": "off", "tensorboard": False},
    }  # fmt: skip
    results = []
    for name, images in (("mapped", mapped), ("memory", IMAGES)):
        for resident in (True, False):
            given = {**config, "dataset": {"resident": resident}}
            run = cnnjax.train(given, tmp_path / f"{name}{resident}", dataset=cnnjax.from_arrays((images, CLASSES)))
            results.append(run.metrics["test/loss"])
    assert len(set(results)) == 1


def test_only_what_is_large_and_mapped_is_read_later(mapped, monkeypatch):
    assert isinstance(streaming.take(mapped[:40], np.arange(3)), MappedRows)
    assert isinstance(streaming.take(IMAGES, np.arange(3)), np.ndarray)
    monkeypatch.setattr(mapped_rows, "MOST_BYTES", 2**31)
    assert isinstance(streaming.take(mapped, np.arange(3)), np.ndarray)
