"""Files of boxes: COCO's JSON, VOC's XML, Penn-Fudan's text and YOLO's text, read and written.

Inside, boxes are edges in pixels (`data.boxes`). COCO stores (x, y, width, height); VOC and Penn-Fudan the first and last pixel,
counted from 1; YOLO the class number, the centre and the size as fractions of the image.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float

from cnnjax.data.boxes import CLASS, CROWD, IGNORED, Rows, as_rows

Boxes = Float[np.ndarray, "object 4"]


@dataclasses.dataclass(frozen=True)
class NamedBoxes:
    """The objects of an image as their file names them.

    Attributes:
      boxes: the edges in pixels (as fractions of the image in YOLO's files).
      names: the class of each object: its name, or its number.
      status: the status of each object, as in `data.boxes`.
      size: the height and width of the image; None if the file does not say.
    """

    boxes: Boxes
    names: Sequence[str | int]
    status: Sequence[int]
    size: tuple[int, int] | None = None

    def rows(self, numbers: Mapping[str | int, int]) -> Rows:
        """The rows of `data.boxes`, with the number of each class."""
        return as_rows(self.boxes, [numbers[name] for name in self.names], self.status)


@dataclasses.dataclass(frozen=True)
class CocoFile:
    """The contents of a COCO file.

    Attributes:
      classes: the names of the categories, in the order of their numbers.
      images: the objects of each image, by its `file_name`; classes are named.
    """

    classes: tuple[str, ...]
    images: Mapping[str, NamedBoxes]


def _refuse(path: Path, why: str) -> ValueError:
    return ValueError(f"{path}: {why}")


def _checked(path: Path, boxes: Iterable[Sequence[Any]], whose: Sequence[str]) -> Boxes:
    """Boxes as an array; `whose` names each in messages.

    Raises:
      ValueError: a box is not four finite numbers, or ends before it begins.
    """
    found = []
    for box, name in zip(boxes, whose, strict=True):
        try:
            edges = [float(value) for value in box]
        except (TypeError, ValueError):
            edges = []
        if len(edges) != 4 or not np.isfinite(edges).all():
            raise _refuse(path, f"the box of {name} is {box!r}: expected four numbers")
        if edges[2] < edges[0] or edges[3] < edges[1]:
            raise _refuse(path, f"the box of {name} ends before it begins, {edges}: correct it, or remove the object")
        found.append(edges)
    return np.array(found, np.float64).reshape(-1, 4)


# --- COCO ---------------------------------------------------------------------------------------------------------


def read_coco(path: Path) -> CocoFile:
    """Reads a COCO file of instances; crowds (`iscrowd`) are crowds, and objects with `ignore` are ignored.

    Raises:
      ValueError: the file is no JSON of this format; the message names the file and what is wrong.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _refuse(path, f"not a JSON file ({error})") from None
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise _refuse(path, f"expected COCO's lists {', '.join(parts)}")
    try:
        categories = sorted((int(one["id"]), str(one["name"])) for one in content["categories"])
        images = {one["id"]: one for one in content["images"]}
        names = {number: str(one["file_name"]) for number, one in images.items()}
        of_image: dict[Any, list[Mapping[str, Any]]] = {number: [] for number in images}
        for one in content["annotations"]:
            number = one["image_id"]
            if number not in of_image:
                raise _refuse(path, f"annotation {one.get('id')} is of image {number}, which is not among the images")
            if one["category_id"] not in dict(categories):
                raise _refuse(
                    path, f"annotation {one.get('id')} is of category {one['category_id']}, which has no name"
                )
            of_image[number].append(one)
        found = {
            names[number]: _coco_boxes(path, images[number], of_image[number], dict(categories)) for number in images
        }
    except (KeyError, TypeError) as error:
        raise _refuse(path, f"an image, annotation or category lacks {error}") from None
    if len(found) < len(images):
        raise _refuse(path, "two images have the same file_name: give each its own")
    if len({name for _, name in categories}) < len(categories):
        raise _refuse(path, "two categories have the same name: give each its own")
    return CocoFile(tuple(name for _, name in categories), found)


def _coco_boxes(
    path: Path, image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], names: Mapping[int, str]
) -> NamedBoxes:
    given = [one["bbox"] for one in annotations]
    edges = [(x, y, x + width, y + height) for x, y, width, height in _numbers(path, given)]
    whose = [f"annotation {one.get('id')}" for one in annotations]
    status = [CROWD if one.get("iscrowd") else IGNORED if one.get("ignore") else 0 for one in annotations]
    size = (int(image["height"]), int(image["width"])) if {"height", "width"} <= image.keys() else None
    return NamedBoxes(_checked(path, edges, whose), [names[one["category_id"]] for one in annotations], status, size)


def _numbers(path: Path, boxes: Sequence[Any]) -> list[list[float]]:
    for box in boxes:
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
            raise _refuse(path, f"a bbox is {box!r}: expected [x, y, width, height]")
    return list(boxes)


def coco_text(
    images: Sequence[tuple[str, tuple[int, int]]], found: Sequence[Rows], scores: Sequence[Any], names: Sequence[str]
) -> str:
    """A COCO file of detections: images, categories, and annotations with a `score`.

    Args:
      images: the file name of each image, and its height and width.
      found: the rows of each image's detections.
      scores: the score of each row.
      names: the names of the classes.
    """
    annotations = [
        {
            "id": 0,
            "image_id": image + 1,
            "category_id": int(row[CLASS]) + 1,
            "bbox": [_short(value) for value in (row[0], row[1], row[2] - row[0], row[3] - row[1])],
            "area": _short((row[2] - row[0]) * (row[3] - row[1])),
            "iscrowd": 0,
            "score": round(float(score), 6),
        }
        for image, (rows, own) in enumerate(zip(found, scores, strict=True))
        for row, score in zip(rows, own, strict=True)
    ]
    content = {
        "images": [
            {"id": number + 1, "file_name": name, "height": height, "width": width}
            for number, (name, (height, width)) in enumerate(images)
        ],
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(names)],
        "annotations": [{**one, "id": number + 1} for number, one in enumerate(annotations)],
    }
    return json.dumps(content, indent=1) + "\n"


