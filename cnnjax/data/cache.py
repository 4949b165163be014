"""The cache of prepared data: every split's images and labels as arrays in files, and the training split's statistics.

A published split is decoded and prepared once (`transforms.prepare`) and then mapped into memory. For streamed images
only an index of their labels is kept.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, Shaped

from cnnjax.core import files, runtime
from cnnjax.data import digests, streaming, transforms
from cnnjax.data.boxes import BoxContent, prepare_boxes
from cnnjax.data.map_files import MapContent, prepare_map
from cnnjax.data.mapped_rows import MappedRows
from cnnjax.data.slices import slice_bounds
from cnnjax.data.sources import Source, repaired
from cnnjax.data.transforms import TransformOptions

# Raised when the meaning of the cached arrays changes, so that older ones are rebuilt.
CACHE_VERSION = 3

# The file with the reason for each image that was left out of a cached split; it exists only if there are any.
_SKIPPED = "skipped.json"
# The handling of images that cannot be decoded.
Unreadable = Literal["refuse", "skip"]
# Images, labels and a mark of their content.
Slice = tuple[Any, Shaped[np.ndarray, "example ..."], str]
Report = Callable[[str], None]


def cache_folder(source: Source, options: TransformOptions, unreadable: Unreadable) -> Path:
    """The folder of a data set's arrays: by name, version, and the transforms that shape them."""
    shaping = {
        "cache": CACHE_VERSION,
        "color_space": options.color_space,
        "resize": options.resize,
        "resize_mode": options.resize_mode if options.resize else None,
        "crop": options.crop,
        "pad": options.pad,
    } | ({"unreadable": unreadable} if unreadable != "refuse" else {})
    # Fields added since version 3 of the cache; their defaults are left out, so that older caches stay valid.
    shaping |= {"depth": options.depth} if options.depth else {}
    shaping |= {"spatial_axes": options.spatial_axes} if options.spatial_axes else {}
    shaping |= {"kind": [source.channels, source.dtype]} if source.channels > 3 or source.dtype != "uint8" else {}
    key = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:12]
    return runtime.cache_directory() / "arrays" / source.identity / key


def cached_slice(source: Source, spec: str, options: TransformOptions, unreadable: Unreadable, report: Report) -> Slice:
    """The prepared images of a slice, their labels and a mark of the content; a view if the slice is one range of one split."""
    images, labels, marks = [], [], []
    for name, start, stop in slice_bounds(spec, source.counts):
        folder = _cached_split(source, name, options, unreadable, report)
        chosen = slice(start, stop)
        if (folder / "positions.npy").exists():  # some were left out
            chosen = slice(*np.searchsorted(np.load(folder / "positions.npy"), [start, stop]))
        images.append(np.load(folder / "images.npy", mmap_mode="r")[chosen])
        labels.append(_read_labels(folder / "labels.npy")[chosen])
        marks.append(digests.read_sealed(folder / "about.json")["sha256"])
    if len(images) == 1:
        return images[0], labels[0], marks[0]
    return streaming.concatenate(images), np.concatenate(labels), "+".join(marks)


def streamed_slice(
    source: Source, spec: str, options: TransformOptions, unreadable: Unreadable, report: Report
) -> Slice:
    """The images of a slice, decoded when they are needed, their labels and a mark of the content."""
    images, labels, marks = [], [], []
    for name, start, stop in slice_bounds(spec, source.counts):
        positions, known, mark = _indexed_split(source, name, options, unreadable, report)
        chosen = slice(*np.searchsorted(positions, [start, stop]))
        kind = source.channels, source.dtype
        images.append(streaming.StreamedImages(source.open(name), positions[chosen], options, *kind))
        labels.append(known[chosen])
        marks.append(mark)
    known = labels[0] if len(labels) == 1 else np.concatenate(labels)  # one split's maps stay mapped
    return streaming.concatenate(images), known, "+".join(marks)


def readable_positions(
    source: Source, split: str, options: TransformOptions, unreadable: Unreadable, streaming: bool
) -> Int[np.ndarray, "readable"]:
    """The positions of a published split's images that a prepared split has; all of them before it is prepared."""
    folder = cache_folder(source, options, unreadable)
    if streaming and (index := _read_index(folder / f"index-{split}-{unreadable}.npz", source.counts[split])):
        return index[0]
    if not streaming and (path := folder / split / "positions.npy").exists():
        return np.load(path)
    return np.arange(source.counts[split])


