"""Data sets by name: three splits of images and labels, prepared once and then mapped from the cache.

`load_dataset` goes from a name to its source (`sources`), reads each split's slice (`slices`) from the cache (`cache`), and
chooses the examples that the config asks for (`subsets`).
"""

import collections
import dataclasses
import errno
import functools
import hashlib
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int, Shaped
from ml_collections import ConfigDict

from cnnjax.core import files, runtime
from cnnjax.core.locate import OBJECT, is_reference, locate
from cnnjax.core.options import TrainedAlone, between, checked, declared, not_negative, positive, unknown
from cnnjax.data import (
    box_folders,
    cache,
    card,
    map_folders,
    roads,
    scenes,
    sources,
    streaming,
    subsets,
    tables,
    transforms,
)
from cnnjax.data.catalogue import is_array_file, is_folder
from cnnjax.data.mapped_rows import MappedRows
from cnnjax.data.slices import SPLITS, overlaps

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DatasetOptions(transforms.TransformOptions):
    """The config's `dataset` section."""

    name: Annotated[
        str,
        "a data set of `cnnjax datasets`, any TFDS image set, a folder of images, a table of them (.csv, .parquet), arrays (.npz, "
        ".npy), or ./file.py:function, which returns one",
        lambda name: None if name.strip() else "a name or a path",
    ] = "digits"
    train_split: Annotated[str | None, "a TFDS slice, such as train[:90%]; None is the data set's own"] = None
    valid_split: Annotated[str | None, "a TFDS slice for validation"] = None
    test_split: Annotated[str | None, "a TFDS slice for the test"] = None
    split_seed: Annotated[
        int, "the seed that draws the splits of a folder or table without splits", between(0, 2**32 - 1)
    ] = 0
    image_column: Annotated[str, "for a table: the column of the image files, relative to the table's folder"] = "path"
    label_column: Annotated[
        str | tuple[str, ...],
        "for a table: the column of the classes (text or integers), of one number, or of mask files; a tuple of columns means several "
        "numbers, or several labels of 0 or 1",
        lambda names: None if names else "one or more columns",
    ] = "label"
    split_column: Annotated[
        str | None, "for a table: the column of the splits (train, valid, test); None draws the splits with split_seed"
    ] = None
    labels: Annotated[
        Literal["maps", "boxes"] | None,
        "for scenes and folders that have both: maps of class numbers, or boxes of objects; None is maps where there are any",
    ] = None
    most_objects: Annotated[
        int | None,
        "for boxes of a folder: the number of objects to store of an image, of which the largest are kept; None stores all",
        positive,
    ] = None
    data_dir: Annotated[str | None, "the folder of prepared data; None is TFDS_DATA_DIR or ~/tensorflow_datasets"] = (
        None
    )
    manual_dir: Annotated[str | None, "a folder of original files that were downloaded by hand"] = None
    classes: Annotated[
        tuple[str, ...] | None,
        "the names of the classes to keep, numbered in this order; None keeps all",
        lambda names: None if len(set(names)) == len(names) >= 2 else "two or more different names",
    ] = None
    balanced: Annotated[bool, "draw training examples so that all classes are equally frequent"] = False
    examples_per_class: Annotated[
        int | None, "the number of training examples of each class to keep, drawn with split_seed", positive
    ] = None
    folds: Annotated[
        int | None,
        "the number of folds of a cross-validation: train and valid together are divided into this number of parts, by class",
        lambda folds: "at least 2" if folds < 2 else positive(folds),
    ] = None
    fold: Annotated[int, "the part that is the validation split, from 0", not_negative] = 0
    resident: Annotated[bool | None, "keep the images in the device's memory; None does so up to 2 GiB"] = None
    streaming: Annotated[
        bool,
        TrainedAlone,
        "decode images when they are needed instead of once into a cache: for data sets larger than the disk",
    ] = False
    workers: Annotated[int, "the number of threads that read and decode ahead when streaming", between(1, 1024)] = 8
    unreadable: Annotated[
        cache.Unreadable,
        "images that cannot be decoded, or differ in type or channels from the first: refuse the data set, or skip them and list them",
    ] = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(
                f"config: dataset.fold={self.fold}: expected 0 to {self.folds - 1}, since dataset.folds is {self.folds}"
            )
        if self.folds is None and self.fold:
            raise ValueError("config: dataset.fold needs dataset.folds, the number of folds")


