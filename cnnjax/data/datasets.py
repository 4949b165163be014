"""Data sets by name: a TFDS builder, prepared, and cached as plain arrays.

`load_dataset` gives the three splits of a data set as uint8 arrays in files, mapped into memory. They are made
once, by decoding and preparing every image (`transforms.prepare`); after that a start reads them in
milliseconds, without TFDS.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import importlib
import importlib.resources
import io
import json
import logging
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Int, UInt8
from ml_collections import ConfigDict

from cnnjax.core import files, runtime
from cnnjax.core.options import between, checked, declared, not_negative, positive, unknown
from cnnjax.data import digests, downloads, folders, streaming, transforms

logger = logging.getLogger(__name__)

# Bumped when the meaning of the cached arrays changes, so that older ones are made anew.
CACHE_VERSION = 3


@dataclasses.dataclass(frozen=True)
class DatasetOptions(transforms.TransformOptions):
    """The config's `dataset` section."""

    name: Annotated[
        str,
        "a data set of `cnnjax datasets`, any TFDS image set, or a folder of images",
        lambda name: None if name.strip() else "a name or a path",
    ] = "digits"
    train_split: Annotated[str | None, "a TFDS slice, such as train[:90%]; None is the data set's own"] = None
    valid_split: Annotated[str | None, "likewise, for validation"] = None
    test_split: Annotated[str | None, "likewise, for the test"] = None
    split_seed: Annotated[int, "draws the splits of a folder that has none", between(0, 2**32 - 1)] = 0
    data_dir: Annotated[str | None, "where prepared data are; None is TFDS_DATA_DIR or ~/tensorflow_datasets"] = None
    manual_dir: Annotated[str | None, "a folder of original files downloaded by hand"] = None
    classes: Annotated[
        tuple[str, ...] | None,
        "keep these classes alone, by name, and number them in this order; None keeps all",
        lambda names: None if len(set(names)) == len(names) >= 2 else "two or more names, each once",
    ] = None
    balanced: Annotated[bool, "draw training examples so that every class comes equally often"] = False
    examples_per_class: Annotated[
        int | None, "keep so many training examples of each class, drawn by split_seed", positive
    ] = None
    folds: Annotated[
        int | None,
        "cross-validation: train and valid together are cut into so many parts, by class",
        lambda folds: "at least 2" if folds < 2 else positive(folds),
    ] = None
    fold: Annotated[int, "which part is the validation split, from 0", not_negative] = 0
    resident: Annotated[bool | None, "keep the images on the device; None does so up to 2 GiB"] = None
    streaming: Annotated[
        bool, "decode images when they are needed, rather than once for all into a cache: for sets larger than the disk"
    ] = False
    workers: Annotated[int, "threads that read and decode ahead when streaming", between(1, 1024)] = 8
    unreadable: Annotated[
        Literal["refuse", "skip"],
        "images that cannot be decoded, or only cut to 8 bits and 3 channels: refuse the data set, or leave them out and say so",
    ] = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(
                f"config: dataset.fold={self.fold}: expected 0 to {self.folds - 1}, dataset.folds being {self.folds}"
            )
        if self.folds is None and self.fold:
            raise ValueError("config: dataset.fold needs dataset.folds, the number of parts")


