"""The order of the examples, and the batches in that order.

A batch is a dict of arrays with a leading axis of this process's devices: `image` and `label` as they are stored, `mask`
(1.0 for an example, 0.0 for padding) and `index` (the example's position in its split). With repeated augmentation there is
also `draw`, which differs between the repetitions of an example. Where the split is resident on the devices the host sends no
images and labels, and `gather` makes them there.
"""

from collections.abc import Iterator, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped

from cnnjax.data import subsets
from cnnjax.data.datasets import Split
from cnnjax.data.streaming import RandomCrop, StreamedImages, made_ahead

Batch = Mapping[str, Array | np.ndarray]

# Images of up to this size are kept on the device unless the config says otherwise.
RESIDENT_BYTES = 2 * 2**30


def epoch_order(seed: int, epoch: int, examples: int) -> Int[np.ndarray, "examples"]:
    """The permutation of a split's examples in one epoch: a function of the seed and the epoch alone.

    NumPy guarantees `RandomState`'s stream for ever, so the order survives an upgrade.
    """
    generator = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, epoch])))
    return generator.permutation(examples).astype(np.int32)


def balanced_order(seed: int, epoch: int, labels: Int[np.ndarray, "example"]) -> Int[np.ndarray, "example"]:
    """An epoch of the split's length in which all classes are equally frequent, drawn with replacement."""
    generator = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, epoch])))
    counts = np.bincount(labels)
    weights = 1 / counts[labels]
    return generator.choice(len(labels), len(labels), p=weights / weights.sum()).astype(np.int32)


def training_order(
    seed: int, epoch: int, balanced: bool, train_labels: Shaped[np.ndarray, "example ..."], repeats: int = 1
) -> Int[np.ndarray, "example"]:
    """The order of an epoch's examples: balanced over the classes, or each example once; repeated as in `repeated`.

    Raises:
      ValueError: the order should be balanced, but the labels are not class numbers.
    """
    if not balanced:
        return repeated(epoch_order(seed, epoch, len(train_labels)), repeats)
    subsets.require_classes(train_labels, "dataset.balanced")
    return repeated(balanced_order(seed, epoch, train_labels), repeats)


def repeated(order: Int[np.ndarray, "example"], repeats: int) -> Int[np.ndarray, "example"]:
    """An order of the same length in which each example occurs several times in succession (Hoffer et al., CVPR 2020).

    Of n examples, the repetition number r of example i is written as i + r n.

    >>> repeated(np.array([2, 0, 1, 3]), 2).tolist()
    [2, 6, 0, 4]

    Raises:
      ValueError: the numbers of the repetitions exceed 32 bits.
    """
    if len(order) * repeats > 2**31:
        raise ValueError(
            f"config: augment.repeats={repeats}: expected at most {2**31 // len(order)} for {len(order):,} examples"
        )
    copies = order[:, None] + len(order) * np.arange(repeats, dtype=order.dtype)
    return copies.ravel()[: len(order)]


def numbered(drawn: Int[np.ndarray, "batch"], examples: int, is_repeated: bool) -> Batch:
    """The `index` of some entries of an order, and `draw`, the entries themselves, if the order is repeated."""
    return {"index": drawn % examples, "draw": drawn} if is_repeated else {"index": drawn}


def training_batches(
    order: Int[np.ndarray, "example"], batch_size: int, first: int = 0
) -> Iterator[Int[np.ndarray, "batch"]]:
    """The indices of each batch of an epoch, from batch `first` on; a last incomplete batch is left out."""
    for batch in range(first, len(order) // batch_size):
        yield order[batch * batch_size : (batch + 1) * batch_size]


def evaluation_batches(
    examples: int, batch_size: int, size: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(index, mask) of batches that cover the split in order, padded with masked zeros to `size`, or to the batch size."""
    place = np.arange(size or batch_size, dtype=np.int32)
    for start in range(0, examples, batch_size):
        mask = place < min(batch_size, examples - start)
        yield np.where(mask, start + place, 0), mask.astype(np.float32)


def own_part(batch: Batch, process: int, processes: int) -> Batch:
    """This process's part of every array: equal parts, in the order of the processes."""
    if processes == 1:
        return batch
    return {name: np.split(array, processes)[process] for name, array in batch.items()}


def split_over_devices(batch: Batch, devices: int) -> Batch:
    """Every array divided over the devices, (devices, batch / devices, ...)."""
    return {name: array.reshape(devices, -1, *array.shape[1:]) for name, array in batch.items()}


def stack_over_devices(group: Sequence[Batch], most: int, devices: int) -> Batch:
    """Up to `most` batches in one array, (devices, most, batch / devices, ...), filled by repeating the last batch."""
    cut = [split_over_devices(batch, devices) for batch in group]
    cut += cut[-1:] * (most - len(group))
    return {name: np.stack([batch[name] for batch in cut], axis=1) for name in cut[0]}


def is_resident(split: Split, wanted: bool | None) -> bool:
    """Whether a split's images are kept on the device."""
    if isinstance(split.images, StreamedImages):
        return False
    return split.images.nbytes <= RESIDENT_BYTES if wanted is None else wanted


def resident_arrays(split: Split) -> dict[str, np.ndarray]:
    """The arrays that `gather` reads, which are copied to the devices once."""
    return {"image": np.asarray(split.images), "label": split.labels}


def fetch(split: Split, batch: Batch, crop: RandomCrop | None = None) -> Batch:
    """Adds images and labels to a batch of indices on the host: the streaming counterpart of `gather`.

    `crop` is for streamed images only.
    """
    index = batch["index"]
    images = split.images[index] if crop is None else split.images.read(index, crop, batch.get("draw"))
    return {**batch, "image": images, "label": split.labels[index]}


def feed(
    split: Split,
    order: Int[np.ndarray, "example"],
    batch_size: int,
    first: int,
    resident: bool,
    workers: int,
    crop: RandomCrop | None,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """An epoch's training batches, from batch `first` on, before they are divided over devices.

    Args:
      split: the training split.
      order: the order of its examples (see `repeated`).
      batch_size: the number of examples of a batch.
      first: the batch at which an interrupted epoch resumes.
      resident: whether the images are on the devices, so that batches hold indices only.
      workers: the number of threads that read streamed images ahead.
      crop: the random crop of streamed images at their full resolution.
      process: the number of this process, which gets its own part of each batch.
      processes: the number of processes.
    """
    whole, is_repeated = np.ones(batch_size, np.float32), bool((order >= len(split)).any())
    indices = (
        own_part({**numbered(drawn, len(split), is_repeated), "mask": whole}, process, processes)
        for drawn in training_batches(order, batch_size, first)
    )
    if resident:
        yield from indices
    elif isinstance(split.images, StreamedImages):
        batches = list(indices)
        yield from made_ahead(lambda number: fetch(split, batches[number], crop), 0, len(batches), workers)
    else:
        yield from (fetch(split, batch) for batch in indices)


def gather(arrays: Mapping[str, Array], batch: Batch) -> Batch:
    """Adds images and labels to a batch of indices, on the device; a batch that has them is returned unchanged."""
    if "image" in batch:
        return batch
    index = batch["index"]
    return {**batch, **{name: jnp.take(array, index, axis=0, mode="clip") for name, array in arrays.items()}}