def _cached_split(
    source: Source, split: str, options: TransformOptions, unreadable: Unreadable, report: Report
) -> Path:
    """The folder of a published split's arrays, which are written if absent or damaged."""
    folder, count = cache_folder(source, options, unreadable) / split, source.counts[split]
    if _damage(folder, count) is None:
        with contextlib.suppress(OSError, ValueError):  # reported at each start
            report_skipped(files.read_json(folder / _SKIPPED), count, source.name, report)
        return folder
    with files.locked(folder.with_name(f".{split}.lock"), f"caching {source.name}", wait=True):
        if (damage := _damage(folder, count)) is not None:
            again = f" again, since the cached arrays are damaged ({damage})" if folder.exists() else ""
            report(f"caching {count} images of {source.name} ({split}){again}")
            repaired(lambda: _cache(source, split, options, unreadable, folder, report), report)
    return folder


def _cache(
    source: Source, split: str, options: TransformOptions, unreadable: Unreadable, folder: Path, report: Report
) -> None:
    for left in folder.parent.glob(f".{folder.name}.*"):  # left by a killed process: we hold the lock
        if left.is_dir():
            shutil.rmtree(left)
    with files.made_whole(folder) as temporary:
        content = _write_arrays(source, split, options, unreadable, temporary, report)
        names = sorted(path.name for path in temporary.glob("*.npy"))
        about = {
            "sha256": content,
            "folder": _place(folder),
            "published": source.counts[split],
            "files": {name: digests.file_digests(temporary / name) for name in names},
        }
        digests.write_sealed(temporary / "about.json", about)


def _damage(folder: Path, count: int) -> str | None:
    """The damage of cached arrays, in a few words; None if they are as written, for the expected number of images."""
    try:
        about = digests.read_sealed(folder / "about.json")
        if about["folder"] != _place(folder):
            return f"it was written as {about['folder']}"
        if about["published"] != count:
            return f"it holds {about['published']} images"
        changed = digests.changed_file(folder, folder / "about.json", about["files"])
        return changed and f"{changed} differs from its digest"
    except OSError as error:
        return f"{Path(error.filename or folder).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return "about.json is damaged, or was edited"


def _place(folder: Path) -> str:
    """The identity of a cache folder (data set, version, preparation, split), by which a moved folder is detected."""
    return "/".join(folder.parts[-4:])


def _indexed_split(
    source: Source, split: str, options: TransformOptions, unreadable: Unreadable, report: Report
) -> tuple[np.ndarray, np.ndarray, str]:
    """The index of a streamed split: the positions of its readable images, their labels, and a mark of the content.

    Label maps are in a file beside the index and are mapped from it: they may be larger than memory.
    """
    folder, count = cache_folder(source, options, unreadable), source.counts[split]
    path = folder / f"index-{split}-{unreadable}.npz"
    if (index := _read_index(path, count)) is None:
        with files.locked(folder / f".{split}.lock", f"indexing {source.name}", wait=True):
            if (index := _read_index(path, count)) is None:
                again = " again, since the index is damaged" if path.exists() else ""
                report(f"indexing {count} images of {source.name} ({split}){again}")
                maps = path.with_suffix(".npy")
                index = repaired(lambda: _index(source, split, options, unreadable, report, maps), report)
                positions, labels, mark = index
                content = {"positions": positions, "labels": labels, "mark": mark, "published": count}
                if isinstance(labels, np.memmap):
                    labels.flush()
                    known = json.dumps({maps.name: digests.file_digests(maps)})
                    content |= {"labels": labels[:0], "maps": known}
                buffer = io.BytesIO()
                np.savez(buffer, **content)
                files.write_atomically(path, buffer.getvalue())
    return index


