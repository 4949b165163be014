"""`cnnjax explore`: describes a data set before anything is trained on it."""

import argparse
import sys
from pathlib import Path
from typing import Any

from cnnjax.commands import completion
from cnnjax.commands.arguments import accept_overrides, add_json, exploration_folder
from cnnjax.core.terminal import print_table, say

HELP = "explore a data set: balance, statistics, examples, duplicates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `explore`."""
    argument = parser.add_argument(
        "config",
        metavar="DATASET|FOLDER|CONFIG",
        help="a data set of `cnnjax datasets`, a folder of images, or a config",
    )
    argument.completer = completion.explored_names
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the page (default: exploration/<name>)")
    accept_overrides(parser)
    add_json(parser)
    parser.epilog = (
        "Config fields can be set, such as --config.dataset.resize='(64, 64)' for images of different sizes."
    )


def run(options: argparse.Namespace) -> Any:
    """Prints the tables and writes the page."""
    from cnnjax.core import files
    from cnnjax.report import exploration, exploration_page

    if options.out and options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out {options.out} is a file: expected a folder")
    found = exploration.explore_source(options.config, options.overrides)
    if options.json:
        return {
            title: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
            for title, table in exploration_page.tables(found).values()
        }
    for title, table in exploration_page.tables(found).values():
        say(f"{title}:" if sys.stdout.isatty() else f"# {title}")
        print_table(table.columns, table.rows)
        say()
    out = options.out or exploration_folder(options.config)
    out.mkdir(parents=True, exist_ok=True)
    files.write_atomically(out / "index.html", exploration_page.as_page(found))
    say(f"page: {out / 'index.html'}")
