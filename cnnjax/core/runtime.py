"""Settings that must be made before JAX starts.

JAX reads some settings only once, when its backend starts. The command line calls `configure_runtime` before anything
else. In a script or notebook, call it before the first JAX computation::

    import cnnjax
    cnnjax.configure_runtime()

It can be called more than once, skips settings that do not apply, and never overrides environment variables that the user
has set. `CNNJAX_RUNTIME=0` switches all settings off.
"""

import ctypes
import dataclasses
import os
import platform
import sys
import time
from pathlib import Path

SWITCH = "CNNJAX_RUNTIME"

# Settings of glibc's malloc.h: name, number, value. A trim threshold of -1 means that memory is never returned. With the
# largest int, 2 GiB, VGG16's training step still returned 1.2 GiB and faulted it in again every few steps (medians of 1.41 to
# 1.64 s, against 1.29 to 1.33 s with -1).
_MALLOC_SETTINGS = (
    ("M_ARENA_MAX", -8, 1),
    ("M_MMAP_MAX", -4, 0),
    ("M_TRIM_THRESHOLD", -1, -1),
    ("M_TOP_PAD", -2, 2**28),
)
# Memory of this process: total pages, resident pages, ...
_STATM = Path("/proc/self/statm")


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting that was made, or skipped, before JAX started."""

    name: str
    value: str
    applied: bool
    reason: str  # the purpose of the setting, or why it was not applied


_applied: dict[str, Setting] = {}


def cache_directory() -> Path:
    """The directory for files that can be regenerated: arrays of data sets and compiled programs.

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
    """Makes the settings that must precede the start of JAX and returns the settings in force, for `doctor`.

    Args:
      cpu_devices: the number of virtual devices that the CPU is split into; None leaves it unchanged.

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
            "NPROC",
            os.environ.get("NPROC", "unset"),
            "NPROC" in os.environ,
            "needed only for several virtual CPU devices",
        )
    if cpu_devices is not None and not split_cpu(cpu_devices):
        raise RuntimeError(
            f"JAX has already started with fewer than {cpu_devices} CPU devices: call "
            f"cnnjax.configure_runtime(cpu_devices={cpu_devices}) before the first JAX computation"
        )
    return in_force()


def in_force() -> list[Setting]:
    """The settings that `configure_runtime` has made so far."""
    return list(_applied.values())


def _record(name: str, value: object, applied: bool, reason: str) -> None:
    _applied[name] = Setting(name, str(value), applied, reason)


def _keep_freed_memory() -> None:
    """Makes glibc keep freed memory.

    By default glibc returns every large buffer to the kernel, and each training step faults the same pages in again.
    Measured on 2 cores: `cnn_small` on digits trains at 470 images/s with this setting and at 337 without it.
    """
    if "malloc" in _applied:
        return
    value = "keep freed memory"
    library = c_library() if platform.libc_ver()[0] == "glibc" else None
    if library is None or not _STATM.exists():  # /proc tells how much memory is kept
        _record("malloc", value, False, "needs Linux with glibc and /proc")
        return
    done = all(library.mallopt(number, setting) for _, number, setting in _MALLOC_SETTINGS)
    _record(
        "malloc",
        value,
        done,
        "avoids page faults in every step: cnn_small trains 1.4 times as fast; a process may hold twice the memory its steps need"
        if done
        else "mallopt refused",
    )


def c_library() -> ctypes.CDLL | None:
    """The C library of this process; None where it cannot be loaded (Windows)."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None


def keeps_freed_memory() -> bool:
    """Whether glibc keeps freed memory (`_keep_freed_memory`)."""
    return "malloc" in _applied and _applied["malloc"].applied


def resident_memory() -> int:
    """The resident memory of this process in bytes (Linux)."""
    return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def allowed_memory() -> int:
    """The machine's memory in bytes, or the limit of the process (`ulimit -v`) if that is smaller."""
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
    """Returns free memory to the system after a step, if the process holds more than `above` resident bytes.

    The pause is needed because the results of a step are ready shortly before its temporary memory is freed. Without it the
    next step would allocate new memory, and the process would be twice as large.
    """
    time.sleep(0.002)
    if resident_memory() > above:
        c_library().malloc_trim(ctypes.c_size_t(0))


def _cache_compiled_programs() -> None:
    """Sets up JAX's persistent cache for compiled programs, small programs included."""
    name = "JAX_COMPILATION_CACHE_DIR"
    if name in _applied:
        return
    reason = "each program is compiled once, not at every start"
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
    """Whether JAX's backends have started: it then refuses to change the number of CPU devices."""
    import jax

    now = jax.config.jax_num_cpu_devices
    try:
        jax.config.update("jax_num_cpu_devices", 2 if now == 1 else 1)
    except RuntimeError:
        return True
    jax.config.update("jax_num_cpu_devices", now)
    return False


def make_deterministic() -> None:
    """Makes results on a GPU bitwise reproducible (on a CPU they always are); must be called before JAX starts.

    Raises:
      RuntimeError: JAX has already started on a GPU without this setting.
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
    """Splits the CPU into at least `devices` virtual devices; returns False if JAX has already started with fewer.

    XLA sizes its thread pool by the number of cores. With more virtual devices than cores, devices that wait for each other
    in a collective operation occupy all threads, and the program deadlocks. `NPROC`, which XLA reads when its CPU client
    starts, enlarges the pool. It is not set for a single device, where extra threads only cost time.
    """
    import jax

    if jax.config.jax_num_cpu_devices >= devices:
        return True
    try:
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:  # JAX has already started
        return len(jax.devices("cpu")) >= devices
    _record("jax_num_cpu_devices", devices, True, "the requested virtual devices")
    if devices > 1 and enabled():
        os.environ.setdefault("NPROC", str(4 * max(devices, 4)))
        _record("NPROC", os.environ["NPROC"], True, "enlarges XLA's thread pool for collective operations")
    return True