@dataclasses.dataclass(frozen=True)
class Split:
    """Images and labels of one split, in the data set's order.

    Attributes:
      images: the stored images, with one to three spatial axes.
      labels: the targets of the images: class numbers (example,), or values of any shape.
    """

    images: Shaped[np.ndarray, "example *spatial channel"] | streaming.StreamedImages | MappedRows
    labels: Shaped[np.ndarray, "example ..."]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Split({len(self):,} examples, images {card.shape_text(self.images.shape[1:])} {self.images.dtype})"

    def take(self, positions: Int[np.ndarray, "chosen"]) -> "Split":
        """The examples at some positions; streamed images are still not decoded."""
        return Split(streaming.take(self.images, positions), self.labels[positions])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Three splits, and what a run must remember about them for later predictions.

    Attributes:
      name: the name of the data set in messages.
      label_names: the names of the classes, in the order of their numbers; () if the targets have no names.
      splits: train, valid and test.
      statistics: the statistics of the training images; None if they were not measured.
      fingerprint: a digest of the content; a run does not resume if it changes.
    """

    name: str
    label_names: tuple[str, ...]
    splits: Mapping[str, Split]
    statistics: transforms.Statistics | None
    fingerprint: str

    def __repr__(self) -> str:
        return card.dataset_line(self)

    def _repr_html_(self) -> str:
        return card.dataset_card(self)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of an image: its one to three spatial axes, and its channels."""
        return next(iter(self.splits.values())).images.shape[1:]

    @property
    def image_dtype(self) -> np.dtype:
        """The type of the images' values as they are stored."""
        return next(iter(self.splits.values())).images.dtype

    @property
    def class_counts(self) -> list[int] | None:
        """The number of training examples of each class; None if the targets are not classes."""
        if not subsets.are_classes(self.splits["train"].labels):
            return None
        return np.bincount(self.splits["train"].labels, minlength=len(self.label_names)).tolist()

    @functools.cached_property
    def map_values(self) -> Mapping[str, Mapping[int, int]]:
        """The number of pixels of each value in each split's maps of class numbers; computed once."""
        return {split: _value_counts(part.labels) for split, part in self.splits.items()}


def _value_counts(maps: Int[np.ndarray, "example *spatial"]) -> dict[int, int]:
    """The number of times that each value occurs."""
    total: collections.Counter[int] = collections.Counter()
    for _, block in transforms.in_blocks(maps):
        values, counts = (
            np.unique(block, return_counts=True)
            if block.dtype != np.uint8
            else (range(256), np.bincount(block.ravel()))
        )
        total.update({int(value): int(count) for value, count in zip(values, counts, strict=False) if count})
    return dict(total)


def dataset_options(given: DatasetOptions | Mapping[str, Any] | str | Path) -> DatasetOptions:
    """The checked options that an argument of `load_dataset` stands for.

    Raises:
      ValueError: an unknown field, or a value that is not allowed.
      TypeError: a value of the wrong type, or an argument that is neither a name, a folder nor a section.
    """
    if isinstance(given, DatasetOptions):
        return given
    if isinstance(given, str | Path):
        given = {"name": str(given)}
    if not isinstance(given, Mapping | ConfigDict):
        raise TypeError(f"load_dataset: expected a name, a folder or a config's dataset section, got {given!r}")
    known, fields = declared(DatasetOptions), dict(given.items())
    for key in fields:
        if key not in known:
            raise ValueError(unknown("field of dataset", key, known))
    return DatasetOptions(**{key: checked(f"dataset.{key}", value, known[key]) for key, value in fields.items()})


