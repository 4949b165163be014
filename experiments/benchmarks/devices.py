"""A training step of cnnjax on several devices: of a CPU, virtual ones that share its cores.

    python -m experiments.benchmarks.devices [--networks lenet5] [--devices 1,2,4]

The batch is the same for any number. Virtual devices make nothing faster: the ratio is what sharing a step costs.
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from experiments.benchmarks import report
from experiments.benchmarks.measurement import Job, Measured, started, timed
from experiments.benchmarks.networks import NETWORKS
from experiments.benchmarks.train_step import job

NAMES = ("1", "2", "4", "8")


def in_words(count: str) -> str:
    """So many devices."""
    return f"{count} device" + ("s" if count != "1" else "")


def compare(network: str, counts: Sequence[str], rounds: int) -> tuple[dict[str, Measured], list[str]]:
    """The step on each number of devices in turns, and what failed."""

    def say(line: str) -> None:
        report.progress(f"{network}: {line}")

    def on(count: str, caches: Path) -> Job:
        single = job("cnnjax", network, "train", "float32", caches)
        return dataclasses.replace(single, arguments={**single.arguments, "devices": int(count)})

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        jobs = {in_words(count): on(count, folder / count) for count in counts}
        workers, failures = started(stack, jobs, say)
        measured, failed = timed(workers, "train", rounds, say)
    return measured, [f"{network}: {line}" for line in (failures | failed).values()]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the comparison and shows its table."""
    parser = report.parser(__doc__.splitlines()[0], rounds=11)
    report.add_networks(parser, tuple(NETWORKS), ["lenet5", "resnet18"])
    parser.add_argument(
        "--devices", type=report.names_of("number of devices", NAMES), default=["1", "2", "4"], metavar="N,...",
        help="how many (default: 1,2,4)",
    )  # fmt: skip
    options = report.parse(parser, arguments)
    names = [in_words(count) for count in options.devices]
    rows, results, failures, everything = [], [], [], []
    for network in options.networks:
        measured, failed = compare(network, options.devices, options.rounds)
        found = [measured.get(name) for name in names]
        ratios = [report.ratio(other, found[:1]) for other in found[1:]]
        rows.append([network, *(report.cell(one, 1e-3) for one in found), *ratios])
        results.append({"network": network, **{name: of_one.as_dict() for name, of_one in measured.items()}})
        failures += failed
        everything += measured.values()
    columns = ["network", *names, *(f"{name} / {names[0]}" for name in names[1:])]
    table = report.Table("A training step, ms", columns, rows, [report.foreign_note(everything)])
    report.finish(options, "Several devices", [table], results, failures)


if __name__ == "__main__":
    main()
