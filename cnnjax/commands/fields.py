"""`cnnjax fields`: lists the fields of a config."""

import argparse

from cnnjax.commands.arguments import add_config, field_name
from cnnjax.core.terminal import print_table

HELP = "list the fields of a config, with defaults and meanings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `fields`."""
    parser.add_argument(
        "section",
        type=field_name,
        nargs="?",
        metavar="SECTION",
        help="a section (optimizer), a component (optimizer.sgd), or a field",
    )
    add_config(parser, required=False)
    parser.epilog = (
        "With --config, only the fields of its components (also of your own) are listed, with the values that it sets."
    )


def run(options: argparse.Namespace) -> None:
    """Prints the table of fields."""
    from cnnjax.config import describe_options, load_config

    if options.config is None and options.overrides:
        raise ValueError("--config.SECTION.FIELD=VALUE needs --config FILE")
    config = None if options.config is None else load_config(options.config, options.overrides)
    rows = [(path, repr(value), meaning) for path, value, meaning in describe_options(options.section, config)]
    print_table(("field", "default" if config is None else "value", "meaning"), rows)
