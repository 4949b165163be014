"""`cnnjax report`: writes a page about one run, or a page that compares several runs."""

import argparse
from pathlib import Path

from cnnjax.core.terminal import say

HELP = "report what runs have learned and where they fail"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `report`."""
    parser.add_argument("workdir", nargs="+", type=Path, metavar="RUN", help="one or more run directories")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the page, .html (default: RUN/report/index.html; for several runs comparison/index.html)",
    )
    parser.add_argument(
        "--examples", type=int, default=10_000, metavar="N", help="number of test examples to analyse (default: 10000)"
    )
    parser.epilog = (
        "The page is one self-contained file: curves, diagnosis, confusion matrix, calibration, mistakes, filters, feature\n"
        "maps, saliency, embedding, config. Its figures and report.md are written next to it."
    )


def run(options: argparse.Namespace) -> None:
    """Writes the page, and prints its location and its missing parts."""
    from cnnjax.report.report import write_report

    written = write_report(options.workdir, options.out, options.examples)
    for sentence in written.missing:
        say(f"missing: {sentence}")
    say(f"report: {written.page}\nMarkdown and figures: {written.folder}")