SPLITS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a data set before it is prepared."""

    train: int  # examples
    test: int
    classes: int
    shape: tuple[int, int, int] | None  # height, width, channels; None where images differ in size
    download: str
    splits: tuple[str, str, str] = ("train[:90%]", "train[90%:]", "test")
    note: str = ""
    sample: str | None = None  # one of its test images as a file of `cnnjax/data/builders`


_TRAIN_ONLY = ("train[:80%]", "train[80%:90%]", "train[90%:]")
_PUBLISHED_VALIDATION = ("train", "validation", "test")
_TEST_IS_VALIDATION = ("train[:90%]", "train[90%:]", "validation")

# Sizes as TFDS 4.9.10 records them. Where the published test labels do not exist, the test is the published
# validation split.
KNOWN: Mapping[str, Known] = {
    "digits": Known(1442, 355, 10, (32, 32, 1), "embedded", sample="digit.png"),
    "spirals": Known(1000, 1000, 4, (1, 2, 1), "embedded", note="points in the plane, as images of two pixels"),
    "drawn_signs": Known(276, 540, 9, (32, 32, 3), "embedded", note="a stand-in for traffic signs where there is no network"),
    "mnist": Known(60_000, 10_000, 10, (28, 28, 1), "11 MiB"),
    "fashion_mnist": Known(60_000, 10_000, 10, (28, 28, 1), "29 MiB", note="also Debian's dataset-fashion-mnist"),
    "kmnist": Known(60_000, 10_000, 10, (28, 28, 1), "20 MiB"),
    "emnist/balanced": Known(112_800, 18_800, 47, (28, 28, 1), "535 MiB", note="images are published transposed"),
    "cifar10": Known(50_000, 10_000, 10, (32, 32, 3), "162 MiB"),
    "cifar100": Known(50_000, 10_000, 100, (32, 32, 3), "161 MiB"),
    "svhn_cropped": Known(73_257, 26_032, 10, (32, 32, 3), "1.47 GiB", note="needs scipy to prepare"),
    "visual_domain_decathlon/gtsrb": Known(
        31_367, 7_842, 43, None, "410 MiB", _TEST_IS_VALIDATION, "published test labels are withheld"
    ),
    "tf_flowers": Known(3_670, 0, 5, None, "218 MiB", _TRAIN_ONLY, "published without a test split"),
    "oxford_flowers102": Known(1_020, 6_149, 102, None, "329 MiB", _PUBLISHED_VALIDATION, "needs scipy to prepare"),
    "imagenette/160px-v2": Known(9_469, 3_925, 10, None, "95 MiB", _TEST_IS_VALIDATION),
    "cats_vs_dogs": Known(23_262, 0, 2, None, "787 MiB", _TRAIN_ONLY, "published without a test split"),
    "stl10": Known(5_000, 8_000, 10, (96, 96, 3), "2.46 GiB"),
    "imagenet2012": Known(
        1_281_167, 50_000, 1000, None, "by hand", _TEST_IS_VALIDATION,
        "put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in dataset.manual_dir",
    ),
}  # fmt: skip
ALIASES = {"emnist": "emnist/balanced", "gtsrb": "visual_domain_decathlon/gtsrb", "imagenette": "imagenette/160px-v2"}


@dataclasses.dataclass(frozen=True)
class Split:
    """Images and labels of one split, in the data set's order."""

    images: UInt8[np.ndarray, "example height width channel"] | streaming.StreamedImages
    labels: Int[np.ndarray, "example"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Three splits and what a run must remember of them to predict later."""

    name: str
    label_names: tuple[str, ...]
    splits: Mapping[str, Split]  # train, valid, test
    statistics: transforms.Statistics | None
    fingerprint: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return next(iter(self.splits.values())).images.shape[1:]

    @property
    def class_counts(self) -> list[int]:
        """The training split's examples of each class."""
        return np.bincount(self.splits["train"].labels, minlength=len(self.label_names)).tolist()


def dataset_options(given: DatasetOptions | Mapping[str, Any] | str | Path) -> DatasetOptions:
    """What `load_dataset` takes, as the options it stands for, checked.

    Raises:
      ValueError: an unknown field, or a value that is not allowed.
      TypeError: a value of the wrong type, or something else altogether.
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
) -> Dataset:
    """Loads a data set, preparing and caching it the first time.

    Args:
      options: the config's `dataset` section, as `config.dataset`, a mapping or `DatasetOptions`; or a data set's name, or a
        folder of images.
      report: is told, in one line, of steps that take a while.
      splits: which to load; without "train" there are no statistics; with folds all are.

    Raises:
      ValueError: unknown name, field or split, empty split, labels out of range, images of differing sizes.
      TypeError: a field of the wrong type, or neither a name nor a section.
      ConnectionError: the data set must be downloaded and there is no network.
      FileNotFoundError: a folder or a file to be supplied by hand is absent.
    """
    options = dataset_options(options)
    try:
        return _load(options, report, splits)
    except OSError as error:
        cache = str(runtime.cache_directory())
        written = error.filename is not None and str(error.filename).startswith(cache)
        if not written or error.errno not in (errno.EACCES, errno.ENOTDIR, errno.EEXIST, *files.DISK_ERRORS):
            raise
        raise type(error)(
            f"the cache {cache} cannot be written ({error.strerror}): make room, or set CNNJAX_CACHE_DIR to another folder"
        ) from error


def _load(options: DatasetOptions, report: Callable[[str], None], wanted: Sequence[str]) -> Dataset:
    source = _folder_source(options, report) if is_folder(options.name) else _tfds_source(options, report)
    specs = dict(zip(SPLITS, source.default_splits(), strict=True))
    specs |= {split: spec for split in specs if (spec := getattr(options, f"{split}_split"))}
    wanted = SPLITS if options.folds else wanted
    specs = {split: spec for split, spec in specs.items() if split in wanted}
    for line in _overlaps(specs, source.counts):
        _warn_once(f"data set {options.name}: {line}")
    splits, prints = {}, []
    for split, spec in specs.items():
        images, labels, mark = _slice(source, spec, options, report)
        if not len(labels):
            raise ValueError(f"data set {options.name}: split {split} ({spec}) is empty: set dataset.{split}_split")
        _check_labels(labels, len(source.label_names), f"data set {options.name}, split {split} ({spec})")
        whole = Split(images, labels)
        splits[split] = _of_classes(whole, source.label_names, options) if options.classes else whole
        prints.append(f"{split}={spec}:{mark}")
    label_names = options.classes or source.label_names
    shapes = {split: part.images.shape[1:] for split, part in splits.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"data set {options.name}: image sizes differ between splits, {shapes}: set dataset.resize")
    key = prints[0] + (f" classes {', '.join(options.classes)}" if options.classes else "")
    if options.folds:
        splits["train"], splits["valid"] = _cross_validation(splits, options)
        key = f"{key} {prints[1]} fold {options.fold} of {options.folds}, {options.split_seed}"
    if options.examples_per_class and "train" in splits:
        splits["train"] = _few(splits["train"], label_names, options)
        key += f" {options.examples_per_class} a class, {options.split_seed}"
    # Measuring reads every image, which a stream does for those who normalise by it alone.
    measured = "train" in splits and (options.normalize == "dataset" or not options.streaming)
    if key != prints[0]:
        prints.append(key)
    return Dataset(
        name=options.name,
        label_names=tuple(label_names),
        splits=splits,
        statistics=_statistics(splits["train"].images, source.cache, key) if measured else None,
        fingerprint=hashlib.sha256("\n".join(prints).encode()).hexdigest()[:16],
    )


def sample_image(name: str) -> Path | None:
    """The file of a test image of a data set, to try predictions with; None of a set that comes without one."""
    known = KNOWN.get(ALIASES.get(name, name))
    return Path(__file__).with_name("builders") / known.sample if known and known.sample else None


def _overlaps(specs: Mapping[str, str], counts: Mapping[str, int]) -> Iterator[str]:
    """A line for every two splits whose slices share images, with how many."""
    members = {}
    for split, spec in specs.items():
        members[split] = {name: np.zeros(count, bool) for name, count in counts.items()}
        for name, start, stop in slice_bounds(spec, counts):
            members[split][name][start:stop] = True
    consequence = {
        "train": "its figures are not of unseen images",
        "valid": "its figures are of images that the checkpoint is chosen by",
    }
    for later, earlier in (("valid", "train"), ("test", "train"), ("test", "valid")):
        if later in members and earlier in members:
            shared = sum(int((members[later][name] & members[earlier][name]).sum()) for name in counts)
            if shared:
                own = sum(int(chosen.sum()) for chosen in members[later].values())
                yield (
                    f"{shared} of the {own} images of {later} ({specs[later]}) are in {earlier} ({specs[earlier]}) too: "
                    + consequence[earlier]
                )


@functools.cache
def _warn_once(line: str) -> None:
    """A study loads its data set many times."""
    logger.warning(line)


def imagenet_label_names() -> list[str]:
    """ImageNet's 1000 classes by their WordNet numbers ("n01440764", ...), in the order of the labels."""
    folder = importlib.resources.files("tensorflow_datasets")
    return (folder / "datasets/imagenet2012/labels.txt").read_text(encoding="utf-8").split()


def _shuffled_by_class(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """The positions of each class's examples, each class's in an order of its own drawn by the seed."""
    generator = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed])))
    return [generator.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]


