"""`cnnjax index`: stores the features of images, so that similar images can be found."""

import argparse
from pathlib import Path

from cnnjax.commands import next_steps
from cnnjax.commands.arguments import add_skip_unreadable
from cnnjax.core.terminal import say

HELP = "store the features of images, for `cnnjax similar`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `index`."""
    parser.add_argument("workdir", type=Path, metavar="RUN", help="the run directory")
    parser.add_argument(
        "source", metavar="FOLDER|SPLIT", help="a folder of images, or a split of the run's data: train, valid or test"
    )
    parser.add_argument(
        "--layer", metavar="PATH", help="the layer whose output is used (default: the input of the last layer)"
    )
    parser.add_argument(
        "--metric",
        default="cosine",
        choices=["cosine", "euclidean"],
        help="the similarity of features (default: cosine)",
    )
    parser.add_argument(
        "--approximate",
        action="store_true",
        help="for millions of images: an approximate but fast search (needs faiss)",
    )
    add_skip_unreadable(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("index.npz"), metavar="FILE", help="the index (default: index.npz)"
    )
    parser.epilog = "Then: cnnjax similar INDEX IMAGE"


def run(options: argparse.Namespace) -> None:
    """Writes the index and prints the next command."""
    from cnnjax.analysis import retrieval
    from cnnjax.core import files

    files.check_writable(options.out, ".npz")
    index = retrieval.build_index(
        options.workdir, options.source, options.layer, options.metric, options.approximate, options.skip_unreadable
    )
    retrieval.save_index(index, options.out)
    if index.skipped:
        say(f"cnnjax: {retrieval.skipped_line(index.skipped, len(index) + len(index.skipped))}", error=True)
    say(
        f"{len(index)} images with {index.features.shape[1]} features each: {options.out}\n"
        f"next: {next_steps.command('similar', options.out)} IMAGE"
    )
