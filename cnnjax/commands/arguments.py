"""Arguments that several commands share, and their defaults."""

import argparse
import re
from pathlib import Path
from typing import Any

from cnnjax.commands import completion


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that every command has."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Adds --json to a command whose `run` returns what it would print, as `cli` prints it in JSON."""
    parser.add_argument("--json", action="store_true", help="print JSON, and messages to the error stream")


def add_config(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Adds --config, and accepts --config.section.field=value."""
    argument = parser.add_argument(
        "--config",
        required=required,
        metavar="FILE",
        help="a config file (or FILE:ARGUMENT), or the name of a config that comes with cnnjax",
    )
    argument.completer = completion.config_names
    accept_overrides(parser)


def accept_overrides(parser: argparse.ArgumentParser) -> None:
    """Accepts --config.section.field=value; `options.overrides` is then {"section.field": value}."""
    parser.set_defaults(overrides={})
    for name in completion.asked_fields():
        parser.add_argument(f"--config.{name}")


def add_workdir(parser: argparse.ArgumentParser, help: str = "the run directory", **settings: Any) -> None:
    """Adds --workdir, with further settings of `add_argument`."""
    parser.add_argument("--workdir", type=Path, metavar="DIR", help=help, **settings)


def add_skip_unreadable(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that skips image files that cannot be read."""
    parser.add_argument("--skip-unreadable", action="store_true", help="skip files that cannot be read")


def image_shape(text: str) -> tuple[int, ...]:
    """The shape of an image, written as height,width,channels."""
    sides = tuple(int(side) for side in text.split(",") if side) if text.replace(",", "").isdigit() else ()
    if not 2 <= len(sides) <= 4 or min(sides) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected height,width,channels, such as 224,224,3, or one spatial axis less or more"
        )
    return sides


def field_name(text: str) -> str:
    """The name of a config field, which may be written with hyphens on the command line.

    >>> field_name("train.batch-size")
    'train.batch_size'
    """
    return text.replace("-", "_")


def exploration_folder(source: str) -> Path:
    """The default output folder of explorations, one for each config, data set or folder of images."""
    path = Path(source.split(":")[0]).expanduser()
    if path.suffix in (".py", ".json"):
        name = path.resolve().parent.name if path.name == "config.json" else path.stem
    else:
        name = path.resolve().name if path.is_dir() else re.sub("[/:]", "_", source)
    return Path("exploration") / name
