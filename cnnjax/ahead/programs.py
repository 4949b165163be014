"""The programs of a config, compiled for devices that are not here, and their figures.

Run in a process of its own (`ahead.process`), in which JAX sees no accelerator.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from cnnjax.ahead import bounds, program_text, targets
from cnnjax.ahead.outline import outline
from cnnjax.ahead.targets import Target
from cnnjax.core.randomness import AXIS
from cnnjax.data import batches
from cnnjax.data.augment import AugmentOptions, output_shape
from cnnjax.data.datasets import Dataset
from cnnjax.ops import choice
from cnnjax.training.experiment import build, data_facts, predicting_step, state_shapes, training_step
from cnnjax.training.parallel import Parallel, needed_memory, over_devices
from cnnjax.transfer.initial import InitialOptions, frozen_at

# A bisection for the largest batch ends when it is known to this part of itself.
BISECTED_TO = 1 / 16
LARGEST_BATCH = 2**20


def compiled_text(config: ConfigDict, target: Target, program: str = "train", **data: Any) -> str:
    """The text of a compiled program, "train" or "predict", for a target; `data` as in `figures`."""
    return lowered(config, target, outline(config, **data))[program]().compile().as_text()


def figures(
    config: ConfigDict,
    target: Target,
    input_shape: tuple[int, ...] | None = None,
    classes: int | None = None,
    largest: bool = False,
    predict: bool = True,
) -> dict[str, Any]:
    """Memory, operations, collectives and bound of the training and the prediction step on each device of a target.

    Args:
      config: the resolved config.
      target: the chips that the programs are compiled for.
      input_shape: the shape of a stored image; None is that of the catalogue.
      classes: the number of classes; None is that of the catalogue.
      largest: whether to look for the largest batch that fits.
      predict: whether the prediction step is compiled too.

    Raises:
      ValueError: the batch cannot be shared equally by the devices, or as in `outline`.
    """
    dataset = outline(config, input_shape, classes)
    sizes = batch_sizes(config, target.count)
    if not predict:
        del sizes["predict"]
    found = {name: _figures(config, target, dataset, name, size) for name, size in sizes.items()}
    if largest:
        found["train"]["largest_batch"] = largest_batch(
            lambda size: fits(_figures(_with_batch(config, size), target, dataset, "train", size)),
            config.train.batch_size,
            target.count,
        )
    return {"target": str(target), **found}


def batch_sizes(config: ConfigDict, count: int) -> dict[str, int]:
    """The number of images of a training and of a prediction step; a batch in evaluation is padded to equal shares.

    Raises:
      ValueError: the training batch cannot be shared equally.
    """
    if config.train.batch_size % count:
        raise ValueError(
            f"config: train.batch_size={config.train.batch_size} cannot be shared equally by {count} devices: choose a multiple of {count}"
        )
    return {"train": config.train.batch_size, "predict": -(-config.evaluate.batch_size // count) * count}


def fits(program: Mapping[str, Any]) -> bool:
    """Whether a program fits into the memory of a device."""
    return program["fits"]


def largest_batch(fits: Callable[[int], bool], start: int, count: int) -> int | None:
    """The largest batch that fits, by bisection to a sixteenth; None if not even one image a device fits.

    Args:
      fits: whether a batch of some size fits.
      start: a batch size to start at.
      count: the number of devices; sizes are multiples of it.

    >>> largest_batch(lambda size: size <= 1000, 64, 8), largest_batch(lambda size: size <= 7, 64, 8)
    (992, None)
    """
    least, size = 0, start // count
    while size * count < LARGEST_BATCH and fits(size * count):
        least, size = size, 2 * size
    most = size
    while most - least > max(1, int(least * BISECTED_TO)):
        middle = (least + most) // 2
        least, most = (middle, most) if fits(middle * count) else (least, middle)
    return least * count or None


def _with_batch(config: ConfigDict, size: int) -> ConfigDict:
    config = config.copy_and_resolve_references()
    config.train.batch_size = size
    return config


def _figures(config: ConfigDict, target: Target, dataset: Dataset, name: str, size: int) -> dict[str, Any]:
    """The figures of one program; without those of the compiler if the program does not fit."""
    flops = operations(config, dataset, name, size // target.count, target)
    arrays = jax.tree.leaves(steps(config, dataset)[name][1])
    data = _resident_bytes(config, dataset)
    try:
        program = lowered(config, target, dataset)[name]().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {
            "batch_size": size,
            "fits": False,
            "memory": {"peak": _wanted(str(error)), "data": data},
            "flops": flops,
        }
    memory, text = program.memory_analysis(), program.as_text()
    needed = needed_memory(program) + data
    found = {
        "batch_size": size,
        "fits": needed <= target.chip.memory,
        "memory": {
            "arguments": memory.argument_size_in_bytes,
            "outputs": memory.output_size_in_bytes,
            "alias": memory.alias_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "peak": needed_memory(program),
            "data": data,
            "state": sum(leaf.size * leaf.dtype.itemsize for leaf in arrays),
        },
        "flops": flops,
        "bytes": program_text.traffic(text),
        "collectives": program_text.collectives(text, target.count),
        "instructions": program_text.counted(text, {leaf.size for leaf in arrays}) | {"state_arrays": len(arrays)},
    }
    return found | {"bound": bounds.bound(found, target, config.train.precision, size)}


def _wanted(message: str) -> int | None:
    """The bytes that a program needs, as the compiler's refusal says."""
    found = re.search(r"Used ([\d.]+)([KMGT]?) of", message)
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")) if found else None


