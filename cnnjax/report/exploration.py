"""A data set seen before anything is trained on it: sizes, balance, statistics, examples, and what should not be there.

    found = explore(load_dataset(DatasetOptions(name="fashion_mnist")))
    found.duplicates                                    # test images that are, nearly, in the training split too
    Path("page.html").write_text(as_page(found), encoding="utf-8")

Two images are *equal* where their pixels are. They are *near-duplicates* where the correlation of their pixels is at least
`THRESHOLD`, grey and averaged over a grid of 16x16: brightness, contrast, compression and resizing hardly change that
number, another subject does.
"""

import collections
import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image

from cnnjax.analysis.retrieval import nearest
from cnnjax.core.terminal import say
from cnnjax.data import folders, transforms
from cnnjax.data.catalogue import is_folder
from cnnjax.data.datasets import SPLITS, Dataset, DatasetOptions, Split, load_dataset
from cnnjax.report import page

# Correlation from which two images are near-duplicates.
THRESHOLD = 0.995
# Sides of the grid that near-duplicates are compared on, and the most that mean images and a folder's files have.
GRID, SHOWN = 16, 64
_SMALL = transforms.TransformOptions(resize=(SHOWN, SHOWN))
# Images that are measured at a time: so many, or as many as have so many values.
_BLOCK, _VALUES = 1024, 2**25
# Pairs that the page and the text list, and classes that the page has pictures of; all are counted.
_LISTED, _DRAWN_CLASSES = 24, 100


@dataclasses.dataclass(frozen=True)
class SplitFacts:
    """What was measured of a split.

    Attributes:
      class_counts: examples of each class.
      mean: of each channel, 0 to 255.
      std: standard deviation of each channel.
      brightness: each image's mean, 0 to 255.
      contrast: each image's standard deviation.
      mean_images: of each class, at most 64 pixels high and wide; black where it has no example.
      copies: images that are equal to an earlier one of the split.
      contradictions: those of them whose class is another.
    """

    class_counts: Int[np.ndarray, "class"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    brightness: Float[np.ndarray, "example"]
    contrast: Float[np.ndarray, "example"]
    mean_images: UInt8[np.ndarray, "class height width channel"]
    copies: int
    contradictions: int

    @property
    def examples(self) -> int:
        """How many."""
        return int(self.class_counts.sum())

    @property
    def imbalance(self) -> float:
        """Examples of the largest class for each of the smallest; infinite where a class has none."""
        least = self.class_counts.min()
        return float(self.class_counts.max() / least) if least else float("inf")


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """An image of one split that is, nearly, in another too.

    Attributes:
      split: of the image: valid or test.
      position: in it.
      other_split: train or valid.
      other_position: of the image most like it there.
      correlation: of the two, 1 where they are equal.
      equal: in every pixel.
    """

    split: str
    position: int
    other_split: str
    other_position: int
    correlation: float
    equal: bool


@dataclasses.dataclass(frozen=True)
class Originals:
    """The files of a folder, before they are prepared.

    Attributes:
      sizes: height and width of each file that can be read.
      modes: Pillow's name of their kind of pixels -> how many.
      damaged: what is wrong with each file that cannot be read, or only cut to 8 bits and 3 channels.
      turned: how many are turned upright, as their EXIF orientation says.
      ignored: files that are no images.
    """

    sizes: Int[np.ndarray, "file 2"]
    modes: Mapping[str, int]
    damaged: tuple[str, ...]
    ignored: tuple[str, ...]
    turned: int = 0


@dataclasses.dataclass(frozen=True)
class Exploration:
    """All that was found.

    Attributes:
      dataset: what was explored.
      splits: measurements by split.
      duplicates: across splits, the most alike first; of each image with the one most like it in each earlier split.
      threshold: the correlation from which they are.
      names: split -> its images' names; empty where they have none.
      originals: of a folder; None otherwise.
    """

    dataset: Dataset
    splits: Mapping[str, SplitFacts]
    duplicates: tuple[Duplicate, ...]
    threshold: float
    names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict, repr=False)
    originals: Originals | None = None

    def name(self, split: str, position: int) -> str:
        """Of an image: its file, or its place."""
        return self.names[split][position] if split in self.names else f"{split}[{position}]"


