"""Folders of images with masks (maps of class numbers): `images/` and `masks/`, or the layout of a published data set."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from cnnjax.data import subsets
from cnnjax.data.folders import SPLIT_FOLDERS, is_image

# An image's file and its map's.
Pair = tuple[Path, Path]
# The file with the names of the classes, one per line in the order of their numbers.
CLASSES_FILE = "classes.txt"
_MASK_FOLDERS = ("masks", "annotations", "labels")
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
# The classes of SegNet's copy of CamVid, in whose maps 11 is void.
CAMVID_CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
# The class of CamVid's own maps that is ignored.
_CAMVID_VOID = "Void"


@dataclasses.dataclass(frozen=True)
class MapListing:
    """The images of a folder with their masks.

    Attributes:
      root: the folder.
      splits: the (image, mask) pairs of each published split, in a fixed order.
      classes: the names of the classes; () if they are not named.
      values: the value of each class in the masks, as in `map_files.MapContent`; None if the values are the class numbers.
    """

    root: Path
    splits: Mapping[str, list[Pair]]
    classes: tuple[str, ...] = ()
    values: tuple[int, ...] | tuple[tuple[int, int, int], ...] | None = None

    def digest(self) -> str:
        """A digest that changes if a file is added, removed, renamed or rewritten, or if other splits are drawn."""
        digest = hashlib.sha256(repr((self.classes, self.values)).encode())
        for split, pairs in sorted(self.splits.items()):
            for path in (file for pair in pairs for file in pair):
                status = path.stat()
                name = path.relative_to(self.root).as_posix()
                digest.update(f"{split}\0{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]


def list_map_folder(root: Path, seed: int) -> MapListing | None:
    """Reads the layout of a folder; None if it is not a folder of images with masks.

    The layouts, tried in this order:
      VOC          JPEGImages/, SegmentationClass/, ImageSets/Segmentation/{train,val}.txt (test: val)
      Oxford Pets  images/, annotations/trimaps/, annotations/{trainval,test}.txt; 1 is the pet, 2 background, 3 unclassified
      CamVid       train/, trainannot/, val/, valannot/, test/, testannot/ as distributed by SegNet's authors, where 11 is void; or
                   701_StillsRaw_full/, LabeledApproved_full/ (one colour per class), label_colors.txt
      ADE20K       images/{training,validation}/, annotations/{training,validation}/, objectInfo150.txt; 0 is ignored
      any          images/, masks/ (or annotations/, labels/), inside or outside of train/, valid/ and test/ if there are splits; and
                   classes.txt, one name per line

    Args:
      root: the folder.
      seed: the seed that draws the validation and test splits if the layout has none.

    Raises:
      ValueError: an image without a mask, a mask without an image, or too few images to draw splits from.
    """
    for read in (_voc, _pets, _camvid, _camvid_colours, _ade20k, _plain) if root.is_dir() else ():
        listing = read(root)
        if listing is not None:
            empty = [split for split, pairs in listing.splits.items() if not pairs]
            if empty:
                raise ValueError(f"{root}: no images with masks for {' and '.join(empty)}")
            return dataclasses.replace(listing, splits=_with_drawn(listing.splits, seed, root))
    return None


def _with_drawn(splits: Mapping[str, list[Pair]], seed: int, root: Path) -> dict[str, list[Pair]]:
    """The splits; if there is only train, a tenth of it becomes validation and a tenth test."""
    if set(splits) != {"train"}:
        return dict(splits)
    pairs = splits["train"]
    drawn = subsets.drawn_splits(np.zeros((len(pairs), 1)), seed, ("validation", "test"))
    if not all(map(len, drawn.values())):
        raise ValueError(
            f"{root}: {len(pairs)} images are too few to draw validation and test splits: add folders for these splits, or give 6 or more images"
        )
    return {split: [pairs[position] for position in positions] for split, positions in drawn.items()}


def _listed(names: Path, images: Path, image_suffix: str, masks: Path) -> list[Pair]:
    """The pairs whose names are the first words of the lines of a file."""
    lines = (line.split() for line in names.read_text(encoding="utf-8").splitlines())
    stems = [words[0] for words in lines if words and not words[0].startswith("#")]
    return _checked([(images / f"{stem}{image_suffix}", masks / f"{stem}.png") for stem in stems], names)


def _checked(pairs: list[Pair], where: Path) -> list[Pair]:
    for path in (file for pair in pairs for file in pair):
        if not path.is_file():
            raise ValueError(f"{where}: {path} is listed but does not exist: restore the file, or remove the line")
    return pairs


def _images(folder: Path) -> dict[str, Path]:
    """The image files of a folder, by relative name without extension.

    Raises:
      ValueError: two files differ only in their extensions.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and is_image(path))
    found: dict[str, Path] = {}
    for path in files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise ValueError(
                f"{found[name]} and {path.name} differ only in their extensions, but a mask belongs to one image: rename or remove one"
            )
        found[name] = path
    return found


