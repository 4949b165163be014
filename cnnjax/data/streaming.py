"""Images that are decoded when they are needed, and batches that are prepared ahead of the step that uses them."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from cnnjax.data import mapped_rows, seeded_uniforms, transforms

# A position within a published split -> the content of an image file, or an image, and its name in messages.
Records = Callable[[int], tuple[transforms.Content, str]]


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """A random resized crop of the image at its full resolution, like `resized_crop` of prepared images on the device.

    Attributes:
      area: the smallest and largest fraction of the image's area; the aspect is 3/4 to 4/3.
      size: the height and width of the result.
      seed: the config's seed; the crop is a function of the seed, the epoch and the example.
      epoch: the epoch, from 0.
    """

    area: tuple[float, float]
    size: tuple[int, int]
    seed: int
    epoch: int

    def draws(self, examples: Int[np.ndarray, "example"]) -> Float[np.ndarray, "example 4"]:
        """The random numbers of `box` for some examples, independent of the other examples in the batch."""
        return seeded_uniforms.uniforms([self.seed, self.epoch], examples, 4)

    def box(self, width: int, height: int, drawn: Float[np.ndarray, "4"]) -> tuple[float, float, float, float]:
        """The box (left, top, right, bottom) of an example's crop in an image with a width and height."""
        share, aspect, left, top = drawn
        area = (self.area[0] + share * (self.area[1] - self.area[0])) * width * height
        aspect = (3 / 4) ** (1 - 2 * aspect)
        part_width, part_height = min(math.sqrt(area * aspect), width), min(math.sqrt(area / aspect), height)
        left, top = left * (width - part_width), top * (height - part_height)
        return left, top, left + part_width, top + part_height


class StreamedImages:
    """The images of a split as an array outside of memory: `images[index]` reads and decodes.

    Args:
      records: the function that reads an image file of the published split.
      positions: the positions of this split's images in the published split.
      options: the transforms of `transforms.prepare`.
      channels: the channels of the data set's files.
      dtype: the type of the values in the data set's files.
    """

    def __init__(
        self,
        records: Records,
        positions: Int[np.ndarray, "example"],
        options: transforms.TransformOptions,
        channels: int,
        dtype: str = "uint8",
    ):
        self._parts = [(records, positions)]
        self._options, self._kind = options, (channels, dtype)
        self._shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return sum(len(positions) for _, positions in self._parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """(examples, *spatial, channels); found by decoding the first image."""
        if self._shape is None:
            self._shape = self._prepared(0).shape if len(self) else (1, 1, self._stored()[0])
        return (len(self), *self._shape)

    @property
    def ndim(self) -> int:
        """The number of axes, including those of examples and channels."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """The type of a pixel's values."""
        return np.dtype(self._stored()[1])

    @property
    def nbytes(self) -> int:
        """The bytes that all images would take in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, index: Any) -> Shaped[np.ndarray, "..."]:
        index = mapped_rows.positions_of(index, len(self))
        return self._prepared(int(index)) if index.ndim == 0 else self.read(index, None)

    def read(
        self,
        index: Int[np.ndarray, "batch"],
        crop: RandomCrop | None,
        draw: Int[np.ndarray, "batch"] | None = None,
    ) -> Shaped[np.ndarray, "batch *spatial channel"]:
        """Some images, prepared whole, or random crops of them; `draw` are the numbers that crops depend on, by default the index.

        Raises:
          ValueError: an image cannot be decoded, or its size differs from the first's; the message names it.
        """
        shape = self.shape[1:] if crop is None else (*crop.size, self._stored()[0])
        batch = np.empty((len(index), *shape), self.dtype)
        drawn = [None] * len(index) if crop is None else crop.draws(index if draw is None else draw)
        for place, position in enumerate(index):
            batch[place] = self._prepared(int(position), crop, drawn[place])
        return batch

    def _stored(self) -> tuple[int, str]:
        """The channels and the type of prepared images."""
        return transforms.stored_kind(self._options, *self._kind)

    def _prepared(
        self, index: int, crop: RandomCrop | None = None, drawn: Float[np.ndarray, "4"] | None = None
    ) -> Shaped[np.ndarray, "*spatial channel"]:
        content, name = self._record(index)
        try:
            with transforms.naming(name):
                decoded = transforms.decode(content, name, self._options.spatial_axes)
                pixels = self._pixels(decoded, crop, drawn)
        except ValueError as error:
            raise ValueError(f'{error} (dataset.unreadable="skip" leaves such images out)') from None
        if crop is None and self._shape is not None and pixels.shape != self._shape:
            raise ValueError(transforms.differing_sizes(name, pixels.shape, "the first image", self._shape))
        return pixels

    def _pixels(
        self, decoded: transforms.Decoded, crop: RandomCrop | None, drawn: Float[np.ndarray, "4"] | None
    ) -> Shaped[np.ndarray, "*spatial channel"]:
        if crop is None:
            return transforms.prepare(decoded, self._options, *self._kind)
        height, width = transforms.height_and_width(decoded)
        return transforms.resized_part(decoded, crop.box(width, height, drawn), crop.size, self._options, *self._kind)

    def _record(self, index: int) -> tuple[transforms.Content, str]:
        for records, positions in self._parts:
            if index < len(positions):
                return records(int(positions[index]))
            index -= len(positions)
        raise IndexError(f"streamed images: there are {len(self)}")

    def take(self, chosen: Int[np.ndarray, "example"]) -> "StreamedImages":
        """Some of the images, in that order, still not decoded."""
        parts, begin = [], 0
        for records, positions in self._parts:
            inside = (chosen >= begin) & (chosen < begin + len(positions))
            parts.append((records, positions[chosen[inside] - begin]))
            begin += len(positions)
        if sum(bool(len(positions)) for _, positions in parts) > 1 and np.any(np.diff(chosen) < 0):
            raise ValueError("streamed images of several splits can only be taken in their order")
        return _joined(parts, self)

    def joined(self, others: "Sequence[StreamedImages]") -> "StreamedImages":
        """These images followed by the others."""
        return _joined([part for images in (self, *others) for part in images._parts], self)


def _joined(parts: list[tuple[Records, np.ndarray]], like: StreamedImages) -> StreamedImages:
    images = StreamedImages(*parts[0], like._options, *like._kind)
    images._parts = parts
    return images


def concatenate(images: Sequence[Any]) -> Any:
    """Like `np.concatenate`, for arrays or streamed images; large mapped arrays are not read yet."""
    if isinstance(images[0], StreamedImages):
        return images[0].joined(images[1:])
    return (
        mapped_rows.joined(images)
        if any(isinstance(mapped_rows.as_rows(one), mapped_rows.MappedRows) for one in images)
        else np.concatenate(images)
    )


def take(images: Any, chosen: Int[np.ndarray, "example"]) -> Any:
    """Like `images[chosen]`, which does not read streamed images and large mapped arrays yet."""
    images = mapped_rows.as_rows(images)
    return images.take(chosen) if isinstance(images, StreamedImages | mapped_rows.MappedRows) else images[chosen]


def made_ahead(make: Callable[[int], Any], first: int, count: int, workers: int) -> Iterator[Any]:
    """Yields make(first), make(first + 1), ... up to `count`, in order, computed ahead by threads.

    An exception of `make` is raised when its result would be yielded.
    """
    import grain

    ahead = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
    yield from grain.MapDataset.range(first, count).map(make).to_iter_dataset(ahead)
