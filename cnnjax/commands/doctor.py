"""`cnnjax doctor`: shows the versions, devices, settings and data sets of this installation."""

import argparse
import importlib.metadata
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnjax.commands.arguments import add_json
from cnnjax.core import runtime
from cnnjax.core.terminal import print_table

HELP = "show versions, devices, settings, and what works offline"

PACKAGES = (
    "cnnjax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorflow-datasets",
    "array-record",
    "numpy",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `doctor`."""
    add_json(parser)


def run(options: argparse.Namespace) -> Any:
    """Prints a table for each section."""
    if options.json:
        return {title: dict(rows) for title, rows in examine()}
    for title, rows in examine():
        print_table((title, ""), rows)


def examine() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Sections of (name, value): versions, devices, settings, data sets, disk."""
    yield "versions", [("python", platform.python_version()), *((name, _version(name)) for name in PACKAGES)]
    yield (
        "settings before JAX starts",
        [
            (setting.name, f"{setting.value}: {'in force' if setting.applied else 'not applied'} ({setting.reason})")
            for setting in runtime.configure_runtime()
        ],
    )
    import jax

    yield (
        "devices",
        [(f"{index}", f"{device.platform} {device.device_kind}") for index, device in enumerate(jax.devices())],
    )
    yield "programs on this device", list(_programs())
    from cnnjax.data.catalogue import CATALOGUE, availability, default_data_dir

    yield (
        "data sets that work without a network",
        [
            (name, status)
            for name in CATALOGUE
            if not (status := availability(name)).startswith(("download", "by hand"))
        ],
    )
    folders = {
        "cache (CNNJAX_CACHE_DIR)": runtime.cache_directory(),
        "prepared data (TFDS_DATA_DIR)": default_data_dir(),
    }
    yield "disk", [(name, f"{folder}, {_free(folder)} GiB free") for name, folder in folders.items()]


def _programs() -> Iterator[tuple[str, str]]:
    """Settings that make compiled programs faster on this machine, with their gains and costs."""
    import jax

    from cnnjax.ops import choice
    from cnnjax.training.parallel import known

    if jax.default_backend() != "cpu":
        yield (
            "train.ops",
            f"JAX's own operations, since those of cnnjax are for a CPU, not for a {jax.default_backend()}",
        )
        yield "steps", "up to 50 per call if the data fit on the device"
        return
    yield (
        "train.ops=fast",
        "own implementations of convolution and pooling: a training step takes 0.33 to 0.96 of plain Flax's time "
        "(docs/explanation/speed.md); train.ops=stock switches them off",
    )
    for name, value in choice.compiler_options("fast").items():
        state = "in force" if known({name: value}) else "not applied, since this XLA does not know it"
        yield name, f"{value}: {state} (Eigen's convolutions: a training step of cnn_small takes 0.7 of the time)"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _free(folder: Path) -> str:
    while not folder.exists():
        folder = folder.parent
    return f"{shutil.disk_usage(folder).free / 2**30:.0f}"
