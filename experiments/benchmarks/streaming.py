"""Images a second of a host that reads, decodes and randomly crops photographs, with one and two workers.

    python -m experiments.benchmarks.streaming --torch-python ~/torch/bin/python

2,000 JPEGs of about 500x375, made once from scikit-image's photographs; random parts of 8 to 100 % of the area resized to 224x224,
half of them mirrored, in batches of 64. `readers.py` and `readers_torch.py` have the competitors. A turn is an epoch, from the first
batch asked for to the last received. Memory is measured in an epoch of its own: the proportional set size, in which pages that
processes share count once, of a competitor's process and its children.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import psutil

from cnnjax.core import runtime
from experiments.benchmarks import photographs, readers, report
from experiments.benchmarks.measurement import (
    Job,
    Measured,
    ProcessError,
    Worker,
    in_turns,
    process_tree,
    started,
)

WORKERS = (1, 2)
OURS, LOADER, LIMIT = "cnnjax", "PyTorch DataLoader, torchvision", "bare limit: Pillow decodes and resizes"
FLOATS = "the same, normalised float32"
SAMPLE_SECONDS = 0.05
# All competitors, PyTorch's apart: factory, and what is called before.
FACTORIES: Mapping[str, tuple[str, str | None]] = {
    OURS: ("experiments.benchmarks.readers:ours", "cnnjax:configure_runtime"),
    "TFDS data source, threads": ("experiments.benchmarks.readers:tfds", None),
    "grain, Pillow, threads": ("experiments.benchmarks.readers:grain", None),
    LIMIT: ("experiments.benchmarks.readers:bare", "cnnjax:configure_runtime"),
}


def jobs(folder: Path, caches: Path, torch_python: str | None) -> dict[tuple[str, int], Job]:
    """The job of every competitor with every number of workers."""
    environment = {"CNNJAX_CACHE_DIR": str(caches / "cnnjax"), "JAX_PLATFORMS": "cpu"}
    made = {}
    for workers in WORKERS:
        for name, (factory, before) in FACTORIES.items():
            arguments = {"folder": str(folder), "workers": workers}
            if factory.endswith(":tfds"):
                arguments["prepared"] = str(caches / "tfds")
            made[name, workers] = Job(factory, arguments, before, environment)
        for name, normalized in {LOADER: False, FLOATS: True}.items() if torch_python else ():
            arguments = {"folder": str(folder / "train"), "workers": workers, "normalized": normalized}
            factory = "experiments.benchmarks.readers_torch:data_loader"
            made[name, workers] = Job(factory, arguments, python=torch_python)
    return made


def torch_versions(python: str) -> str | None:
    """The versions of an interpreter's PyTorch, torchvision and Pillow; None where one is missing."""
    code = "import PIL, torch, torchvision as v; print(f'torch {torch.__version__}, torchvision {v.__version__}, Pillow {PIL.__version__}')"
    try:
        ran = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()


def peak_bytes(worker: Worker) -> int:
    """The greatest proportional set size of a worker and its children during an epoch."""
    sizes, done = [], threading.Event()

    def sample() -> None:
        while not done.is_set():
            sizes.append(sum(map(_share, process_tree(worker.pid))))
            done.wait(SAMPLE_SECONDS)

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        worker.run("epoch", 1, untimed=0)
    finally:
        done.set()
        sampling.join()
    return max(sizes)


def _share(process: psutil.Process) -> int:
    """Its proportional set size; its resident memory where the system does not tell; 0 where it has ended."""
    with contextlib.suppress(psutil.Error):
        memory = process.memory_full_info()
        return getattr(memory, "pss", memory.rss)
    return 0


def compare(
    given: Mapping[tuple[str, int], Job], rounds: int
) -> tuple[dict[tuple[str, int], Measured], dict[tuple[str, int], int], int, list[str]]:
    """What each takes for an epoch, its peak memory, the images of an epoch, and what failed."""
    with contextlib.ExitStack() as stack:
        workers, failures = started(stack, given, report.progress)
        images = {worker.facts["parameters"] for worker in workers.values()}
        if not images:
            raise ProcessError("; ".join(failures.values()))
        if len(images) > 1:
            raise ProcessError(f"the competitors read differing numbers of images: {sorted(images)}")
        turns = {key: partial(worker.run, "epoch", 1, untimed=0) for key, worker in workers.items()}
        taken, failed = in_turns(turns, rounds, report.progress)
        memory = {key: peak_bytes(workers[key]) for key in taken}
    lines = [f"{name}, {count} workers: {why}" for (name, count), why in {**failures, **failed}.items()]
    return {key: Measured(of_one) for key, of_one in taken.items()}, memory, *images, lines


