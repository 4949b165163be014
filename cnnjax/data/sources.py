"""Sources of data sets: TFDS builders (published or embedded here), and folders and tables of images.

A `Source` describes a published data set and reads its examples; it is all that the cache and the stream use.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import io
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnjax.core import files, runtime
from cnnjax.core.options import nearest
from cnnjax.data import (
    array_files,
    box_folders,
    boxes,
    catalogue,
    digests,
    downloads,
    folders,
    map_files,
    map_folders,
    slices,
    streaming,
    tables,
    transforms,
)


@dataclasses.dataclass(frozen=True)
class Source:
    """A published data set: the contents of its splits, and functions that read their examples.

    Attributes:
      name: the data set's name in messages.
      identity: the folder of its cached arrays, "name/version"; different contents need different identities.
      label_names: the names of the classes, in the order of the labels.
      counts: the number of examples of each published split.
      channels: the number of channels of an image.
      read: a published split -> the content of each image file (or an image, as `transforms.decode` takes it), its label (a
        class number, an array of values, a `map_files.MapContent` or a `boxes.BoxContent`), and its name in messages, in order.
      open: a published split -> the content and name of the image file at any position, for streaming.
      splits: the slices for train, valid and test; None chooses them by the published splits.
      dtype: the type of the images' values.
    """

    name: str
    identity: str
    label_names: tuple[str, ...]
    counts: Mapping[str, int]
    channels: int
    read: Callable[[str], Iterator[tuple[transforms.Content, Any, str]]]
    open: Callable[[str], streaming.Records]
    splits: tuple[str, str, str] | None = None
    dtype: str = "uint8"

    def default_splits(self) -> tuple[str, str, str]:
        """The slices for train, valid and test if the config names none."""
        return self.splits or slices.default_splits(self.counts)


def first_kind(paths: Iterable[Path], spatial_axes: int | None) -> tuple[int, str]:
    """The channels and the type of a data set of image files: those of the first file that can be read.

    Args:
      paths: the files of the training split, in their order.
      spatial_axes: the spatial axes of the arrays in .npy files, as in `dataset.spatial_axes`.
    """
    for path in paths:
        with contextlib.suppress(ValueError, OSError):  # reported by name when all are read
            return transforms.kind(transforms.read_image(path, spatial_axes))
    return 3, "uint8"


def folder_source(name: str, split_seed: int, report: Callable[[str], None], spatial_axes: int | None = None) -> Source:
    """The source of a folder of images; the seed draws the splits of a folder without splits."""
    root = Path(name).expanduser().resolve()
    listing = folders.list_folder(root, split_seed)
    for line in listing.remarks():
        report(line)
    channels, dtype = first_kind((path for path, _ in listing.splits["train"]), spatial_axes)
    version = f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}-{listing.digest()}"
    ordered, numbers = functools.cache(listing.shuffled), {label: place for place, label in enumerate(listing.classes)}

    def record(split: str, position: int) -> tuple[bytes, str]:
        path, _ = ordered(split)[position]
        return path.read_bytes(), str(path)

    def read(split: str) -> Iterator[tuple[bytes, int, str]]:
        for path, label in ordered(split):
            yield path.read_bytes(), numbers[label], str(path)

    return Source(
        name=name,
        identity=f"folder/{version}",
        label_names=listing.classes,
        counts={split: len(examples) for split, examples in listing.splits.items()},
        channels=channels,
        dtype=dtype,
        read=read,
        open=lambda split: partial(record, split),
    )


def map_folder_source(listing: map_folders.MapListing, name: str, spatial_axes: int | None = None) -> Source:
    """The source of a folder of images with masks, as listed by `map_folders.list_map_folder`."""
    root = listing.root
    channels, dtype = first_kind((path for path, _ in listing.splits["train"]), spatial_axes)

    def record(split: str, position: int) -> tuple[bytes, str]:
        image, _ = listing.splits[split][position]
        return image.read_bytes(), str(image)

    def read(split: str) -> Iterator[tuple[bytes, map_files.MapContent, str]]:
        for image, mask in listing.splits[split]:
            yield image.read_bytes(), map_files.MapContent(mask.read_bytes(), str(mask), listing.values), str(image)

    return Source(
        name=name,
        identity=f"map_folder/{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}-{listing.digest()}",
        label_names=listing.classes,
        counts={split: len(pairs) for split, pairs in listing.splits.items()},
        channels=channels,
        dtype=dtype,
        read=read,
        open=lambda split: partial(record, split),
    )


def box_folder_source(
    listing: box_folders.BoxListing,
    name: str,
    room: int | None,
    report: Callable[[str], None],
    spatial_axes: int | None = None,
) -> Source:
    """The source of a folder of images with boxes.

    Args:
      listing: the folder, as `box_folders.list_box_folder` lists it.
      name: the name of the data set in messages.
      room: the number of objects to store of each image; None stores all.
      report: called with one line for each remark on the boxes.
      spatial_axes: the spatial axes of the arrays in .npy files, as in `dataset.spatial_axes`.
    """
    root, most = listing.root, listing.most
    for line in listing.remarks:
        report(f"data set {name}: {line}")
    room = room or most
    if most > room:
        crowded = sum(len(one.rows) > room for split in listing.splits.values() for one in split)
        report(
            f"data set {name}: {crowded} images have more than dataset.most_objects={room} objects (up to {most}): the largest are kept"
        )
    channels, dtype = first_kind((one.image for one in listing.splits["train"]), spatial_axes)

    def record(split: str, position: int) -> tuple[bytes, str]:
        one = listing.splits[split][position]
        return one.image.read_bytes(), str(one.image)

    def read(split: str) -> Iterator[tuple[bytes, boxes.BoxContent, str]]:
        for one in listing.splits[split]:
            content = boxes.BoxContent(one.rows, str(one.source), one.size, room)
            yield one.image.read_bytes(), content, str(one.image)

    place = hashlib.sha256(str(root).encode()).hexdigest()[:8]
    return Source(
        name=name,
        identity=f"box_folder/{root.name}-{place}-{listing.digest()}-{room}",
        label_names=listing.classes,
        counts={split: len(images) for split, images in listing.splits.items()},
        channels=channels,
        dtype=dtype,
        read=read,
        open=lambda split: partial(record, split),
    )


def table_source(
    name: str,
    columns: tables.Columns,
    split_seed: int,
    skip_missing: bool,
    report: Callable[[str], None],
    spatial_axes: int | None = None,
) -> Source:
    """The source of a table of images.

    Args:
      name: the path of a CSV or Parquet file.
      columns: the names of its columns.
      split_seed: the seed that draws the splits which the table does not have.
      skip_missing: whether to leave out rows whose file does not exist instead of refusing the table.
      report: called with one line for each remark on the table.
      spatial_axes: the spatial axes of the arrays in .npy files, as in `dataset.spatial_axes`.
    """
    path = Path(name).expanduser().resolve()
    table = tables.read_table(path, columns, split_seed, skip_missing)
    for remark in table.remarks:
        report(remark)

    channels, dtype = first_kind(map(table.path, table.splits["train"]), spatial_axes)

    def record(split: str, position: int) -> tuple[bytes, str]:
        file = table.path(table.splits[split][position])
        return file.read_bytes(), str(file)

    def read(split: str) -> Iterator[tuple[bytes, Any, str]]:
        for position, row in enumerate(table.splits[split]):
            content, file = record(split, position)
            mask = table.mask(row)
            yield (
                content,
                table.labels[row] if mask is None else map_files.MapContent(mask.read_bytes(), str(mask)),
                file,
            )

    return Source(
        name=name,
        identity=f"table/{path.stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}-{table.digest}",
        label_names=table.label_names,
        counts={split: len(rows) for split, rows in table.splits.items()},
        channels=channels,
        dtype=dtype,
        read=read,
        open=lambda split: partial(record, split),
    )


def tfds_source(name: str, data_dir: str | None, manual_dir: str | None, report: Callable[[str], None]) -> Source:
    """The source of a TFDS data set, downloaded and prepared if necessary; the embedded data sets are TFDS builders of ours.

    Args:
      name: the data set's name or alias.
      data_dir: the folder of prepared data sets; None is TFDS's.
      manual_dir: the folder of files that were downloaded by hand.
      report: called with one line for each step that takes a while.
    """
    full_name = catalogue.full_name(name)
    entry = catalogue.find(name)
    base = runtime.cache_directory() / "arrays" / full_name.replace("/", "-")
    # Once cached, source.json beside the arrays has everything needed, and TFDS is not imported.
    remembered = sorted(
        base.glob("*/source.json"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.parent.name)]
    )
    make = partial(_prepared_builder, full_name, data_dir, manual_dir, report)
    facts = None
    if remembered:
        with contextlib.suppress(OSError, ValueError):  # damaged or of an older version: determined again
            facts = digests.read_sealed(remembered[-1])
    if facts is None:
        lock = runtime.cache_directory() / "locks" / f"{base.name}.lock"
        with files.locked(lock, f"preparing {full_name}", wait=True):
            builder = repaired(make, report)
            facts = _facts(full_name, builder)
            (base / facts["version"]).mkdir(parents=True, exist_ok=True)
            digests.write_sealed(base / facts["version"] / "source.json", facts)

    return Source(
        name=name,
        identity=f"{base.name}/{facts['version']}",
        label_names=tuple(facts["label_names"]),
        counts=facts["counts"],
        channels=facts["channels"],
        dtype=facts.get("dtype", "uint8"),
        read=lambda split: _read_builder(make(), split, (facts["image_key"], facts["label_key"])),
        open=lambda split: repaired(lambda: _open_records(make(), split, facts["image_key"]), report),
        splits=entry.splits if entry else None,
    )


def _image_and_label(name: str, builder: Any) -> tuple[str, str]:
    """The keys of an example's image and label; the image is a TFDS image, otherwise an array of three or four axes.

    Raises:
      ValueError: the examples have no image or class label, or images with unsupported channels.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    pairs = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    pictures = [key for key, feature in pairs.items() if isinstance(feature, tfds.features.Image)]
    images = pictures + [key for key, feature in pairs.items() if _is_array_of_bands(feature)]
    labels = [key for key, feature in pairs.items() if isinstance(feature, tfds.features.ClassLabel)]
    image_key, label_key = builder.info.supervised_keys or (None, None)
    image_key = image_key if image_key in images else next(iter(images), None)
    label_key = label_key if label_key in labels else next(iter(labels), None)
    if image_key is None or label_key is None:
        raise ValueError(
            f"data set {name} is not for image classification: expected an image and a class label, "
            f"found {', '.join(pairs) or type(features).__name__}"
        )
    dtype, channels = np.dtype(features[image_key].np_dtype), features[image_key].shape[-1]
    if image_key in pictures and channels not in (None, 1, 3, 4):
        raise ValueError(
            f"data set {name}: its images are {dtype} with {channels} channel(s), but only 1 (grey), 3 (RGB) or 4 (RGBA) are read: "
            "convert it to a folder of .npy files, and set dataset.name to that folder"
        )
    return image_key, label_key


