"""Electroluminescence photographs of solar cells, read from the installed package `elpv-dataset` (`cnnjax[elpv]`).

2,624 cells cut out of 44 modules, 300x300, grey, 8 bits; for each the probability that it is defective, as experts saw it (0, 1/3,
2/3, 1), and its type (1,074 monocrystalline, 1,550 polycrystalline). A cell counts as defective from a probability of 1/2 on: 821 of
2,624, 31 %.

Source: S. Deitsch, V. Christlein, S. Berger, C. Buerhop-Lutz, A. Maier, F. Gallwitz, C. Riess, "Automatic classification of defective
photovoltaic module cells in electroluminescence images", Solar Energy 185, 2019, https://doi.org/10.1016/j.solener.2019.02.067.
The images are under CC BY-NC-SA 4.0: they stay in that package and in the user's cache.

The paper's split of 1,968 and 656 cells is not published. Here every probability of every type is shuffled once, by `SPLIT_SEED`,
and a quarter of it is test (656 cells in all), a tenth validation (263), the rest train (1,705). The labels do not say which
cells come from one module, so a module's cells are in all three, as in the paper. `elpv/mono` and `elpv/poly` are the cells of one
type, in the same splits.
"""

import importlib.resources
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cnnjax.data import subsets

CLASSES = ("functional", "defective")
DEFECTIVE = 0.5  # the least probability of a defective cell
SPLIT_SEED = 0
PARTS = 20  # of which these are not train
TEST_PARTS, VALIDATION_PARTS = (0, 4, 8, 12, 16), (2, 14)

Cell = tuple[Path, float, str]


def read_cells() -> list[Cell]:
    """The cells in the published order: the image's file, the probability of a defect, and the type, "mono" or "poly".

    Raises:
      ValueError: `elpv-dataset` is not installed.
    """
    try:
        folder = Path(str(importlib.resources.files("elpv_dataset"))) / "data"
    except ModuleNotFoundError:
        raise ValueError(
            "data set elpv is read from the package elpv-dataset (91 MB), which is not installed: pip install 'cnnjax[elpv]'"
        ) from None
    rows = [line.split() for line in (folder / "labels.csv").read_text(encoding="utf-8").splitlines()]
    return [(folder / file, float(probability), kind) for file, probability, kind in rows]


def split_of(cells: Sequence[Cell]) -> list[str]:
    """The split of each cell: shares of every probability of every type, drawn by `SPLIT_SEED`."""
    groups = sorted({(kind, probability) for _, probability, kind in cells})
    numbers = np.array([groups.index((kind, probability)) for _, probability, kind in cells])
    splits = ["train"] * len(cells)
    for place, position in enumerate(subsets.drawn_by_class(numbers, SPLIT_SEED)):
        if place % PARTS in TEST_PARTS:
            splits[position] = "test"
        elif place % PARTS in VALIDATION_PARTS:
            splits[position] = "validation"
    return splits


class Builder(tfds.core.GeneratorBasedBuilder):
    """Solar cells as grey images of 300x300 pixels: the package's PNG files, untouched."""

    name = "elpv"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [  # noqa: RUF012 - as TFDS declares it
        tfds.core.BuilderConfig(name="all", description="All cells."),
        tfds.core.BuilderConfig(name="mono", description="Monocrystalline cells."),
        tfds.core.BuilderConfig(name="poly", description="Polycrystalline cells."),
    ]
    pkg_dir_path = None

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="2,624 electroluminescence photographs of functional and defective solar cells.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(300, 300, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(CLASSES)),
                    "file": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://github.com/zae-bayern/elpv-dataset",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        cells = read_cells()
        parted = list(zip(cells, split_of(cells), strict=True))
        kinds = ("mono", "poly") if self.builder_config.name == "all" else (self.builder_config.name,)
        return {
            split: self._generate_examples([cell for cell, part in parted if part == split and cell[2] in kinds])
            for split in ("train", "validation", "test")
        }

    def _generate_examples(self, cells: Sequence[Cell]) -> Iterator:
        for path, probability, _ in cells:
            label = int(probability >= DEFECTIVE)
            yield path.name, {"image": str(path), "label": label, "file": path.name}
