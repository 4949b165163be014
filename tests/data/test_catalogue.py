import tensorflow_datasets as tfds

from cnnjax.data import catalogue
from cnnjax.data.slices import slice_bounds


def test_every_known_set_is_one_of_tfds_and_its_splits_exist():
    names = set(tfds.list_builders(with_community_datasets=False))
    for name, entry in catalogue.CATALOGUE.items():
        if entry.download != "embedded":
            assert name.split("/")[0] in names
        for spec in entry.splits:
            slice_bounds(spec, {"train": entry.train, "test": entry.test, "validation": entry.test})
