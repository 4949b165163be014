"""What the tests of data share: an empty cache, and one with the digits."""

import shutil

import pytest

from cnnjax.data.datasets import DatasetOptions, load_dataset


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