def _is_array_of_bands(feature: Any) -> bool:
    """Whether a feature is an image or a volume as an array: numbers with a known number of channels in the last axis."""
    import tensorflow_datasets as tfds

    shape = feature.shape if type(feature) is tfds.features.Tensor else ()
    return len(shape) in (3, 4) and shape[-1] is not None and np.dtype(feature.np_dtype).kind in "biuf"


def _undecoded(builder: Any, image_key: str) -> dict[str, Any]:
    """TFDS decoders that keep the bytes of image files undecoded; {} for arrays."""
    import tensorflow_datasets as tfds

    picture = isinstance(builder.info.features[image_key], tfds.features.Image)
    return {image_key: tfds.decode.SkipDecoding()} if picture else {}


def _content(stored: Any, dtype: Any) -> transforms.Content:
    """An image as `transforms.decode` takes it; TFDS stores float32 as a PNG with the four bytes of a value in each pixel."""
    if isinstance(stored, bytes) and np.dtype(dtype) == np.float32:
        return np.ascontiguousarray(Image.open(io.BytesIO(stored))).view(np.float32)
    return stored


def _facts(name: str, builder: Any) -> dict[str, Any]:
    """The content of `source.json` for a prepared TFDS data set."""
    features = builder.info.features
    image_key, label_key = _image_and_label(name, builder)
    return {
        "version": str(builder.info.version),
        "label_names": list(features[label_key].names),
        "counts": {split: info.num_examples for split, info in builder.info.splits.items()},
        "channels": features[image_key].shape[-1] or 3,
        "dtype": array_files.as_stored(np.zeros(0, features[image_key].np_dtype), name).dtype.name,
        "image_key": image_key,
        "label_key": label_key,
    }


