"""`cnnjax import-weights`: makes a run of a torchvision network's weights."""

import argparse
from pathlib import Path

from cnnjax.commands import next_steps
from cnnjax.commands.arguments import accept_overrides, add_workdir
from cnnjax.core.terminal import say

HELP = "make a run of a torchvision network's weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `import-weights` takes."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="a state dict: .safetensors, .npz, or .pth with PyTorch"
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="torchvision's name, such as resnet50")
    add_workdir(parser, "the run directory to make", required=True)
    parser.add_argument("--labels", type=Path, metavar="FILE", help="the classes' names, one a line, in order")
    accept_overrides(parser)
    parser.epilog = "Other preprocessing than torchvision's first weights had: --config.dataset.resize='(232, 232)'."


def run(options: argparse.Namespace) -> None:
    """Makes the run, and prints the next command to give."""
    from cnnjax import runs

    names = options.labels.read_text(encoding="utf-8").splitlines() if options.labels else None
    made = runs.import_weights(options.file, options.model, options.workdir, names, options.overrides)
    say(
        f"{options.model}: {len(made.label_names)} classes, images of {'x'.join(map(str, made.described['image_shape']))}\n"
        f"next: {next_steps.predict_command(options.workdir, made.config.dataset.name)}"
    )