# A ConfigDict's fields have no types: `config.dataset` is, to a type checker, whatever a ConfigDict can hold.
def load_dataset(
    options: DatasetOptions | ConfigDict | Mapping[str, Any] | str | Path | Any,
    report: Callable[[str], None] = lambda line: None,
    splits: Sequence[str] = SPLITS,
    folder: str | Path | None = None,
) -> Dataset:
    """Loads a data set, preparing and caching it the first time.

    Args:
      options: the config's `dataset` section, as `config.dataset`, a mapping or `DatasetOptions`; or a data set's name, or a
        folder of images.
      report: a function that is called with one line for each step that takes a while.
      splits: the splits to load; without "train" there are no statistics; with folds all splits are loaded.
      folder: the folder that is searched for a file of arrays and for "./file.py:function" before the working directory; the
        function returns what `sequences.as_dataset` takes, and its keyword-only arguments are fields of the section.

    Raises:
      ValueError: unknown name, field or split, empty split, labels out of range, images of differing sizes.
      TypeError: a field of the wrong type, or neither a name nor a section.
      ConnectionError: the data set must be downloaded and there is no network.
      FileNotFoundError: a folder, or a file that must be supplied by hand, is absent.
    """
    options = dataset_options(options)
    if options.name.startswith(OBJECT):
        raise ValueError(
            f"data set {options.name.removeprefix(OBJECT)} was given from Python and has no name: give it again"
        )
    if is_reference(options.name):
        from cnnjax.data import sequences  # which uses this module's data sets

        return sequences.as_dataset(_built(options, folder), options, report)
    if is_array_file(options.name):
        from cnnjax.data.named_arrays import load_array_file  # which uses this module's data sets

        return select(load_array_file(beside(options.name, folder), options.split_seed, report), options)
    try:
        return _load(options, report, splits)
    except OSError as error:
        cache = str(runtime.cache_directory())
        written = error.filename is not None and str(error.filename).startswith(cache)
        if not written or error.errno not in (errno.EACCES, errno.ENOTDIR, errno.EEXIST, *files.DISK_ERRORS):
            raise
        raise type(error)(
            f"the cache {cache} cannot be written ({error.strerror}): free disk space, or set CNNJAX_CACHE_DIR to another folder"
        ) from error


