"""`cnnjax fields`: lists the fields of a config."""

import argparse

from cnnjax.commands.arguments import add_config, field_name
from cnnjax.core.terminal import print_table

HELP = "the fields of a config: their defaults and meanings"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `fields` takes."""
    parser.add_argument(
        "section",
        type=field_name,
        nargs="?",
        metavar="SECTION",
        help="of a section (optimizer), a component (optimizer.sgd), or one field",
    )
    add_config(parser, required=False)
    parser.epilog = (
        "With --config, the fields of the components that it chooses, your own too, and the values that it sets."
    )


def run(options: argparse.Namespace) -> None:
    """Prints the table of the fields."""
    from cnnjax.config import describe_options, load_config

    if options.config is None and options.overrides:
        raise ValueError("--config.SECTION.FIELD=VALUE needs --config FILE")
    config = None if options.config is None else load_config(options.config, options.overrides)
    rows = [(path, repr(value), meaning) for path, value, meaning in describe_options(options.section, config)]
    print_table(("field", "default" if config is None else "value", "meaning"), rows)
