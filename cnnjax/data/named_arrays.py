"""Data sets of arrays in files: a `.npz`, or `.npy` files in one folder, whose arrays have accepted names.

The images of a split are `train_images` or `x_train`, its targets `train_labels` or `y_train`, as Keras and MedMNIST write them;
`images` and `labels` alone are all examples, from which valid and test are drawn. The name of a `.npy` array is the name of its
file, and `dataset.name` is any one of the files. `.npy` files, and large uncompressed arrays in a `.npz`, are mapped
into memory instead of read.
"""

import contextlib
import dataclasses
import hashlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core import runtime
from cnnjax.core.options import nearest, unknown
from cnnjax.data import arrays, digests, mapped_rows, transforms
from cnnjax.data.datasets import Dataset
from cnnjax.data.slices import SPLITS

_IMAGES, _TARGETS = ("images", "x"), ("labels", "targets", "y")
_SPLIT_WORDS = {"train": ("train", "training"), "valid": ("valid", "val", "validation"), "test": ("test",)}
_CLASS_NAMES = ("label_names", "class_names")
# The accepted names of arrays in lower case -> the split (None if splits are drawn), and "images" or "targets".
ACCEPTED: Mapping[str, tuple[str | None, str]] = {
    name: (split, part)
    for part, words in (("images", _IMAGES), ("targets", _TARGETS))
    for word in words
    for split, prefixes in {None: ("",), **_SPLIT_WORDS}.items()
    for prefix in prefixes
    for name in ((f"{prefix}_{word}", f"{word}_{prefix}") if prefix else (word,))
}
# Smaller arrays in a .npz are read, since the file may be rewritten while they are used.
LEAST_MAPPED = 2**26
_ADVICE = (
    "name them images and labels, or train_images, train_labels, test_images, ..., or x_train, y_train, x_test, ..."
)


def load_array_file(name: str, seed: int, report: Callable[[str], None]) -> Dataset:
    """Loads the data set of a `.npz` file, or of `.npy` files.

    Facts that need a pass over the whole content (fingerprint, statistics, finiteness, examples that splits share) are found once
    and stored in the cache by the files' sizes and modification times.

    Args:
      name: the path of the file.
      seed: the seed that draws splits that are not given.
      report: called with one line for each step that takes a while, and for each conversion of the arrays.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or its arrays are not those of a data set; the message has their names.
    """
    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"config: dataset.name={name!r}: file {path} does not exist")
    found, files = _read_npz(path, name) if path.suffix.lower() == ".npz" else _read_npy(path, name)
    pairs, label_names = _arranged(found, name, report)
    record = _record(files, seed)
    facts = _remembered(record)
    given = {split: arrays.as_split(pair, f"{name}, {split}", facts is not None) for split, pair in pairs.items()}
    splits, names, _ = arrays.arranged(given, label_names, seed, name)
    if facts is None:
        if any(map(mapped_rows.is_mapped, found.values())):
            _check_sums(path, name)
        report(f"measuring {sum(map(len, splits.values()))} examples of {name}")
        facts = arrays.content_facts(splits, names, label_names is None)
        with contextlib.suppress(OSError):  # a cache that cannot be written: measured again the next time
            record.parent.mkdir(parents=True, exist_ok=True)
            digests.write_sealed(record, dataclasses.asdict(facts))
    return arrays.described(name, names, splits, facts)


def _read_npz(path: Path, name: str) -> tuple[dict[str, np.ndarray], list[Path]]:
    """The arrays with accepted names, mapped if they are not compressed."""
    with open(path, "rb") as file:  # NumPy leaves a damaged file open
        try:
            stored = np.load(file)
            if not isinstance(stored, np.lib.npyio.NpzFile):
                raise ValueError("it is one array")
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            reason = "neither a zip file nor an array" if "pickle" in str(error) else error
            raise ValueError(f"data set {name}: {path} is damaged, or not a .npz file ({reason})") from None
        keys = [key for key in stored.files if key.lower() in (*ACCEPTED, *_CLASS_NAMES)]
        if not keys:
            raise ValueError(f"data set {name}: {_unknown(stored.files)}")
        return {key: _member(stored, key, path, name) for key in keys}, [path]


def _member(stored: Any, key: str, path: Path, name: str) -> np.ndarray:
    try:
        [info] = (info for info in stored.zip.infolist() if info.filename in (key, f"{key}.npy"))
        mapped = _mapped_member(path, info)
        return stored[key] if mapped is None else mapped
    except (OSError, EOFError, ValueError, struct.error, zipfile.BadZipFile, zlib.error) as error:
        if "pickle" not in str(error):
            raise ValueError(f"data set {name}: its array {key!r} is damaged ({error})") from None
        raise ValueError(
            f"data set {name}: its array {key!r} holds objects instead of numbers: save one array of examples of one shape"
        ) from None


