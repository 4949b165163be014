"""Scenes composed of the items of another data set, with the class of every pixel, and each item's box.

`digit_scenes`, `digit_scenes_128` and `fashion_scenes`: a scene is a grey image of 64x64 pixels (128x128 in `digit_scenes_128`), a
background of smooth noise with grain, and up to six items of the other data set at random places, sizes and brightnesses, later ones in
front of earlier ones. Digits differ in size and may cover each other in part; items of Fashion-MNIST keep their size of about 28x28
pixels, and stand beside each other before a dark background, as many of six as find a place: 4.5 on average. An item's pixels are those
above a level; their class is the item's, numbered from 1, and the background is 0. As boxes, items are numbered from 0. The scenes of a
split contain only items of that split, so that no item of a test scene was trained on. Scene n of a split is a function of the split and
n.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from cnnjax.data import cache, sources
from cnnjax.data.boxes import BoxContent, as_rows
from cnnjax.data.map_files import MapContent
from cnnjax.data.transforms import TransformOptions

BACKGROUND = "background"


@dataclasses.dataclass(frozen=True)
class Kind:
    """The ingredients of scenes.

    Attributes:
      items: the data set of the items.
      scenes: the number of scenes of each split.
      level: the value above which a pixel belongs to the item.
      sides: the smallest and largest side of an item in a scene, in pixels.
      covered: the largest fraction of an item that a later one may cover.
      places: the number of places that are tried for an item, until it covers no other too much.
      background: the largest value of the background, apart from its grain.
      version: changed whenever scenes change.
      side: the height and width of a scene.
      least: the smallest number of items that are tried; the largest is `MOST_ITEMS`.
    """

    items: str
    scenes: Mapping[str, int]
    level: int
    sides: tuple[int, int]
    covered: float
    places: int
    background: int
    version: str
    side: int = 64
    least: int = 2


# The largest number of items that are tried in a scene.
MOST_ITEMS = 6

KINDS: Mapping[str, Kind] = {
    "digit_scenes": Kind("digits", {"train": 1500, "validation": 200, "test": 300}, 96, (22, 34), 0.3, 1, 80, "1.0.1"),
    "digit_scenes_128": Kind(
        "digits", {"train": 2000, "validation": 200, "test": 300}, 96, (24, 56), 0.3, 20, 80, "1.0.0", 128
    ),
    "fashion_scenes": Kind(
        "fashion_mnist",
        {"train": 20_000, "validation": 1000, "test": 2000},
        24,
        (27, 29),
        0.05,
        100,
        24,
        "1.4.0",
        least=6,
    ),
}


@dataclasses.dataclass(frozen=True)
class Scene:
    """A composed image, and the classes and boxes of its items.

    Attributes:
      image: the grey image.
      classes: the class of each pixel; 0 is the background.
      boxes: the box of each item's visible part: top, left, bottom, right in pixels, bottom and right exclusive.
      labels: the class of each item, from 1.
    """

    image: UInt8[np.ndarray, "height width 1"]
    classes: UInt8[np.ndarray, "height width"]
    boxes: Int[np.ndarray, "item 4"]
    labels: Int[np.ndarray, "item"]

    def as_boxes(self, title: str) -> BoxContent:
        """The items' boxes as the label of the scene, whose name in messages is `title`."""
        rows = as_rows(self.boxes[:, [1, 0, 3, 2]], self.labels - 1)
        return BoxContent(rows, title, self.classes.shape, MOST_ITEMS)


def scene_source(
    name: str, data_dir: str | None, manual_dir: str | None, report: Callable[[str], None], as_boxes: bool = False
) -> sources.Source:
    """The source of composed scenes; the data set of the items is prepared when scenes are first made.

    Args:
      name: the kind of scenes.
      data_dir: the folder of prepared data sets; None is TFDS's.
      manual_dir: the folder of files that were downloaded by hand.
      report: called with one line for each step that takes a while.
      as_boxes: whether labels are the boxes of items, rather than maps of their classes.
    """
    kind = KINDS[name]
    items = sources.tfds_source(kind.items, data_dir, manual_dir, report)

    def composed(split: str) -> Callable[[int], Scene]:
        spec = dict(zip(("train", "validation", "test"), items.default_splits(), strict=True))[split]
        images, labels, _ = cache.cached_slice(items, spec, TransformOptions(), "refuse", report)
        return partial(compose, kind, np.asarray(images)[..., 0], labels, split)

    def read(split: str) -> Iterator[tuple[np.ndarray, MapContent | BoxContent, str]]:
        make = composed(split)
        for position in range(kind.scenes[split]):
            scene, title = make(position), f"{name} {split}[{position}]"
            label = scene.as_boxes(title) if as_boxes else MapContent(scene.classes, title)
            yield scene.image, label, title

    def opened(split: str) -> Callable[[int], tuple[np.ndarray, str]]:
        make = composed(split)
        return lambda position: (make(position).image, f"{name} {split}[{position}]")

    return sources.Source(
        name=name,
        identity=f"{name}/{kind.version}-{items.identity.replace('/', '-')}{'-boxes' if as_boxes else ''}",
        label_names=items.label_names if as_boxes else (BACKGROUND, *items.label_names),
        counts=kind.scenes,
        channels=1,
        read=read,
        open=opened,
    )


def compose(
    kind: Kind,
    images: UInt8[np.ndarray, "item side side"],
    labels: Int[np.ndarray, "item"],
    split: str,
    position: int,
) -> Scene:
    """Composes the scene at a position in a split from the split's items."""
    seed = [sorted(kind.scenes).index(split), position]
    generator = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    image = _background(generator, kind)
    owner = np.full((kind.side, kind.side), -1)
    found: list[int] = []
    for _ in range(generator.randint(kind.least, MOST_ITEMS + 1)):
        number = generator.randint(len(images))
        side = generator.randint(kind.sides[0], kind.sides[1] + 1)
        pixels = np.asarray(Image.fromarray(images[number]).resize((side, side), Image.Resampling.BILINEAR))
        inside = pixels > kind.level
        most = kind.covered * np.bincount(owner.ravel() + 1, minlength=len(found) + 1)[1:]
        for _ in range(kind.places):
            top, left = generator.randint(0, kind.side - side + 1, 2)
            part = owner[top : top + side, left : left + side]
            covered = np.bincount(part[inside] + 1, minlength=len(found) + 1)[1:]
            fits = inside.any() and (covered <= most).all()
            if fits:
                break
        brightness = generator.uniform(0.7, 1.0)
        if not fits:
            continue
        part[inside] = len(found)
        place = image[top : top + side, left : left + side]
        place[inside] = (brightness * pixels.astype(np.float64))[inside]
        found.append(int(labels[number]) + 1)
    classes = np.array([0, *found], np.uint8)[owner + 1]
    boxes = [_box(owner == number) for number in range(len(found))]
    return Scene(
        np.rint(image).clip(0, 255).astype(np.uint8)[..., None],
        classes,
        np.array(boxes, np.int32).reshape(-1, 4),
        np.array(found, np.int32),
    )


def _background(generator: np.random.RandomState, kind: Kind) -> Float[np.ndarray, "side side"]:
    """A background of smooth noise of 0 to the kind's largest value, with grain."""
    coarse = Image.fromarray(generator.randint(0, kind.background + 1, (5, 5)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((kind.side, kind.side), Image.Resampling.BICUBIC), np.float64)
    return smooth + generator.normal(0, 6, (kind.side, kind.side))


def _box(inside: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
