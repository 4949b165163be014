"""The catalogue of data sets: their names, contents, and availability on this machine."""

import dataclasses
import importlib.resources
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from cnnjax.core import runtime
from cnnjax.core.locate import is_reference
from cnnjax.data import downloads, slices, tables


@dataclasses.dataclass(frozen=True)
class Entry:
    """A data set's figures, known before it is prepared."""

    train: int  # examples
    test: int
    classes: int
    shape: tuple[int, int, int] | None  # height, width, channels; None if images differ in size
    download: str
    splits: tuple[str, str, str] = slices.TEST_PUBLISHED
    note: str = ""
    sample: str | None = None  # the file in `cnnjax/data/builders` of one of its test images
    package: str | None = None  # the Python package that contains its images, if any
    items: str | None = None  # the data set of the items from which its images are composed


_SCENES = "maps of classes for segmentation, or boxes for detection"

# Sizes as TFDS 4.9.10 records them (tensorflow.org/datasets/catalog). Where the published test labels do not exist, the test is the published
# validation split.
CATALOGUE: Mapping[str, Entry] = {
    "digits": Entry(1442, 355, 10, (32, 32, 1), "embedded", sample="digit.png"),
    "spirals": Entry(1000, 1000, 4, (1, 2, 1), "embedded", note="points in the plane, as images of two pixels"),
    "drawn_signs": Entry(276, 540, 9, (32, 32, 3), "embedded", note="a substitute for traffic signs without a network"),
    "digit_scenes": Entry(1500, 300, 11, (64, 64, 1), "embedded", slices.VALIDATION_PUBLISHED, _SCENES, items="digits"),
    "digit_scenes_128": Entry(2000, 300, 11, (128, 128, 1), "embedded", slices.VALIDATION_PUBLISHED, _SCENES, items="digits"),
    "fashion_scenes": Entry(20_000, 2000, 11, (64, 64, 1), "embedded", slices.VALIDATION_PUBLISHED, _SCENES, items="fashion_mnist"),
    "roads": Entry(2400, 300, 1, (66, 200, 3), "embedded", slices.VALIDATION_PUBLISHED, "drawn roads and the curvature to steer, for regression"),
    "elpv": Entry(
        1_705, 656, 2, (300, 300, 1), "embedded", slices.VALIDATION_PUBLISHED,
        "solar cells, CC BY-NC-SA; pip install 'cnnjax[elpv]'", package="elpv-dataset",
    ),
    "elpv/mono": Entry(
        698, 269, 2, (300, 300, 1), "embedded", slices.VALIDATION_PUBLISHED, "its monocrystalline cells", package="elpv-dataset"
    ),
    "elpv/poly": Entry(
        1_007, 387, 2, (300, 300, 1), "embedded", slices.VALIDATION_PUBLISHED, "its polycrystalline cells", package="elpv-dataset"
    ),
    "mnist": Entry(60_000, 10_000, 10, (28, 28, 1), "11 MiB"),
    "fashion_mnist": Entry(60_000, 10_000, 10, (28, 28, 1), "29 MiB", note="also Debian's dataset-fashion-mnist"),
    "kmnist": Entry(60_000, 10_000, 10, (28, 28, 1), "20 MiB"),
    "emnist/balanced": Entry(112_800, 18_800, 47, (28, 28, 1), "535 MiB", note="images are published transposed"),
    "cifar10": Entry(50_000, 10_000, 10, (32, 32, 3), "162 MiB"),
    "cifar100": Entry(50_000, 10_000, 100, (32, 32, 3), "161 MiB"),
    "svhn_cropped": Entry(73_257, 26_032, 10, (32, 32, 3), "1.47 GiB", note="needs scipy to prepare"),
    "visual_domain_decathlon/gtsrb": Entry(
        31_367, 7_842, 43, None, "410 MiB", slices.TEST_IS_VALIDATION, "published test labels are withheld"
    ),
    "tf_flowers": Entry(3_670, 0, 5, None, "218 MiB", slices.TRAIN_ONLY, "published without a test split"),
    "oxford_flowers102": Entry(1_020, 6_149, 102, None, "329 MiB", slices.VALIDATION_PUBLISHED, "needs scipy to prepare"),
    "oxford_iiit_pet": Entry(3_680, 3_669, 37, None, "774 MiB"),
    "imagenette/160px-v2": Entry(9_469, 3_925, 10, None, "95 MiB", slices.TEST_IS_VALIDATION),
    "cats_vs_dogs": Entry(23_262, 0, 2, None, "787 MiB", slices.TRAIN_ONLY, "published without a test split"),
    "stl10": Entry(5_000, 8_000, 10, (96, 96, 3), "2.46 GiB"),
    "imagenet2012": Entry(
        1_281_167, 50_000, 1000, None, "by hand", slices.TEST_IS_VALIDATION,
        "put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in dataset.manual_dir",
    ),
}  # fmt: skip
ALIASES = {"emnist": "emnist/balanced", "gtsrb": "visual_domain_decathlon/gtsrb", "imagenette": "imagenette/160px-v2"}


def full_name(name: str) -> str:
    """The full name of a data set, with its configuration: "emnist" is "emnist/balanced"."""
    return ALIASES.get(name, name)


def find(name: str) -> Entry | None:
    """The catalogue's entry of a data set, by its name or alias; None for a set that is not in the catalogue."""
    return CATALOGUE.get(full_name(name))


def is_array_file(name: str) -> bool:
    """Whether a data set's name is that of a file of arrays, `.npz` or `.npy`."""
    return Path(name).suffix.lower() in (".npz", ".npy")


def is_folder(name: str) -> bool:
    """Whether a data set's name is that of a folder of images.

    >>> [is_folder(name) for name in ("./photos", "digits", "./labels.csv", "./scans.npz", "./mine.py:scans")]
    [True, False, False, False, False]
    """
    if tables.is_table(name) or is_array_file(name) or is_reference(name):
        return False
    return name.startswith((".", "/", "~")) or (find(name) is None and Path(name).expanduser().is_dir())


def sample_image(name: str) -> Path | None:
    """The file of one of a data set's test images, for trying predictions; None if it has none."""
    entry = find(name)
    return Path(__file__).with_name("builders") / entry.sample if entry and entry.sample else None


def imagenet_label_names() -> list[str]:
    """The WordNet numbers of ImageNet's 1000 classes ("n01440764", ...), in the order of the labels."""
    folder = importlib.resources.files("tensorflow_datasets")
    return (folder / "datasets/imagenet2012/labels.txt").read_text(encoding="utf-8").split()


def default_data_dir() -> Path:
    """Where TFDS keeps prepared data sets."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def availability(name: str) -> str:
    """A data set's availability on this machine: "cached", "prepared", "embedded", the package that contains it, or the download."""
    if any((runtime.cache_directory() / "arrays" / name.replace("/", "-")).glob("*/*/*/about.json")):
        return "cached"
    if items := CATALOGUE[name].items:
        return availability(items)
    if package := CATALOGUE[name].package:
        return f"{'in' if importlib.util.find_spec(package.replace('-', '_')) else 'needs'} {package}"
    if CATALOGUE[name].download == "embedded":
        return "embedded"
    if any((default_data_dir() / name).glob("**/dataset_info.json")):
        return "prepared"
    if name == "fashion_mnist" and downloads.debian_fashion_mnist():
        return "on this machine (Debian)"
    return f"download, {CATALOGUE[name].download}" if CATALOGUE[name].download != "by hand" else "by hand"