def from_csv(
    path: str | Path,
    image: str = "path",
    label: str | Sequence[str] = "label",
    split: str | None = None,
    *,
    report: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Dataset:
    """A data set from a table of images, a CSV or Parquet file: the same as `dataset.name="labels.csv"` in a config.

    Paths are relative to the table's folder. One label column of text or integers holds classes, one of numbers with a
    fraction holds values, and one of image files (`.png`) holds masks, whose classes may be named by a `classes.txt` beside the
    table, one per line. Several columns, or a list of one, are several values, or several labels of 0 or 1. The images are prepared
    once into the cache, or streamed.

    Args:
      path: the table's file.
      image: the column of the image files.
      label: the column of the labels, or several columns.
      split: the column of the splits (train, valid, test); None draws a tenth each for valid and test.
      report: a function that is called with one line for each step that takes a while, and on repeated rows and missing files.
      **options: other fields of the config's `dataset` section: `resize=(64, 64)`, `streaming=True`, `unreadable="skip"`.

    Raises:
      FileNotFoundError: the table, or a file that it names, does not exist.
      ValueError: the table or an image is invalid; the message names the rows or files.
    """
    columns: dict[str, Any] = {"image_column": image, "split_column": split}
    columns["label_column"] = label if isinstance(label, str) else tuple(label)
    return load_dataset({**options, "name": str(path), **columns}, report)


def beside(name: str, folder: str | Path | None) -> str:
    """A data set's name; for a file of arrays or a table in the config's folder, its absolute path, so that a run finds it again."""
    file = is_array_file(name) or tables.is_table(name)
    if not file or folder is None or not (found := Path(folder) / Path(name).expanduser()).is_file():
        return name
    return str(found.resolve())


def _built(options: DatasetOptions, folder: str | Path | None) -> Any:
    """The return value of the user's function, called with the fields of the `dataset` section that are its keyword-only arguments."""
    function = locate("config: dataset.name", options.name, {}, folder)
    asked = [
        name
        for name, argument in inspect.signature(function).parameters.items()
        if argument.kind is argument.KEYWORD_ONLY
    ]
    return function(**{name: getattr(options, name) for name in asked if hasattr(options, name)})


def _load(options: DatasetOptions, report: Callable[[str], None], wanted: Sequence[str]) -> Dataset:
    # Splits that are slices of one published split report the same.
    report = functools.cache(report)
    source = _source(options, report)
    specs = dict(zip(SPLITS, source.default_splits(), strict=True))
    specs |= {split: spec for split in specs if (spec := getattr(options, f"{split}_split"))}
    wanted = SPLITS if options.folds else wanted
    specs = {split: spec for split, spec in specs.items() if split in wanted}
    for line in overlaps(specs, source.counts):
        warn_once(f"data set {options.name}: {line}")
    read = cache.streamed_slice if options.streaming else cache.cached_slice
    splits, prints = {}, []
    for split, spec in specs.items():
        images, labels, mark = read(source, spec, options, options.unreadable, report)
        if not len(labels):
            why = f"set dataset.{split}_split" if not source.counts.get(spec) else "none of its images can be read"
            raise ValueError(f"data set {options.name}: split {split} ({spec}) is empty: {why}")
        if subsets.are_classes(labels):
            _check_labels(labels, len(source.label_names), f"data set {options.name}, split {split} ({spec})")
        splits[split] = Split(images, labels)
        prints.append(f"{split}={spec}:{mark}")
    shapes = {split: part.images.shape[1:] for split, part in splits.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"data set {options.name}: image sizes differ between splits, {shapes}: set dataset.resize")
    splits, label_names, key = _chosen(options.name, splits, source.label_names, options, prints)
    # Measuring reads every image, so streamed images are measured only if the config normalises by their statistics.
    measured = "train" in splits and (options.normalize == "dataset" or not options.streaming)
    folder = cache.cache_folder(source, options, options.unreadable)
    if key != prints[0]:
        prints.append(key)
    return Dataset(
        name=options.name,
        label_names=label_names,
        splits=splits,
        statistics=cache.cached_statistics(splits["train"].images, folder, key) if measured else None,
        fingerprint=_digest("\n".join(prints)),
    )


# The fields that prepare images as they are read; arrays are not prepared.
PREPARING = ("color_space", "depth", "spatial_axes", "resize", "crop", "pad", "streaming")
# The fields of files and published splits, which a data set in memory does not have.
_OF_FILES = (
    "train_split", "valid_split", "test_split", "labels", "most_objects", "data_dir", "manual_dir", *PREPARING, "image_column",
    "label_column", "split_column",
)  # fmt: skip


def select(
    dataset: Dataset,
    options: DatasetOptions,
    measure: Callable[[Any, str], transforms.Statistics] = lambda images, key: transforms.measure(images),
) -> Dataset:
    """A data set in memory, reduced to what the config's `dataset` section selects: classes, folds, a few examples of each class.

    Args:
      dataset: the data set.
      options: the config's `dataset` section.
      measure: (training images, a text that identifies them) -> their statistics; for streamed images, which must all be read,
        called only if the config normalises by the statistics.

    Raises:
      ValueError: a field of the section has no meaning for the data set.
    """
    usual = DatasetOptions()
    for field in _OF_FILES:
        if getattr(options, field) != getattr(usual, field):
            raise ValueError(
                f"config: dataset.{field} is for images in files, but data set {dataset.name} is given as arrays: change the "
                "arrays instead, and leave the field out"
            )
    transforms.check_images(options, dataset.image_shape, dataset.image_dtype)
    if options.balanced:
        subsets.require_classes(dataset.splits["train"].labels, "dataset.balanced")
    splits, label_names, key = _chosen(
        dataset.name, dataset.splits, dataset.label_names, options, [dataset.fingerprint] * 2
    )
    chosen = key != dataset.fingerprint
    streamed = "train" in splits and isinstance(splits["train"].images, streaming.StreamedImages)
    measured = "train" in splits and (options.normalize == "dataset" or not streamed)
    if not chosen and (dataset.statistics is not None or not measured):
        return dataset
    statistics = measure(splits["train"].images, key) if measured else None
    return Dataset(dataset.name, label_names, splits, statistics, _digest(key) if chosen else dataset.fingerprint)


def _chosen(
    name: str,
    splits: Mapping[str, Split],
    label_names: Sequence[str],
    options: DatasetOptions,
    marks: Sequence[str],
) -> tuple[dict[str, Split], tuple[str, ...], str]:
    """The examples that the config selects, the names of their labels, and a text that identifies the selection."""
    splits, key = dict(splits), marks[0]
    if options.classes:
        splits = {split: _of_classes(whole, label_names, options.classes, name) for split, whole in splits.items()}
        label_names, key = options.classes, f"{key} classes {', '.join(options.classes)}"
    if options.folds:
        splits["train"], splits["valid"] = _cross_validation(splits, options, name)
        key = f"{key} {marks[1]} fold {options.fold} of {options.folds}, {options.split_seed}"
    if options.examples_per_class and "train" in splits:
        labels = splits["train"].labels
        subsets.require_classes(labels, "dataset.examples_per_class")
        few = subsets.few_of_each_class(labels, options.examples_per_class, options.split_seed, label_names)
        splits["train"] = splits["train"].take(few)
        key += f" {options.examples_per_class} a class, {options.split_seed}"
    return splits, tuple(label_names), key


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _source(options: DatasetOptions, report: Callable[[str], None]) -> sources.Source:
    columns = tables.Columns(options.image_column, options.label_column, options.split_column)
    if tables.is_table(options.name):
        skip = options.unreadable == "skip"
        return sources.table_source(options.name, columns, options.split_seed, skip, report, options.spatial_axes)
    if columns != tables.Columns():
        raise ValueError(
            f"config: dataset.image_column, label_column and split_column are for tables ({', '.join(tables.SUFFIXES)}), but "
            f"data set {options.name} is not a table: leave them out"
        )
    if options.name in scenes.KINDS:
        boxes = options.labels == "boxes"
        return scenes.scene_source(options.name, options.data_dir, options.manual_dir, report, boxes)
    if is_folder(options.name):
        return _folder_source(options, report)
    if options.labels or options.most_objects:
        field = "labels" if options.labels else "most_objects"
        raise ValueError(
            f"config: dataset.{field} is for scenes and folders with boxes or maps, and data set {options.name} has classes: leave it out"
        )
    if options.name == roads.NAME:
        return roads.road_source()
    return sources.tfds_source(options.name, options.data_dir, options.manual_dir, report)


def _folder_source(options: DatasetOptions, report: Callable[[str], None]) -> sources.Source:
    """The source of a folder: of images with boxes, with maps, or in folders of classes."""
    root, axes = Path(options.name).expanduser().resolve(), options.spatial_axes
    boxed = options.labels != "maps" and box_folders.is_box_folder(root)
    if boxed and (options.labels == "boxes" or not map_folders.has_voc_maps(root)):
        listing = box_folders.list_box_folder(root, options.split_seed)
        return sources.box_folder_source(listing, options.name, options.most_objects, report, axes)
    if options.labels == "boxes" or options.most_objects:
        raise ValueError(
            f"data set {options.name}: there are no boxes: expected the files of COCO (annotations/*.json), VOC (Annotations/*.xml), "
            "Penn-Fudan (Annotation/*.txt) or YOLO (labels/*.txt)"
        )
    if (maps := map_folders.list_map_folder(root, options.split_seed)) is not None:
        return sources.map_folder_source(maps, options.name, axes)
    return sources.folder_source(options.name, options.split_seed, report, axes)


def _of_classes(split: Split, label_names: Sequence[str], classes: Sequence[str], name: str) -> Split:
    subsets.require_classes(split.labels, "dataset.classes")
    positions, labels = subsets.of_classes(split.labels, label_names, classes, name)
    return Split(streaming.take(split.images, positions), labels)


def _cross_validation(splits: Mapping[str, Split], options: DatasetOptions, name: str) -> tuple[Split, Split]:
    """The training and validation examples of the config's fold."""
    images = streaming.concatenate([splits["train"].images, splits["valid"].images])
    both = Split(images, np.concatenate([splits["train"].labels, splits["valid"].labels]))
    train, valid = subsets.cross_validation(both.labels, options.folds, options.fold, options.split_seed, name)
    return both.take(train), both.take(valid)


@functools.cache
def warn_once(line: str) -> None:
    """Logs a warning the first time: a study loads its data set many times."""
    logger.warning(line)


def _check_labels(labels: np.ndarray, classes: int, where: str) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        index = int(wrong[0])
        advice = (
            "this split is published without labels, choose another" if labels[index] == -1 else "the data are damaged"
        )
        raise ValueError(
            f"{where}: {len(wrong)} of {len(labels)} labels are outside 0..{classes - 1}, "
            f"the first is {labels[index]} at position {index}: {advice}"
        )