def _paired(images: Path, masks: Path, mask_ending: str = "") -> list[Pair]:
    """The pairs of two folders, matched by file name.

    Raises:
      ValueError: an image without a mask, or a mask without an image.
    """
    of_images, of_masks = _images(images), _images(masks)
    if mask_ending:
        of_masks = {name.removesuffix(mask_ending): path for name, path in of_masks.items()}
    for here, there, folder, what in ((of_images, of_masks, masks, "mask"), (of_masks, of_images, images, "image")):
        alone = [path for name, path in here.items() if name not in there]
        if alone:
            raise ValueError(
                f"{len(alone)} files have no {what} of the same name in {folder}, such as {alone[0]}: add it, or remove them"
            )
    return [(path, of_masks[name]) for name, path in of_images.items()]


def has_voc_maps(root: Path) -> bool:
    """Whether a folder has the maps of VOC, which has boxes too."""
    return (root / "ImageSets" / "Segmentation").is_dir()


def _voc(root: Path) -> MapListing | None:
    sets = root / "ImageSets" / "Segmentation"
    if not has_voc_maps(root):
        return None
    splits = {
        split: _listed(sets / f"{name}.txt", root / "JPEGImages", ".jpg", root / "SegmentationClass")
        for split, name in (("train", "train"), ("validation", "val"))
    }
    return MapListing(root, splits, VOC_CLASSES)  # 255, the border of objects, is ignored


def _pets(root: Path) -> MapListing | None:
    notes = root / "annotations"
    if not (notes / "trimaps").is_dir():
        return None
    splits = {
        split: _listed(notes / f"{name}.txt", root / "images", ".jpg", notes / "trimaps")
        for split, name in (("train", "trainval"), ("test", "test"))
    }
    return MapListing(root, splits, ("background", "pet"), (2, 1))


def _camvid(root: Path) -> MapListing | None:
    if not (root / "trainannot").is_dir():
        return None
    splits = {
        split: _paired(root / name, root / f"{name}annot")
        for split, name in (("train", "train"), ("validation", "val"), ("test", "test"))
        if (root / name).is_dir()
    }
    return MapListing(root, splits, CAMVID_CLASSES, tuple(range(len(CAMVID_CLASSES))))


def _camvid_colours(root: Path) -> MapListing | None:
    colours, masks = root / "label_colors.txt", root / "LabeledApproved_full"
    if not (colours.is_file() and masks.is_dir()):
        return None
    lines = [line.split() for line in colours.read_text(encoding="utf-8").splitlines() if line.strip()]
    known = {words[3]: tuple(map(int, words[:3])) for words in lines if words[3] != _CAMVID_VOID}
    pairs = _paired(root / "701_StillsRaw_full", masks, "_L")
    return MapListing(root, {"train": pairs}, tuple(known), tuple(known.values()))


def _ade20k(root: Path) -> MapListing | None:
    info = root / "objectInfo150.txt"
    if not info.is_file():
        return None
    rows = [line.rstrip("\n").split("\t") for line in info.read_text(encoding="utf-8").splitlines()[1:] if line.strip()]
    names = tuple(row[-1].split(",")[0].strip() for row in rows)
    splits = {
        split: _paired(root / "images" / name, root / "annotations" / name)
        for split, name in (("train", "training"), ("validation", "validation"))
    }
    return MapListing(root, splits, names, tuple(range(1, len(names) + 1)))


def _plain(root: Path) -> MapListing | None:
    found = _folder_of_each_split(root)
    if not found:
        return None
    splits = {split: _paired(*folders) for split, folders in found.items()}
    return MapListing(root, splits, read_classes(root / CLASSES_FILE))


def read_classes(file: Path) -> tuple[str, ...]:
    """The names of the classes in a file, one per line; () if there is no such file."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return tuple(line.strip() for line in lines if line.strip())


def _folder_of_each_split(root: Path) -> dict[str, Pair]:
    """The image and mask folders of each split: images/train and masks/train, train/images and train/masks, or one of each."""
    masks = next((root / name for name in _MASK_FOLDERS if (root / name).is_dir()), None)
    if (root / "images").is_dir() and masks is not None:
        inside = {
            SPLIT_FOLDERS[path.name.lower()]: path.name
            for path in _folders(root / "images")
            if path.name.lower() in SPLIT_FOLDERS
        }
        if "train" in inside:
            return {split: (root / "images" / name, masks / name) for split, name in inside.items()}
        return {"train": (root / "images", masks)}
    found = {}
    for part in _folders(root):
        own = next((part / name for name in _MASK_FOLDERS if (part / name).is_dir()), None)
        if part.name.lower() in SPLIT_FOLDERS and (part / "images").is_dir() and own is not None:
            found[SPLIT_FOLDERS[part.name.lower()]] = part / "images", own
    return found if "train" in found else {}


def _folders(path: Path) -> Iterable[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
