"""`cnnjax similar`: finds the images of an index that are most similar to a query."""

import argparse
from pathlib import Path
from typing import Any

from cnnjax.commands.arguments import add_json, add_workdir
from cnnjax.core.terminal import print_table, say

HELP = "find the images of an index that are most similar to one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `similar`."""
    parser.add_argument("index", type=Path, metavar="INDEX", help="an index file written by `cnnjax index`")
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the query image")
    parser.add_argument("--topk", type=int, metavar="K", help="number of images to show (default: 10, or all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also draw the images to a .png file")
    add_json(parser)
    add_workdir(parser, "the run directory, if it was moved")
    parser.add_argument(
        "--trusted",
        action="store_true",
        help="read the run and the images from any path in the index, not only from the index's own folder",
    )


def run(options: argparse.Namespace) -> Any:
    """Prints the most similar images, the nearest first, and draws them if requested."""
    from cnnjax import runs
    from cnnjax.analysis import pictures, retrieval
    from cnnjax.core import files

    if options.out:
        files.check_writable(options.out, ".png")
    index = retrieval.load_index(options.index, options.trusted)
    loaded = runs.load_run(options.workdir) if options.workdir else retrieval.index_run(index)
    found = retrieval.similar(index, options.image, options.topk, loaded)
    if options.out:
        pictures.save(retrieval.plot_similar(index, options.image, found, loaded), options.out)
    if options.json:
        return [
            {"rank": rank, "distance": item.distance, "metric": index.metric, "class": item.label, "image": item.name}
            for rank, item in enumerate(found, start=1)
        ]
    rows = [(rank, f"{item.distance:z.4f}", item.label, item.name) for rank, item in enumerate(found, start=1)]
    print_table(("", f"{index.metric} distance", "class", "image"), rows)
    if options.out:
        say(f"picture: {options.out}")
