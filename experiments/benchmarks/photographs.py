"""JPEG files of ImageNet's usual size, cut from real photographs, for what is timed on files."""

import importlib.util
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

# In scikit-image's package, so that no network is needed; each is a class.
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
# Width and height -> how often.
SIZES = {(500, 375): 0.55, (375, 500): 0.15, (500, 333): 0.2, (333, 500): 0.1}
# The least share of the photograph's width or height that a part has.
LEAST_SCALE = 0.6
QUALITY = (90, 95)


def photographs() -> list[tuple[str, Image.Image]]:
    """The name and picture of each photograph.

    Raises:
      ValueError: scikit-image is not installed.
    """
    package = importlib.util.find_spec("skimage")
    if package is None:
        raise ValueError("the photographs are scikit-image's: pip install scikit-image")
    folder = Path(package.submodule_search_locations[0]) / "data"
    return [(Path(name).stem, Image.open(folder / name).convert("RGB")) for name in PHOTOGRAPHS]


def folder_of_jpegs(folder: Path, count: int) -> Path:
    """A folder `train/<photograph>/*.jpg` of `count` files, the same each time, and one of each for validation and test; made if absent."""
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    given = photographs()
    beside = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        for number in range(count + 2 * len(given)):
            split = "train" if number < count else ("validation", "test")[(number - count) // len(given)]
            name, photograph = given[number % len(given)]
            path = beside / "made" / split / name / f"{number:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            _save_part(photograph, np.random.RandomState(number), path)
        (beside / "made").rename(folder)
    finally:
        shutil.rmtree(beside)
    return folder


def size_of(path: Path) -> tuple[int, int]:
    """The width and height of an image file, which is not decoded."""
    with Image.open(path) as picture:
        return picture.size


def _save_part(photograph: Image.Image, generator: np.random.RandomState, path: Path) -> None:
    width, height = list(SIZES)[generator.choice(len(SIZES), p=list(SIZES.values()))]
    scale = min(photograph.width / width, photograph.height / height) * generator.uniform(LEAST_SCALE, 1)
    extent = np.array([width, height]) * scale
    left, top = generator.uniform(size=2) * (np.array(photograph.size) - extent)
    right, bottom = min(left + extent[0], photograph.width), min(top + extent[1], photograph.height)
    part = photograph.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, right, bottom))
    part.save(path, quality=int(generator.randint(QUALITY[0], QUALITY[1] + 1)))
