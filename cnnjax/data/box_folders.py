"""Folders of images with boxes of objects, in the layouts of COCO, VOC, Penn-Fudan and YOLO."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from cnnjax.data import box_files, subsets, transforms
from cnnjax.data.boxes import Rows, present
from cnnjax.data.folders import SPLIT_FOLDERS, is_image
from cnnjax.data.map_folders import VOC_CLASSES, read_classes

# The file of annotations of each split's folder, as Roboflow exports COCO; and the file of a folder without splits.
_COCO_OF_SPLIT, _COCO_ALONE = "_annotations.coco.json", "annotations.json"


class BoxedImage(NamedTuple):
    """An image's file, the objects in it, the file that they are from, and the height and width for which they are."""

    image: Path
    rows: Rows
    source: Path
    size: tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class BoxListing:
    """The images of a folder with their objects.

    Attributes:
      root: the folder.
      splits: the images of each published split, in a fixed order.
      classes: the names of the classes.
      remarks: the remarks for the user, one line each.
    """

    root: Path
    splits: Mapping[str, Sequence[BoxedImage]]
    classes: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def most(self) -> int:
        """The largest number of objects in an image, at least 1."""
        return max([1, *(len(one.rows) for split in self.splits.values() for one in split)])

    def digest(self) -> str:
        """A digest that changes if a file is added, removed, renamed or rewritten, or if objects or splits change."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for split, images in sorted(self.splits.items()):
            for one in images:
                status = one.image.stat()
                name = one.image.relative_to(self.root).as_posix()
                digest.update(f"{split}\0{name}\0{status.st_size}\0{status.st_mtime_ns}\0{one.size}\n".encode())
                digest.update(np.ascontiguousarray(one.rows))
        return digest.hexdigest()[:16]


def is_box_folder(root: Path) -> bool:
    """Whether a folder has one of the layouts of `list_box_folder`."""
    return _layout(root) is not None


def list_box_folder(root: Path, seed: int) -> BoxListing | None:
    """Reads the layout of a folder; None if it is not a folder of images with boxes.

    The layouts, tried in this order:
      COCO         annotations/ with a file for each split, such as instances_train2017.json or valid.json; or
                   train/_annotations.coco.json and the like for valid/ and test/; or annotations.json alone. Images are beside the
                   file, or in images/, in a folder with the split's name, or in one with the name of the file's end (train2017/)
      VOC          JPEGImages/ (or images/), Annotations/*.xml, and ImageSets/Main/{train,val,test}.txt if there are splits
      Penn-Fudan   PNGImages/, Annotation/*.txt
      YOLO         images/ and labels/*.txt, inside or outside of train/, valid/ and test/ if there are splits, and classes.txt, one
                   name per line, or the names of a data.yaml

    Boxes are cut at the borders of their images. Boxes without an area are left out; remarks count both.

    Args:
      root: the folder.
      seed: the seed that draws the validation and test splits if the layout has none.

    Raises:
      ValueError: a file of boxes is damaged, an image is missing, or there are too few images to draw splits from.
    """
    read = _layout(root)
    if read is None:
        return None
    splits, classes = read(root)
    empty = [split for split, images in splits.items() if not images]
    if empty:
        raise ValueError(f"{root}: no images with boxes for {' and '.join(empty)}")
    splits, remarks = _cut_boxes(splits)
    return BoxListing(root, _with_drawn(splits, seed, root), classes, remarks)


Splits = dict[str, list[BoxedImage]]


def _layout(root: Path) -> Callable[[Path], tuple[Splits, tuple[str, ...]]] | None:
    """The function that reads the folder's layout; None if it has none of these."""
    if not root.is_dir():
        return None
    if _coco_files(root):
        return _coco
    if any((root / "Annotations").glob("*.xml")):
        return _voc
    if (root / "PNGImages").is_dir() and any((root / "Annotation").glob("*.txt")):
        return _penn_fudan
    return _yolo if _yolo_folders(root) else None


def _with_drawn(splits: Splits, seed: int, root: Path) -> Splits:
    """The splits; if there is only train, a tenth of it becomes validation and a tenth test."""
    if set(splits) != {"train"}:
        return splits
    images = splits["train"]
    drawn = subsets.drawn_splits(np.zeros((len(images), 1)), seed, ("validation", "test"))
    if not all(map(len, drawn.values())):
        raise ValueError(
            f"{root}: {len(images)} images are too few to draw validation and test splits: give splits of your own, or 6 or more images"
        )
    return {split: [images[position] for position in positions] for split, positions in drawn.items()}


def _cut_boxes(splits: Splits) -> tuple[Splits, tuple[str, ...]]:
    """The splits with boxes cut at the borders of their images and those without an area left out, and remarks on these."""
    cut, flat, found = [], [], {}
    for split, images in splits.items():
        found[split] = []
        for one in images:
            rows = one.rows.copy()
            if one.size is not None:
                rows[:, :4] = rows[:, :4].clip(0, [*reversed(one.size)] * 2)
            beyond = (np.abs(rows[:, :4] - one.rows[:, :4]) > 1).any(1)  # less is rounding
            kept = present(rows)
            cut += [one.source] * int((beyond & kept).sum())
            flat += [one.source] * int((~kept).sum())
            found[split].append(one._replace(rows=rows[kept]))
    lines = [
        f"{_count_of(where)} {what} (the first in {where[0]})"
        for where, what in ((cut, "reach beyond their image and are cut"), (flat, "have no area and are left out"))
        if where
    ]
    return found, tuple(lines)


def _count_of(boxes: Sequence[Path]) -> str:
    """A number of boxes, in words."""
    return f"{len(boxes)} box{'es' if len(boxes) > 1 else ''}"


def _numbers(classes: Sequence[str]) -> dict[str | int, int]:
    return {name: number for number, name in enumerate(classes)}


def _image_size(path: Path) -> tuple[int, int] | None:
    """The height and width of an image file, upright; None if it cannot be read, which is reported when it is decoded."""
    try:
        with Image.open(path) as picture:
            across = picture.getexif().get(transforms.ORIENTATION, 1) > 4  # width and height are exchanged
            return (picture.width, picture.height) if across else (picture.height, picture.width)
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError):
        return None


# --- the layouts --------------------------------------------------------------------------------------------------


def _coco_files(root: Path) -> dict[str, Path]:
    """The COCO file of each split; {"train": file} if there is one alone."""
    found: dict[str, Path] = {}
    for path in sorted((root / "annotations").glob("*.json")):
        words = path.stem.lower().rstrip("0123456789").replace("-", "_").split("_")
        kind = "_".join(words[:-1])
        if words[-1] in SPLIT_FOLDERS and kind in ("", "instances", "annotations"):
            found[SPLIT_FOLDERS[words[-1]]] = path
    for folder in sorted(root.iterdir()) if not found else ():
        if folder.name.lower() in SPLIT_FOLDERS and (folder / _COCO_OF_SPLIT).is_file():
            found[SPLIT_FOLDERS[folder.name.lower()]] = folder / _COCO_OF_SPLIT
    if not found and (root / _COCO_ALONE).is_file():
        return {"train": root / _COCO_ALONE}
    return found if "train" in found else {}


def _coco(root: Path) -> tuple[Splits, tuple[str, ...]]:
    files = _coco_files(root)
    read = {split: box_files.read_coco(path) for split, path in files.items()}
    classes = read["train"].classes
    splits: Splits = {}
    for split, content in read.items():
        path = files[split]
        if content.classes != classes:
            raise ValueError(f"{path}: its categories are not those of {files['train']}: give both files the same")
        ending = path.stem.rpartition("_")[2]
        folders = (path.parent, root / "images" / ending, root / "images", root / ending, root / split, root)
        splits[split] = [
            BoxedImage(_found(name, folders, path), boxes.rows(_numbers(classes)), path, boxes.size)
            for name, boxes in content.images.items()
        ]
    return splits, classes


def _found(name: str, folders: Sequence[Path], listed: Path) -> Path:
    """The first of the folders' files with a name.

    Raises:
      ValueError: there is none.
    """
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    tried = ", ".join(dict.fromkeys(map(str, folders)))
    raise ValueError(f"{listed}: its image {name} is in none of {tried}: restore the file, or remove the image")


def _voc(root: Path) -> tuple[Splits, tuple[str, ...]]:
    sets, notes = root / "ImageSets" / "Main", root / "Annotations"
    named = {"train": ("train", "trainval"), "validation": ("val",), "test": ("test",)}
    stems: dict[str, list[str]] = {}
    for split, names in named.items():
        file = next((sets / f"{name}.txt" for name in names if (sets / f"{name}.txt").is_file()), None)
        if file is not None:
            lines = file.read_text(encoding="utf-8").splitlines()
            stems[split] = [line.split()[0] for line in lines if line.strip()]
            missing = [stem for stem in stems[split] if not (notes / f"{stem}.xml").is_file()]
            if missing:
                raise ValueError(
                    f"{file}: {notes / f'{missing[0]}.xml'} does not exist: restore it, or remove the line"
                )
    if "train" not in stems:
        stems = {"train": sorted(path.stem for path in notes.glob("*.xml"))}
    folders = [folder for folder in (root / "JPEGImages", root / "images") if folder.is_dir()]
    return _numbered(
        {
            split: [
                (_of_stem(path, folders), path, box_files.read_voc(path))
                for path in (notes / f"{one}.xml" for one in own)
            ]
            for split, own in stems.items()
        }
    )


def _penn_fudan(root: Path) -> tuple[Splits, tuple[str, ...]]:
    images = [root / "PNGImages"]
    paths = sorted((root / "Annotation").glob("*.txt"))
    return _numbered({"train": [(_of_stem(path, images), path, box_files.read_penn_fudan(path)) for path in paths]})


def _numbered(read: Mapping[str, Sequence[tuple[Path, Path, box_files.NamedBoxes]]]) -> tuple[Splits, tuple[str, ...]]:
    """Images with named objects as rows: the classes are VOC's if all are among these, else those that occur, by name."""
    used = {str(name) for own in read.values() for _, _, boxes in own for name in boxes.names}
    voc = VOC_CLASSES[1:]
    classes = voc if used <= set(voc) and len(used) > 1 else tuple(sorted(used))
    numbers = _numbers(classes)
    return {
        split: [BoxedImage(image, boxes.rows(numbers), path, boxes.size) for image, path, boxes in own]
        for split, own in read.items()
    }, classes


def _of_stem(path: Path, folders: Sequence[Path]) -> Path:
    """The image of a file of boxes, which has the same name but for the extension.

    Raises:
      ValueError: there is none.
    """
    for folder in folders:
        for image in sorted(folder.glob(f"{_escaped(path.stem)}.*")):
            if is_image(image):
                return image
    where = " or ".join(map(str, folders)) or "JPEGImages/"
    raise ValueError(f"{path}: there is no image of this name in {where}: restore it, or remove the file")


def _escaped(name: str) -> str:
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def _yolo_folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """The folders of images and labels of each split; {"train": ...} if there are no splits."""
    found = {}
    if (root / "images").is_dir() and (root / "labels").is_dir():
        inside = {
            SPLIT_FOLDERS[path.name.lower()]: (path, root / "labels" / path.name)
            for path in sorted((root / "images").iterdir())
            if path.is_dir() and path.name.lower() in SPLIT_FOLDERS
        }
        found = inside if "train" in inside else {"train": (root / "images", root / "labels")}
    else:
        for path in sorted(root.iterdir()):
            if path.name.lower() in SPLIT_FOLDERS and (path / "images").is_dir() and (path / "labels").is_dir():
                found[SPLIT_FOLDERS[path.name.lower()]] = path / "images", path / "labels"
    return found if "train" in found and any(found["train"][1].glob("*.txt")) else {}


def _yolo(root: Path) -> tuple[Splits, tuple[str, ...]]:
    splits, highest = {}, 0
    for split, (images, labels) in _yolo_folders(root).items():
        splits[split] = []
        files = {path.stem: path for path in sorted(labels.glob("*.txt")) if path.name != "classes.txt"}
        for image in sorted(path for path in images.iterdir() if is_image(path)):
            path = files.pop(image.stem, None)  # an image without a file has no objects
            boxes = box_files.read_yolo(path) if path else box_files.NamedBoxes(np.zeros((0, 4)), [], [])
            highest = max([highest, *boxes.names])
            size = _image_size(image)
            rows = boxes.rows({number: number for number in boxes.names})
            rows[:, :4] *= [*reversed(size or (1, 1))] * 2
            splits[split].append(BoxedImage(image, rows, path or image, size))
        if files:
            raise ValueError(
                f"{next(iter(files.values()))}: there is no image of this name in {images}: remove the file"
            )
    classes = read_classes(root / "classes.txt") or read_classes(root / "labels" / "classes.txt") or _yaml_names(root)
    if classes and highest >= len(classes):
        raise ValueError(
            f"{root}: its labels have the class {highest}, but {len(classes)} classes are named: add the names"
        )
    return splits, classes or tuple(map(str, range(highest + 1)))


def _yaml_names(root: Path) -> tuple[str, ...]:
    """The names of the classes in data.yaml; () if there is no such file, or no names in it."""
    file = next((root / name for name in ("data.yaml", "data.yml") if (root / name).is_file()), None)
    if file is None:
        return ()
    import yaml

    try:
        names = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("names", ())
        return tuple(map(str, names.values() if isinstance(names, Mapping) else names))
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise ValueError(f"{file}: not a YAML file with `names` ({' '.join(str(error).split())})") from None
