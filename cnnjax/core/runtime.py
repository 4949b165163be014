"""What must be set before JAX starts, and why.

JAX reads a few settings once, when its backend starts. `configure` makes them; the command line calls it
first thing. In a script or notebook, call it before the first JAX computation::

    import cnnjax
    cnnjax.configure_runtime()

It is safe to call again, does nothing where a setting does not apply, and never overrides what the user
has set in the environment. `CNNJAX_RUNTIME=0` switches all of it off.
"""

import ctypes
import dataclasses
import os
import platform
import sys
import time
from pathlib import Path

SWITCH = "CNNJAX_RUNTIME"

# glibc's malloc.h: what each setting is called, its number there, and our value. The trim threshold is -1, which stands for
# never: with the largest one an int holds, 2 GiB, VGG16's training step still gave back and faulted in 1.2 GiB every few steps
# (medians of 1.41 to 1.64 s, 1.29 to 1.33 with -1).
_MALLOC_SETTINGS = (
    ("M_ARENA_MAX", -8, 1),
    ("M_MMAP_MAX", -4, 0),
    ("M_TRIM_THRESHOLD", -1, -1),
    ("M_TOP_PAD", -2, 2**28),
)
# Of this process: pages in all, pages in memory, ...
_STATM = Path("/proc/self/statm")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One thing set (or not) before JAX started."""

    name: str
    value: str
    applied: bool
    reason: str  # what it is for, or why it was not applied


_applied: dict[str, Setting] = {}


def cache_directory() -> Path:
    """Where cnnjax keeps what can be made again: arrays of data sets and compiled programs.

    `CNNJAX_CACHE_DIR` if set, else `cnnjax` under `XDG_CACHE_HOME` or `~/.cache`.
    """
    chosen = os.environ.get("CNNJAX_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cnnjax"


def enabled() -> bool:
    """False when the user switched the runtime settings off with `CNNJAX_RUNTIME=0`."""
    return os.environ.get(SWITCH, "1").lower() not in {"0", "off", "false", "no"}


def configure_runtime(cpu_devices: int | None = None) -> list[Setting]:
    """Makes the settings that must precede JAX's start; returns what is in force, for `doctor`.

    Args:
      cpu_devices: how many virtual devices the CPU shall be split into, or None to leave that alone.

    Raises:
      RuntimeError: JAX has already started with another number of CPU devices.
    """
    if not enabled():
        _applied.clear()
        return [Setting("all", "off", False, f"switched off by {SWITCH}={os.environ[SWITCH]}")]
    _keep_freed_memory()
    _cache_compiled_programs()
    if "NPROC" not in _applied:
        _record(
            "NPROC", os.environ.get("NPROC", "unset"), "NPROC" in os.environ, "for several virtual CPU devices alone"
        )
    if cpu_devices is not None and not split_cpu(cpu_devices):
        raise RuntimeError(
            f"JAX has already started with fewer than {cpu_devices} CPU devices: call "
            f"cnnjax.configure_runtime(cpu_devices={cpu_devices}) before the first JAX computation"
        )
    return in_force()


def in_force() -> list[Setting]:
    """What `configure` has set so far."""
    return list(_applied.values())


def _record(name: str, value: object, applied: bool, reason: str) -> None:
    _applied[name] = Setting(name, str(value), applied, reason)


def _keep_freed_memory() -> None:
    """Tells glibc to keep the memory it gets back.

    By default it returns every large buffer to the kernel, and each training step then faults the same
    pages in again. Measured on 2 cores: `cnn_small` on digits trains at 470 images/s with it, 337 without.
    """
    if "malloc" in _applied:
        return
    value = "keep freed memory"
    library = c_library() if platform.libc_ver()[0] == "glibc" else None
    if library is None or not _STATM.exists():  # what is kept must be measured
        _record("malloc", value, False, "needs Linux with glibc and /proc")
        return
    done = all(library.mallopt(number, setting) for _, number, setting in _MALLOC_SETTINGS)
    _record(
        "malloc",
        value,
        done,
        "no page faults in every step: cnn_small trains 1.4 times as fast; a process may hold twice what its steps need"
        if done
        else "mallopt refused",
    )


def c_library() -> ctypes.CDLL | None:
    """The C library that this process runs with; None where it cannot be reached (Windows)."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None


