"""Exploration of a data set before training: sizes, balance, statistics, examples, duplicates and damaged files.

    found = explore(load_dataset(DatasetOptions(name="fashion_mnist")))
    found.duplicates                                    # test images with a (near-)duplicate in the training split
    Path("page.html").write_text(exploration_page.as_page(found), encoding="utf-8")

Two images are *equal* if all their pixels are. They are *near-duplicates* if the correlation of their pixels, in grey and averaged
over a grid of 16x16, is at least `THRESHOLD`: brightness, contrast, compression and resizing hardly change this number, but
another subject does.
"""

import collections
import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped
from PIL import Image

from cnnjax.analysis.retrieval import nearest
from cnnjax.core.locate import is_reference, shipped_configs
from cnnjax.core.terminal import say
from cnnjax.data import folders, transforms
from cnnjax.data.box_folders import is_box_folder
from cnnjax.data.catalogue import is_folder
from cnnjax.data.datasets import SPLITS, Dataset, DatasetOptions, Split, load_dataset
from cnnjax.data.labels import groups, members
from cnnjax.data.map_folders import list_map_folder
from cnnjax.data.sources import first_kind

# The smallest correlation of near-duplicates.
THRESHOLD = 0.995
# The side of the grid on which near-duplicates are compared, and the largest side of mean images and of a folder's images.
GRID, SHOWN = 16, 64
_SMALL = transforms.TransformOptions(resize=(SHOWN, SHOWN))
# The largest number of images, and of values, that are measured at a time.
_BLOCK, _VALUES = 1024, 2**25


@dataclasses.dataclass(frozen=True)
class SplitFacts:
    """The measurements of a split.

    Attributes:
      class_counts: the number of examples of each class (of each group of `data.labels.groups`).
      mean: the mean of each channel, in the stored values' units.
      std: the standard deviation of each channel.
      brightness: each image's mean.
      contrast: each image's standard deviation.
      mean_images: the mean image of each class in the images' type, at most 64 pixels high and wide; zeros for a class without
        examples.
      equal: the images that are equal to an earlier one of the split: the position of the earlier one, and their own.
      contradictions: the number of them whose class differs from the earlier image's.
    """

    class_counts: Int[np.ndarray, "class"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    brightness: Float[np.ndarray, "example"]
    contrast: Float[np.ndarray, "example"]
    mean_images: Shaped[np.ndarray, "class height width channel"]
    equal: Int[np.ndarray, "copy 2"]
    contradictions: int

    @property
    def copies(self) -> int:
        """The number of images that are equal to an earlier one of the split."""
        return len(self.equal)

    @property
    def examples(self) -> int:
        """The number of examples."""
        return len(self.brightness)

    @property
    def imbalance(self) -> float:
        """The ratio of the sizes of the largest and the smallest class; infinite if a class is empty."""
        least = self.class_counts.min()
        return float(self.class_counts.max() / least) if least else float("inf")


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """An image of one split with an equal or nearly equal image in an earlier split.

    Attributes:
      split: the image's split, valid or test.
      position: the image's position in its split.
      other_split: the earlier split, train or valid.
      other_position: the position of the most similar image in the earlier split.
      correlation: the correlation of the two images, 1 if they are equal.
      equal: whether they are equal in every pixel.
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
      sizes: the lengths of the spatial axes of each file that can be read: its height and width.
      modes: {a kind of pixels, in Pillow's name or in words: the number of files}.
      damaged: a sentence on each file that cannot be read, or differs in kind from the data set.
      ignored: the files that are not images.
      turned: the number of images that are turned upright, as their EXIF orientation says.
    """

    sizes: Int[np.ndarray, "file axis"]
    modes: Mapping[str, int]
    damaged: tuple[str, ...]
    ignored: tuple[str, ...]
    turned: int = 0


@dataclasses.dataclass(frozen=True)
class Exploration:
    """The findings of an exploration.

    Attributes:
      dataset: the data set that was explored.
      splits: the measurements by split.
      duplicates: the duplicates across splits, most similar first; each image with the most similar one in each earlier split.
      threshold: the smallest correlation of near-duplicates.
      names: {split: the names of its images}; empty if they have none.
      originals: the files of a folder; None for another data set.
    """

    dataset: Dataset
    splits: Mapping[str, SplitFacts]
    duplicates: tuple[Duplicate, ...]
    threshold: float
    names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict, repr=False)
    originals: Originals | None = None

    def name(self, split: str, position: int) -> str:
        """An image's name: its file, or its position in the split."""
        return self.names[split][position] if split in self.names else f"{split}[{position}]"


