"""`cnnjax find-lr`: runs a learning-rate range test and draws it."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from cnnjax.commands.arguments import add_config, add_json, exploration_folder
from cnnjax.core.terminal import say

HELP = "find the learning rates at which the loss falls and diverges"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `find-lr`."""
    add_config(parser)
    add_json(parser)
    parser.add_argument("--lowest", type=float, default=1e-6, help="learning rate of the first step (default: 1e-6)")
    parser.add_argument("--highest", type=float, default=10.0, help="learning rate of the last step (default: 10)")
    parser.add_argument("--steps", type=int, default=100, help="number of steps (default: 100)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the plot (default: exploration/<config name>/find-lr.png)"
    )


def run(options: argparse.Namespace) -> Any:
    """Prints the suggested learning rates and draws the loss over the rate."""
    from cnnjax import runs
    from cnnjax.analysis import pictures
    from cnnjax.config import load_config
    from cnnjax.core import files

    config = load_config(options.config, options.overrides)
    if options.out:
        files.check_writable(options.out, ".png")
    out = options.out or exploration_folder(options.config) / "find-lr.png"
    test = runs.find_learning_rate(config, options.lowest, options.highest, options.steps)
    out.parent.mkdir(parents=True, exist_ok=True)
    pictures.save(pictures.plot_rate_test(test), out)
    if options.json:
        return {**dataclasses.asdict(test), "plot": out}
    say(
        f"loss {test.smoothed[0]:.4f} at {test.rates[0]:.2g}, minimum {min(test.smoothed):.4f}, "
        f"{test.smoothed[-1]:.4f} at {test.rates[-1]:.2g} ({len(test.rates)} steps)\n"
        f"steepest fall at {test.steepest:.2g}; a tenth of the rate at the minimum: {test.suggestion:.2g}\n"
        f"plot: {out}"
    )
