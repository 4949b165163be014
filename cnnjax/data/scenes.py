"""Scenes composed of the items of another data set, with the class of every pixel, and each item's box: `digit_scenes`, `fashion_scenes`.

A scene is a grey image of 64x64 pixels: a background of smooth noise with grain, and up to six items of the other data set at
random places, sizes and brightnesses, later ones in front of earlier ones. Digits differ in size and may cover each other in part; items
of Fashion-MNIST keep their size of about 28x28 pixels, and stand beside each other before a dark background. An item's pixels are those above a level; their class
is the item's, numbered from 1, and the background is 0. The scenes of a split contain only items of that split, so that no item
of a test scene was trained on. Scene n of a split is a function of the split and n.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from cnnjax.data import cache, sources
from cnnjax.data.map_files import MapContent
from cnnjax.data.transforms import TransformOptions

SIDE = 64
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
    """

    items: str
    scenes: Mapping[str, int]
    level: int
    sides: tuple[int, int]
    covered: float
    places: int
    background: int
    version: str


KINDS: Mapping[str, Kind] = {
    "digit_scenes": Kind("digits", {"train": 1500, "validation": 200, "test": 300}, 96, (22, 34), 0.3, 1, 80, "1.0.1"),
    "fashion_scenes": Kind(
        "fashion_mnist", {"train": 20_000, "validation": 1000, "test": 2000}, 24, (27, 29), 0.05, 20, 24, "1.3.0"
    ),
}
# The smallest and largest number of items that are tried in a scene.
_ITEMS = (2, 6)


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


def scene_source(
    name: str, data_dir: str | None, manual_dir: str | None, report: Callable[[str], None]
) -> sources.Source:
    """The source of composed scenes; the data set of the items is prepared when scenes are first made. Arguments as in `tfds_source`."""
    kind = KINDS[name]
    items = sources.tfds_source(kind.items, data_dir, manual_dir, report)

    def composed(split: str) -> Callable[[int], Scene]:
        spec = dict(zip(("train", "validation", "test"), items.default_splits(), strict=True))[split]
        images, labels, _ = cache.cached_slice(items, spec, TransformOptions(), "refuse", report)
        return partial(compose, kind, np.asarray(images)[..., 0], labels, split)

    def read(split: str) -> Iterator[tuple[np.ndarray, MapContent, str]]:
        make = composed(split)
        for position in range(kind.scenes[split]):
            scene, title = make(position), f"{name} {split}[{position}]"
            yield scene.image, MapContent(scene.classes, title), title

    def opened(split: str) -> Callable[[int], tuple[np.ndarray, str]]:
        make = composed(split)
        return lambda position: (make(position).image, f"{name} {split}[{position}]")

    return sources.Source(
        name=name,
        identity=f"{name}/{kind.version}-{items.identity.replace('/', '-')}",
        label_names=(BACKGROUND, *items.label_names),
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
    image = _background(generator, kind.background)
    owner = np.full((SIDE, SIDE), -1)
    found: list[int] = []
    for _ in range(generator.randint(_ITEMS[0], _ITEMS[1] + 1)):
        number = generator.randint(len(images))
        side = generator.randint(kind.sides[0], kind.sides[1] + 1)
        pixels = np.asarray(Image.fromarray(images[number]).resize((side, side), Image.Resampling.BILINEAR))
        inside = pixels > kind.level
        for _ in range(kind.places):
            top, left = generator.randint(0, SIDE - side + 1, 2)
            part = owner[top : top + side, left : left + side]
            fits = inside.any() and not _covers_too_much(owner, part, inside, kind.covered)
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


def _background(generator: np.random.RandomState, largest: int) -> Float[np.ndarray, "side side"]:
    """A background of smooth noise of 0 to a largest value, with grain."""
    coarse = Image.fromarray(generator.randint(0, largest + 1, (5, 5)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)
    return smooth + generator.normal(0, 6, (SIDE, SIDE))


def _covers_too_much(owner: np.ndarray, part: np.ndarray, inside: np.ndarray, most: float) -> bool:
    """Whether an item would cover more than this fraction of an earlier one."""
    visible = np.bincount(owner.ravel() + 1)[1:]
    covered = np.bincount(part[inside] + 1, minlength=len(visible) + 1)[1:]
    return bool((covered > most * visible).any())


def _box(inside: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
