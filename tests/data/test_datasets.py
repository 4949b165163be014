import numpy as np
import pytest

from cnnjax.config import load_config
from cnnjax.data import datasets, digests
from cnnjax.data.datasets import DatasetOptions, load_dataset


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
    with pytest.raises(
        ValueError,
        match=r"unknown data set 'digit': there is no folder or file /.*/digit, and no .*: did you mean 'digits'",
    ):
        load_dataset("digit")
    with pytest.raises(ValueError, match="unknown field of dataset 'resise': did you mean 'resize'"):
        load_dataset({"name": "digits", "resise": (8, 8)})
    with pytest.raises(TypeError, match=r"dataset\.pad: expected"):
        load_dataset({"name": "digits", "pad": "wide"})
    with pytest.raises(TypeError, match="expected a name, a folder or a config's dataset section, got 3"):
        load_dataset(3)
