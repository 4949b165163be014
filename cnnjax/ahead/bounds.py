"""Lower bounds of the time of a program, from its operations and the published figures of a chip."""

from collections.abc import Mapping
from typing import Any

from cnnjax.ahead.targets import GPUS_PER_HOST, Target

# How many bytes each device must send in a collective operation of n devices, as a multiple of (n - 1) / n times the bytes of the
# whole array (Patarasuk and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009).
_SENT = {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1, "all-to-all": 1, "collective-permute": 1}


def seconds_in_collectives(collectives: Mapping[str, Mapping[str, int]], target: Target) -> float:
    """The least time of all collective operations, at the full bandwidth of all links of a chip and without latency.

    Among several hosts of GPUs, each host must also send its part over its network adapters.
    """
    chip, count = target.chip, target.count
    total = sum(_SENT[kind] * figures["bytes"] for kind, figures in collectives.items())
    within = count if chip.network is None else min(count, GPUS_PER_HOST)
    hosts = count // within
    seconds = total * (within - 1) / within / chip.links
    if hosts > 1:
        seconds = max(seconds, total * (hosts - 1) / hosts / (within * chip.network))
    return seconds


def bound(program: Mapping[str, Any], target: Target, precision: str, batch_size: int) -> dict[str, float]:
    """A lower bound of a program's time, and what it consists of.

    Args:
      program: the program's `flops` and `bytes` of each device and its `collectives`.
      target: the chips.
      precision: the precision of the computation, "float32" or "bfloat16".
      batch_size: the number of images of a step.

    Returns:
      The seconds at the peak rate of matrix products, at the bandwidth of the memory, and at that of the links; the bound, which is
      the longest of the three, since a compiler may let them overlap; the share of collectives in it, 1 where they are the longest;
      and the images a second at the bound.
    """
    chip = target.chip
    compute = program["flops"] / (chip.bfloat16 if precision == "bfloat16" else chip.float32)
    memory = program["bytes"] / chip.bandwidth
    linked = seconds_in_collectives(program["collectives"], target)
    seconds = max(compute, memory, linked)
    return {
        "seconds": seconds,
        "compute_seconds": compute,
        "memory_seconds": memory,
        "collective_seconds": linked,
        "collective_share": linked / seconds,
        "images_per_second": batch_size / seconds,
    }
