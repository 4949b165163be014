"""A user's folder of images as a data set.

Two layouts are read: `root/<split>/<class>/*`, where a split is train, valid (or validation, val) or test;
and `root/<class>/*`, of which a seed draws a tenth of every class for validation and a tenth for testing.
"""

import dataclasses
import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from cnnjax.core.terminal import count_of

# The accepted names of a split's folder, in lower or upper case.
SPLIT_FOLDERS = {
    "training": "train",
    "testing": "test",
    "train": "train",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "test": "test",
}
EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".npy"}
# Photographs that Pillow does not read: formats of telephones, and raw formats of cameras.
FOREIGN = {".heic", ".heif", ".jxl", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2"}


@dataclasses.dataclass(frozen=True)
class Listing:
    """The images of a folder: for each split, (path, class) in a fixed order; and the files that were ignored."""

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, list[tuple[Path, str]]]
    ignored: tuple[Path, ...]

    def remarks(self) -> list[str]:
        """Remarks, one line each, on ignored files, photographs to be converted, and classes that are not in all splits."""
        foreign = [path for path in self.ignored if path.suffix.lower() in FOREIGN]
        others = [path for path in self.ignored if path not in foreign]
        lines = []
        for paths, what, more in (
            (others, "file", " other than images"),
            (foreign, "photograph", " to be converted to JPEG first"),
        ):
            if paths:
                first = ", ".join(str(path.relative_to(self.root)) for path in paths[:3])
                lines.append(f"ignored {count_of(len(paths), what)}{more}: {first}{', ...' if len(paths) > 3 else ''}")
        found = {split: {label for _, label in examples} for split, examples in self.splits.items()}
        for split, labels in found.items():
            if absent := [name for name in self.classes if name not in labels]:
                lines.append(
                    f"no {split} images of {len(absent)} of {len(self.classes)} classes: {', '.join(absent[:3])}"
                )
        return lines

    def digest(self) -> str:
        """A digest that changes if a file is added, removed, renamed or rewritten, or if other splits are drawn."""
        digest = hashlib.sha256()
        for split, examples in sorted(self.splits.items()):
            for path, label in examples:
                status = path.stat()
                name = path.relative_to(self.root).as_posix()
                digest.update(f"{split}\0{name}\0{label}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]

    def shuffled(self, split: str) -> list[tuple[Path, str]]:
        """The (path, class) pairs of a split in the order of its examples.

        This is the order of TFDS, which sorts by the MD5 of the split's name and the example's (tensorflow_datasets/core/hashing.py).
        Folders were once read through TFDS, and runs from that time still resume.
        """
        salt = hashlib.md5(split.encode(), usedforsecurity=False)

        def key(example: tuple[Path, str]) -> bytes:
            digest = salt.copy()
            digest.update(example[0].relative_to(self.root).as_posix().encode())
            return digest.digest()

        return sorted(self.splits[split], key=key)


def is_image(path: Path) -> bool:
    """Whether a file is an image by its name."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def list_folder(root: Path, seed: int) -> Listing:
    """Reads a folder's layout.

    Args:
      root: the folder.
      seed: the seed that draws the validation and test splits if the layout has none.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: a class folder has no image, the splits differ in their classes, or there are fewer than two classes.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"data set folder {root} does not exist")
    folders = _folders(root)
    by_split: dict[str, Path] = {}
    for folder in folders:
        split = SPLIT_FOLDERS.get(folder.name.lower())
        if split in by_split:
            raise ValueError(
                f"{root}: {folder.name} and {by_split[split].name} would be the same split: keep one of them"
            )
        if split:
            by_split[split] = folder
    others = [folder.name for folder in folders if folder not in by_split.values()]
    ignored: list[Path] = []
    if by_split and not others and not ("train" in by_split and _folders(by_split["train"])):
        raise ValueError(f"{root}: expected a folder for each class in {root / 'train'}: <split>/<class>/<images>")
    if "train" in by_split and _folders(by_split["train"]):
        if others:
            raise ValueError(
                f"{root}: {', '.join(others[:3])} beside {by_split['train'].name} is not a split: move it elsewhere"
            )
        classes = tuple(folder.name for folder in _folders(by_split["train"]))
        splits = {}
        for split, folder in by_split.items():
            extra = sorted({inner.name for inner in _folders(folder)} - set(classes))
            if extra:
                raise ValueError(f"{folder}: classes {', '.join(extra)} are not in {by_split['train']}")
            present = [name for name in classes if (folder / name).is_dir()]
            splits[split] = [(path, name) for name in present for path in _images(folder / name, ignored)]
    else:
        classes = tuple(folder.name for folder in folders)
        splits = {"train": [], "validation": [], "test": []}
        generator = np.random.RandomState(seed)
        for name in classes:
            paths = _images(root / name, ignored)
            drawn = [paths[index] for index in generator.permutation(len(paths))]
            tenth = max(1, round(len(paths) / 10)) if len(paths) >= 3 else 0
            for split, part in (
                ("test", drawn[:tenth]),
                ("validation", drawn[tenth : 2 * tenth]),
                ("train", drawn[2 * tenth :]),
            ):
                splits[split] += [(path, name) for path in sorted(part)]
    if len(classes) < 2:
        raise ValueError(
            f"{root}: expected a folder of images for each of two or more classes, found {len(classes)}{_instead(root)}"
        )
    empty = [split for split, examples in splits.items() if not examples]
    if empty:
        raise ValueError(
            f"{root}: no images for {' and '.join(empty)}: at least 3 images of a class are needed to draw splits"
        )
    return Listing(root, classes, splits, tuple(ignored))


def _instead(root: Path) -> str:
    """Advice on a folder that does not have two class folders."""
    folders = _folders(root)
    if len(folders) == 1:
        deeper = len(_folders(folders[0])) > 1
        return f" ({folders[0].name}): " + (
            f"did you mean {folders[0]}?"
            if deeper
            else "add a folder for another class, such as other/ with images of anything else"
        )
    loose = sum(map(is_image, root.iterdir()))
    return f": its {loose} images are not in class folders: sort them into {root / '<class>'}" if loose else ""


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def _images(folder: Path, ignored: list[Path]) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    ignored.extend(path for path in files if not is_image(path))
    images = [path for path in files if is_image(path)]
    for path in images:
        check_utf8(path)
    if not images:
        foreign = sorted({path.suffix for path in files if path.suffix.lower() in FOREIGN})
        advice = f"convert its {' and '.join(foreign)} files to JPEG" if foreign else "add images"
        raise ValueError(
            f"class folder {folder} has no images: {advice} ({', '.join(sorted(EXTENSIONS))} are read) or remove it"
        )
    return images


def check_utf8(path: Path) -> None:
    """Raises ValueError if a file's name is not UTF-8, so that it cannot be written to a list."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"the file name {os.fsencode(path)!r} is not UTF-8: rename it") from None


def find_images(paths: Iterable[Path], also: Collection[str] = ()) -> list[Path]:
    """The given files, and every image in the given folders, sorted.

    Args:
      paths: files and folders.
      also: further file extensions to find in folders.

    Raises:
      FileNotFoundError: a path does not exist, or a folder has no images.
    """
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                file for file in path.rglob("*") if file.is_file() and (is_image(file) or file.suffix.lower() in also)
            )
            if not inside:
                raise FileNotFoundError(f"folder {path} has no images")
            found += inside
        elif path.is_file():
            found.append(path)
        elif path.exists():
            raise ValueError(f"{path} is neither a file nor a folder")
        else:
            raise FileNotFoundError(f"{path} does not exist")
    return found
