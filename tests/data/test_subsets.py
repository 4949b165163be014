import numpy as np
import pytest

from cnnjax.data.datasets import DatasetOptions, load_dataset
from cnnjax.data.subsets import drawn_splits


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


def test_drawn_splits_share_out_every_class_and_do_not_depend_on_one_another():
    labels = np.random.RandomState(0).randint(0, 3, 301)
    both = drawn_splits(labels, 4, ["valid", "test"])
    np.testing.assert_array_equal(np.sort(np.concatenate([*both.values()])), np.arange(301))
    for split in ("valid", "test"):
        assert (np.diff(both[split]) > 0).all()
        assert abs(np.bincount(labels[both[split]]) - np.bincount(labels) / 10).max() <= 1
        np.testing.assert_array_equal(drawn_splits(labels, 4, [split])[split], both[split])
    np.testing.assert_array_equal(drawn_splits(labels, 4, ["validation"])["validation"], both["valid"])
    assert drawn_splits(labels, 5, ["test"])["test"].tolist() != both["test"].tolist()
