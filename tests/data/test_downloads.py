import time

import numpy as np
import pytest
import requests

from cnnjax.data import downloads
from cnnjax.data.datasets import DatasetOptions, load_dataset

needs_fashion_mnist = pytest.mark.skipif(
    downloads.debian_fashion_mnist() is None, reason="Debian's dataset-fashion-mnist is not installed"
)


@pytest.mark.slow
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
    assert "available offline: " in message
    assert not list((cache / "cache").glob("arrays/*"))
