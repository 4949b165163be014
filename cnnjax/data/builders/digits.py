"""The embedded data set: 1,797 handwritten digits, so that everything can be tried without a network.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998, https://doi.org/10.24432/C50P49 (the test part of that set; CC BY 4.0). `digits.csv.gz`
is the copy that scikit-learn distributes: a row an image, 64 values from 0 to 16 and the label. `digit.png` is its
row 33, a five of the test split, enlarged to 128x128.
"""

import csv
import gzip
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int, UInt8
from PIL import Image

TEST_FRACTION = 5  # one image in five of every class is a test image


def read_digits() -> tuple[UInt8[np.ndarray, "1797 8 8"], Int[np.ndarray, "1797"]]:
    """The images as published, 8x8 with values 0..16, and their labels."""
    compressed = resources.files(__package__).joinpath("digits.csv.gz").read_bytes()
    rows = np.array(list(csv.reader(gzip.decompress(compressed).decode().split()))).astype(np.uint8)
    return rows[:, :64].reshape(-1, 8, 8), rows[:, 64].astype(np.int64)


def is_test(labels: Int[np.ndarray, "examples"]) -> np.ndarray:
    """Which examples form the test split: every fifth of each class, in the published order."""
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[TEST_FRACTION - 1 :: TEST_FRACTION]] = True
    return test


class Builder(tfds.core.GeneratorBasedBuilder):
    """Digits as 32x32 grey images: values times 255/16, enlarged with bilinear interpolation."""

    name = "digits"
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = None

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="1,797 handwritten digits of the UCI repository, 8x8 enlarged to 32x32.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(32, 32, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://doi.org/10.24432/C50P49",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        images, labels = read_digits()
        test = is_test(labels)
        return {
            "train": self._generate_examples(images, labels, np.flatnonzero(~test)),
            "test": self._generate_examples(images, labels, np.flatnonzero(test)),
        }

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> Iterator:
        for index in chosen:
            grey = np.round(images[index] * (255 / 16)).astype(np.uint8)
            enlarged = Image.fromarray(grey).resize((32, 32), Image.Resampling.BILINEAR)
            yield int(index), {"image": np.asarray(enlarged)[..., None], "label": int(labels[index])}
