"""`cnnjax ablate`: trains variants of a config with several seeds and compares them."""

import argparse

from cnnjax.commands.arguments import add_config, field_name
from cnnjax.commands.studies import add_study_arguments, assigned_field, named_once, run_study

HELP = "train variants of a config with several seeds: a table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `ablate` takes."""
    add_config(parser)
    parser.add_argument(
        "--vary",
        type=assigned_field,
        action="append",
        default=[],
        metavar="FIELD=VALUE,VALUE...",
        help="a field and its values",
    )
    parser.add_argument(
        "--seed-fields",
        type=lambda text: tuple(field_name(text).split(",")),
        default=("seed",),
        metavar="FIELD,FIELD...",
        help="the fields that a seed is put into (default: seed)",
    )
    parser.add_argument(
        "--baseline", metavar="VARIANT", help="the variant the others are compared with (default: the first)"
    )
    add_study_arguments(parser, "ablation", "test")
    parser.epilog = (
        "Give the same command again to resume, or to see the table; start it several times with one --workdir and the\n"
        "processes share the trials. --vary may be given several times: every combination is trained. A config file's own\n"
        "get_hyper(hyper) or sweep(add) is run where --vary is not given."
    )


def run(options: argparse.Namespace) -> None:
    """Trains every combination of the values, or the config file's own sweep where none are given."""
    from cnnjax.ablation import study, sweeps
    from cnnjax.ablation.spaces import parse_axis
    from cnnjax.config import load_config

    config = load_config(options.config, options.overrides)
    axes, swept_seeds = named_once("--vary", map(parse_axis, options.vary)), None
    if not axes and (variants := sweeps.read_sweep(options.config)):
        axes, swept_seeds = sweeps.split_seeds(variants)
    seeds = next(seeds for seeds in (options.seeds, swept_seeds, 1) if seeds is not None)
    run_study(options, study.ablate, config, axes, seeds, baseline=options.baseline, seed_fields=options.seed_fields)
