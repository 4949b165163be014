"""The chips that programs can be compiled for, with their published figures."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

GIGA, TERA = 1e9, 1e12


@dataclasses.dataclass(frozen=True)
class Chip:
    """The published figures of a chip, for one of its devices.

    Attributes:
      platform: the platform of the chip.
      title: the name of a device.
      bfloat16: the peak rate of matrix products in bfloat16, without sparsity, in floating-point operations a second.
      float32: the peak rate of matrix products of float32 arrays at JAX's default precision: on a TPU they are multiplied in
        bfloat16, on a GPU in TF32.
      memory: the capacity of the memory, in bytes.
      bandwidth: the bandwidth of the memory, in bytes a second.
      links: the bandwidth of all links to other devices of the slice (TPU) or the host (GPU), in bytes sent a second.
      network: the bandwidth to other hosts, in bytes sent a second; None for a TPU, whose slices need none.
      source: where the figures are published.
      devices: the number of JAX devices of a chip. A TPU v4 has two TensorCores, which `libtpu` compiles for one by one.
    """

    platform: Literal["tpu", "cuda"]
    title: str
    bfloat16: float
    float32: float
    memory: float
    bandwidth: float
    links: float
    network: float | None
    source: str
    devices: int = 1


# The links' bandwidth is published for both directions together (NVIDIA), or in bits a second (Google).
CHIPS: Mapping[str, Chip] = {
    "v4": Chip(
        "tpu", "TPU v4 core", 275 / 2 * TERA, 275 / 2 * TERA, 16 * 2**30, 1200 / 2 * GIGA, 300 / 2 * GIGA, None,
        "docs.cloud.google.com/tpu/docs/v4; links: Jouppi et al., ISCA 2023 (six of 50 GB/s); half a chip's figures", devices=2,
    ),
    "v5e": Chip("tpu", "TPU v5e", 197 * TERA, 197 * TERA, 16 * 2**30, 819 * GIGA, 200 * GIGA, None, "docs.cloud.google.com/tpu/docs/v5e"),
    "v5p": Chip("tpu", "TPU v5p", 459 * TERA, 459 * TERA, 95 * GIGA, 2765 * GIGA, 600 * GIGA, None, "docs.cloud.google.com/tpu/docs/v5p"),
    "v6e": Chip("tpu", "TPU v6e", 918 * TERA, 918 * TERA, 32 * 2**30, 1640 * GIGA, 400 * GIGA, None, "docs.cloud.google.com/tpu/docs/v6e"),
    "a100": Chip(
        "cuda", "A100 80 GB SXM", 312 * TERA, 156 * TERA, 80 * 2**30, 2039 * GIGA, 300 * GIGA, 25 * GIGA,
        "NVIDIA A100 Tensor Core GPU data sheet (2021), DGX A100 data sheet (eight 200 Gb/s adapters)",
    ),
    "h100": Chip(
        "cuda", "H100 SXM", 989.4 * TERA, 494.7 * TERA, 80 * 2**30, 3350 * GIGA, 450 * GIGA, 50 * GIGA,
        "NVIDIA H100 Tensor Core GPU architecture white paper (2022), DGX H100 data sheet (eight 400 Gb/s adapters)",
    ),
    "h200": Chip(
        "cuda", "H200 SXM", 989.4 * TERA, 494.7 * TERA, 141 * GIGA, 4800 * GIGA, 450 * GIGA, 50 * GIGA,
        "NVIDIA H200 Tensor Core GPU data sheet (2024), DGX H200 data sheet (eight 400 Gb/s adapters)",
    ),
    "b200": Chip(
        "cuda", "B200 SXM", 2250 * TERA, 1100 * TERA, 180 * GIGA, 8000 * GIGA, 900 * GIGA, 50 * GIGA,
        "NVIDIA Blackwell architecture technical brief (2024), DGX B200 data sheet (eight 400 Gb/s adapters)",
    ),
}  # fmt: skip
