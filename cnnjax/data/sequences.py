"""Data sets from sequences: any object with `len` and `[index]` that returns an image and its label.

Examples are a torch `Dataset`, a Hugging Face `datasets.Dataset`, a grain source and a list of pairs. Each is read once, by
threads. Its labels and a digest of every image are kept, and the images too if they fit; otherwise they are read when needed.
"""

import contextlib
import dataclasses
import hashlib
import io
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, Shaped, UInt64
from PIL import Image

from cnnjax.core import files, runtime
from cnnjax.core.locate import OBJECT
from cnnjax.core.options import unknown
from cnnjax.data import arrays, transforms
from cnnjax.data.array_files import SPATIAL_AXES
from cnnjax.data.batches import RESIDENT_BYTES
from cnnjax.data.cache import cached_statistics, report_skipped, unreadable_error
from cnnjax.data.datasets import PREPARING, Dataset, DatasetOptions, Split, dataset_options, select
from cnnjax.data.folders import SPLIT_FOLDERS
from cnnjax.data.slices import SPLITS
from cnnjax.data.streaming import StreamedImages, made_ahead


@dataclasses.dataclass(frozen=True)
class Keys:
    """The positions of the image and the label in an example.

    Attributes:
      image: the key of the image in a mapping, or its position in a tuple.
      label: the key or position of the label; several give a row of values.
      channels_first: whether the axis of channels comes first in an array; None means first in torch tensors only.
    """

    image: str | int = "image"
    label: str | int | tuple[str | int, ...] = "label"
    channels_first: bool | None = None