def explore(dataset: Dataset, threshold: float = THRESHOLD) -> Exploration:
    """Measures a data set, as it is prepared for training.

    Args:
      dataset: from `load_dataset` or `read_folder`.
      threshold: the correlation of near-duplicates, see above.
    """
    splits, digests, grids = {}, {}, {}
    for name, split in dataset.splits.items():
        splits[name], digests[name], grids[name] = _measure(split, len(dataset.label_names))
    pairs = [
        pair
        for later, earlier in (("valid", "train"), ("test", "train"), ("test", "valid"))
        if later in splits and earlier in splits
        for pair in _duplicates(later, earlier, digests, grids, threshold)
    ]
    pairs.sort(key=lambda pair: (not pair.equal, -pair.correlation))
    return Exploration(dataset, splits, tuple(pairs), threshold)


def explore_source(source: str, overrides: Mapping[str, Any] | None = None, report: Any = say) -> Exploration:
    """Explores what a user names: a data set, a folder of images, or a config.

    A config's data are explored as its transforms prepare them. A folder is explored as it lies there, its images shown and
    compared at 64x64 pixels where they differ in size or are larger.

    Args:
      source: a name of `cnnjax datasets`, a folder, or what `load_config` takes.
      overrides: fields of the config, as {"dataset.resize": (64, 64)}.
      report: is told, in one line, of steps that take a while.

    Raises:
      ValueError: unknown name; images of differing sizes without `dataset.resize`; a folder that is no data set.
      FileNotFoundError: there is no such folder or config file.
    """
    from cnnjax.config import is_config_file, load_config, shipped_configs

    if is_folder(source) and not is_config_file(source) and not overrides:
        dataset, names, originals = read_folder(Path(source).expanduser())
        return dataclasses.replace(explore(dataset), names=names, originals=originals)
    if is_config_file(source) or source in shipped_configs():
        config = load_config(source, overrides)
    else:
        config = load_config({"dataset": {"name": source}}, overrides)
    options = DatasetOptions(**config.dataset)
    if not is_folder(options.name):
        return explore(load_dataset(options, report))
    originals = read_folder(Path(options.name).expanduser(), options.split_seed)[2]
    if originals.damaged:  # they are listed, whatever training would do
        options = dataclasses.replace(options, unreadable="skip")
    return dataclasses.replace(explore(load_dataset(options, report)), originals=originals)


# --- a folder's files -------------------------------------------------------------------------------------------


def read_folder(root: Path, seed: int = 0) -> tuple[Dataset, dict[str, list[str]], Originals]:
    """A folder of images as a data set of small pictures, its files' names, and what its files are like.

    Args:
      root: laid out as `data.folders` says.
      seed: draws the splits of a folder that has none.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it is no data set, or no image of it can be read.
    """
    listing = folders.list_folder(root, seed)
    paths = [path for examples in listing.splits.values() for path, _ in examples]
    with ThreadPoolExecutor() as pool:
        read = dict(zip(paths, pool.map(_read_file, paths), strict=True))
    good = {path: found for path, found in read.items() if not isinstance(found, str)}
    if not good:
        raise ValueError(f"{root}: none of its {len(paths)} images can be read: {next(iter(read.values()))}")
    sizes = np.array([size for size, _, _ in good.values()])
    uniform = len(np.unique(sizes, axis=0)) == 1 and sizes.max() <= SHOWN
    options = transforms.TransformOptions() if uniform else _SMALL
    splits, names = {}, {}
    for split, examples in listing.splits.items():
        kept = [(path, listing.classes.index(label)) for path, label in examples if path in good]
        pixels = [transforms.prepare(good[path][2], options, 3) for path, _ in kept]
        if not kept:
            continue
        name = "valid" if split == "validation" else split
        splits[name] = Split(np.stack(pixels), np.array([label for _, label in kept], np.int32))
        names[name] = [str(path.relative_to(listing.root)) for path, _ in kept]
    originals = Originals(
        sizes,
        dict(collections.Counter(mode for _, mode, _ in good.values()).most_common()),
        tuple(str(found) for found in read.values() if isinstance(found, str)),
        tuple(str(path.relative_to(listing.root)) for path in listing.ignored),
        sum(transforms.TURNED in picture.info for _, _, picture in good.values()),
    )
    ordered = {name: splits[name] for name in SPLITS if name in splits}
    return Dataset(str(root), listing.classes, ordered, None, listing.digest()), names, originals