def _mapped_member(path: Path, info: zipfile.ZipInfo) -> np.ndarray | None:
    """A large array that `np.savez` stored in a zip file, mapped into memory; None for other arrays, which are read.

    The array's bytes follow a header of 30 bytes, a name and an extra field, whose lengths are the last four bytes of the header
    (PKWARE's APPNOTE.TXT, section 4.3.7).
    """
    if info.compress_type != zipfile.ZIP_STORED or info.file_size < LEAST_MAPPED:
        return None
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        file.seek(sum(struct.unpack("<26x2H", file.read(30))), 1)
        if np.lib.format.read_magic(file) != (1, 0):
            return None
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.hasobject:
            return None
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def _check_sums(path: Path, name: str) -> None:
    """Raises ValueError for a zip file whose checksums do not match its content, which mapping would not detect."""
    if path.suffix.lower() == ".npz":
        with zipfile.ZipFile(path) as stored:
            if damaged := stored.testzip():
                raise ValueError(f"data set {name}: its array {Path(damaged).stem!r} is damaged (its checksum differs)")


def _read_npy(path: Path, name: str) -> tuple[dict[str, np.ndarray], list[Path]]:
    if path.stem.lower() not in ACCEPTED:
        raise ValueError(
            f"data set {name}: a .npy file is one array of a data set, whose other arrays are in the same folder: {_unknown([path.stem])}"
        )
    files = [
        file
        for file in sorted(path.parent.glob("*.npy"))
        if file.stem.lower() in (*ACCEPTED, *_CLASS_NAMES) and file.is_file()
    ]
    found = {}
    for file in files:
        try:
            found[file.stem] = np.load(file, mmap_mode="r")
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(f"data set {name}: {file} is damaged, or not a .npy file of numbers ({error})") from None
    return found, files


def _unknown(names: list[str]) -> str:
    if not names:
        return f"it has no arrays: {_ADVICE}"
    near = next((unknown("array", name, ACCEPTED) for name in names if nearest(name, ACCEPTED)), None)
    return f"{near or 'it has arrays ' + ', '.join(names[:5])}; {_ADVICE}"


def _arranged(
    found: Mapping[str, np.ndarray], name: str, report: Callable[[str], None]
) -> tuple[dict[str, tuple[Any, Any]], list[str] | None]:
    """The pair (images, targets) of every split that is present, and the names of the classes."""
    label_names, parts, keys = None, {}, {}
    for key, array in found.items():
        if key.lower() in _CLASS_NAMES:
            label_names = [str(each) for each in np.ravel(array)]
            continue
        place = ACCEPTED[key.lower()]
        if place in parts:
            raise ValueError(
                f"data set {name}: {keys[place]} and {key} are both {place[1]} of {place[0] or 'all'}: keep one"
            )
        parts[place], keys[place] = array, key
    splits = {split for split, _ in parts}
    if None in splits and len(splits) > 1:
        raise ValueError(
            f"data set {name}: it has {', '.join(keys.values())}: expected either splits or all examples, not both"
        )
    pairs = {}
    for split in splits:
        for part, other in (("images", "targets"), ("targets", "images")):
            if (split, part) not in parts:
                raise ValueError(f"data set {name}: {keys[split, other]} has no matching {part}: {_ADVICE}")
        images = _with_channels(parts[split, "images"], f"{name}, {keys[split, 'images']}", report)
        pairs[split or "train"] = images, parts[split, "targets"]
    if "train" not in pairs:
        raise ValueError(f"data set {name}: it has {', '.join(keys.values())}, but no training examples: {_ADVICE}")
    return {split: pairs[split] for split in SPLITS if split in pairs}, label_names


def _with_channels(images: np.ndarray, where: str, report: Callable[[str], None]) -> np.ndarray:
    """Adds an axis of channels to uint8 images or volumes of equal sides, which Keras and MedMNIST write without it."""
    sides = images.shape[1:]
    if images.dtype != np.uint8 or len(sides) not in (2, 3) or len(set(sides)) > 1 or sides[0] <= 4:
        return images
    report(
        f"{where}: uint8 of {'x'.join(map(str, sides))} are read as {'images' if len(sides) == 2 else 'volumes'} with one channel"
    )
    return images[..., None]


def _record(files: list[Path], seed: int) -> Path:
    """The path of the stored facts about the content of some files."""
    states = [(str(file), (status := file.stat()).st_size, status.st_mtime_ns) for file in files]
    key = hashlib.sha256(repr((1, states, seed)).encode()).hexdigest()[:16]
    return runtime.cache_directory() / "array-files" / f"{key}.json"


def _remembered(record: Path) -> arrays.ContentFacts | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # absent, damaged or of another version
        stored = digests.read_sealed(record)
        statistics = transforms.Statistics(**{name: tuple(values) for name, values in stored["statistics"].items()})
        return arrays.ContentFacts(statistics, stored["fingerprint"], tuple(stored["remarks"]))
    return None