def _resident_bytes(config: ConfigDict, dataset: Dataset) -> int:
    """The bytes of the training split, if it is kept on the devices."""
    split = dataset.splits["train"]
    resident = not config.dataset.streaming and batches.is_resident(split, config.dataset.resident)
    return split.images.nbytes + split.labels.nbytes if resident else 0


def steps(config: ConfigDict, dataset: Dataset) -> dict[str, tuple[Callable[..., Any], Any]]:
    """The functions that are compiled, each with the shapes of its first argument."""
    experiment = build(config, data_facts(config, dataset))
    experiment.task.prepare()
    image_shape = output_shape(dataset.image_shape, AugmentOptions(**config.augment))
    shapes = state_shapes(experiment, image_shape)
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    frozen = frozen_at(InitialOptions(**config.initial), experiment.model, shapes.params, images)(0)
    predicting = predicting_step(
        config, experiment.model, experiment.task, dataset.statistics, experiment.facts, dataset.image_shape
    )
    return {
        "train": (training_step(config, experiment, dataset.statistics, config.seed, frozen), shapes),
        "predict": (choice.traced_with(config.train.ops, predicting), shapes.variables),
    }


def _batch(dataset: Dataset, *sizes: int) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a batch that contains its images."""
    split = dataset.splits["train"]
    shape = lambda own, dtype: jax.ShapeDtypeStruct((*sizes, *own), dtype)  # noqa: E731
    return {
        "image": shape(split.images.shape[1:], split.images.dtype),
        "label": shape(split.labels.shape[1:], split.labels.dtype),
        "mask": shape((), jnp.float32),
        "index": shape((), jnp.int32),
    }


def lowered(config: ConfigDict, target: Target, dataset: Dataset) -> dict[str, Callable[[], Any]]:
    """For each program a function that traces it for a target."""
    devices = targets.devices(target)
    # `pmap` refuses devices of other hosts that are not here.
    several = len({device.process_index for device in devices}) > 1
    parallel: Parallel = "shard_map" if several else config.train.parallel
    sizes = batch_sizes(config, len(devices))

    def lower(name: str, step: Callable[..., Any], first: Any) -> Callable[[], Any]:
        mapped = over_devices(step, devices, name == "train", parallel)
        return lambda: mapped.lower(first, {}, _batch(dataset, len(devices), sizes[name] // len(devices)))

    return {name: lower(name, *step) for name, step in steps(config, dataset).items()}


def operations(config: ConfigDict, dataset: Dataset, name: str, size: int, target: Target) -> float:
    """The floating-point operations of a program on one device, as XLA counts them before it optimises: the same on any platform.

    Args:
      config: the resolved config.
      dataset: the outline of the data set.
      name: the program, "train" or "predict".
      size: the number of images of a device.
      target: the chips, for whose platform operations are chosen.
    """
    step, first = steps(config, dataset)[name]
    alone = jax.vmap(
        choice.traced_for(target.chip.platform, step), in_axes=None, out_axes=None, axis_name=AXIS, axis_size=1
    )
    return jax.jit(alone).lower(first, _batch(dataset, size)).cost_analysis()["flops"]
