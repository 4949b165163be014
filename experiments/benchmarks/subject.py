"""What a worker times, and the batch it is timed on."""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from experiments.benchmarks.networks import Network

Precision = Literal["float32", "bfloat16"]
# What is timed in one process: memory is then that of one purpose, and settings for the one do not touch the other.
PURPOSES: Mapping[str, tuple[str, ...]] = {"train": ("train",), "predict": ("latency", "throughput")}

# So small that hundreds of steps on one batch leave weights and gradients of ordinary size.
LEARNING_RATE, MOMENTUM = 1e-4, 0.9


class Subject(NamedTuple):
    """A network, built and on its device.

    Attributes:
      tasks: by name, functions that do their work a number of times and wait until all is done.
      parameters: how many are trained.
      device: what it runs on, in words.
      device_memory: the peak of an accelerator's memory in bytes; None on a CPU.
    """

    tasks: Mapping[str, Callable[[int], None]]
    parameters: int
    device: str
    device_memory: Callable[[], int | None]


def random_batch(
    network: Network, batch_size: int
) -> tuple[Float[np.ndarray, "batch height width channel"], Int[np.ndarray, "batch"]]:
    """Images of unit variance and labels, the same every time."""
    generator = np.random.default_rng(0)
    images = generator.standard_normal((batch_size, *network.image_shape), dtype=np.float32)
    return images, generator.integers(network.num_classes, size=batch_size).astype(np.int32)


def check_finite(loss: float) -> None:
    """Raises FloatingPointError for a loss that is not a number: its arithmetic is not what is to be timed."""
    if not np.isfinite(loss):
        raise FloatingPointError(f"the loss became {loss}: what is timed must compute with ordinary numbers")


def peak_of_jax_device() -> int | None:
    """The peak memory of JAX's first device in bytes; None where it is not counted, as on a CPU."""
    import jax

    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