def _file_format() -> str:
    """The file format of prepared data: array_record, or parquet on platforms without an array_record wheel."""
    import importlib.util

    return "array_record" if importlib.util.find_spec("array_record") else "parquet"


class DamagedError(ValueError):
    """Prepared data cannot be read."""

    def __init__(self, folder: Path, reason: Exception | str):
        lines = str(reason).splitlines() or [type(reason).__name__]
        super().__init__(f"{folder} is damaged ({lines[0]}): delete it, and it will be prepared again")
        self.folder, self.reason = folder, lines[0]


def repaired(make: Callable[[], Any], report: Callable[[str], None]) -> Any:
    """Calls `make`; if prepared data in the cache are damaged, deletes them and calls `make` again, which prepares them again."""
    try:
        return make()
    except DamagedError as damaged:
        if not damaged.folder.is_relative_to(runtime.cache_directory()):  # the user's own
            raise
        report(f"{damaged.folder} is damaged ({damaged.reason}): preparing it again")
        shutil.rmtree(damaged.folder, ignore_errors=True)  # gone, or being deleted by another process
        return make()


def _open_builder(make: Callable[..., Any], folder: Path) -> Any:
    """A builder that reads prepared data in any format, or prepares data in our format.

    Raises:
      DamagedError: TFDS's description of the data in `folder` cannot be read.
    """
    from google.protobuf import json_format

    try:
        builder = make()
        return builder if builder.info.splits else make(file_format=_file_format())
    except Exception as error:
        for reason in (error, error.__cause__):  # TFDS wraps some in a RuntimeError
            if isinstance(reason, json_format.ParseError | UnicodeDecodeError | AssertionError):
                raise DamagedError(folder, reason) from None
        raise