def table(
    measured: Mapping[tuple[str, int], Measured],
    memory: Mapping[tuple[str, int], int],
    images: int,
    notes: Sequence[str],
) -> report.Table:
    """A row for each competitor: images/s, share of the limit, ratio to `DataLoader`, and memory."""

    def rate(key: tuple[str, int]) -> str:
        if key not in measured:
            return "failed"
        low, high = measured[key].quartiles
        return f"{images / measured[key].median:.0f} ({images / high:.0f} to {images / low:.0f})"

    def relative(key: tuple[str, int], to: str) -> str:
        return (
            f"{measured[to, key[1]].median / measured[key].median:.2f}"
            if {key, (to, key[1])} <= measured.keys()
            else ""
        )

    rows = []
    for name in dict.fromkeys(name for name, _ in measured):
        keys = [(name, count) for count in WORKERS]
        cells = [[rate(key), relative(key, LIMIT), relative(key, LOADER)] for key in keys]
        peaks = [f"{memory[key] / 2**20:.0f}" if key in memory else "" for key in keys]
        rows.append([name, *cells[0], *cells[1], " / ".join(peaks)])
    columns = [
        "",
        "1 worker, images/s",
        "of the limit",
        "/ DataLoader",
        "2 workers, images/s",
        "of the limit",
        "/ DataLoader",
    ]
    return report.Table("Images a second", [*columns, "peak memory, MiB, 1 / 2 workers"], rows, notes)


def facts(folder: Path) -> list[str]:
    """What the files are, and how often Pillow's draft mode could decode one at half its size, in lines."""
    files = sorted((folder / "train").rglob("*.jpg"))
    sizes = list(map(photographs.size_of, files))
    generator = np.random.default_rng(0)
    boxes = [readers.random_box(size, generator) for size in sizes]
    halved = sum(
        right - left >= 2 * readers.SIZE[1] and bottom - top >= 2 * readers.SIZE[0]
        for left, top, right, bottom in boxes
    )
    return [
        f"{len(files):,} JPEGs of {', '.join(sorted({f'{width}x{height}' for width, height in sizes}))}, "
        f"{sum(file.stat().st_size for file in files) / len(files) / 1000:.0f} kB on average.",
        f"Pillow's draft mode, which changes pixels, could decode {halved} of {len(boxes):,} random parts at half their size.",
    ]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the comparison and shows its table."""
    parser = report.parser(__doc__.splitlines()[0], rounds=6)
    parser.add_argument(
        "--torch-python",
        metavar="PATH",
        default=sys.executable,
        help="an interpreter with PyTorch and torchvision (default: this one); they are left out where it has none",
    )
    parser.add_argument("--images", type=report.positive, default=2000, metavar="N", help=argparse.SUPPRESS)
    options = report.parse(parser, arguments)
    versions = torch_versions(options.torch_python)
    if versions is None:
        report.note(
            f"left out: PyTorch ({options.torch_python} has no torch and torchvision: name one by --torch-python)"
        )
    try:
        folder = photographs.folder_of_jpegs(
            runtime.cache_directory() / "benchmarks" / f"photographs-{options.images}", options.images
        )
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as caches:
            measured, memory, images, failures = compare(
                jobs(folder, Path(caches), options.torch_python if versions else None), options.rounds
            )
    except (ProcessError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    notes = [
        *facts(folder),
        *([f"DataLoader: {versions}."] if versions else []),
        report.foreign_note(measured.values()),
    ]
    results = [
        {
            "reader": name,
            "workers": count,
            "images_per_second": images / of_one.median,
            "peak_bytes": memory[name, count],
            **of_one.as_dict(),
        }
        for (name, count), of_one in measured.items()
    ]
    report.finish(options, "Streaming", [table(measured, memory, images, notes)], results, failures)


if __name__ == "__main__":
    main()