def _cross_validation(splits: Mapping[str, Split], options: DatasetOptions) -> tuple[Split, Split]:
    """Train and valid of one fold: of every class the n-th example, in a drawn order, is of fold n modulo folds."""
    images = streaming.concatenate([splits["train"].images, splits["valid"].images])
    labels = np.concatenate([splits["train"].labels, splits["valid"].labels])
    most = np.bincount(labels).max()
    if options.folds > most:  # nothing would be in the last of them
        raise ValueError(
            f"config: dataset.folds={options.folds}: expected at most {most}, the examples of {options.name}'s largest class"
        )
    fold = np.zeros(len(labels), np.int32)
    for positions in _shuffled_by_class(labels, options.split_seed):
        fold[positions] = np.arange(len(positions)) % options.folds
    chosen = [np.flatnonzero(fold != options.fold), np.flatnonzero(fold == options.fold)]
    train, valid = (Split(streaming.take(images, part), labels[part]) for part in chosen)
    return train, valid


def _of_classes(split: Split, label_names: tuple[str, ...], options: DatasetOptions) -> Split:
    """The examples of the classes asked for, in the data set's order, numbered by the classes' own."""
    absent = [name for name in options.classes if name not in label_names]
    if absent:
        raise ValueError(f"data set {options.name}: {unknown('class', absent[0], label_names)}")
    number = np.full(len(label_names), -1, split.labels.dtype)
    number[[label_names.index(name) for name in options.classes]] = np.arange(len(options.classes))
    chosen = np.flatnonzero(number[split.labels] >= 0)
    if not len(chosen):
        raise ValueError(f"data set {options.name}: a split has no example of the classes {', '.join(options.classes)}")
    return Split(streaming.take(split.images, chosen), number[split.labels[chosen]])


