"""`cnnjax import-weights`: makes a run from the weights of a network of torchvision or Keras."""

import argparse
from pathlib import Path

from cnnjax.commands import completion, next_steps
from cnnjax.commands.arguments import accept_overrides, add_workdir
from cnnjax.core.terminal import say

HELP = "make a run from weights of torchvision or Keras"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `import-weights`."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a state dict (.safetensors, .npz, .pth), torchvision or torchvision:IMAGENET1K_V2, which is downloaded, or Keras's "
        "weights (.h5)",
    )
    argument = parser.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help="the network's name in torchvision, such as resnet50, or in Keras: ResNet50",
    )
    argument.completer = completion.imported_names
    add_workdir(parser, "the run directory to make", required=True)
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="a file with the names of the classes in order, one per line"
    )
    accept_overrides(parser)
    parser.epilog = "For a file of other weights than torchvision's first: --config.dataset.resize='(232, 232)'."


def run(options: argparse.Namespace) -> None:
    """Makes the run and prints the next command."""
    from cnnjax import runs

    names = options.labels.read_text(encoding="utf-8").splitlines() if options.labels else None
    made = runs.import_weights(options.file, options.model, options.workdir, names, options.overrides)
    say(
        f"{options.model}: {len(made.label_names)} classes, images of {'x'.join(map(str, made.described['image_shape']))}\n"
        f"next: {next_steps.predict_command(options.workdir, made.config.dataset.name)}"
    )
