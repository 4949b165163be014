"""`cnnjax fields`: lists the fields of a config."""

import argparse
from typing import Any

from cnnjax.commands.arguments import add_config, add_json, field_name
from cnnjax.core.terminal import print_table, say

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
    parser.add_argument(
        "--all", action="store_true", help="list the fields of every component, not the default ones' alone"
    )
    add_config(parser, required=False)
    add_json(parser)
    parser.epilog = (
        "With --config, only the fields of its components (also of your own) are listed, with the values that it sets."
    )


def run(options: argparse.Namespace) -> Any:
    """Prints the table of fields."""
    from cnnjax.config import COMPONENTS, describe_options, load_config

    if options.config is None and options.overrides:
        raise ValueError("--config.SECTION.FIELD=VALUE needs --config FILE")
    config = None if options.config is None else load_config(options.config, options.overrides)
    value_name = "default" if config is None else "value"
    short = options.section is None and config is None and not options.all
    found = describe_options(options.section, load_config({}) if short else config)
    if short:  # of each section the default component's fields alone
        choices = {f"{section}.name": describe_options(f"{section}.name")[0] for section in COMPONENTS}
        found = [choices.get(row[0], row) for row in found]
    if options.json:
        return [{"field": path, value_name: value, "meaning": meaning} for path, value, meaning in found]
    print_table(("field", value_name, "meaning"), [(path, repr(value), meaning) for path, value, meaning in found])
    if short:
        say(
            f"Other components have other fields: `cnnjax fields SECTION` ({', '.join(COMPONENTS)}), or --all.",
            error=True,
        )
