"""Several seeds of one network: a training step of each, one after the other, and all in one program by `vmap`.

python -m experiments.benchmarks.seeds [--networks lenet5] [--seeds 8]
"""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from experiments.benchmarks import report
from experiments.benchmarks.measurement import Job, Measured, started, timed
from experiments.benchmarks.networks import NETWORKS
from experiments.benchmarks.train_step import job


def compare(network: str, seeds: int, rounds: int) -> tuple[dict[str, Measured], list[str]]:
    """One seed, and several by each strategy, in turns; and what failed."""

    def say(line: str) -> None:
        report.progress(f"{network}: {line}")

    def training(seeds: int, strategy: str, caches: Path) -> Job:
        like = job("cnnjax", network, "train", "float32", caches)
        arguments = {"network": network, "seeds": seeds, "strategy": strategy}
        return Job("experiments.benchmarks.ours:several_seeds", arguments, like.before, like.environment)

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        jobs = {
            "one": training(1, "serial", folder / "one"),
            "serial": training(seeds, "serial", folder / "serial"),
            "vmap": training(seeds, "vmap", folder / "vmap"),
        }
        workers, failures = started(stack, jobs, say)
        measured, failed = timed(workers, "train", rounds, say)
    return measured, [f"{network}: {line}" for line in (failures | failed).values()]


def table(found: Sequence[tuple[str, Mapping[str, Measured], int]]) -> report.Table:
    """A row for each network, its measurements as `compare` returns them, and its number of seeds."""
    rows = []
    for network, measured, count in found:
        one, serial, vmap = (measured.get(name) for name in ("one", "serial", "vmap"))
        cells = [report.cell(times, 1e-3) for times in (one, serial, vmap)]
        rows.append([network, str(count), *cells, report.ratio(serial, [one]), report.ratio(vmap, [one])])
    columns = ["network", "seeds", "one seed", "all, serial", "all, by vmap", "serial / one", "vmap / one"]
    everything = [times for _, measured, _ in found for times in measured.values()]
    return report.Table("A training step of each seed, ms", columns, rows, [report.foreign_note(everything)])


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the comparison and shows its table."""
    parser = report.parser(__doc__.splitlines()[0], rounds=11)
    report.add_networks(parser, tuple(NETWORKS), ["lenet5", "mnist_cnn"])
    parser.add_argument("--seeds", type=report.positive, default=8, metavar="K", help="how many (default: 8)")
    options = report.parse(parser, arguments)
    found, results, failures = [], [], []
    for network in options.networks:
        measured, failed = compare(network, options.seeds, options.rounds)
        found.append((network, measured, options.seeds))
        of_each = {name: of_one.as_dict() for name, of_one in measured.items()}
        results.append({"network": network, "seeds": options.seeds, **of_each})
        failures += failed
    report.finish(options, "Several seeds", [table(found)], results, failures)


if __name__ == "__main__":
    main()