def explore(dataset: Dataset, threshold: float = THRESHOLD) -> Exploration:
    """Measures a data set as it is prepared for training.

    Args:
      dataset: the data set, from `load_dataset` or `read_folder`.
      threshold: the smallest correlation of near-duplicates.
    """
    splits, digests, grids = {}, {}, {}
    for name, split in dataset.splits.items():
        splits[name], digests[name], grids[name] = _measure(split, len(groups(dataset)))
    pairs = [
        pair
        for later, earlier in (("valid", "train"), ("test", "train"), ("test", "valid"))
        if later in splits and earlier in splits
        for pair in _duplicates(later, earlier, digests, grids, threshold)
    ]
    pairs.sort(key=lambda pair: (not pair.equal, -pair.correlation))
    return Exploration(dataset, splits, tuple(pairs), threshold)


def explore_source(source: str, overrides: Mapping[str, Any] | None = None, report: Any = say) -> Exploration:
    """Explores a data set, a folder of images, or the data of a config, by name.

    A config's data are explored as its transforms prepare them; `file.py:function` is a data set unless the file has a
    `get_config`. The images of a folder are explored without preparation, but shown and compared at 64x64 pixels if they differ in
    size or are larger.

    Args:
      source: what `dataset.name` takes, or what `load_config` takes.
      overrides: fields of the config, such as {"dataset.resize": (64, 64)}.
      report: called with one line about each step that takes a while.

    Raises:
      ValueError: unknown name; images of different sizes without `dataset.resize`; a folder that is not a data set.
      FileNotFoundError: there is no such folder or config file.
    """
    from cnnjax.config import is_config_file, load_config, load_module

    is_config = is_config_file(source) or source in shipped_configs()
    if is_config and is_reference(source) and not hasattr(load_module(source)[0], "get_config"):
        is_config = False
    if _is_folder_of_classes(source) and not is_config and not overrides:
        dataset, names, originals = read_folder(Path(source).expanduser())
        return dataclasses.replace(explore(dataset), names=names, originals=originals)
    config = load_config(source if is_config else {"dataset": {"name": source}}, overrides)
    options = DatasetOptions(**config.dataset)
    if not _is_folder_of_classes(options.name):
        return explore(load_dataset(options, report, folder=config.folder))
    originals = read_folder(Path(options.name).expanduser(), options.split_seed, options)[2]
    if originals.damaged:  # listed, whether or not training would refuse them
        options = dataclasses.replace(options, unreadable="skip")
    return dataclasses.replace(explore(load_dataset(options, report)), originals=originals)


def _is_folder_of_classes(name: str) -> bool:
    """Whether a data set's name is a folder whose subfolders are classes, rather than images with masks or boxes."""
    root = Path(name).expanduser()
    return is_folder(name) and not is_box_folder(root) and list_map_folder(root, 0) is None


# --- a folder's files -------------------------------------------------------------------------------------------


