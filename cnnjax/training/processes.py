"""Training with several processes, on several machines or on groups of one machine's devices.

Every process runs the same program on its own devices and its own part of each batch. Only the first process writes files,
and it shares what it reads with the others.
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

# The number of processes and the index of this one, if known without starting JAX's devices.
_known: tuple[int, int] | None = None
# Seconds after which the other processes notice that a process has died.
HEARTBEAT_SECONDS = 30
# The messages of a process that XLA ends because of another process: before and after they have connected.
ABSENT = (
    b"the processes could not connect (see XLA's message above): start all of them, or wait longer with --wait SECONDS"
)
DIED = (
    b"another process has died or can no longer be reached (see XLA's message above); checkpoints are kept: start all "
    b"processes again to resume"
)
_abort_message = ABSENT


def start(
    coordinator: str | None = None, count: int | None = None, index: int | None = None, wait: float | None = None
) -> None:
    """Connects to the other processes, if there are any; must be called before the first JAX computation.

    Under SLURM and on TPU pods the first three arguments are detected. Elsewhere each process must pass all three.

    Args:
      coordinator: the address of the first process, as host:port.
      count: the number of processes.
      index: the index of this process, from 0.
      wait: seconds to wait for the others; None is 30, or 120 if they are detected (a scheduler starts them all).

    Raises:
      ValueError: only some of the three are given, the index is out of range, or the wait is not above 0.
      RuntimeError: JAX has already started, or the other processes did not connect.
    """
    global _known, _abort_message
    given = [value is not None for value in (coordinator, count, index)]
    if wait is not None and wait <= 0:
        raise ValueError(f"--wait {wait:g}: expected a number of seconds above 0")
    if any(given) and not all(given):
        raise ValueError(
            "several processes: all three of --coordinator HOST:PORT, --processes N and --process-id I are needed"
        )
    if all(given):
        if not 0 <= index < count:
            raise ValueError(f"--process-id {index}: expected 0 to {count - 1} with --processes {count}")
    elif not _in_cluster():
        return
    if jax.distributed.is_initialized():
        return
    if all(given):
        rendezvous.meet(coordinator, count, index, 30 if wait is None else wait)
        _known = count, index
    elif "SLURM_PROCID" in os.environ:
        _known = int(os.environ["SLURM_NTASKS"]), int(os.environ["SLURM_PROCID"])
    # This program handles signals itself: it saves, then exits.
    if hasattr(jax.config, "jax_enable_preemption_service"):
        jax.config.update("jax_enable_preemption_service", False)
    # XLA ends the process with SIGABRT if another one is missing, from its own thread, in which no Python handler runs.
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
            f"the processes could not connect ({reason}): start all of them, with the same --coordinator and --processes, "
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
    """Checks that an operation that needs a single process is not run with several.

    Raises:
      ValueError: several processes were started together.
    """
    if _in_cluster() or count() > 1:
        raise ValueError(f"{what} runs in one process, but several were started together: {instead}")


def count() -> int:
    """The number of processes."""
    return _where()[0]


def index() -> int:
    """The index of this process, from 0."""
    return _where()[1]


def _where() -> tuple[int, int]:
    if _known is not None:
        return _known
    return (jax.process_count(), jax.process_index()) if jax.distributed.is_initialized() else (1, 0)


def is_first() -> bool:
    """Whether this is the first process, which writes files."""
    return index() == 0


def share(value: Any) -> Any:
    """Returns the first process's value in all processes; the values of the others are ignored."""
    if count() == 1:
        return value
    from jax.experimental import multihost_utils

    content = np.frombuffer(pickle.dumps(value) if is_first() else b"", np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    padded = np.zeros(length, np.uint8)
    padded[: len(content)] = content
    return pickle.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes())


def largest(value: int) -> int:
    """Returns the largest of all processes' values in all processes."""
    if count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(value))))