def _few(train: Split, label_names: tuple[str, ...], options: DatasetOptions) -> Split:
    """So many examples of each class, in the data set's order; a larger number keeps those of a smaller."""
    by_class = _shuffled_by_class(train.labels, options.split_seed)
    scarce = [
        f"{label_names[train.labels[found[0]]]} {len(found)}"
        for found in by_class
        if len(found) < options.examples_per_class
    ]
    if scarce:
        raise ValueError(
            f"config: dataset.examples_per_class={options.examples_per_class}: some classes have fewer ({', '.join(scarce[:5])})"
        )
    chosen = np.sort(np.concatenate([found[: options.examples_per_class] for found in by_class]))
    return Split(streaming.take(train.images, chosen), train.labels[chosen])


def is_folder(name: str) -> bool:
    """Whether a data set's name means a folder of images."""
    return name.startswith((".", "/", "~")) or (
        ALIASES.get(name, name) not in KNOWN and Path(name).expanduser().is_dir()
    )


def _check_labels(labels: np.ndarray, classes: int, where: str) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        index = int(wrong[0])
        advice = (
            "the split is published without labels, choose another" if labels[index] == -1 else "the data are damaged"
        )
        raise ValueError(
            f"{where}: {len(wrong)} of {len(labels)} labels are outside 0..{classes - 1}, "
            f"the first is {labels[index]} at position {index}: {advice}"
        )


# --- where images come from: TFDS or a folder -----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Source:
    """A data set as the cache sees it."""

    label_names: tuple[str, ...]
    counts: Mapping[str, int]  # published splits
    splits: tuple[str, str, str] | None  # train, valid and test where they are known
    channels: int
    cache: Path
    read: Callable[[str], Iterator[tuple[bytes, int, str]]]  # split -> image file content, label, its name
    open: Callable[[str], streaming.Records]  # split -> the same at any position, for streaming

    def default_splits(self) -> tuple[str, str, str]:
        if self.splits:
            return self.splits
        if "test" in self.counts:
            return _PUBLISHED_VALIDATION if "validation" in self.counts else ("train[:90%]", "train[90%:]", "test")
        return _TEST_IS_VALIDATION if "validation" in self.counts else _TRAIN_ONLY


def _cache_folder(name: str, version: str, options: DatasetOptions) -> Path:
    """Where the arrays of a data set lie: by name, version, and the transforms that shape them."""
    shaping = {
        "cache": CACHE_VERSION,
        "color_space": options.color_space,
        "resize": options.resize,
        "resize_mode": options.resize_mode if options.resize else None,
        "crop": options.crop,
        "pad": options.pad,
    } | ({"unreadable": options.unreadable} if options.unreadable != "refuse" else {})
    key = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]
    return runtime.cache_directory() / "arrays" / name.replace("/", "-") / version / key


def _folder_source(options: DatasetOptions, report: Callable[[str], None]) -> _Source:
    root = Path(options.name).expanduser().resolve()
    listing = folders.list_folder(root, options.split_seed)
    if listing.ignored:
        first = ", ".join(str(path.relative_to(root)) for path in listing.ignored[:3])
        report(f"ignored {len(listing.ignored)} files that are not images: {first}")
    version = f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}-{listing.digest()}"
    cache = _cache_folder("folder", version, options)

    def builder() -> Any:
        from cnnjax.data.builders import folder

        # The builder's own directory has the digest in its name: TFDS would reuse it for other files.
        directory = runtime.cache_directory() / "folders" / version
        opened = _open_builder(partial(folder.Builder, listing, data_dir=directory), directory)
        return _prepared(opened, options.name, None, report)

    return _Source(
        label_names=listing.classes,
        counts={split: len(examples) for split, examples in listing.splits.items()},
        splits=None,
        channels=3,  # grey files among them are read as colour; dataset.color_space = "grey" reads all as grey
        cache=cache,
        read=lambda split: _read_builder(builder(), split, None),
        open=lambda split: _repaired(lambda: _open_records(builder(), split, None), report),
    )


def _tfds_source(options: DatasetOptions, report: Callable[[str], None]) -> _Source:
    name = ALIASES.get(options.name, options.name)
    known = KNOWN.get(name)
    base = runtime.cache_directory() / "arrays" / name.replace("/", "-")
    # Once cached, everything needed stands in source.json beside the arrays and TFDS is not imported.
    remembered = sorted(
        base.glob("*/source.json"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.parent.name)]
    )
    facts = None
    if remembered:
        with contextlib.suppress(OSError, ValueError):  # damaged, or of an older version: found out again
            facts = digests.read_sealed(remembered[-1])
    if facts is None:
        lock = runtime.cache_directory() / "locks" / f"{base.name}.lock"
        with files.locked(lock, f"preparing {name}", wait=True):
            builder = _repaired(lambda: _prepared_builder(name, options, report), report)
            facts = _facts(name, builder)
            (base / facts["version"]).mkdir(parents=True, exist_ok=True)
            digests.write_sealed(base / facts["version"] / "source.json", facts)

    keys = facts["image_key"], facts["label_key"]

    return _Source(
        label_names=tuple(facts["label_names"]),
        counts=facts["counts"],
        splits=known.splits if known else None,
        channels=facts["channels"],
        cache=_cache_folder(name, facts["version"], options),
        read=lambda split: _read_builder(_prepared_builder(name, options, report), split, keys),
        open=lambda split: _repaired(
            lambda: _open_records(_prepared_builder(name, options, report), split, keys), report
        ),
    )


