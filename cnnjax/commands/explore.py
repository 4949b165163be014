"""`cnnjax explore`: describes a data set before anything is trained on it."""

import argparse
import sys
from pathlib import Path

from cnnjax.commands.arguments import accept_overrides, exploration_folder
from cnnjax.core.terminal import print_table, say

HELP = "explore a data set: balance, statistics, examples, duplicates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `explore`."""
    parser.add_argument(
        "config",
        metavar="DATASET|FOLDER|CONFIG",
        help="a data set of `cnnjax datasets`, a folder of images, or a config",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the page (default: exploration/<name>)")
    accept_overrides(parser)
    parser.epilog = (
        "Config fields can be set, such as --config.dataset.resize='(64, 64)' for images of different sizes."
    )


def run(options: argparse.Namespace) -> None:
    """Prints the tables and writes the page."""
    from cnnjax.core import files
    from cnnjax.report import exploration, exploration_page

    if options.out and options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out {options.out} is a file: expected a folder")
    found = exploration.explore_source(options.config, options.overrides)
    for title, table in exploration_page.tables(found).values():
        say(f"{title}:" if sys.stdout.isatty() else f"# {title}")
        print_table(table.columns, table.rows)
        say()
    out = options.out or exploration_folder(options.config)
    out.mkdir(parents=True, exist_ok=True)
    files.write_atomically(out / "index.html", exploration_page.as_page(found))
    say(f"page: {out / 'index.html'}")
