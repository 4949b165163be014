"""A folder of images as a TFDS builder: the files' bytes, untouched, with their folders' names as labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from cnnjax.data.folders import Listing


class Builder(tfds.core.GeneratorBasedBuilder):
    """What `folders.list_folder` found. The data directory must be new for every listing (`Listing.digest`)."""

    name = "folder"
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = None

    def __init__(self, listing: Listing, **kwargs: Any):
        self._listing = listing
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=f"Images under {self._listing.root}.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(),
                    "label": tfds.features.ClassLabel(names=list(self._listing.classes)),
                    "file": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return {split: self._generate_examples(examples) for split, examples in self._listing.splits.items()}

    def _generate_examples(self, examples: list[tuple[Path, str]]) -> Iterator:
        for path, label in examples:
            yield str(path.relative_to(self._listing.root)), {"image": str(path), "label": label, "file": str(path)}
