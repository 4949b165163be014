"""`cnnjax animate`: draws a convolution, or a filter applied to an image, as an animation."""

import argparse
from pathlib import Path

from cnnjax.commands.arguments import add_debug
from cnnjax.core.terminal import say

HELP = "draw a GIF for teaching: a convolution or a filter"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `animate`: WHAT to draw, and the arguments of each animation."""
    animations = parser.add_subparsers(metavar="WHAT", required=True)
    convolution = animations.add_parser(
        "convolution", allow_abbrev=False, help="the window, sum and output of a convolution, or of a transposed one"
    )
    add_debug(convolution)
    convolution.add_argument("--input", type=int, required=True, metavar="N", help="height and width of the input")
    convolution.add_argument("--kernel", type=int, required=True, metavar="N", help="height and width of the kernel")
    convolution.add_argument("--stride", type=int, default=1, metavar="N", help="step of the window (default: 1)")
    convolution.add_argument("--padding", type=int, default=0, metavar="N", help="zeros on each side (default: 0)")
    convolution.add_argument(
        "--dilation", type=int, default=1, metavar="N", help="distance between the kernel's elements (default: 1)"
    )
    convolution.add_argument("--transposed", action="store_true", help="a transposed convolution")
    convolution.add_argument("--seed", type=int, default=0, help="the seed of the drawn numbers (default: 0)")
    _add_out(convolution, "convolution.gif")
    convolution.set_defaults(animate=_animate_convolution)

    filtered = animations.add_parser("filter", allow_abbrev=False, help="a classic filter applied to an image")
    add_debug(filtered)
    filtered.add_argument("name", metavar="NAME", help="the filter, such as sobel_horizontal")
    filtered.add_argument("image", type=Path, metavar="IMAGE", help="the image file")
    _add_out(filtered, "filter.gif")
    filtered.set_defaults(animate=_animate_filter)


def _add_out(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--out", type=Path, default=Path(name), metavar="FILE", help=f"the animation (default: {name})")


def run(options: argparse.Namespace) -> None:
    """Writes the animation."""
    from cnnjax.core import files

    files.check_writable(options.out, ".gif")
    options.animate(options)
    say(f"animation: {options.out}")


def _animate_convolution(options: argparse.Namespace) -> None:
    from cnnjax.analysis import animations

    numbers = options.input, options.kernel, options.stride, options.padding
    if options.transposed:
        if options.dilation != 1:
            raise ValueError("--dilation does not apply to a transposed convolution: leave it out")
        frames = animations.animate_transposed_convolution(*numbers, seed=options.seed)
    else:
        frames = animations.animate_convolution(*numbers, options.dilation, seed=options.seed)
    animations.save_gif(frames, options.out)


def _animate_filter(options: argparse.Namespace) -> None:
    from cnnjax.analysis import animations
    from cnnjax.data.transforms import read_image

    if not options.image.is_file():
        raise FileNotFoundError(f"{options.image} does not exist")
    animations.save_gif(animations.animate_filter(read_image(options.image), options.name), options.out, seconds=0.12)