def _image_and_label(name: str, builder: Any) -> tuple[str, str]:
    """The keys of an example's image and label.

    Raises:
      ValueError: it has none, or images that would have to be cut.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    pairs = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    images = [key for key, feature in pairs.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in pairs.items() if isinstance(feature, tfds.features.ClassLabel)]
    image_key, label_key = builder.info.supervised_keys or (None, None)
    image_key = image_key if image_key in images else next(iter(images), None)
    label_key = label_key if label_key in labels else next(iter(labels), None)
    if image_key is None or label_key is None:
        raise ValueError(
            f"data set {name} is not for image classification: expected an image and a class label, "
            f"found {', '.join(pairs) or type(features).__name__}"
        )
    depth, channels = np.dtype(features[image_key].np_dtype), features[image_key].shape[-1]
    if depth != np.uint8 or channels not in (None, 1, 3):
        raise ValueError(
            f"data set {name}: its images are {depth} of {channels or 'any'} channel(s), and uint8 of 1 (grey) or 3 (RGB) is "
            "read: make a folder of images of it, converted, and give that as dataset.name"
        )
    return image_key, label_key


def _facts(name: str, builder: Any) -> dict[str, Any]:
    """What `source.json` remembers of a prepared TFDS data set."""
    features = builder.info.features
    image_key, label_key = _image_and_label(name, builder)
    return {
        "version": str(builder.info.version),
        "label_names": list(features[label_key].names),
        "counts": {split: info.num_examples for split, info in builder.info.splits.items()},
        "channels": features[image_key].shape[-1] or 3,
        "image_key": image_key,
        "label_key": label_key,
    }


def _file_format() -> str:
    """array_record, or parquet where array_record has no wheel."""
    import importlib.util

    return "array_record" if importlib.util.find_spec("array_record") else "parquet"


class DamagedError(ValueError):
    """Prepared data cannot be read."""

    def __init__(self, folder: Path, reason: Exception | str):
        lines = str(reason).splitlines() or [type(reason).__name__]
        super().__init__(f"{folder} is damaged ({lines[0]}): delete it, and it is prepared anew")
        self.folder, self.reason = folder, lines[0]


def _repaired(make: Callable[[], Any], report: Callable[[str], None]) -> Any:
    """What `make` returns; where prepared data in the cache are damaged they are deleted, which it then prepares anew."""
    try:
        return make()
    except DamagedError as damaged:
        if not damaged.folder.is_relative_to(runtime.cache_directory()):  # the user's own
            raise
        report(f"{damaged.folder} is damaged ({damaged.reason}): preparing it anew")
        shutil.rmtree(damaged.folder, ignore_errors=True)  # gone, or being deleted by another process
        return make()


def _open_builder(make: Callable[..., Any], folder: Path) -> Any:
    """A builder that reads what is prepared in whatever format, or else will prepare in ours.

    Raises:
      DamagedError: what TFDS says of the data, in `folder`, cannot be read.
    """
    from google.protobuf import json_format

    try:
        builder = make()
        return builder if builder.info.splits else make(file_format=_file_format())
    except Exception as error:
        for reason in (error, error.__cause__):  # TFDS raises some again as a RuntimeError
            if isinstance(reason, json_format.ParseError | UnicodeDecodeError | AssertionError):
                raise DamagedError(folder, reason) from None
        raise


def _prepared(builder: Any, name: str, manual_dir: str | None, report: Callable[[str], None]) -> Any:
    """The builder, its data downloaded and prepared."""
    if not builder.is_prepared() or not builder.info.splits:
        downloads.prepare(builder, name, KNOWN.get(name), manual_dir, report)
    if not builder.info.splits:
        raise DamagedError(Path(builder.data_dir), "dataset_info.json is gone")
    return builder


def _prepared_builder(name: str, options: DatasetOptions, report: Callable[[str], None]) -> Any:
    """The TFDS builder of a data set, downloaded and prepared."""
    import tensorflow_datasets as tfds

    from cnnjax.data import tensorflow_standin

    tensorflow_standin.install()
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns of folders that it is about to make
    data_dir = Path(options.data_dir).expanduser() if options.data_dir else default_data_dir()
    if name in KNOWN and KNOWN[name].download == "embedded":
        builders = importlib.import_module(f"cnnjax.data.builders.{name}")
        embedded = runtime.cache_directory() / "embedded"
        builder = _open_builder(partial(builders.Builder, data_dir=embedded), embedded / name)
    else:
        try:
            builder = _open_builder(partial(tfds.builder, name, data_dir=data_dir), data_dir / name)
        except DamagedError:
            raise
        except tfds.core.DatasetNotFoundError:
            choices = {*KNOWN, *ALIASES, *tfds.list_builders(with_community_datasets=False)}
            raise ValueError(unknown("data set", name, choices, "(`cnnjax datasets` lists them)")) from None
        except ValueError as error:  # an unknown configuration, as in emnist/nothing
            reason = str(error).splitlines()[0].split('": ', 1)[-1]
            raise ValueError(f"data set {name}: {reason}") from None
    _image_and_label(name, builder)  # before anything is downloaded
    return _prepared(builder, name, options.manual_dir, report)


def _read_builder(builder: Any, split: str, keys: tuple[str, str] | None) -> Iterator[tuple[bytes, int, str]]:
    """Every example of a published split: the image file's bytes, its label, and a name for errors.

    Raises:
      DamagedError: the records cannot be read.
    """
    import tensorflow_datasets as tfds

    from cnnjax.data import tensorflow_standin

    tensorflow_standin.install()
    image_key, label_key = keys or ("image", "label")
    decoders = {image_key: tfds.decode.SkipDecoding()}
    if builder.info.file_format.value == "tfrecord":
        records = _read_tfrecords(builder, split, decoders)
    else:
        records = _read_records(builder, split, decoders)
    for index, record in enumerate(records):
        name = record["file"].decode() if "file" in record else f"{builder.name} {split}[{index}]"
        yield record[image_key], int(record[label_key]), name


@contextlib.contextmanager
def _named_if_damaged(builder: Any) -> Iterator[None]:
    """What the libraries that read records raise of damage, each its own, as a DamagedError."""
    try:
        yield
    except (ImportError, MemoryError, PermissionError):  # no damage
        raise
    except Exception as error:
        raise DamagedError(Path(builder.data_dir), error) from None


def _read_records(builder: Any, split: str, decoders: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    with _named_if_damaged(builder):
        source = builder.as_data_source(split=split, decoders=decoders)
        count = len(source)
    for start in range(0, count, 1000):  # in thousands: twice as fast as one by one
        with _named_if_damaged(builder):
            records = source.__getitems__([*range(start, min(start + 1000, count))])
        yield from records


def _open_records(builder: Any, split: str, keys: tuple[str, str] | None) -> streaming.Records:
    """A published split's image files by position, (content, name), read when asked for."""
    import tensorflow_datasets as tfds

    from cnnjax.data import tensorflow_standin

    tensorflow_standin.install()
    if builder.info.file_format.value == "tfrecord":
        raise ValueError(
            f"dataset.streaming: {builder.name} is prepared as TFRecord, which cannot be read at any position: prepare it "
            "anew in another dataset.data_dir, or set dataset.streaming to False"
        )
    image_key, _ = keys or ("image", "label")
    with _named_if_damaged(builder):
        source = builder.as_data_source(split=split, decoders={image_key: tfds.decode.SkipDecoding()})
        len(source)

    def record(position: int) -> tuple[bytes, str]:
        with _named_if_damaged(builder):
            found = source[position]
        return found[image_key], found["file"].decode() if "file" in found else f"{builder.name} {split}[{position}]"

    return record


