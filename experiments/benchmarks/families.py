"""Every family of networks, and networks drawn by a seed, against plain Flax and PyTorch.

    python -m experiments.benchmarks.families --results runs/families [--seed 1] [--drawn 10]

For each network a training step of cnnjax, plain Flax and each way to run PyTorch, in turns. A row holds if cnnjax's time is at most
1.10 times the fastest PyTorch's and at most plain Flax's; the whole holds if every row does and the geometric mean of the ratios to
PyTorch is at most 0.90. Rows are judged by the medians of the rounds' ratios; an interval is the bootstrap's, of 95 %. Each row is
written to a file when it is measured, so that an interrupted run resumes; networks that are drawn show how the choice of operations
does on those it was not made for.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float

from cnnjax.core import files
from experiments.benchmarks import report
from experiments.benchmarks.networks import NETWORKS, network_of
from experiments.benchmarks.train_step import USUAL_MODES, compare, installed

# The bounds of a row's ratios and of the geometric mean.
AGAINST_PYTORCH, AGAINST_FLAX, MEAN_AGAINST_PYTORCH = 1.10, 1.0, 0.90


def ratios(row: Mapping[str, Any], others: Sequence[str]) -> Float[np.ndarray, "round"]:
    """cnnjax's time over that of the others' fastest by its median, round by round."""
    seconds = {mode: np.array([turn["seconds"] for turn in row["modes"][mode]["turns"]]) for mode in row["modes"]}
    fastest = min((mode for mode in others if mode in seconds), key=lambda mode: np.median(seconds[mode]))
    return seconds["cnnjax"] / seconds[fastest]


def interval(values: Float[np.ndarray, "round"], samples: int = 2000) -> tuple[float, float]:
    """The bootstrap's 95 % interval of the median."""
    drawn = np.random.default_rng(0).choice(values, (samples, len(values)))
    low, high = np.percentile(np.median(drawn, 1), (2.5, 97.5))
    return float(low), float(high)


def judged(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's ratio to the fastest PyTorch and to plain Flax, each with its interval, and the bounds it misses."""
    found: dict[str, Any] = {"misses": []}
    for name, modes, bound in (
        ("pytorch", [mode for mode in row["modes"] if mode.startswith("torch")], AGAINST_PYTORCH),
        ("flax", ["flax"], AGAINST_FLAX),
    ):
        if any(mode in row["modes"] for mode in modes):
            values = ratios(row, modes)
            low, high = interval(values)
            found[name] = {"ratio": float(np.median(values)), "interval": [low, high]}
            found["misses"] += [f"{name} > {bound:.2f}"] * (low > bound)
    return found


def geometric_mean(values: Sequence[float]) -> float:
    """The nth root of the product of n values."""
    return math.exp(sum(map(math.log, values)) / len(values))


def table(rows: Sequence[Mapping[str, Any]]) -> report.Table:
    """A line for each row, and the geometric means below."""
    lines, means = [], {"pytorch": [], "flax": []}
    for row in rows:
        found, options = judged(row), network_of(row["network"])
        size = "x".join(map(str, options.image_shape))
        name = options.options.get("plan") or row["network"]
        cells = [f"{name}, {size}, {row['images']}", report.digits(1e3 * row["modes"]["cnnjax"]["median_seconds"])]
        for other in means:
            part = found.get(other)
            cells.append(
                f"{part['ratio']:.2f} ({part['interval'][0]:.2f} to {part['interval'][1]:.2f})" if part else ""
            )
            means[other] += [part["ratio"]] if part else []
        lines.append([*cells, ", ".join(found["misses"])])
    notes = [
        f"Geometric mean of cnnjax / {other}: {geometric_mean(values):.3f}."
        for other, values in means.items()
        if values
    ]
    columns = ("network, image, batch", "cnnjax, ms", "cnnjax / fastest PyTorch", "cnnjax / plain Flax", "misses")
    return report.Table("A training step; ratios of medians, 95 % intervals", columns, lines, notes)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Measures what is not measured yet, and shows the table."""
    parser = report.parser(__doc__.splitlines()[0], rounds=5)
    parser.add_argument("--results", type=Path, required=True, metavar="FOLDER", help="where each row is written")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn networks (default: 0)")
    parser.add_argument("--drawn", type=int, default=10, help="how many networks are drawn (default: 10)")
    report.add_networks(parser, tuple(NETWORKS))
    options = report.parse(parser, arguments)
    modes = [mode for mode in installed(USUAL_MODES["cpu"]) if mode != "keras"]
    names = [*options.networks, *(f"drawn-{options.seed}-{number}" for number in range(options.drawn))]
    rows, failures = [], []
    try:
        for name in names:
            path = options.results / f"{name}.json"
            if not path.exists():
                (result,) = compare(name, "train", ["train"], "float32", modes, options.rounds)
                report.note(result.in_short())
                failures += [f"{name}: {failure}" for failure in result.failures.values()]
                if "cnnjax" not in result.modes:
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                files.write_json(path, result.as_dict())
            rows.append(json.loads(path.read_text(encoding="utf-8")))
    except report.Interrupted:
        failures.append("interrupted: these are not all; the same command resumes")
    if not rows:
        raise SystemExit("; ".join(failures))
    missed = [f"{row['network']}: {', '.join(misses)}" for row in rows if (misses := judged(row)["misses"])]
    means = [found["pytorch"]["ratio"] for row in rows if "pytorch" in (found := judged(row))]
    if means and (mean := geometric_mean(means)) > MEAN_AGAINST_PYTORCH:
        missed.append(f"geometric mean of cnnjax / PyTorch {mean:.3f} > {MEAN_AGAINST_PYTORCH}")
    report.finish(options, "Families of networks", [table(rows)], rows, [*failures, *missed])


if __name__ == "__main__":
    main()