def read_folder(
    root: Path, seed: int = 0, options: transforms.TransformOptions = _SMALL
) -> tuple[Dataset, dict[str, list[str]], Originals]:
    """Reads a folder of images: a data set of small pictures, the names of the files, and their properties.

    Args:
      root: the folder, in a layout of `data.folders`.
      seed: the seed that draws the splits of a folder without splits.
      options: the transforms by which files are converted to one kind: colour space, depth and axes.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: the folder is not a data set, or none of its images can be read.
    """
    options = dataclasses.replace(
        _SMALL, color_space=options.color_space, depth=options.depth, spatial_axes=options.spatial_axes
    )
    listing = folders.list_folder(root, seed)
    paths = [path for examples in listing.splits.values() for path, _ in examples]
    kind = first_kind((path for path, _ in listing.splits["train"]), options.spatial_axes)
    with ThreadPoolExecutor() as pool:
        read = dict(zip(paths, pool.map(partial(_read_file, options=options, kind=kind), paths), strict=True))
    good = {path: found for path, found in read.items() if not isinstance(found, str)}
    if not good:
        raise ValueError(f"{root}: none of its {len(paths)} images can be read: {next(iter(read.values()))}")
    if len({len(found.size) for found in good.values()}) > 1:
        raise ValueError(
            f"{root}: its arrays differ in their number of axes: give them the same number, or set dataset.spatial_axes"
        )
    sizes = np.array([found.size for found in good.values()])
    if len(np.unique(sizes, axis=0)) == 1 and (sizes.max() <= SHOWN or sizes.shape[1] != 2):
        options = dataclasses.replace(options, resize=None)
    splits, names = {}, {}
    for split, examples in listing.splits.items():
        kept = [(path, listing.classes.index(label)) for path, label in examples if path in good]
        pixels = [transforms.prepare(good[path].image, options, *kind) for path, _ in kept]
        if not kept:
            continue
        name = "valid" if split == "validation" else split
        splits[name] = Split(np.stack(pixels), np.array([label for _, label in kept], np.int32))
        names[name] = [str(path.relative_to(listing.root)) for path, _ in kept]
    originals = Originals(
        sizes,
        dict(collections.Counter(found.mode for found in good.values()).most_common()),
        tuple(str(found) for found in read.values() if isinstance(found, str)),
        tuple(str(path.relative_to(listing.root)) for path in listing.ignored),
        sum(found.turned for found in good.values()),
    )
    ordered = {name: splits[name] for name in SPLITS if name in splits}
    return Dataset(str(root), listing.classes, ordered, None, listing.digest()), names, originals


class _File(NamedTuple):
    """An image file: its image, reduced to save memory, and its original size and kind."""

    size: tuple[int, ...]
    mode: str
    turned: bool
    image: transforms.Decoded


def _read_file(path: Path, options: transforms.TransformOptions, kind: tuple[int, str]) -> _File | str:
    """Reads an image file; returns a sentence if it cannot be an image of a data set with these channels and type."""
    try:
        image = transforms.read_image(path, options.spatial_axes)
        transforms.check_kind(image, options, *kind)
        size = transforms.size_of(image)
        small = transforms.prepare(image, options, *kind) if len(size) == 2 and max(size) > SHOWN else image
    except (ValueError, OSError) as error:
        return str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
    mode = image.mode if isinstance(image, Image.Image) else transforms.holds(image)
    return _File(size, mode, transforms.was_turned(image), small)


# --- measurements -----------------------------------------------------------------------------------------------