def keeps_freed_memory() -> bool:
    """Whether glibc was told to keep the memory it gets back."""
    return "malloc" in _applied and _applied["malloc"].applied


def resident_memory() -> int:
    """Bytes of this process in memory (Linux)."""
    return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def allowed_memory() -> int:
    """Bytes of memory that the machine has and a limit set on the process (`ulimit -v`) allows."""
    if hasattr(os, "sysconf"):
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:  # Windows
        import psutil

        physical = psutil.virtual_memory().total
    try:
        import resource
    except ImportError:  # Windows
        return physical
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return physical if limit == resource.RLIM_INFINITY else min(physical, limit)


def give_back_memory(above: int) -> None:
    """Returns what is free to the system where the process has more resident bytes than this, after a step has ended.

    A step's results are ready a moment before its temporary memory is free, hence the pause: without it the next step
    would take other memory, and be twice as large.
    """
    time.sleep(0.002)
    if resident_memory() > above:
        c_library().malloc_trim(ctypes.c_size_t(0))


def _cache_compiled_programs() -> None:
    """Points JAX at a persistent cache of compiled programs, for every program however small."""
    name = "JAX_COMPILATION_CACHE_DIR"
    if name in _applied:
        return
    reason = "compile each program once, not once a start"
    if name in os.environ:
        _record(name, os.environ[name], True, "set by the user")
        return
    directory = cache_directory() / "compiled"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _record(name, directory, False, f"cannot be written: {error.strerror}")
        return
    settings = {
        "jax_compilation_cache_dir": str(directory),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    if "jax" in sys.modules:
        import jax

        for key, setting in settings.items():
            jax.config.update(key, setting)
    else:
        for key, setting in settings.items():
            os.environ.setdefault(key.upper(), str(setting))
    _record(name, directory, True, reason)


def _has_started() -> bool:
    """Whether JAX's backends are up: from then on it refuses to change the number of CPU devices."""
    import jax

    now = jax.config.jax_num_cpu_devices
    try:
        jax.config.update("jax_num_cpu_devices", 2 if now == 1 else 1)
    except RuntimeError:
        return True
    jax.config.update("jax_num_cpu_devices", now)
    return False


def make_deterministic() -> None:
    """Asks XLA for the same bits every time on a GPU (a CPU's always are), which must come before JAX starts.

    Raises:
      RuntimeError: JAX has already started on a GPU without it.
    """
    import jax

    flag, flags = "--xla_gpu_deterministic_ops=true", os.environ.get("XLA_FLAGS", "")
    if flag in flags.split():
        return
    if _has_started():
        if jax.default_backend() == "gpu":
            raise RuntimeError(
                f"train.deterministic: JAX has already started on the GPU: set XLA_FLAGS={flag} in the environment, or call "
                "cnnjax.train before the first JAX computation"
            )
        return
    os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()
    _record("XLA_FLAGS", os.environ["XLA_FLAGS"], True, "train.deterministic: the same bits every time on a GPU")


def split_cpu(devices: int) -> bool:
    """Makes the CPU appear as at least that many devices; False where JAX has already started with fewer.

    XLA sizes its thread pool by the number of cores. With more virtual devices than cores, devices that
    wait for each other in a collective occupy every thread and the program stops for good; `NPROC`, which
    XLA reads when its CPU client starts, gives the pool room. One device is left alone: there the extra
    threads only cost time.
    """
    import jax

    if jax.config.jax_num_cpu_devices >= devices:
        return True
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:  # JAX's way to say that it has started
        return len(jax.devices("cpu")) >= devices
    _record("jax_num_cpu_devices", devices, True, "virtual devices asked for")
    if devices > 1 and enabled():
        os.environ.setdefault("NPROC", str(4 * max(devices, 4)))
        _record("NPROC", os.environ["NPROC"], True, "room in XLA's thread pool for collectives")
    return True
