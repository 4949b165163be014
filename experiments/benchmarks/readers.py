"""What reads, decodes and cuts the photographs of `streaming`: one epoch of batches of 224x224, made on the host and thrown away.

Each crops a random part of 8 to 100 % of the area, resizes it bilinearly with antialiasing, by Pillow, to 224x224 uint8, and
mirrors half of them; ours mirrors on the device, in the training step.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.benchmarks.subject import Subject

BATCH_SIZE, SIZE, AREA = 64, (224, 224), (0.08, 1.0)


def ours(folder: str, workers: int) -> Subject:
    """The host's part of a training that streams: `batches.feed`."""
    from cnnjax.data import batches
    from cnnjax.data.datasets import DatasetOptions, load_dataset
    from cnnjax.data.streaming import RandomCrop

    split = load_dataset(DatasetOptions(name=folder, resize=SIZE, streaming=True, normalize="none")).splits["train"]

    def epoch(number: int) -> Iterator[batches.Batch]:
        order = batches.epoch_order(0, number, len(split))
        return batches.feed(split, order, BATCH_SIZE, 0, False, workers, RandomCrop(AREA, SIZE, 0, number))

    return _reader(epoch, lambda batch: batch["image"])


def tfds(folder: str, workers: int, prepared: str) -> Subject:
    """TFDS's data source of the same files as records, decoded by TFDS (which takes Pillow), by a pool of threads."""
    from cnnjax.data import folders, tensorflow_standin
    from experiments.benchmarks.folder_builder import Builder

    tensorflow_standin.install()
    builder = Builder(folders.list_folder(Path(folder), 0), data_dir=prepared, file_format="array_record")
    builder.download_and_prepare()
    source = builder.as_data_source(split="train")

    def batch(index: np.ndarray) -> np.ndarray:
        generator = np.random.default_rng(int(index[0]))
        return np.stack([augmented(Image.fromarray(source[int(one)]["image"]), generator) for one in index])

    def epoch(number: int) -> Iterator[np.ndarray]:
        order = np.random.RandomState(number).permutation(len(source))
        indices = order[: len(order) // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE)
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(batch, indices)

    return _reader(epoch, lambda images: images)


def grain(folder: str, workers: int) -> Subject:
    """grain's `MapDataset` of the files' paths, read by threads."""
    import grain as library

    paths = [str(path) for path in sorted(Path(folder, "train").rglob("*.jpg"))]

    def example(path: str, generator: np.random.Generator) -> np.ndarray:
        return augmented(Image.open(path), generator)

    def epoch(number: int) -> Iterable[np.ndarray]:
        ahead = library.ReadOptions(num_threads=workers, prefetch_buffer_size=2 * workers)
        read = library.MapDataset.source(paths).shuffle(seed=number).seed(number).random_map(example)
        return read.batch(BATCH_SIZE, drop_remainder=True).to_iter_dataset(ahead)

    return _reader(epoch, lambda images: images)


def bare(folder: str, workers: int) -> Subject:
    """The limit: Pillow's decoding and resizing of files that are in memory, in a loop, or in as many loops as workers.

    Parts are drawn before; no pixel leaves Pillow.
    """
    contents = [path.read_bytes() for path in sorted(Path(folder, "train").rglob("*.jpg"))]
    contents = contents[: len(contents) // BATCH_SIZE * BATCH_SIZE]

    def loop(parts: list[tuple[bytes, tuple[float, ...]]]) -> None:
        for content, box in parts:
            Image.open(io.BytesIO(content)).resize(SIZE, Image.Resampling.BILINEAR, box=box)

    def drawn(number: int) -> list[tuple[bytes, tuple[float, ...]]]:
        generator = np.random.default_rng(number)
        return [(content, random_box(Image.open(io.BytesIO(content)).size, generator)) for content in contents]

    epochs = [drawn(number) for number in range(2)]

    def run(times: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            for number in range(times):
                parts = epochs[number % len(epochs)]
                list(pool.map(loop, [parts[first::workers] for first in range(workers)]))

    return Subject({"epoch": run}, len(contents), "CPU", lambda: None)


def augmented(picture: Image.Image, generator: np.random.Generator) -> np.ndarray:
    """A random part of a picture, resized, and mirrored or not."""
    part = picture.convert("RGB").resize(SIZE, Image.Resampling.BILINEAR, box=random_box(picture.size, generator))
    if generator.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(part)


def random_box(size: tuple[int, int], generator: np.random.Generator) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a random part: its share of the area uniform, its aspect 3/4 to 4/3."""
    area = generator.uniform(*AREA) * size[0] * size[1]
    aspect = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = min((area * aspect) ** 0.5, size[0]), min((area / aspect) ** 0.5, size[1])
    left, top = generator.uniform(0, size[0] - width), generator.uniform(0, size[1] - height)
    return left, top, min(left + width, size[0]), min(top + height, size[1])


def _reader(epoch: Callable[[int], Iterable], images: Callable) -> Subject:
    """A subject of epochs, each another; what the network would have for parameters are the images of an epoch."""
    numbers = count()
    first = [images(batch).shape for batch in epoch(next(numbers))]
    if not first or set(first) != {(BATCH_SIZE, *SIZE, 3)}:
        raise ValueError(f"expected batches of {(BATCH_SIZE, *SIZE, 3)}, got {set(first) or 'none'}")

    def run(times: int) -> None:
        for _ in range(times):
            for _ in epoch(next(numbers)):
                pass

    return Subject({"epoch": run}, len(first) * BATCH_SIZE, "CPU", lambda: None)
