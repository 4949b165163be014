"""`cnnjax datasets`: lists the data sets and whether each is available on this machine."""

import argparse
import dataclasses
from typing import Any

from cnnjax.commands.arguments import add_json
from cnnjax.core.terminal import print_table, say

HELP = "list the data sets and whether each is available here"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `datasets`."""
    add_json(parser)


def run(options: argparse.Namespace) -> Any:
    """Prints the table of data sets."""
    from cnnjax.data.catalogue import CATALOGUE, availability

    if options.json:
        return [
            {"data_set": name, **dataclasses.asdict(entry), "here": availability(name)}
            for name, entry in CATALOGUE.items()
        ]
    rows = [
        (
            name,
            f"{entry.train:,}",
            f"{entry.test:,}" if entry.test else "-",
            entry.classes,
            "x".join(map(str, entry.shape)) if entry.shape else "varying",
            availability(name),
            entry.note,
        )
        for name, entry in CATALOGUE.items()
    ]
    columns = "data set", "train", "test", "classes", "image", "here", "note"
    print_table(columns, rows, least=("note", "image"))
    say("You can also name any TFDS image classification set, a folder, or a table (.csv, .parquet).")