def _prepared(builder: Any, name: str, manual_dir: str | None, report: Callable[[str], None]) -> Any:
    """The builder, its data downloaded and prepared."""
    if not builder.is_prepared() or not builder.info.splits:
        downloads.prepare(builder, name, catalogue.find(name), manual_dir, report)
    if not builder.info.splits:
        raise DamagedError(Path(builder.data_dir), "dataset_info.json is missing")
    return builder


def _prepared_builder(name: str, data_dir: str | None, manual_dir: str | None, report: Callable[[str], None]) -> Any:
    """The TFDS builder of a data set, downloaded and prepared."""
    import tensorflow_datasets as tfds

    from cnnjax.data import tensorflow_standin

    tensorflow_standin.install()
    logging.getLogger("absl").setLevel(logging.ERROR)  # TFDS warns about folders that it is about to create
    folder = Path(data_dir).expanduser() if data_dir else catalogue.default_data_dir()
    entry = catalogue.find(name)
    if entry and entry.download == "embedded":
        family, _, config = name.partition("/")
        builders = importlib.import_module(f"cnnjax.data.builders.{family}")
        embedded = runtime.cache_directory() / "embedded"
        builder = _open_builder(partial(builders.Builder, config=config or None, data_dir=embedded), embedded / name)
    else:
        try:
            builder = _open_builder(partial(tfds.builder, name, data_dir=folder), folder / name)
        except DamagedError:
            raise
        except tfds.core.DatasetNotFoundError:
            raise ValueError(_unknown_data_set(name)) from None
        except (
            ValueError
        ) as error:  # not a name, such as scans.tar; or an unknown configuration, such as emnist/nothing
            reason = str(error).splitlines()[0].split('": ', 1)[-1]
            unparsed = reason.startswith("Parsing builder name string")
            raise ValueError(_unknown_data_set(name) if unparsed else f"data set {name}: {reason}") from None
    _image_and_label(name, builder)  # before anything is downloaded
    return _prepared(builder, name, manual_dir, report)


