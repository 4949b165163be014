"""Targets: a chip and a number of them, as "tpu:v5e:2x4" or "cuda:h100:8"."""

import contextlib
import dataclasses
import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax.ahead.chips import CHIPS, Chip
from cnnjax.core.options import unknown

# The numbers of chips in a scaling table.
SCALE = (1, 4, 16, 64, 256)
# The slices of each number of chips, by the number of axes of the torus (docs.cloud.google.com/tpu/docs/v4, v5e, v5p, v6e).
_SLICES: Mapping[int, Mapping[int, str]] = {
    2: {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"},
    3: {1: "1x1x1", 4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8"},
}  # fmt: skip
GPUS_PER_HOST = 8
# The modules of the wheels that compile for a platform; one is enough.
_COMPILERS = {"tpu": ("libtpu",), "cuda": ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")}
# Figures of a GPU that decide what XLA generates: multiprocessors, float32 units and KiB of shared memory of each, KiB of it for a
# block, MiB of second-level cache, GHz, compute capability. NVIDIA's architecture white papers and the CUDA C++ programming guide's
# table of compute capabilities; the cache of a B200 as its driver reports it.
_GPUS: Mapping[str, tuple[int, int, int, int, float, float, tuple[int, int]]] = {
    "a100": (108, 64, 164, 163, 40, 1.41, (8, 0)),
    "h100": (132, 128, 228, 227, 50, 1.98, (9, 0)),
    "h200": (132, 128, 228, 227, 50, 1.98, (9, 0)),
    "b200": (148, 128, 228, 227, 126.5, 1.965, (10, 0)),
}


@dataclasses.dataclass(frozen=True)
class Target:
    """A number of chips that a program is compiled for.

    Attributes:
      name: the name of the chip among `CHIPS`.
      topology: the shape of a TPU slice, as "2x4"; the number of GPUs, as "8".
    """

    name: str
    topology: str

    def __str__(self) -> str:
        return f"{self.chip.platform}:{self.name}:{self.topology}"

    @property
    def chip(self) -> Chip:
        """The published figures of the chip."""
        return CHIPS[self.name]

    @property
    def count(self) -> int:
        """The number of devices."""
        return math.prod(map(int, self.topology.split("x"))) * self.chip.devices

    def scaled(self, count: int) -> "Target":
        """The same chip in another number."""
        return parse(f"{self.chip.platform}:{self.name}:{count}")


def parse(text: str) -> Target:
    """The target that a text names: "tpu:v5e:2x4", "tpu:v5e:8" (the usual slice of that size), "cuda:h100:8", "cuda:h100".

    Raises:
      ValueError: the platform, chip or number is unknown.
    """
    platform, _, rest = text.partition(":")
    name, _, size = rest.partition(":")
    known = [name for name, chip in CHIPS.items() if chip.platform == platform]
    if not known:
        raise ValueError(
            f"target {text!r}: expected tpu:CHIP:SLICE or cuda:CHIP:COUNT, such as tpu:v5e:2x4 or cuda:h100:8"
        )
    if name not in known:
        raise ValueError(unknown(f"chip of {platform}", name, known))
    size = size or "1"
    if platform == "cuda":
        if not size.isdigit() or not int(size) or (int(size) > GPUS_PER_HOST and int(size) % GPUS_PER_HOST):
            raise ValueError(f"target {text!r}: expected 1 to {GPUS_PER_HOST} GPUs, or a multiple of {GPUS_PER_HOST}")
        return Target(name, str(int(size)))
    slices = _SLICES[2 if name in ("v5e", "v6e") else 3]
    if size.isdigit():
        size = slices.get(int(size), size)
    if size not in slices.values():
        raise ValueError(
            f"target {text!r}: expected a slice of {name}: {', '.join(slices.values())}, or its number of chips"
        )
    return Target(name, size)


def check_compiler(target: Target) -> None:
    """Checks that the compiler of a platform is installed.

    Raises:
      RuntimeError: it is not; the message has the command that installs it.
    """
    platform = target.chip.platform
    if not any(map(_is_installed, _COMPILERS[platform])):
        raise RuntimeError(
            f"compiling for {target} needs a compiler that is not installed: pip install 'cnnjax[aot-{platform}]' (no "
            f"{target.chip.title} is needed)"
        )


def _is_installed(module: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):  # of its parent package
        return importlib.util.find_spec(module) is not None
    return False


def devices(target: Target) -> Sequence[Any]:
    """The devices of a target, which JAX can compile for but not run on."""
    from jax.experimental import topologies

    if target.chip.platform == "tpu":
        topology = f"{target.name}:{target.topology}"
        alone = target.count == target.chip.devices  # otherwise a host has 2x2 chips
        settings: dict[str, Any] = {"chips_per_host_bounds": (1, 1, 1)} if alone else {}
    else:
        hosts = -(-target.count // GPUS_PER_HOST)
        topology = f"1x{hosts}x{target.count // hosts}"
        settings = {"topology": topology, "target_config": gpu_description(target)}
    return list(topologies.get_topology_desc(topology, platform=target.chip.platform, **settings).devices)


def gpu_description(target: Target) -> str:
    """XLA's description of a GPU (`GpuTargetConfigProto`), from its published figures."""
    cores, units, shared, block, cache, clock, (major, minor) = _GPUS[target.name]
    return f"""gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {shared * 1024}
  threads_per_core_limit: 2048
  core_count: {cores}
  fpus_per_core: {units}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {int(target.chip.bandwidth)}
  l2_cache_size: {int(cache * 2**20)}
  clock_rate_ghz: {clock}
  device_memory_size: {int(target.chip.memory)}
  shared_memory_per_block_optin: {block * 1024}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "NVIDIA {target.chip.title}"
"""
