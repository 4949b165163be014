"""`cnnjax fields`: lists the fields of a config."""

import argparse

from cnnjax.commands.arguments import field_name
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


def run(options: argparse.Namespace) -> None:
    """Prints the table of the fields."""
    from cnnjax.config import describe_options

    rows = [(path, repr(default), meaning) for path, default, meaning in describe_options(options.section)]
    print_table(("field", "default", "meaning"), rows)
