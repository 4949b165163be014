"""From the command `cnnjax train` to the end of its first step.

    python -m experiments.benchmarks.start

Cold: with empty caches of arrays and compiled programs, as on the first day. Warm: with those of an earlier start. The data
are the embedded digits, so that reading them counts for little.
"""

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from experiments.benchmarks import report
from experiments.benchmarks.measurement import Measured, Turn, Watch, in_turns
from experiments.benchmarks.networks import NETWORKS
from experiments.benchmarks.training_run import TrainingRun

# A warm start's seconds, at most.
TARGETS: Mapping[str, float] = {"lenet5": 3.0, "resnet18": 5.0}


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


def compare(network: str, rounds: int) -> tuple[dict[str, Measured], list[str]]:
    """Cold and warm starts in turns, and what failed."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        turns = {"cold": partial(start, network, None), "warm": partial(start, network, Path(folder))}
        _, failures = in_turns({"warm": turns["warm"]}, 1, lambda line: report.progress(f"{network}: fills its caches"))
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
        rows.append(
            [network, *(report.cell(measured.get(name), 1.0) for name in ("cold", "warm")), f"{TARGETS[network]:.0f}"]
        )
        results.append({"network": network, **{name: of_one.as_dict() for name, of_one in measured.items()}})
        failures += failed
        everything += measured.values()
    title = "From the command to the end of the first step, s"
    columns = ["network", "cold", "warm", "warm, at most"]
    table = report.Table(title, columns, rows, [report.foreign_note(everything)])
    report.finish(options, "Starts", [table], results, failures)


if __name__ == "__main__":
    main()
