"""`cnnjax style`: gives a picture the style of another."""

import argparse
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnjax.commands.arguments import add_workdir
from cnnjax.core.terminal import say

if TYPE_CHECKING:
    from PIL import Image

HELP = "give a picture the style of another (Gatys et al., 2016)"

UNTRAINED = (
    "{network} without weights: its untrained filters respond to colours and textures of a few pixels, not to objects. Raise "
    "--style-weight (to about 1e6). --weights FILE gives ImageNet's weights, --workdir any trained run."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `style`: the pictures, the network, and the fields of `StyleOptions` as flags."""
    parser.add_argument("content", type=Path, metavar="CONTENT", help="the picture whose content is kept")
    parser.add_argument("style", type=Path, metavar="STYLE", help="the picture whose style is transferred")
    parser.add_argument(
        "--network", metavar="NAME", help="a network of `cnnjax models`, untrained; with --weights torchvision's name"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="torchvision's weights of the network")
    add_workdir(parser, "a trained run, instead of --network")
    parser.add_argument(
        "--out", type=Path, default=Path("style.png"), metavar="FILE", help="the result (default: style.png)"
    )
    parser.add_argument("--film", type=Path, metavar="FILE", help="also write a GIF of the changing picture")
    parser.add_argument("--size", type=int, default=256, metavar="N", help="pixels of the longer side (default: 256)")
    parser.add_argument(
        "--style-size", type=int, metavar="N", help="pixels of the style picture's longer side (default: as --size)"
    )
    settings = parser.add_argument_group("settings of `cnnjax.analysis.style.StyleOptions`")
    layers: dict[str, Any] = {"type": lambda text: tuple(text.split(",")), "metavar": "LAYER,..."}
    settings.add_argument(
        "--content-layers",
        help="content layers (default: conv4_2 of VGG-19, the corresponding layer of others)",
        **layers,
    )
    settings.add_argument("--style-layers", help="style layers (default: conv1_1 to conv5_1 of VGG-19)", **layers)
    settings.add_argument("--content-weight", type=float, metavar="X", help="weight of the content (default: 1)")
    settings.add_argument("--style-weight", type=float, metavar="X", help="weight of the style (default: 1000)")
    settings.add_argument(
        "--total-variation-weight", type=float, metavar="X", help="weight of a smoothness penalty (default: 0)"
    )
    settings.add_argument("--optimizer", choices=["lbfgs", "adam"], help="default: lbfgs; adam needs less memory")
    settings.add_argument("--learning-rate", type=float, metavar="X", help="learning rate of Adam (default: 0.02)")
    settings.add_argument("--steps", type=int, metavar="N", help="steps of the optimizer (default: 200)")
    settings.add_argument("--start", choices=["content", "noise"], help="the first picture (default: content)")
    settings.add_argument(
        "--pooling",
        choices=["average", "max"],
        help="the pooling that replaces the network's max-pooling (default: average)",
    )
    settings.add_argument("--every", type=int, metavar="N", help="steps between pictures of progress (default: 50)")
    settings.add_argument(
        "--seed", type=int, metavar="N", help="the seed of the noise, and of untrained weights (default: 0)"
    )


def run(options: argparse.Namespace) -> None:
    """Writes the picture after the first steps and at intervals, and prints the losses."""
    from PIL import Image

    from cnnjax.analysis import animations
    from cnnjax.analysis.style import Losses, StyleOptions, transfer_style
    from cnnjax.core import files
    from cnnjax.core.options import declared

    files.check_writable(options.out, ".png")
    if options.film:
        files.check_writable(options.film, ".gif")
    names = [name for name in declared(StyleOptions) if getattr(options, name) is not None]
    settings = {name: getattr(options, name) for name in names}
    steps = StyleOptions(**settings).steps
    content = _read(options.content, options.size)
    style = _read(options.style, options.style_size or options.size)
    source = _source(options)
    frames, begin = [content], time.perf_counter()

    def progress(step: int, pixels: Any, losses: Losses) -> None:
        frames.append(Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).convert("RGB"))
        buffer = io.BytesIO()
        frames[-1].save(buffer, "PNG")
        files.write_atomically(options.out, buffer.getvalue())
        say(
            f"step {step} of {steps}: loss {losses.total:.4g} (content {losses.content:.4g}, style {losses.style:.4g}), "
            f"{time.perf_counter() - begin:.0f} s"
        )

    transfer_style(source, content, style, progress=progress, **settings)
    if options.film:
        animations.save_gif(frames, options.film)
        say(f"film: {options.film}")
    say(f"picture: {options.out}, {content.width}x{content.height} pixels")


def _read(path: Path, size: int) -> "Image.Image":
    """A picture, resized so that its longer side has `size` pixels."""
    from cnnjax.analysis.style import as_rgb

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    if size < 1:
        raise ValueError(f"--size {size}: expected a number of pixels above 0")
    picture = as_rgb(path.read_bytes(), str(path))
    scale = size / max(picture.size)
    return picture.resize([max(round(side * scale), 1) for side in picture.size])


def _source(options: argparse.Namespace) -> Any:
    """The run, or the network with its weights or with untrained ones."""
    from cnnjax import runs
    from cnnjax.transfer.torchvision import load_torchvision

    if (options.network is None) == (options.workdir is None):
        raise ValueError("style: expected one of --network NAME and --workdir RUN")
    if options.workdir:
        if options.weights:
            raise ValueError("--weights: the run has its own: leave out --weights, or give --network for --workdir")
        return runs.load_run(options.workdir)
    if options.weights:
        return load_torchvision(options.network, options.weights)
    say(UNTRAINED.format(network=options.network))
    return _untrained(options.network, options.seed or 0)


def _untrained(network: str, seed: int) -> Any:
    import jax
    import numpy as np

    from cnnjax.models import create_model, find_model

    published = find_model(network)
    model = create_model(network, published.num_classes)
    return model, jax.jit(model.init)(jax.random.key(seed), np.zeros((1, *published.image_shape), np.float32))