def _read_tfrecords(builder: Any, split: str, decoders: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The examples of a split that was prepared with TensorFlow, whose files TFDS cannot read without it.

    A TFRecord file is a sequence of: length (8 bytes, little-endian), its checksum (4), the record, its checksum (4).
    """
    for path in builder.info.splits[split].filepaths:
        with open(path, "rb") as file:
            while header := file.read(12):
                length = int.from_bytes(header[:8], "little")
                record, checksum = file.read(length), file.read(4)
                if len(header) < 12 or len(record) < length or len(checksum) < 4:
                    raise DamagedError(Path(builder.data_dir), f"{Path(path).name} ends within a record")
                yield builder.info.features.deserialize_example_np(record, decoders=decoders)


# --- arrays in files ------------------------------------------------------------------------------------------

_SLICE = re.compile(r"^(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?$")


def slice_bounds(spec: str, counts: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """A TFDS slice as (split, from, to): "train[:90%]+test" of 100 and 10 -> [("train", 0, 90), ("test", 0, 10)].

    Percentages are rounded to the nearest example as TFDS rounds them.

    Raises:
      ValueError: the text is not a slice, or there is no such split.
    """
    parts = []
    for part in spec.replace(" ", "").split("+"):
        match = _SLICE.match(part)
        if not match:
            raise ValueError(f"split {spec!r}: expected a TFDS slice, such as train, train[:90%] or train[1000:]+test")
        name, start, stop = match.groups()
        if name not in counts:
            raise ValueError(unknown("split", name, counts))
        size = counts[name]
        first = _position(start, size, 0)
        if start and stop and start.endswith("%") != stop.endswith("%"):
            raise ValueError(f"split {spec!r}: both ends of a slice must be examples, or both percentages")
        parts.append((name, first, max(first, _position(stop, size, size))))
    return parts


def _position(text: str | None, size: int, default: int) -> int:
    if text is None:
        return default
    value = round(int(text[:-1]) * size / 100) if text.endswith("%") else int(text)
    return min(max(value + size if value < 0 else value, 0), size)


def _slice(
    source: _Source, spec: str, options: DatasetOptions, report: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray, str]:
    """Images, labels and a mark of their content for a slice; a view where it is one range of one split."""
    images, labels, marks = [], [], []
    if options.streaming:
        for name, start, stop in slice_bounds(spec, source.counts):
            positions, known, mark = _indexed_split(source, name, options, report)
            chosen = slice(*np.searchsorted(positions, [start, stop]))
            images.append(streaming.StreamedImages(source.open(name), positions[chosen], options, source.channels))
            labels.append(known[chosen])
            marks.append(mark)
        return streaming.concatenate(images), np.concatenate(labels), "+".join(marks)
    for name, start, stop in slice_bounds(spec, source.counts):
        folder = _cached_split(source, name, options, report)
        chosen = slice(start, stop)
        if (folder / "positions.npy").exists():  # some were left out
            chosen = slice(*np.searchsorted(np.load(folder / "positions.npy"), [start, stop]))
        images.append(np.load(folder / "images.npy", mmap_mode="r")[chosen])
        labels.append(np.load(folder / "labels.npy")[chosen])
        marks.append(digests.read_sealed(folder / "about.json")["sha256"])
    if len(images) == 1:
        return images[0], labels[0], marks[0]
    return np.concatenate(images), np.concatenate(labels), "+".join(marks)


def _cached_split(source: _Source, split: str, options: DatasetOptions, report: Callable[[str], None]) -> Path:
    """The folder that holds a published split's arrays, made if absent or damaged."""
    folder, count = source.cache / split, source.counts[split]
    if _damage(folder, count) is None:
        return folder
    with files.locked(source.cache / f".{split}.lock", f"caching {options.name}", wait=True):
        if (damage := _damage(folder, count)) is not None:
            again = f" anew, since what was cached is damaged ({damage})" if folder.exists() else ""
            report(f"caching {count} images of {options.name} ({split}){again}")
            _repaired(lambda: _cache(source, split, options, folder, report), report)
    return folder


def _cache(source: _Source, split: str, options: DatasetOptions, folder: Path, report: Callable[[str], None]) -> None:
    for left in folder.parent.glob(f".{folder.name}.*"):  # of a process that was killed as it cached: we hold the lock
        if left.is_dir():
            shutil.rmtree(left)
    with files.made_whole(folder) as temporary:
        content = _write_arrays(source, split, options, temporary, report)
        names = sorted(path.name for path in temporary.glob("*.npy"))
        about = {
            "sha256": content,
            "folder": _place(folder),
            "published": source.counts[split],
            "files": {name: digests.file_digests(temporary / name) for name in names},
        }
        digests.write_sealed(temporary / "about.json", about)


def _damage(folder: Path, count: int) -> str | None:
    """What is wrong with cached arrays, in a few words; None if they are as they were written, for that many images."""
    try:
        about = digests.read_sealed(folder / "about.json")
        if about["folder"] != _place(folder):
            return f"it was {about['folder']}"
        if about["published"] != count:
            return f"it is of {about['published']} images"
        changed = digests.changed_file(folder, folder / "about.json", about["files"])
        return changed and f"{changed} differs from its digest"
    except OSError as error:
        return f"{Path(error.filename or folder).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return "about.json is damaged, or was edited"


def _place(folder: Path) -> str:
    """Which split of which version of which data set a folder holds, prepared how: so that none is taken for another."""
    return "/".join(folder.parts[-4:])


def _indexed_split(
    source: _Source, split: str, options: DatasetOptions, report: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray, str]:
    """Of a published split that is streamed: the positions of its readable images, their labels, a mark of the content."""
    path, count = source.cache / f"index-{split}-{options.unreadable}.npz", source.counts[split]
    if (index := _read_index(path, count)) is None:
        with files.locked(source.cache / f".{split}.lock", f"indexing {options.name}", wait=True):
            if (index := _read_index(path, count)) is None:
                again = " anew, since the index is damaged" if path.exists() else ""
                report(f"indexing {count} images of {options.name} ({split}){again}")
                index = _repaired(lambda: _index(source, split, options, report), report)
                buffer = io.BytesIO()
                np.savez(buffer, positions=index[0], labels=index[1], mark=index[2], published=count)
                files.write_atomically(path, buffer.getvalue())
    return index


def _read_index(path: Path, count: int) -> tuple[np.ndarray, np.ndarray, str] | None:
    """The index of a split of that many images; None where there is none, or a damaged one (a zip file has checksums)."""
    try:
        with np.load(io.BytesIO(path.read_bytes())) as stored:  # NumPy leaves a damaged file open
            if int(stored["published"]) == count:
                return stored["positions"], stored["labels"], str(stored["mark"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error):
        pass
    return None


def _index(
    source: _Source, split: str, options: DatasetOptions, report: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray, str]:
    positions, labels, bad, digest = [], [], [], hashlib.sha256()
    for position, (content, label, name) in enumerate(source.read(split)):
        if options.unreadable == "skip":  # then all must be looked at now; else they are when they are needed
            try:
                transforms.decode(content, name)
            except ValueError as error:
                bad.append(str(error))
                continue
        positions.append(position)
        labels.append(label)
        digest.update(hashlib.sha256(content).digest())
    digest.update(np.array(labels, np.int32).tobytes())
    _report_skipped(bad, source.counts[split], options.name, report)
    return np.array(positions, np.int64), np.array(labels, np.int32), digest.hexdigest()


def _report_skipped(bad: list[str], count: int, name: str, report: Callable[[str], None]) -> None:
    if bad:
        report(f"skipped {len(bad)} of {count} images of {name} that cannot be read: {'; '.join(bad[:3])}")


def _write_arrays(
    source: _Source, split: str, options: DatasetOptions, folder: Path, report: Callable[[str], None]
) -> str:
    """Writes a published split's images and labels, and which were kept where some were left out; their content's SHA-256."""
    count = source.counts[split]
    images: np.ndarray | None = None
    labels = np.zeros(count, np.int32)
    digest = hashlib.sha256()
    bad: list[str] = []
    skipped: list[int] = []
    turned = 0
    for index, (content, label, name) in enumerate(source.read(split)):
        try:
            picture = transforms.decode(content, name)
            pixels = transforms.prepare(picture, options, source.channels)
        except ValueError as error:
            bad.append(str(error) if str(error).startswith(name) else f"{name}: {error}")
            skipped.append(index)
            continue
        turned += transforms.TURNED in picture.info
        if images is None:
            _check_room(folder, count * pixels.nbytes, options.name)
            images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, *pixels.shape))
        if pixels.shape != images.shape[1:]:
            raise ValueError(
                f"data set {options.name}: {name} is {pixels.shape[0]}x{pixels.shape[1]} and an earlier image "
                f"{images.shape[1]}x{images.shape[2]}: set dataset.resize to one size, such as (64, 64)"
            )
        images[index], labels[index] = pixels, label
        digest.update(pixels)
    if bad and options.unreadable == "skip":
        _report_skipped(bad, count, options.name, report)
        kept = np.array(sorted({*range(count)} - {*skipped}), np.int64)
        np.save(folder / "positions.npy", kept)
        if len(kept):
            np.save(folder / "kept.npy", images[kept])
            del images  # Windows replaces no file that is mapped
            os.replace(folder / "kept.npy", folder / "images.npy")
            images = np.load(folder / "images.npy", mmap_mode="r+")
        labels, count = labels[kept], len(kept)
    elif bad:
        raise ValueError(
            f"data set {options.name}: {len(bad)} of {count} images cannot be read: {'; '.join(bad[:3])} "
            '(dataset.unreadable="skip" leaves them out)'
        )
    if turned:
        report(f"turned {turned} of {count} images of {options.name} ({split}) upright, as their EXIF orientation says")
    if images is not None:
        images.flush()
    else:
        np.save(folder / "images.npy", np.zeros((0, 1, 1, source.channels), np.uint8))
    digest.update(labels.tobytes())
    np.save(folder / "labels.npy", labels)
    return digest.hexdigest()


