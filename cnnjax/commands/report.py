"""`cnnjax report`: writes a page on one run, or one that compares several."""

import argparse
from pathlib import Path

from cnnjax.core.terminal import say

HELP = "a page on what one run or several learned and where they fail"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `report` takes."""
    parser.add_argument("workdir", nargs="+", type=Path, metavar="RUN", help="one or more run directories")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the page, .html (default: RUN/report/index.html; of several runs, comparison/index.html)",
    )
    parser.add_argument(
        "--examples", type=int, default=10_000, metavar="N", help="of the test split, its first (default: 10000)"
    )
    parser.epilog = (
        "One file without the network's help: curves, diagnosis, confusion matrix, calibration, mistakes, filters, feature\n"
        "maps, saliency, embedding, config. Its figures and report.md lie beside it."
    )


def run(options: argparse.Namespace) -> None:
    """Writes the page, and prints where it is and what is missing in it."""
    from cnnjax.report.report import write_report

    written = write_report(options.workdir, options.out, options.examples)
    for sentence in written.missing:
        say(f"missing: {sentence}")
    say(f"report: {written.page}\nMarkdown and figures: {written.folder}")