def from_sequence(
    train: Any,
    valid: Any = None,
    test: Any = None,
    *,
    image: str | int = "image",
    label: str | int | Sequence[str | int] = "label",
    channels_first: bool | None = None,
    label_names: Sequence[str] | None = None,
    version: str | None = None,
    name: str = "sequence",
    report: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Dataset:
    """A data set from sequences: objects with `len` and `[index]` that return examples, such as torch or Hugging Face data sets.

    An example is a mapping, or a pair (image, label). An image is an array (*spatial, channel), a Pillow image, the bytes or the
    path of an image file, or a torch tensor (channel, *spatial), which is transposed. A tensor or an array with two axes is an
    image without an axis of channels (`spatial_axes=1` makes it a signal). Values are unchanged, including floats of 0 to 1.
    A label is a number, a text, or an array.

    Each sequence is read once, by threads, for its labels and a digest of its content. Its images are kept in memory up to 2 GiB per
    split, otherwise they are read when needed. An example must be the same each time: leave random transforms out, and use the
    config's `augment`.

    Args:
      train: the sequence to train on.
      valid: the sequence to validate on; None draws a tenth of train, by class if labels are classes.
      test: the sequence to test on; None draws another tenth of train.
      image: the key of an example's image, or its position in a tuple.
      label: the key or position of the label; several give a row of values, or of 0 and 1.
      channels_first: whether arrays are (channel, *spatial); None means this for torch tensors only.
      label_names: the names of the classes; None takes those of the sequence (`features[label].names`, or `classes`).
      version: a text that changes whenever the content does. With it, the labels and digests of images that are not kept in
        memory are stored in the cache, so that the sequence is not read at each start. A Hugging Face data set has its own.
      name: the name of the data set in messages.
      report: a function that is called with one line for each step that takes a while.
      **options: fields of the config's `dataset` section: `resize=(64, 64)`, `streaming=True`, `split_seed`, `workers`.

    Raises:
      ValueError: an example is invalid (the message has its position) or differs when it is read again; or an argument is not a
        sequence.

    >>> examples = [(np.full((8, 8, 1), index, np.uint8), index % 2) for index in range(20)]
    >>> data = from_sequence(examples, label_names=["even", "odd"])
    >>> data.image_shape, {name: len(split) for name, split in data.splits.items()}
    ((8, 8, 1), {'train': 16, 'valid': 2, 'test': 2})
    """
    keys = Keys(image, label if isinstance(label, str | int) else tuple(label), channels_first)
    given = {split: part for split, part in zip(SPLITS, (train, valid, test), strict=True) if part is not None}
    chosen = dataset_options({**options, "name": name})
    return _chosen(_read(given, keys, label_names, version, chosen, report), chosen)


def as_dataset(given: Any, options: DatasetOptions, report: Callable[[str], None] = lambda line: None) -> Dataset:
    """Converts the user's data, given from Python or by a function that `dataset.name` names, to a data set.

    Args:
      given: a `Dataset`; a sequence; (images, labels) as arrays; or a sequence or arrays for each split, as a tuple of train,
        valid and test or as a mapping by their names.
      options: the config's `dataset` section.
      report: a function that is called with one line for each step that takes a while.

    Raises:
      ValueError: invalid fields or examples, or an argument that is not a data set.
    """
    if isinstance(given, Dataset):
        return select(given, options)
    return (given if isinstance(given, ReadOnce) else ReadOnce(given)).dataset(options, report)


class ReadOnce:
    """A data set passed by the user that is read only once for each way of preparing it, however many trials of a study use it.

    Args:
      given: the data set, as for `as_dataset`, except a `Dataset`.
    """

    def __init__(self, given: Any):
        self.name = name_of(given)
        self._parts = _parts(given)
        self._whole: dict[tuple[Any, ...], Dataset] = {}

    def dataset(self, options: DatasetOptions, report: Callable[[str], None] = lambda line: None) -> Dataset:
        """The data set that a config's `dataset` section describes; see `as_dataset`."""
        options = dataclasses.replace(options, name=options.name.removeprefix(OBJECT))
        in_memory = all(map(_is_pair, self._parts.values()))
        way = tuple(
            getattr(options, field) for field in (*PREPARING, "resize_mode", "unreadable", "split_seed", "name")
        )
        if way not in self._whole:
            self._whole[way] = (
                arrays.from_arrays(**self._parts, seed=options.split_seed, name=options.name)
                if in_memory
                else _read(self._parts, Keys(), None, None, options, report)
            )
        return select(self._whole[way], options) if in_memory else _chosen(self._whole[way], options)


def read_once(given: Any) -> Dataset | ReadOnce | None:
    """A data set passed by the user, or None, in a form that trials with the same preparation read only once."""
    return given if given is None or isinstance(given, Dataset | ReadOnce) else ReadOnce(given)


def name_of(given: Any) -> str:
    """The name of the user's data: its own name, or the name of its class."""
    return given.name if isinstance(given, Dataset | ReadOnce) else type(given).__name__


def _parts(given: Any) -> dict[str, Any]:
    """The user's data by split."""
    if isinstance(given, Mapping):
        parts = {SPLIT_FOLDERS.get(str(key).lower()): part for key, part in given.items()}
        parts = {"valid" if split == "validation" else split: part for split, part in parts.items()}
        if None in parts or "train" not in parts or len(parts) < len(given):
            raise ValueError(f"a data set by split: expected train, valid and test, got {', '.join(map(str, given))}")
        return parts
    if isinstance(given, tuple) and not _is_pair(given) and not hasattr(given, "_fields"):
        if not 1 <= len(given) <= 3:
            raise ValueError(
                f"a data set as a tuple: expected train, valid and test, or (images, labels), got {len(given)} items"
            )
        return {split: part for split, part in zip(SPLITS, given, strict=False) if part is not None}
    return {"train": given}


def _is_pair(given: Any) -> bool:
    """Whether a value is (images, labels), both arrays."""
    return (
        isinstance(given, tuple) and len(given) == 2 and all(isinstance(part, np.ndarray | jax.Array) for part in given)
    )


def _read(
    given: Mapping[str, Any],
    keys: Keys,
    label_names: Sequence[str] | None,
    version: str | None,
    options: DatasetOptions,
    report: Callable[[str], None],
) -> Dataset:
    """The data set of the given sequences, prepared by the options, before any selection of examples."""
    for split, sequence in given.items():
        _check_sequence(sequence, f"{options.name}, {split}")
    kind = _kind(given["train"], keys, options)
    read = {
        split: _remembered(sequence, split, keys, options, kind, version, report) for split, sequence in given.items()
    }
    labels = read["train"][0].labels
    if label_names is None:
        label_names = _own_names(given["train"], keys, labels)
    if labels.dtype.kind == "U":
        read, label_names = _numbered(read, label_names)
    splits = {
        split: Split(part.images, arrays.as_targets(part.labels, f"{options.name}, {split}"))
        for split, (part, _) in read.items()
    }
    marks = {split: digests for split, (_, digests) in read.items()}
    lazy = isinstance(splits["train"].images, StreamedImages)
    splits, names, marks = arrays.arranged(splits, label_names, options.split_seed, options.name, marks)
    facts = arrays.content_facts(splits, names, label_names is None, marks, measured=not lazy)
    return arrays.described(options.name, names, splits, facts)


def _chosen(dataset: Dataset, options: DatasetOptions) -> Dataset:
    """The examples that a config selects from sequences that have been read, with their images already prepared."""
    usual = DatasetOptions()
    rest = dataclasses.replace(options, **{field: getattr(usual, field) for field in PREPARING})
    return select(dataset, rest, lambda images, key: cached_statistics(images, _cache(), key))


def _check_sequence(sequence: Any, where: str) -> None:
    try:
        count = len(sequence)
    except (TypeError, NotImplementedError):  # the second from base classes without `__len__`
        count = None
    if count is None or not hasattr(sequence, "__getitem__"):
        raise ValueError(
            f"{where}: expected a data set of cnnjax.from_arrays, a sequence (len() and [index]), or (images, labels) as arrays, got "
            f"{type(sequence).__name__}"
        )
    if not count:
        raise ValueError(f"{where}: the sequence is empty")


def _kind(sequence: Any, keys: Keys, options: DatasetOptions) -> tuple[int, str]:
    """The channels and the type of a sequence's first image.

    Raises:
      ValueError: the first example differs when it is read again.
    """
    where = f"{options.name}, train[0]"
    try:
        examples = sequence[0], sequence[0]
    # Raised by a pandas table, by an iterable without an index, and by a torch Dataset without `__getitem__`.
    except (KeyError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"{where}: expected a sequence, whose [0] is its first example; {type(sequence).__name__} raises {type(error).__name__}"
        ) from error
    contents = [_example(example, keys, options, where)[0] for example in examples]
    first, again = (transforms.decode(content, where, options.spatial_axes) for content in contents)
    if not np.array_equal(np.asarray(first), np.asarray(again)):
        raise ValueError(
            f"{where} differs when it is read again: leave the sequence's random transforms out, and use the config's augment"
        )
    if isinstance(first, Image.Image) and first.mode in ("1", "L") and options.color_space is None:
        return 1, "uint8"
    return transforms.kind(first)


def _example(example: Any, keys: Keys, options: DatasetOptions, where: str) -> tuple[transforms.Content, Any]:
    """The image of an example, as `transforms.decode` takes it, and its label.

    Raises:
      ValueError: the example has no such image or label; the message has `where`.
    """
    if isinstance(example, Mapping):
        for key in (keys.image, *_label_keys(keys)):
            if key not in example:
                raise ValueError(
                    f"{where}: {unknown('key', str(key), map(str, example))} (image=... and label=... of cnnjax.from_sequence)"
                )
        image, labels = example[keys.image], [example[key] for key in _label_keys(keys)]
    elif isinstance(example, tuple | list):
        places = [key if isinstance(key, int) else place for place, key in enumerate((keys.image, *_label_keys(keys)))]
        if max(places) >= len(example) or (len(example) != 2 and isinstance(keys.image, str)):
            raise ValueError(
                f"{where}: expected a pair (image, label), got {len(example)} items: give the positions, such as image=0 and label=1, to "
                "cnnjax.from_sequence"
            )
        image, *labels = (example[place] for place in places)
    else:
        raise ValueError(f"{where}: expected a mapping or a pair (image, label), got {type(example).__name__}")
    label = labels[0] if isinstance(keys.label, str | int) else np.stack([_number(value, where) for value in labels])
    return _content(image, keys, options, where), _number(label, where)


def _label_keys(keys: Keys) -> tuple[str | int, ...]:
    return (keys.label,) if isinstance(keys.label, str | int) else keys.label


def _number(label: Any, where: str) -> np.ndarray:
    """A label as an array."""
    label = _tensor(label, where) if _is_tensor(label) else np.asarray(label)
    if label.dtype.kind not in "biufU" or (label.dtype.kind == "U" and label.ndim):
        raise ValueError(f"{where}: expected numbers or one text as label, got {label.dtype} of shape {label.shape}")
    return label


def _content(image: Any, keys: Keys, options: DatasetOptions, where: str) -> transforms.Content:
    """An image as `transforms.decode` takes it, with the axis of channels last."""
    if (
        isinstance(image, Mapping) and {"bytes", "path"} <= image.keys()
    ):  # as Hugging Face writes images that are not decoded
        image = image["bytes"] or image["path"]
    if isinstance(image, str | Path):
        image = Path(image).read_bytes()
    if isinstance(image, bytes | Image.Image):
        return image
    tensor = _is_tensor(image)
    array = _tensor(image, where) if tensor else arrays.as_array(image, where)
    spatial = options.spatial_axes or SPATIAL_AXES.get(array.ndim, array.ndim)
    if array.ndim != spatial + 1:  # without channels, or refused by `decode`
        return array
    if keys.channels_first is None and tensor and spatial == 2 and array.shape[-1] <= 4 < array.shape[0]:
        raise ValueError(
            f"{where}: a tensor of shape {tuple(array.shape)} would have {array.shape[0]} channels in the first axis: if channels are the "
            "last axis, pass channels_first=False to cnnjax.from_sequence"
        )
    first = tensor if keys.channels_first is None else keys.channels_first
    return np.ascontiguousarray(np.moveaxis(array, 0, -1)) if first else array


def _is_tensor(value: Any) -> bool:
    """Whether a value is a torch tensor, found without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _tensor(value: Any, where: str) -> np.ndarray:
    try:
        return value.detach().cpu().numpy()
    except TypeError:
        raise ValueError(f"{where}: NumPy has no {value.dtype}: give value.float()") from None


def _cache() -> Path:
    """The cache folder for sequences."""
    folder = runtime.cache_directory() / "sequences"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _remembered(
    sequence: Any,
    split: str,
    keys: Keys,
    options: DatasetOptions,
    kind: tuple[int, str],
    version: str | None,
    report: Callable[[str], None],
) -> tuple[Split, UInt64[np.ndarray, "example"]]:
    """The result of `_read_split`; for images that are read when needed, from the cache if it has their version."""
    where = f"{options.name}, {split}"
    version = _own_version(sequence) if version is None else version

    def records(position: int) -> tuple[transforms.Content, str]:
        name = f"{where}[{position}]"
        return _example(sequence[position], keys, options, name)[0], name

    def lazy(positions: Int[np.ndarray, "example"]) -> StreamedImages:
        return StreamedImages(records, positions, options, *kind)

    fields = [getattr(options, field) for field in (*PREPARING, "resize_mode", "unreadable")]
    key = hashlib.sha256(repr((version, options.name, split, len(sequence), keys, kind, fields)).encode()).hexdigest()[
        :16
    ]
    path = _cache() / f"{key}.npz"
    if version is not None:
        with contextlib.suppress(
            OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error
        ):  # absent or damaged
            stored = np.load(io.BytesIO(path.read_bytes()))  # a zip file, which has checksums
            return Split(lazy(stored["positions"]), stored["labels"]), stored["digests"]
    positions, images, labels, digests = _read_split(sequence, where, keys, options, kind, report)
    if images is not None:
        return Split(images, labels), digests
    if version is not None:
        buffer = io.BytesIO()
        np.savez(buffer, positions=positions, labels=labels, digests=digests)
        files.write_atomically(path, buffer.getvalue())
    return Split(lazy(positions), labels), digests


def _own_version(sequence: Any) -> str | None:
    """A Hugging Face data set's own fingerprint of its files and transforms; None for other sequences."""
    found = getattr(sequence, "_fingerprint", None)  # huggingface.co/docs/datasets/about_cache
    return found if isinstance(found, str) else None


def _read_split(
    sequence: Any,
    where: str,
    keys: Keys,
    options: DatasetOptions,
    kind: tuple[int, str],
    report: Callable[[str], None],
) -> tuple[Int[np.ndarray, "example"], np.ndarray | None, np.ndarray, UInt64[np.ndarray, "example"]]:
    """Reads every example of a sequence once: the positions of readable examples, their images if they fit, labels and digests."""
    count = len(sequence)

    def read(position: int) -> tuple[np.ndarray | str, np.ndarray]:
        """The prepared image, or the reason why it cannot be read, and the label."""
        name = f"{where}[{position}]"
        content, label = _example(sequence[position], keys, options, name)
        try:
            with transforms.naming(name):
                decoded = transforms.decode(content, name, options.spatial_axes)
                _check_colour(decoded, options, kind)
                return transforms.prepare(decoded, options, *kind), label
        except ValueError as error:
            return str(error), label

    report(f"reading {count} examples of {where}")
    images: np.ndarray | None = None
    kept, labels, digests, bad = [], [], [], []
    shape: tuple[int, ...] | None = None
    for position, (pixels, label) in enumerate(made_ahead(read, 0, count, options.workers)):
        if isinstance(pixels, str):
            bad.append(pixels)
            continue
        if shape is None:
            shape = pixels.shape
            if not options.streaming and count * pixels.nbytes <= RESIDENT_BYTES:
                images = np.empty((count, *shape), pixels.dtype)
        if pixels.shape != shape:
            raise ValueError(transforms.differing_sizes(f"{where}[{position}]", pixels.shape, "the first image", shape))
        if labels and (label.shape != labels[0].shape or label.dtype.kind != labels[0].dtype.kind):
            raise ValueError(
                f"{where}[{position}]: the label is {label.dtype} of shape {label.shape}, the first {labels[0].dtype} of "
                f"{labels[0].shape}: give all labels one type and one shape"
            )
        if images is not None:
            images[len(kept)] = pixels
        kept.append(position)
        labels.append(label)
        digests.append(arrays.image_digest(pixels))
    if bad and (options.unreadable != "skip" or not kept):
        raise unreadable_error(bad, count, where)
    report_skipped(bad, count, where, report)
    positions = np.array(kept, np.int64)
    held = None if images is None else images[: len(kept)]
    return positions, held, np.stack(labels), np.frombuffer(b"".join(digests), np.uint64)


def _check_colour(decoded: transforms.Decoded, options: DatasetOptions, kind: tuple[int, str]) -> None:
    """Refuses a picture in colour among grey ones, whose colour would be lost."""
    if (
        options.color_space is None
        and kind[0] == 1
        and isinstance(decoded, Image.Image)
        and decoded.mode not in ("1", "L")
    ):
        raise ValueError(
            f"it holds {transforms.holds(decoded)}, but the first image is grey: set dataset.color_space to 'grey' or 'rgb'"
        )


def _own_names(sequence: Any, keys: Keys, labels: Shaped[np.ndarray, "example ..."]) -> Sequence[str] | None:
    """The names of a sequence's classes (Hugging Face's `features` or torchvision's `classes`), or of the label columns."""
    if not isinstance(keys.label, str | int):
        return tuple(map(str, keys.label))
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":  # not classes
        return None
    while not hasattr(sequence, "classes") and hasattr(sequence, "dataset"):  # torch's Subset
        sequence = sequence.dataset
    features = getattr(sequence, "features", None)
    if isinstance(features, Mapping) and isinstance(keys.label, str):
        names = getattr(features.get(keys.label), "names", None)
    else:
        names = getattr(sequence, "classes", None)
    if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def _numbered(
    read: Mapping[str, tuple[Split, UInt64[np.ndarray, "example"]]], names: Sequence[str] | None
) -> tuple[dict[str, tuple[Split, UInt64[np.ndarray, "example"]]], Sequence[str]]:
    """Converts text labels to class numbers; names that are not given are those of train in alphabetical order."""
    names = sorted({str(text) for text in read["train"][0].labels}) if names is None else [*names]
    number = {name: place for place, name in enumerate(names)}
    numbered = {}
    for split, (part, digests) in read.items():
        absent = [str(text) for text in np.unique(part.labels) if text not in number]
        if absent:
            raise ValueError(f"{split}: {unknown('class', absent[0], names)}")
        numbered[split] = Split(part.images, np.array([number[str(text)] for text in part.labels], np.int32)), digests
    return numbered, names