def _measure(split: Split, classes: int) -> tuple[SplitFacts, list[bytes], Float[np.ndarray, "example grid"]]:
    """The measurements of a split, and a digest and a grid of each image, by which duplicates are found."""
    sums, digests, means, squares, grids = 0.0, [], [], [], []
    image_shape = split.images.shape[1:]
    size = max(min(_BLOCK, _VALUES // math.prod(image_shape)), 1)
    # Squares of values far from 0 would lose the digits of their variance.
    middle = np.zeros(image_shape[-1], np.float32)
    if split.images.dtype != np.uint8:
        middle = np.asarray(split.images[0], np.float32).mean(tuple(range(len(image_shape) - 1)))
    for start in range(0, len(split), size):
        block = np.asarray(split.images[start : start + size])
        digests += [hashlib.blake2b(picture.tobytes(), digest_size=16).digest() for picture in block]
        padded = np.zeros((size, *image_shape), block.dtype)  # so that all blocks use one compiled program
        padded[: len(block)] = block
        mean, square, small, grid = (np.asarray(part)[: len(block)] for part in _measure_block(padded, middle))
        member = members(split.labels[start : start + len(block)], classes)
        sums = sums + (member.astype(np.float32) @ small.reshape(len(block), -1)).reshape(classes, *small.shape[1:])
        means.append(mean)
        squares.append(square)
        grids.append(grid)
    mean, square = (np.concatenate(parts).astype(np.float64) for parts in (means, squares))
    counts = members(split.labels, classes).sum(1)
    seen: dict[bytes, int] = {}
    firsts = [seen.setdefault(digest, position) for position, digest in enumerate(digests)]
    copies = [(first, position) for position, first in enumerate(firsts) if first != position]
    facts = SplitFacts(
        class_counts=counts,
        mean=tuple((mean.mean(0) + middle).tolist()),
        std=tuple(np.sqrt(np.maximum(square.mean(0) - mean.mean(0) ** 2, 0)).tolist()),
        brightness=(mean + middle).mean(1),
        contrast=_contrast(mean, square, middle),
        mean_images=transforms.as_type(
            sums / counts.clip(1).reshape(-1, *(1 for _ in sums.shape[1:])), split.images.dtype
        ),
        equal=np.array(copies, int).reshape(-1, 2),
        contradictions=sum(np.any(split.labels[first] != split.labels[position]) for first, position in copies),
    )
    return facts, digests, np.concatenate(grids)


def _contrast(
    mean: Float[np.ndarray, "example channel"],
    square: Float[np.ndarray, "example channel"],
    middle: Float[np.ndarray, "channel"],
) -> Float[np.ndarray, "example"]:
    """Each image's standard deviation over all channels, from the channels' means and mean squares less `middle`."""
    apart = middle - middle.mean()  # the differences between the channels' middles
    return np.sqrt(np.maximum((square + 2 * mean * apart + apart**2).mean(1) - (mean + apart).mean(1) ** 2, 0))


@jax.jit
def _measure_block(
    images: Shaped[Array, "block *spatial channel"], middle: Float[Array, "channel"]
) -> tuple[Array, Array, Float[Array, "block *small channel"], Float[Array, "block grid"]]:
    """Each channel's mean and mean square relative to `middle`, the reduced image, and its grid: grey, minus its mean."""
    x = images.astype(jnp.float32)
    *sides, channels = x.shape[1:]
    scale = min(1, SHOWN / max(sides))
    resize = partial(jax.image.resize, method="linear", antialias=True)
    small = resize(x, (len(x), *(max(round(side * scale), 1) for side in sides), channels))
    grid = resize(x.mean(-1), (len(x), *(min(side, GRID) for side in sides))).reshape(len(x), -1)
    greatest = jnp.abs(grid).max(1, keepdims=True)
    grid = grid - grid.mean(1, keepdims=True)
    # An image of one colour, up to rounding, has no correlation.
    rounding = 0.5 if jnp.issubdtype(images.dtype, jnp.integer) else 1e-5 * greatest
    grid = jnp.where(jnp.abs(grid).max(1, keepdims=True) < rounding, 0, grid)
    spatial = tuple(range(1, x.ndim - 1))
    x = x - middle
    return x.mean(spatial), (x**2).mean(spatial), small, grid


def _duplicates(
    later: str,
    earlier: str,
    digests: Mapping[str, list[bytes]],
    grids: Mapping[str, Float[np.ndarray, "example grid"]],
    threshold: float,
) -> Iterator[Duplicate]:
    """The images of one split with an equal or nearly equal image in an earlier split."""
    where = {digest: position for position, digest in reversed(list(enumerate(digests[earlier])))}
    distances, positions = nearest(grids[later], grids[earlier], 1, "cosine")  # 1 - correlation, since the means are 0
    for position, (distance, other) in enumerate(zip(distances[:, 0], positions[:, 0], strict=True)):
        if (equal := where.get(digests[later][position])) is not None:
            yield Duplicate(later, position, earlier, equal, 1.0, True)
        elif 1 - distance >= threshold and grids[later][position].any():
            yield Duplicate(later, position, earlier, int(other), float(1 - distance), False)
