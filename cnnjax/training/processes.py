"""Several processes: one program on several machines, or on groups of one machine's devices.

Every process runs the same program on its own devices and its own part of each batch. The first one alone writes; what
it alone knows it shares.
"""

import ctypes
import math
import os
import pickle
import signal
from typing import Any

import jax
import numpy as np

from cnnjax.core import runtime
from cnnjax.training import rendezvous

# How many there are and which this is, as far as is known without starting JAX's devices.
_known: tuple[int, int] | None = None
# Seconds after which a process that has died is missed by the others.
HEARTBEAT_SECONDS = 30
# What a process says that XLA ends because of another: before they have joined, and after.
ABSENT = (
    b"the processes did not come together (XLA says more above): start all of them, or wait longer with --wait SECONDS"
)
DIED = (
    b"another process has died or cannot be reached any more (XLA says more above); what was saved is kept: start all "
    b"processes again to resume"
)
_abort_message = ABSENT


def start(
    coordinator: str | None = None, count: int | None = None, index: int | None = None, wait: float | None = None
) -> None:
    """Joins the other processes; does nothing where there are none. It must precede JAX's first computation.

    Under SLURM and on TPU pods everything is found out; elsewhere all three are given, in each process.

    Args:
      coordinator: host:port of the first process.
      count: of processes.
      index: of this one, from 0.
      wait: seconds to wait for the others; None is 30, or 120 where they are found out (a scheduler starts them all).

    Raises:
      ValueError: some of the three are given and not all, the index is not one of them, or the wait is not above 0.
      RuntimeError: JAX has already started, or the others did not come.
    """
    global _known, _abort_message
    given = [value is not None for value in (coordinator, count, index)]
    if wait is not None and wait <= 0:
        raise ValueError(f"--wait {wait:g}: expected seconds, more than 0")
    if any(given) and not all(given):
        raise ValueError("several processes: give --coordinator HOST:PORT, --processes N and --process-id I, all three")
    if all(given):
        if not 0 <= index < count:
            raise ValueError(f"--process-id {index}: expected 0 to {count - 1}, --processes being {count}")
    elif not _in_cluster():
        return
    if jax.distributed.is_initialized():
        return
    if all(given):
        rendezvous.meet(coordinator, count, index, 30 if wait is None else wait)
        _known = count, index
    elif "SLURM_PROCID" in os.environ:
        _known = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_PROCID"])
    # Signals are this program's to handle: it saves, then ends.
    if hasattr(jax.config, "jax_enable_preemption_service"):
        jax.config.update("jax_enable_preemption_service", False)
    # XLA ends the process by SIGABRT when another is missed, from a thread of its own where no Python handler runs.
    if library := runtime.c_library():
        library.signal(signal.SIGABRT, _on_abort)
    try:
        jax.distributed.initialize(
            coordinator, count, index, heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            initialization_timeout=120 if wait is None else math.ceil(wait),
        )  # fmt: skip
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise RuntimeError(
            f"the processes did not come together ({reason}): start all of them, with the same --coordinator and --processes, "
            "before any JAX computation"
        ) from error
    _abort_message = DIED


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _on_abort(number: int) -> None:
    os.write(2, b"\ncnnjax: " + _abort_message + b"\n")
    os._exit(1)


def _in_cluster() -> bool:
    tasks = int(os.environ.get("SLURM_NTASKS", 1)) if "SLURM_PROCID" in os.environ else 1
    return tasks > 1 or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def check_alone(what: str, instead: str) -> None:
    """Refuses what one process does by itself where several have been started together.

    Raises:
      ValueError: they have.
    """
    if _in_cluster() or count() > 1:
        raise ValueError(f"{what} runs in one process, and several were started together: {instead}")


def count() -> int:
    """How many processes there are."""
    return _where()[0]


def index() -> int:
    """This process's, from 0."""
    return _where()[1]


def _where() -> tuple[int, int]:
    if _known is not None:
        return _known
    return (jax.process_count(), jax.process_index()) if jax.distributed.is_initialized() else (1, 0)


def is_first() -> bool:
    """Whether this is the process that writes."""
    return index() == 0


def share(value: Any) -> Any:
    """The first process's value, in all; what the others give is not looked at."""
    if count() == 1:
        return value
    from jax.experimental import multihost_utils

    content = np.frombuffer(pickle.dumps(value) if is_first() else b"", np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    padded = np.zeros(length, np.uint8)
    padded[: len(content)] = content
    return pickle.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes())


def largest(value: int) -> int:
    """The largest of all processes' values, in all."""
    if count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(value))))
