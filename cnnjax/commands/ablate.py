"""`cnnjax ablate`: trains variants of a config with several seeds and compares them."""

import argparse
from typing import Any

from cnnjax.commands.arguments import add_config, field_name
from cnnjax.commands.studies import add_study_arguments, assigned_field, named_once, run_study

HELP = "compare variants of a config over several seeds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `ablate`."""
    add_config(parser)
    parser.add_argument(
        "--vary",
        type=assigned_field,
        action="append",
        default=[],
        metavar="FIELD=VALUE,VALUE...",
        help="a config field and its values; several --vary are combined",
    )
    parser.add_argument(
        "--seed-fields",
        type=lambda text: tuple(field_name(text).split(",")),
        default=("seed",),
        metavar="FIELD,FIELD...",
        help="the fields that are set to the seed (default: seed)",
    )
    parser.add_argument(
        "--baseline", metavar="VARIANT", help="the variant that the others are compared with (default: the first)"
    )
    add_study_arguments(parser, "ablation", "test")
    parser.epilog = (
        "Run the same command again to resume a study or to print its table. Several processes with the same --workdir\n"
        "share the trials. With several --vary every combination is trained. Without --vary the variants are those of the\n"
        "config file's get_hyper(hyper) or sweep(add)."
    )


def run(options: argparse.Namespace) -> Any:
    """Trains every combination of the values, or the config file's own sweep."""
    from cnnjax.ablation import study, sweeps
    from cnnjax.ablation.spaces import parse_axis
    from cnnjax.config import load_config

    config = load_config(options.config, options.overrides)
    axes, swept_seeds = named_once("--vary", map(parse_axis, options.vary)), None
    if not axes and (variants := sweeps.read_sweep(options.config)):
        axes, swept_seeds = sweeps.split_seeds(variants)
    seeds = next(seeds for seeds in (options.seeds, swept_seeds, 1) if seeds is not None)
    return run_study(
        options, study.ablate, config, axes, seeds, baseline=options.baseline, seed_fields=options.seed_fields
    )