def _read_file(path: Path) -> tuple[tuple[int, int], str, Image.Image] | str:
    """Height and width, mode, and the picture, made small since all are held in memory; or what is wrong with the file."""
    try:
        picture = transforms.read_image(path)
        size = picture.height, picture.width
        small = picture
        if max(size) > SHOWN:
            small = Image.fromarray(transforms.prepare(picture, _SMALL, 3))
            small.info |= {key: picture.info[key] for key in (transforms.TURNED,) if key in picture.info}
    except (ValueError, OSError) as error:
        return str(error)
    return size, picture.mode, small


# --- measurements -----------------------------------------------------------------------------------------------


def _measure(split: Split, classes: int) -> tuple[SplitFacts, list[bytes], Float[np.ndarray, "example grid"]]:
    """The facts, and what duplicates are found by: a digest of each image's pixels, and its grid."""
    sums, digests, means, squares, grids = 0.0, [], [], [], []
    image_shape = split.images.shape[1:]
    size = max(min(_BLOCK, _VALUES // math.prod(image_shape)), 1)
    for start in range(0, len(split), size):
        block = np.asarray(split.images[start : start + size])
        digests += [hashlib.blake2b(picture.tobytes(), digest_size=16).digest() for picture in block]
        padded = np.zeros((size, *image_shape), np.uint8)  # so that one program serves all blocks
        padded[: len(block)] = block
        mean, square, small, grid = (np.asarray(part)[: len(block)] for part in _measure_block(padded))
        member = np.arange(classes)[:, None] == split.labels[start : start + len(block)]
        sums = sums + (member.astype(np.float32) @ small.reshape(len(block), -1)).reshape(classes, *small.shape[1:])
        means.append(mean)
        squares.append(square)
        grids.append(grid)
    mean, square = (np.concatenate(parts).astype(np.float64) for parts in (means, squares))
    counts = np.bincount(split.labels, minlength=classes)
    seen: dict[bytes, int] = {}
    firsts = [seen.setdefault(digest, position) for position, digest in enumerate(digests)]
    copies = [(first, position) for position, first in enumerate(firsts) if first != position]
    facts = SplitFacts(
        class_counts=counts,
        mean=tuple(mean.mean(0).tolist()),
        std=tuple(np.sqrt(np.maximum(square.mean(0) - mean.mean(0) ** 2, 0)).tolist()),
        brightness=mean.mean(1),
        contrast=np.sqrt(np.maximum(square.mean(1) - mean.mean(1) ** 2, 0)),
        mean_images=(sums / np.maximum(counts, 1)[:, None, None, None]).round().clip(0, 255).astype(np.uint8),
        copies=len(copies),
        contradictions=sum(split.labels[first] != split.labels[position] for first, position in copies),
    )
    return facts, digests, np.concatenate(grids)


@jax.jit
def _measure_block(
    images: UInt8[Array, "block height width channel"],
) -> tuple[Array, Array, Float[Array, "block h w channel"], Float[Array, "block grid"]]:
    """Each channel's mean and mean square, the image made small, and its grid: grey, less its mean."""
    x = images.astype(jnp.float32)
    height, width, channels = x.shape[1:]
    scale = min(1, SHOWN / max(height, width))
    resize = partial(jax.image.resize, method="linear", antialias=True)
    small = resize(x, (len(x), max(round(height * scale), 1), max(round(width * scale), 1), channels))
    grid = resize(x.mean(-1), (len(x), min(height, GRID), min(width, GRID))).reshape(len(x), -1)
    grid = grid - grid.mean(1, keepdims=True)
    # What is of one colour, up to rounding, has no correlation with anything.
    grid = jnp.where(jnp.abs(grid).max(1, keepdims=True) < 0.5, 0, grid)
    return x.mean((1, 2)), (x**2).mean((1, 2)), small, grid


def _duplicates(
    later: str,
    earlier: str,
    digests: Mapping[str, list[bytes]],
    grids: Mapping[str, Float[np.ndarray, "example grid"]],
    threshold: float,
) -> Iterator[Duplicate]:
    """Of one split's images those that are, nearly, in an earlier split."""
    where = {digest: position for position, digest in reversed(list(enumerate(digests[earlier])))}
    distances, positions = nearest(grids[later], grids[earlier], 1, "cosine")  # of what has mean 0: the correlation
    for position, (distance, other) in enumerate(zip(distances[:, 0], positions[:, 0], strict=True)):
        if (equal := where.get(digests[later][position])) is not None:
            yield Duplicate(later, position, earlier, equal, 1.0, True)
        elif 1 - distance >= threshold and grids[later][position].any():
            yield Duplicate(later, position, earlier, int(other), float(1 - distance), False)


# --- in words ---------------------------------------------------------------------------------------------------

Table = tuple[str, Sequence[str], list[Sequence[Any]]]


def tables(found: Exploration) -> list[Table]:
    """What was found as (title, columns, rows), for a terminal or a page."""
    names = found.dataset.label_names
    shape = "x".join(map(str, found.dataset.image_shape))
    result: list[Table] = [
        (
            f"{found.dataset.name}: {len(names)} classes, images of {shape}",
            ("split", "examples", "largest class", "smallest class", "ratio", "always guessing the largest"),
            [
                (
                    split,
                    f"{facts.examples:,}",
                    _class(facts.class_counts, facts.class_counts.argmax(), names),
                    _class(facts.class_counts, facts.class_counts.argmin(), names),
                    f"{facts.imbalance:.2f}",
                    f"{facts.class_counts.max() / facts.examples:.1%} right",
                )
                for split, facts in found.splits.items()
            ],
        ),
        (
            "Examples of each class",
            ("class", *found.splits),
            [
                (name, *(f"{facts.class_counts[label]:,}" for facts in found.splits.values()))
                for label, name in enumerate(names)
            ],
        ),
        (
            "Pixels, 0 to 255",
            ("split", "mean by channel", "standard deviation", "an image's brightness, 5 % to 95 %", "its contrast"),
            [
                (split, _numbers(facts.mean), _numbers(facts.std), _range(facts.brightness), _range(facts.contrast))
                for split, facts in found.splits.items()
            ],
        ),
        ("Equal images, and near-duplicates across splits", ("what", "images"), _duplicate_counts(found)),
    ]
    if found.duplicates:
        listed = found.duplicates[:_LISTED]
        more = f", {_LISTED} of {len(found.duplicates)}" if len(found.duplicates) > _LISTED else ""
        result.append(
            (f"The most alike across splits{more}", ("image", "class", "is like", "class", "correlation"), [
                (found.name(pair.split, pair.position), _label(found, pair.split, pair.position),
                 found.name(pair.other_split, pair.other_position),
                 _label(found, pair.other_split, pair.other_position), "equal" if pair.equal else f"{pair.correlation:.4f}")
                for pair in listed
            ])
        )  # fmt: skip
    return result + (_original_tables(found.originals) if found.originals else [])


def _class(counts: Int[np.ndarray, "class"], label: int, names: Sequence[str]) -> str:
    return f"{names[label]} {counts[label]:,}"


def _label(found: Exploration, split: str, position: int) -> str:
    return found.dataset.label_names[found.dataset.splits[split].labels[position]]


def _numbers(values: Sequence[float]) -> str:
    return "  ".join(f"{value:.1f}" for value in values)


def _range(values: Float[np.ndarray, "example"]) -> str:
    low, high = np.percentile(values, [5, 95])
    return f"{low:.0f} to {high:.0f}"


def _duplicate_counts(found: Exploration) -> list[Sequence[Any]]:
    rows: list[Sequence[Any]] = []
    for split, facts in found.splits.items():
        rows.append((f"{split}: equal to an earlier image of {split}", f"{facts.copies:,}"))
        if facts.contradictions:
            rows.append((f"{split}: ... and of another class than that", f"{facts.contradictions:,}"))
    for later, earlier in (("valid", "train"), ("test", "train"), ("test", "valid")):
        if later in found.splits and earlier in found.splits:
            pairs = [pair for pair in found.duplicates if (pair.split, pair.other_split) == (later, earlier)]
            equal = sum(pair.equal for pair in pairs)
            rows.append((f"{later}: equal to an image of {earlier}", f"{equal:,}"))
            rows.append((f"{later}: nearly an image of {earlier}", f"{len(pairs) - equal:,}"))
    return rows


def _original_tables(originals: Originals) -> list[Table]:
    heights, widths = originals.sizes.T
    rows: list[Sequence[Any]] = [
        ("files read", f"{len(originals.sizes):,}"),
        ("height, least, median, greatest", _spread(heights)),
        ("width", _spread(widths)),
        ("aspect, width / height", _spread(widths / heights, ".2f")),
        ("different sizes", f"{len(np.unique(originals.sizes, axis=0)):,}"),
        ("kinds of pixels", ", ".join(f"{mode} {count:,}" for mode, count in originals.modes.items())),
        ("turned upright, as EXIF says", f"{originals.turned:,}"),
        ("files that are no images", f"{len(originals.ignored):,} {' '.join(originals.ignored[:3])}".strip()),
    ]
    result: list[Table] = [("The files themselves", ("what", ""), rows)]
    if originals.damaged:
        title = f"{len(originals.damaged)} that cannot be read (dataset.unreadable says what training does with them)"
        result.append((title, ("file and reason",), [(message,) for message in originals.damaged]))
    return result


def _spread(values: np.ndarray, form: str = ".0f") -> str:
    return "  ".join(format(value, form) for value in (values.min(), np.median(values), values.max()))


# --- as a page --------------------------------------------------------------------------------------------------


def as_page(found: Exploration, samples: int = 8) -> str:
    """What was found as a self-contained HTML page, with pictures.

    Args:
      found: from `explore`.
      samples: of each class, evenly spaced through the training split.
    """
    (title, *overview), classes, *others = tables(found)
    sections = [("Splits", page.table(*overview)), ("Classes", _classes(found, samples, classes[2]))]
    first = next(iter(found.splits.values()))
    for heading, columns, rows in others:
        content = page.table(columns, rows)
        if heading.startswith("Pixels"):
            content += _histogram(first.brightness, "Brightness of the training images", 255)
        if heading.startswith("Equal"):
            content += page.paragraph(
                f"Near-duplicates: of images made grey and averaged over a grid of {GRID}x{GRID}, those whose correlation is "
                f"at least {found.threshold}.",
                quiet=True,
            )
        if heading.startswith("The most alike"):
            content = page.tiles(map(partial(_pair, found), found.duplicates[:_LISTED])) + content
        if heading.startswith("The files") and len(np.unique(found.originals.sizes, axis=0)) > 1:
            heights, widths = found.originals.sizes.T
            content += _histogram(heights, "Heights, pixels") + _histogram(widths, "Widths, pixels")
        sections.append((heading, content))
    return page.page(title, sections)


def _classes(found: Exploration, samples: int, rows: Sequence[Sequence[Any]]) -> str:
    """A row a class: how many, examples, the mean image; pictures of the first classes alone where there are very many."""
    split = next(iter(found.dataset.splits.values()))
    facts = next(iter(found.splits.values()))
    most, cells = facts.class_counts.max(), []
    for label, (name, *counts) in enumerate(rows):
        bar = page.bar(facts.class_counts[label] / most)
        if label >= _DRAWN_CLASSES:
            cells.append((name, bar, *counts))
            continue
        positions = np.flatnonzero(split.labels == label)
        chosen = positions[np.linspace(0, len(positions) - 1, min(samples, len(positions))).astype(int)]
        shown = ""
        if len(chosen):
            strip = page.strip(_small(np.asarray(split.images[chosen])))
            shown = page.image(strip, f"examples of {name}", 49 * len(chosen))
        mean = page.image(facts.mean_images[label], f"mean of {name}", 48)
        cells.append((name, bar, *counts, shown, mean))
    return page.table(("class", "", *found.splits, "examples", "mean"), cells)


def _small(images: UInt8[np.ndarray, "image height width channel"]) -> UInt8[np.ndarray, "image h w channel"]:
    """Images of at most 64 pixels a side."""
    factor = -(-max(images.shape[1:3]) // SHOWN)
    if factor == 1:
        return images
    pictures = [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).reduce(factor) for image in images]
    return np.stack([np.atleast_3d(np.asarray(picture)) for picture in pictures])


def _pair(found: Exploration, pair: Duplicate) -> tuple[str, str]:
    both = ((pair.split, pair.position), (pair.other_split, pair.other_position))
    images = np.stack([np.asarray(found.dataset.splits[split].images[position]) for split, position in both])
    names = " · ".join(f"{found.name(*place)} {_label(found, *place)}" for place in both)
    return page.image(page.strip(_small(images)), names, 129), names


def _histogram(values: np.ndarray, label: str, top: float | None = None) -> str:
    low, high = (0, top) if top else (float(values.min()), float(values.max()))
    counts, _ = np.histogram(values, 48, (low, high if high > low else low + 1))
    return page.paragraph(f"{label}, {low:.0f} to {high:.0f}", quiet=True) + page.histogram(counts.tolist(), label)