# --- VOC and Penn-Fudan -------------------------------------------------------------------------------------------


def read_voc(path: Path) -> NamedBoxes:
    """Reads a VOC file; objects marked as difficult are ignored.

    Raises:
      ValueError: the file is no XML of this format; the message names the file and what is wrong.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise _refuse(path, f"not an XML file ({error})") from None
    if root.tag != "annotation":
        raise _refuse(path, f"expected VOC's <annotation>, found <{root.tag}>")
    names, boxes, status = [], [], []
    for number, one in enumerate(root.iter("object")):
        name = (one.findtext("name") or "").strip()
        if not name:
            raise _refuse(path, f"object {number} has no name")
        names.append(name)
        boxes.append([one.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")])
        status.append(IGNORED if (one.findtext("difficult") or "0").strip() == "1" else 0)
    size = [root.findtext(f"size/{side}") for side in ("height", "width")]
    known = (int(size[0]), int(size[1])) if all(side and side.strip().isdigit() for side in size) else None
    return NamedBoxes(_from_pixels(path, boxes, names), names, status, known if known and all(known) else None)


def _from_pixels(path: Path, boxes: Sequence[Sequence[Any]], names: Sequence[str]) -> Boxes:
    """The edges of boxes given as the first and last pixel, counted from 1."""
    edges = _checked(path, boxes, names)
    edges[:, :2] -= 1
    return edges


def voc_text(name: str, size: tuple[int, int], rows: Rows, scores: Sequence[float], names: Sequence[str]) -> str:
    """A VOC file of an image's detections, each with a `score`; pixels are rounded."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    sides = ElementTree.SubElement(root, "size")
    for side, length in zip(("width", "height"), reversed(size), strict=True):
        ElementTree.SubElement(sides, side).text = str(length)
    for row, score in zip(rows, scores, strict=True):
        one = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(one, "name").text = names[int(row[CLASS])]
        ElementTree.SubElement(one, "difficult").text = "0"
        ElementTree.SubElement(one, "score").text = f"{float(score):.6f}"
        box = ElementTree.SubElement(one, "bndbox")
        first, last = np.rint(row[:2]).astype(int) + 1, np.rint(row[2:4]).astype(int)
        for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), (*first, *np.maximum(first, last)), strict=True):
            ElementTree.SubElement(box, edge).text = str(value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


# As in 'Bounding box for object 1 "PASpersonWalking" (Xmin, Ymin) - (Xmax, Ymax) : (160, 182) - (302, 431)'.
_PENN_BOX = re.compile(r'^Bounding box for object \d+ "([^"]+)".*:\s*\((\d+),\s*(\d+)\)\s*-\s*\((\d+),\s*(\d+)\)', re.M)
_PENN_SIZE = re.compile(r"^Image size \(X x Y x C\) : (\d+) x (\d+)", re.M)


def read_penn_fudan(path: Path) -> NamedBoxes:
    """Reads a file of "PASCAL Annotation Version 1.00", as the Penn-Fudan pedestrians have; every class PASperson... is a person.

    Raises:
      ValueError: the file is not of this format; the message names the file.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.lstrip().startswith("# Compatible with PASCAL Annotation") or (size := _PENN_SIZE.search(text)) is None:
        raise _refuse(path, "expected a file of PASCAL Annotation Version 1.00 with a line 'Image size (X x Y x C)'")
    found = _PENN_BOX.findall(text)
    if len(found) != text.count("Bounding box for object"):
        raise _refuse(path, "a line 'Bounding box for object' cannot be read")
    names = ["person" if name.startswith("PASperson") else name for name, *_ in found]
    boxes = _from_pixels(path, [box for _, *box in found], names)
    return NamedBoxes(boxes, names, [0] * len(names), (int(size[2]), int(size[1])))


# --- YOLO ---------------------------------------------------------------------------------------------------------


def read_yolo(path: Path) -> NamedBoxes:
    """Reads a YOLO file: `class x y width height` a line, in fractions of the image; an empty file has no objects.

    Raises:
      ValueError: a line is not of this format; the message names the file and the line.
    """
    numbers, boxes = [], []
    for place, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            number, (x, y, width, height) = int(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            raise _refuse(path, f"line {place} is {line!r}: expected a class number, x, y, width and height") from None
        if number < 0 or not all(0 <= value <= 1 for value in (x, y, width, height)):
            raise _refuse(path, f"line {place} is {line!r}: expected a class number from 0, and fractions of 0 to 1")
        numbers.append(number)
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return NamedBoxes(_checked(path, boxes, [f"object {number}" for number in numbers]), numbers, [0] * len(numbers))


def yolo_text(size: tuple[int, int], rows: Rows, scores: Sequence[float]) -> str:
    """A YOLO file of an image's detections, each with its score at the end of the line."""
    height, width = size
    lines = []
    for row, score in zip(np.asarray(rows, np.float64), scores, strict=True):
        x0, y0, x1, y1 = row[:4] / [width, height, width, height]
        place = " ".join(f"{value:.6f}" for value in ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0))
        lines.append(f"{int(row[CLASS])} {place} {float(score):.6f}\n")
    return "".join(lines)


def _short(value: Any) -> float:
    return round(float(value), 3)
