"""`cnnjax search`: searches a space of configs and ranks the points."""

import argparse
from typing import Any

from cnnjax.commands.arguments import add_config
from cnnjax.commands.studies import add_study_arguments, assigned_field, named_once, run_study

HELP = "search a space of configs for the best"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `search`."""
    add_config(parser)
    parser.add_argument(
        "--vary",
        type=assigned_field,
        action="append",
        required=True,
        metavar="FIELD=RANGE",
        help="a config field with its values or a range: uniform(A,B), log_uniform(A,B), whole(A,B)",
    )
    parser.add_argument("--method", default="random", metavar="NAME", help="the search method (default: random)")
    parser.add_argument(
        "--option",
        type=assigned_field,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method, such as stages=4",
    )
    parser.add_argument("--points", type=int, default=20, metavar="N", help="number of points to try (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the random points (default: 0)")
    add_study_arguments(parser, "search", "valid")
    parser.epilog = (
        "Methods: grid, random, halton, sobol, coarse_to_fine, halving, optuna. Run the same command again to resume.\n"
        "Several processes with the same --workdir share the trials."
    )


def run(options: argparse.Namespace) -> Any:
    """Tries the points and prints them, the best first."""
    from cnnjax.ablation.search import search
    from cnnjax.ablation.spaces import parse_range
    from cnnjax.config import load_config, parse_value

    config = load_config(options.config, options.overrides)
    pairs = [text.partition("=") for text in options.option]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f"--option {wrong[0]}: expected NAME=VALUE, such as stages=4")
    space = named_once("--vary", map(parse_range, options.vary))
    settings = named_once("--option", ((name, parse_value(text)) for name, _, text in pairs))
    seeds = 1 if options.seeds is None else options.seeds
    return run_study(
        options,
        search,
        config,
        space,
        seeds=seeds,
        method=options.method,
        points=options.points,
        seed=options.seed,
        **settings,
    )
