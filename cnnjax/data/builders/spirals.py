"""A toy problem in the plane: four noisy spiral arms, one a class, to see what a network of dense layers learns.

A point is an image of one row of two grey pixels, its x and its y, so that whatever trains on images trains on points.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Int, UInt8

ARMS = 4
TURN = 1.25 * np.pi  # of an arm, from the middle to its end
NOISE = 0.35  # standard deviation of the angle
EXAMPLES = {"train": 1000, "test": 1000}


def draw_points(seed: int, examples: int) -> tuple[Float[np.ndarray, "example 2"], Int[np.ndarray, "example"]]:
    """Points in the unit disc and their arms: radius r ~ U(0.05, 1), angle a pi / 2 + TURN r + N(0, NOISE^2) on arm a.

    The arms overlap: the best classifier errs where the angle is more than pi / 4 off, 2.5 % of the time.
    """
    generator = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed])))
    labels = np.arange(examples) % ARMS
    radius = generator.uniform(0.05, 1, examples)
    angle = labels * 2 * np.pi / ARMS + TURN * radius + NOISE * generator.standard_normal(examples)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), labels


def to_images(points: Float[np.ndarray, "example 2"]) -> UInt8[np.ndarray, "example 1 2 1"]:
    """Coordinates of -1 to 1 as pixels of 0 to 255."""
    return np.round(127.5 + 127.5 * np.asarray(points)).astype(np.uint8)[:, None, :, None]


class Builder(tfds.core.GeneratorBasedBuilder):
    """Points as images of shape (1, 2, 1)."""

    name = "spirals"
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = None

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Points in the plane on four noisy spiral arms.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(1, 2, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[f"arm {arm}" for arm in range(ARMS)]),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        return {
            split: self._generate_examples(seed, examples) for seed, (split, examples) in enumerate(EXAMPLES.items())
        }

    def _generate_examples(self, seed: int, examples: int) -> Iterator:
        points, labels = draw_points(seed, examples)
        for index, (image, label) in enumerate(zip(to_images(points), labels, strict=True)):
            yield index, {"image": image, "label": int(label)}
