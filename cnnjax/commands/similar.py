"""`cnnjax similar`: finds the images of an index that are most similar to a query."""

import argparse
from pathlib import Path

from cnnjax.commands.arguments import add_workdir
from cnnjax.core.terminal import print_table, say

HELP = "the images of an index that are most similar to one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `similar` takes."""
    parser.add_argument("index", type=Path, metavar="INDEX", help="what `cnnjax index` wrote")
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the query")
    parser.add_argument("--topk", type=int, metavar="K", help="how many to show (default: 10, or all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also draw them there, .png")
    add_workdir(parser, "where the run is, if it was moved")
    parser.add_argument(
        "--trusted",
        action="store_true",
        help="read the run and the images wherever the index says; otherwise only in its own folder",
    )


def run(options: argparse.Namespace) -> None:
    """Prints the most similar images, the nearest first, and draws them where that is asked for."""
    from cnnjax import runs
    from cnnjax.analysis import pictures, retrieval
    from cnnjax.core import files

    if options.out:
        files.check_writable(options.out, ".png")
    index = retrieval.load_index(options.index, options.trusted)
    loaded = runs.load_run(options.workdir) if options.workdir else retrieval.index_run(index)
    found = retrieval.similar(index, options.image, options.topk, loaded)
    rows = [(rank, f"{item.distance:z.4f}", item.label, item.name) for rank, item in enumerate(found, start=1)]
    print_table(("", f"{index.metric} distance", "class", "image"), rows)
    if options.out:
        pictures.save(retrieval.plot_similar(index, options.image, found, loaded), options.out)
        say(f"picture: {options.out}")
