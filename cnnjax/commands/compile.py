"""`cnnjax compile`: compiles a config for devices that are not here."""

import argparse
from typing import Any

from cnnjax.commands import completion
from cnnjax.commands.arguments import accept_overrides, add_json, image_shape
from cnnjax.core.terminal import print_table, say

HELP = "compile for GPUs and TPUs that are not here"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `compile`."""
    argument = parser.add_argument(
        "config", metavar="CONFIG", help="a config file, or the name of a config that comes with cnnjax"
    )
    argument.completer = completion.config_names
    parser.add_argument(
        "--for",
        dest="targets",
        action="append",
        required=True,
        metavar="TARGET",
        help="tpu:CHIP:SLICE (v4, v5e, v5p, v6e; 2x4, or a number of chips) or cuda:CHIP:COUNT (a100, h100, h200, b200); repeatable",
    )
    parser.add_argument(
        "--input",
        type=image_shape,
        metavar="H,W,C",
        help="shape of a stored image (default: the data set's, from the catalogue)",
    )
    parser.add_argument("--classes", type=int, metavar="N", help="number of classes (default: the data set's)")
    choices = parser.add_mutually_exclusive_group()
    choices.add_argument(
        "--largest-batch", action="store_true", help="also look for the largest training batch that fits"
    )
    choices.add_argument(
        "--table",
        action="store_true",
        help="one row each for 1, 4, 16, 64 and 256 chips, each with the images it has on TARGET",
    )
    add_json(parser)
    accept_overrides(parser)
    parser.epilog = (
        "Neither data nor a network is needed. The time is a lower bound from published figures, never a measurement."
    )


def run(options: argparse.Namespace) -> Any:
    """Compiles for each target and prints its figures."""
    from cnnjax.ahead import targets
    from cnnjax.ahead.compilation import compile_for, scaling, scaling_table
    from cnnjax.config import load_config

    config = load_config(options.config, options.overrides)
    wanted = [targets.parse(text) for text in options.targets]
    for target in wanted:
        targets.check_compiler(target)
    found = {}
    for target in wanted:
        say(f"compiling for {target} ...", error=True)
        if options.table:
            compiled = scaling(config, target, options.input, options.classes)
            found[str(target)] = {str(one.target): one.as_dict() for one in compiled}
            if not options.json:
                print_table(*scaling_table(compiled))
        else:
            one = compile_for(config, target, options.input, options.classes, options.largest_batch)
            found[str(target)] = one.as_dict()
            if not options.json:
                say(one.title)
                print_table(["each device", "train", "predict"], one.rows())
        if not options.json:
            say(f"figures of {target.chip.title}: {target.chip.source}")
    if not options.json:
        say("Times are lower bounds at these peak figures, not measurements.")
        return None
    return found if len(found) > 1 else next(iter(found.values()))