def _read_index(path: Path, count: int) -> tuple[np.ndarray, np.ndarray, str] | None:
    """The stored index of a split with `count` images; None if it is absent or damaged (a zip file has checksums)."""
    try:
        with np.load(io.BytesIO(path.read_bytes())) as stored:  # NumPy leaves a damaged file open
            if int(stored["published"]) != count:
                return None
            positions, labels = stored["positions"], stored["labels"]
            if "maps" in stored:
                if digests.changed_file(path.parent, path, json.loads(str(stored["maps"]))) is not None:
                    return None
                labels = np.load(path.with_suffix(".npy"), mmap_mode="r")[: len(positions)]
            return positions, labels, str(stored["mark"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error):
        pass
    return None


def _index(
    source: Source, split: str, options: TransformOptions, unreadable: Unreadable, report: Report, maps: Path
) -> tuple[np.ndarray, np.ndarray, str]:
    """The content of an index, as in `_indexed_split`; label maps are written to the file `maps`."""
    positions, bad, digest = [], [], hashlib.sha256()
    labels: np.ndarray | None = None
    for position, (content, label, name) in enumerate(source.read(split)):
        is_map = isinstance(label, MapContent)
        if unreadable == "skip" or is_map or isinstance(label, BoxContent):  # decoded now; others when they are needed
            try:
                with transforms.naming(name):
                    decoded = transforms.decode(content, name, options.spatial_axes)
                    transforms.check_kind(decoded, options, source.channels, source.dtype)
                label = _label_of(label, decoded, options)
            except ValueError as error:
                bad.append(str(error))
                continue
        stored = _stored_label(label, labels, name)
        if labels is None:
            shape = (source.counts[split], *stored.shape)
            labels = (
                np.lib.format.open_memmap(maps, "w+", stored.dtype, shape) if is_map else np.zeros(shape, stored.dtype)
            )
        labels[len(positions)] = stored
        positions.append(position)
        digest.update(_content_digest(content))
    known = np.zeros(0, np.int32) if labels is None else labels[: len(positions)]
    digest.update(known)
    if bad and unreadable != "skip":
        raise unreadable_error(bad, source.counts[split], f"data set {source.name}")
    report_skipped(bad, source.counts[split], source.name, report)
    return np.array(positions, np.int64), known, digest.hexdigest()


def _content_digest(content: transforms.Content) -> bytes:
    """The SHA-256 of a file's bytes; for a picture or an array, of its mode, type, shape and values."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).digest()
    array = np.ascontiguousarray(content)
    digest = hashlib.sha256(f"{getattr(content, 'mode', '')} {array.dtype.str} {array.shape}".encode())
    digest.update(array)
    return digest.digest()


def report_skipped(bad: list[str], count: int, name: str, report: Report) -> None:
    """Reports the images of a data set that were left out, with the reason for each; nothing if there are none."""
    if bad:
        report(f"skipped {len(bad)} of {count} images of {name} that cannot be read: {files.listed(bad, most=20)}")


def unreadable_error(bad: list[str], count: int, name: str) -> ValueError:
    """The error for a data set with images that cannot be read."""
    return ValueError(
        f"{name}: {len(bad)} of {count} images cannot be read: {'; '.join(bad[:3])} "
        '(dataset.unreadable="skip" leaves them out)'
    )


def _write_arrays(
    source: Source, split: str, options: TransformOptions, unreadable: Unreadable, folder: Path, report: Report
) -> str:
    """Writes a published split's images and labels, and the positions of those kept if some were skipped; returns their SHA-256."""
    count = source.counts[split]
    images: np.ndarray | None = None
    labels: np.ndarray | None = None
    digest = hashlib.sha256()
    bad: list[str] = []
    skipped: list[int] = []
    turned = 0
    for index, (content, label, name) in enumerate(source.read(split)):
        try:
            with transforms.naming(name):
                decoded = transforms.decode(content, name, options.spatial_axes)
                pixels = transforms.prepare(decoded, options, source.channels, source.dtype)
            label = _label_of(label, decoded, options)
        except ValueError as error:
            bad.append(str(error))
            skipped.append(index)
            continue
        turned += transforms.was_turned(decoded)
        if images is None:
            _check_room(folder, count * pixels.nbytes, source.name)
            images = np.lib.format.open_memmap(folder / "images.npy", "w+", pixels.dtype, (count, *pixels.shape))
        if pixels.shape != images.shape[1:]:
            raise ValueError(
                f"data set {source.name}: {transforms.differing_sizes(name, pixels.shape, 'an earlier image', images.shape[1:])}"
            )
        stored = _stored_label(label, labels, name)
        if labels is None:
            labels = np.lib.format.open_memmap(folder / "labels.npy", "w+", stored.dtype, (count, *stored.shape))
        images[index], labels[index] = pixels, stored
        digest.update(pixels)
    if bad and unreadable == "skip":
        report_skipped(bad, count, source.name, report)
        files.write_json(folder / _SKIPPED, bad)
        kept = np.array(sorted({*range(count)} - {*skipped}), np.int64)
        np.save(folder / "positions.npy", kept)
        if images is not None and labels is not None:
            images = labels = None  # Windows replaces no file that is mapped
            images, labels = (_keep_rows(folder / name, kept) for name in ("images.npy", "labels.npy"))
    elif bad:
        raise unreadable_error(bad, count, f"data set {source.name}")
    if turned:
        report(f"turned {turned} of {count} images of {source.name} ({split}) upright, as their EXIF orientation says")
    if images is not None and labels is not None:
        images.flush()
        labels.flush()
        digest.update(labels)
    else:
        channels, dtype = transforms.stored_kind(options, source.channels, source.dtype)
        np.save(folder / "images.npy", np.zeros((0, 1, 1, channels), dtype))
        np.save(folder / "labels.npy", np.zeros(0, np.int32))
    return digest.hexdigest()


def _keep_rows(path: Path, kept: Int[np.ndarray, "kept"]) -> np.ndarray:
    """Reduces an array's file to the rows that are kept, and maps it."""
    beside = path.with_name(f".{path.name}")
    chosen = MappedRows([(np.load(path, mmap_mode="r"), kept)])
    written = np.lib.format.open_memmap(beside, "w+", chosen.dtype, chosen.shape)
    for start, block in transforms.in_blocks(chosen):  # they may be larger than memory
        written[start : start + len(block)] = block
    written.flush()
    del chosen, written  # Windows replaces no file that is mapped
    os.replace(beside, path)
    return np.load(path, mmap_mode="r+")


def _label_of(label: Any, image: transforms.Decoded, options: TransformOptions) -> Any:
    """A source's label; maps and boxes are prepared as their image is."""
    if isinstance(label, BoxContent):
        return prepare_boxes(label, image, options)
    return prepare_map(label, image, options) if isinstance(label, MapContent) else label


def _stored_label(label: Any, earlier: Shaped[np.ndarray, "example ..."] | None, name: str) -> np.ndarray:
    """A label as it is stored: a class number as int32, anything else in its own type.

    Raises:
      ValueError: its shape or type differs from the earlier ones'.
    """
    stored = np.asarray(label)
    if stored.ndim == 0 and stored.dtype.kind in "iu":
        stored = stored.astype(np.int32)
    if earlier is not None and (stored.shape != earlier.shape[1:] or stored.dtype != earlier.dtype):
        raise ValueError(
            f"{name}: the label is {stored.dtype} of shape {stored.shape}, an earlier one {earlier.dtype} of "
            f"{earlier.shape[1:]}: give all labels one type and one shape"
        )
    return stored


def _read_labels(path: Path) -> Shaped[np.ndarray, "example ..."]:
    """A split's labels; mapped from their file if each is more than one value."""
    labels = np.load(path, mmap_mode="r")
    return np.array(labels) if labels.ndim == 1 else labels


def _check_room(folder: Path, needed: int, name: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"data set {name} needs {needed / 2**30:.1f} GiB in {runtime.cache_directory()}, where {free / 2**30:.1f} GiB are "
            "free: free disk space, choose a smaller dataset.resize, or set CNNJAX_CACHE_DIR to another disk"
        )


def cached_statistics(images: np.ndarray, folder: Path, key: str) -> transforms.Statistics:
    """The training split's statistics, stored beside the arrays."""
    path = folder / f"statistics-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # absent or damaged: measured again
        stored = digests.read_sealed(path)
        return transforms.Statistics(
            *(tuple(stored[field.name]) for field in dataclasses.fields(transforms.Statistics))
        )
    statistics = transforms.measure(images)
    digests.write_sealed(path, dataclasses.asdict(statistics))
    return statistics