def _check_room(folder: Path, needed: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"data set {name} needs {needed / 2**30:.1f} GiB in {runtime.cache_directory()} and {free / 2**30:.1f} GiB are "
            "free: make room, choose a smaller dataset.resize, or set CNNJAX_CACHE_DIR to another disk"
        )


def _statistics(images: np.ndarray, cache: Path, key: str) -> transforms.Statistics:
    """The training split's statistics, remembered beside the arrays."""
    path = cache / f"statistics-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # absent or damaged: measured again
        stored = digests.read_sealed(path)
        return transforms.Statistics(
            *(tuple(stored[field.name]) for field in dataclasses.fields(transforms.Statistics))
        )
    statistics = transforms.measure(images)
    digests.write_sealed(path, dataclasses.asdict(statistics))
    return statistics


def default_data_dir() -> Path:
    """Where TFDS keeps prepared data sets."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def state(name: str) -> str:
    """In a word, what it takes to use a data set here: "cached", "prepared", "embedded", or the download."""
    if any((runtime.cache_directory() / "arrays" / name.replace("/", "-")).glob("*/*/*/about.json")):
        return "cached"
    if KNOWN[name].download == "embedded":
        return "embedded"
    if any((default_data_dir() / name).glob("**/dataset_info.json")):
        return "prepared"
    if name == "fashion_mnist" and downloads.debian_fashion_mnist():
        return "on this machine (Debian)"
    return f"download, {KNOWN[name].download}" if KNOWN[name].download != "by hand" else "by hand"
