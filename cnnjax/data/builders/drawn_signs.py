"""Drawn traffic signs, a stand-in for photographs (GTSRB) where there is no network.

Nine kinds, unequally many, as a camera might see them: in poor light, turned, off the middle, blurred. They are easier
than photographs, and what is found on them is to be found again on those.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFilter

Color = tuple[int, int, int]
Draw = Callable[[ImageDraw.ImageDraw], None]

RED, BLUE, WHITE, YELLOW, BLACK = (190, 30, 40), (30, 70, 170), (235, 235, 235), (240, 200, 40), (20, 20, 20)
SIDE, LARGE, MIDDLE = 32, 128, 64  # pixels of an image; of what it is reduced from, and half of that
MANY, FEW, TESTED = 60, 12, 60  # training images of the most frequent kind and of the least; test images of each
# Which of its seven segments a digit has: top, upper left and right, middle, lower left and right, bottom.
SEGMENTS = {"0": "1110111", "3": "1011011", "5": "1101011", "8": "1111111"}


def _polygon(draw: ImageDraw.ImageDraw, sides: int, radius: float, color: Color, turn: float = 0.0) -> None:
    angles = 2 * np.pi * np.arange(sides) / sides + turn
    draw.polygon([(MIDDLE + radius * np.sin(a), MIDDLE - radius * np.cos(a)) for a in angles], fill=color)


def _disc(draw: ImageDraw.ImageDraw, radius: float, color: Color) -> None:
    draw.ellipse([MIDDLE - radius, MIDDLE - radius, MIDDLE + radius, MIDDLE + radius], fill=color)


def _digit(draw: ImageDraw.ImageDraw, digit: str, left: int, top: int) -> None:
    places = (
        (0, 0, 20, 5),
        (0, 0, 5, 20),
        (15, 0, 20, 20),
        (0, 17, 20, 22),
        (0, 19, 5, 39),
        (15, 19, 20, 39),
        (0, 34, 20, 39),
    )
    for (x0, y0, x1, y1), there in zip(places, SEGMENTS[digit], strict=True):
        if there == "1":
            draw.rectangle([left + x0, top + y0, left + x1, top + y1], fill=BLACK)


def _speed(number: str) -> Draw:
    def sign(draw: ImageDraw.ImageDraw) -> None:
        _disc(draw, 54, RED)
        _disc(draw, 42, WHITE)
        _digit(draw, number[0], MIDDLE - 24, MIDDLE - 20)
        _digit(draw, number[1], MIDDLE + 4, MIDDLE - 20)

    return sign


def _no_entry(draw: ImageDraw.ImageDraw) -> None:
    _disc(draw, 54, RED)
    draw.rectangle([30, 55, 98, 73], fill=WHITE)


def _stop(draw: ImageDraw.ImageDraw) -> None:
    _polygon(draw, 8, 56, RED, np.pi / 8)
    for left in (30, 48, 66, 84):
        draw.rectangle([left, 50, left + 12, 78], fill=WHITE)


def _give_way(draw: ImageDraw.ImageDraw) -> None:
    _polygon(draw, 3, 60, RED, np.pi)
    _polygon(draw, 3, 36, WHITE, np.pi)


def _danger(draw: ImageDraw.ImageDraw) -> None:
    _polygon(draw, 3, 60, RED)
    _polygon(draw, 3, 40, WHITE)
    draw.rectangle([60, 44, 68, 66], fill=BLACK)
    draw.rectangle([60, 71, 68, 79], fill=BLACK)


def _priority(draw: ImageDraw.ImageDraw) -> None:
    _polygon(draw, 4, 58, WHITE)
    _polygon(draw, 4, 44, YELLOW)


def _ahead(draw: ImageDraw.ImageDraw) -> None:
    _disc(draw, 54, BLUE)
    draw.polygon([(64, 24), (92, 58), (73, 58), (73, 102), (55, 102), (55, 58), (36, 58)], fill=WHITE)


SIGNS: Mapping[str, Draw] = {
    "speed 30": _speed("30"),
    "speed 50": _speed("50"),
    "speed 80": _speed("80"),
    "priority": _priority,
    "give way": _give_way,
    "no entry": _no_entry,
    "stop": _stop,
    "danger": _danger,
    "ahead only": _ahead,
}


def draw_sign(name: str, generator: np.random.RandomState) -> Image.Image:
    """A sign of 32x32 pixels: turned by up to 15 degrees, off the middle by up to 4 pixels, blurred, dark, noisy."""
    background = tuple(map(int, generator.randint(40, 200, 3)))
    picture = Image.new("RGB", (LARGE, LARGE), background)
    SIGNS[name](ImageDraw.Draw(picture))
    angle, smaller = generator.uniform(-15, 15), generator.uniform(1.0, 1.8)
    moved = tuple(generator.uniform(-16, 16, 2))
    picture = picture.rotate(angle, Image.Resampling.BILINEAR, translate=moved, fillcolor=background)
    near, far = MIDDLE - smaller * MIDDLE, MIDDLE + smaller * MIDDLE
    box = (near, near, far, far)
    picture = picture.transform((LARGE, LARGE), Image.Transform.EXTENT, box, fillcolor=background)
    picture = picture.filter(ImageFilter.GaussianBlur(generator.uniform(0, 5)))
    pixels = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    pixels = pixels * generator.uniform(0.15, 1.1) + generator.normal(0, 12, pixels.shape)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


def training_counts() -> dict[str, int]:
    """How many training images each kind has: falling by the same factor from kind to kind, as on roads some are rare."""
    numbers = np.geomspace(MANY, FEW, len(SIGNS)).round()
    return {name: int(number) for name, number in zip(SIGNS, numbers, strict=True)}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Drawn signs as colour images of 32x32 pixels."""

    name = "drawn_signs"
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = None

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Drawn traffic signs, a stand-in for photographs.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(SIGNS)),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        counts = {"train": training_counts(), "test": dict.fromkeys(SIGNS, TESTED)}
        return {split: self._generate_examples(seed, of) for seed, (split, of) in enumerate(counts.items())}

    def _generate_examples(self, seed: int, counts: Mapping[str, int]) -> Iterator:
        generator = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed])))
        for name, count in counts.items():
            for index in range(count):
                yield f"{name} {index}", {"image": np.asarray(draw_sign(name, generator)), "label": name}
