"""From the command `cnnjax train` to the end of its first step.

    python -m experiments.benchmarks.start

Cold: with empty caches of arrays and compiled programs, as on the first day. Warm: with those of an earlier start. The data
are the embedded digits, so that reading them counts for little. Plain Flax, warm: a process that imports JAX, Flax and Optax, builds the
same network, initialises it and takes one step, without a config, data set, evaluation or checkpoint.
"""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from experiments.benchmarks import report
from experiments.benchmarks.measurement import Measured, Turn, Watch, Worker, in_turns
from experiments.benchmarks.networks import NETWORKS
from experiments.benchmarks.train_step import job
from experiments.benchmarks.training_run import TrainingRun

# A warm start's seconds, at most.
TARGETS: Mapping[str, float] = {"lenet5": 1.2, "resnet18": 3.5}
NAMES = {"cold": "cold", "warm": "warm", "plain": "plain Flax, warm"}


def config(network: str) -> dict[str, Any]:
    """The training that is started."""
    timed = NETWORKS[network]
    return {
        "dataset": {"name": "digits"},
        "model": {"name": timed.model, **timed.options},
        "train": {"batch_size": timed.batch_size},
        "devices": 1,
    }


def start(network: str, caches: Path | None) -> Turn:
    """Starts a training and kills it after its first step.

    Args:
      network: of `TARGETS`.
      caches: that it may use; None is new ones.

    Raises:
      ProcessError: it failed.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        watch = Watch(None)
        workdir = Path(folder)
        with TrainingRun(f"cnnjax train, {network}", config(network), workdir, caches or workdir / "caches") as run:
            run.wait_for("compiled the training step")
            return watch.turn(run.pid)


def plain_start(network: str, caches: Path) -> Turn:
    """Starts plain Flax, with a cache of compiled programs that it may use, and ends it after its first step.

    Raises:
      ProcessError: it failed.
    """
    cached = {"JAX_COMPILATION_CACHE_DIR": str(caches), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    described = job("flax", network, "train", "float32", caches)
    watch = Watch(None)
    with Worker("flax", dataclasses.replace(described, environment={**described.environment, **cached})) as worker:
        worker.run("train", 1, untimed=0)
        return watch.turn(worker.pid)


def compare(network: str, rounds: int) -> tuple[dict[str, Measured], list[str]]:
    """Cold and warm starts in turns, and those of plain Flax, and what failed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        turns = {
            "cold": partial(start, network, None),
            "warm": partial(start, network, Path(folder)),
            "plain": partial(plain_start, network, Path(folder) / "plain"),
        }
        warm = {name: turns[name] for name in ("warm", "plain")}
        _, failures = in_turns(warm, 1, lambda line: report.progress(f"{network}: fills its caches"))
        if failures:
            return {}, list(failures.values())
        taken, failures = in_turns(turns, rounds, lambda line: report.progress(f"{network}: {line}"))
    return {name: Measured(of_one) for name, of_one in taken.items()}, list(failures.values())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the comparison and shows its table."""
    parser = report.parser(__doc__.splitlines()[0], rounds=5)
    report.add_networks(parser, tuple(TARGETS))
    options = report.parse(parser, arguments)
    rows, results, failures, everything = [], [], [], []
    for network in options.networks:
        measured, failed = compare(network, options.rounds)
        rows.append([network, *(report.cell(measured.get(name), 1.0) for name in NAMES), f"{TARGETS[network]:.1f}"])
        results.append({"network": network, **{name: of_one.as_dict() for name, of_one in measured.items()}})
        failures += failed
        everything += measured.values()
    title = "From the command to the end of the first step, s"
    columns = ["network", *NAMES.values(), "warm, at most"]
    table = report.Table(title, columns, rows, [report.foreign_note(everything)])
    report.finish(options, "Starts", [table], results, failures)


if __name__ == "__main__":
    main()