def _unknown_data_set(name: str) -> str:
    """One line for a name that is neither a data set's nor a folder's."""
    import tensorflow_datasets as tfds

    path = Path(name).expanduser()
    if path.is_file():
        return (
            f"data set {name}: an unsupported kind of file: expected a table ({', '.join(tables.SUFFIXES)}), arrays (.npz, .npy), or "
            "a folder of images"
        )
    known = {*catalogue.CATALOGUE, *catalogue.ALIASES, *tfds.list_builders(with_community_datasets=False)}
    near = nearest(name, known)
    return (
        f"unknown data set {name!r}: there is no folder or file {path.absolute()}, and no data set with this name"
        f"{': ' + near if near else ''} (`cnnjax datasets` lists them)"
    )


def _read_builder(builder: Any, split: str, keys: tuple[str, str]) -> Iterator[tuple[transforms.Content, int, str]]:
    """Reads every example of a published split: the bytes of the image file or the image, its label, and its name in messages.

    Raises:
      DamagedError: the records cannot be read.
    """
    from cnnjax.data import tensorflow_standin

    tensorflow_standin.install()
    image_key, label_key = keys
    decoders, dtype = _undecoded(builder, image_key), builder.info.features[image_key].np_dtype
    if builder.info.file_format.value == "tfrecord":
        records = _read_tfrecords(builder, split, decoders)
    else:
        records = _read_records(builder, split, decoders)
    for index, record in enumerate(records):
        name = record["file"].decode() if "file" in record else f"{builder.name} {split}[{index}]"
        yield _content(record[image_key], dtype), int(record[label_key]), name


@contextlib.contextmanager
def _named_if_damaged(builder: Any) -> Iterator[None]:
    """Converts the various exceptions of the libraries that read records to a DamagedError."""
    try:
        yield
    except (ImportError, MemoryError, PermissionError):  # not damage
        raise
    except Exception as error:
        raise DamagedError(Path(builder.data_dir), error) from None


def _read_records(builder: Any, split: str, decoders: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    with _named_if_damaged(builder):
        source = builder.as_data_source(split=split, decoders=decoders)
        count = len(source)
    for start in range(0, count, 1000):  # 1000 at a time is twice as fast as one by one
        with _named_if_damaged(builder):
            records = source.__getitems__([*range(start, min(start + 1000, count))])
        yield from records


def _open_records(builder: Any, split: str, image_key: str) -> streaming.Records:
    """The function that reads (content, name) of an image file at a position in a published split."""
    from cnnjax.data import tensorflow_standin

    tensorflow_standin.install()
    if builder.info.file_format.value == "tfrecord":
        raise ValueError(
            f"dataset.streaming: {builder.name} is prepared as TFRecord, which has no random access: prepare it "
            "again in another dataset.data_dir, or set dataset.streaming to False"
        )
    with _named_if_damaged(builder):
        source = builder.as_data_source(split=split, decoders=_undecoded(builder, image_key))
        len(source)
    dtype = builder.info.features[image_key].np_dtype

    def record(position: int) -> tuple[transforms.Content, str]:
        with _named_if_damaged(builder):
            found = source[position]
        name = found["file"].decode() if "file" in found else f"{builder.name} {split}[{position}]"
        return _content(found[image_key], dtype), name

    return record


def _read_tfrecords(builder: Any, split: str, decoders: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The examples of a split that was prepared with TensorFlow; TFDS cannot read its files without TensorFlow.

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
