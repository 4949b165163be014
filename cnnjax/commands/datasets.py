"""`cnnjax datasets`: lists the data sets and what it takes to use each here."""

import argparse

from cnnjax.core.terminal import print_table, say

HELP = "the data sets and what it takes to use each here"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: `datasets` takes no arguments."""


def run(options: argparse.Namespace) -> None:
    """Prints the table of the data sets."""
    from cnnjax.data.catalogue import CATALOGUE, availability

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
    say("Also: any TFDS image classification set by its name, a folder or a table (.csv, .parquet) by its path.")
