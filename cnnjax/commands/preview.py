"""`cnnjax preview`: draws training images as the network sees them."""

import argparse
from pathlib import Path

from cnnjax.commands.arguments import add_config, exploration_folder
from cnnjax.core.terminal import say

HELP = "draw training images as the network sees them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `preview`."""
    add_config(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the picture (default: exploration/<config name>/preview.png)"
    )


def run(options: argparse.Namespace) -> None:
    """Writes the picture."""
    from cnnjax.analysis import pictures
    from cnnjax.config import load_config
    from cnnjax.core import files
    from cnnjax.report.preview import preview

    config = load_config(options.config, options.overrides)
    if options.out:
        files.check_writable(options.out, ".png")
    out = options.out or exploration_folder(options.config) / "preview.png"
    figure = preview(config)
    out.parent.mkdir(parents=True, exist_ok=True)
    pictures.save(figure, out)
    say(f"picture: {out}")
