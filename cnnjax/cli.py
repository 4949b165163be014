"""The command line: lists the commands, parses the words, and says in one line what was wrong."""

import argparse
import importlib
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from cnnjax import __version__
from cnnjax.commands.arguments import add_debug, field_name
from cnnjax.core import runtime
from cnnjax.core.terminal import say

# The commands by group, as `cnnjax` lists them. Each is a file of its name (with underscores) in cnnjax/commands/.
COMMANDS = {
    "train and use": ("train", "evaluate", "predict", "import-weights"),
    "compare": ("ablate", "search"),
    "look inside": ("diagnose", "summary", "index", "similar", "animate", "report"),
    "before training": ("find-lr", "preview", "explore", "datasets"),
    "what there is": ("models", "fields", "doctor"),
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 when it did what was asked, 1 with one line on what was wrong, 2 for usage."""
    words = _spelled(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser(words[0] if words else None)
    options, rest = parser.parse_known_args(words)
    if "run" not in options:
        if rest:
            parser.error(f"unrecognized argument: {rest[0]}")
        parser.print_help()
        sys.exit(0)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of an encoding that lacks some letters, as a pipe's on Windows
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if not options.debug:
        # Orbax and TFDS log what they raise, tracebacks and all; after a failed write asyncio and TensorStore complain too.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        sys.unraisablehook = lambda _: None
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")  # it compiles, then
    # Outside the training loop, which has its own way, SIGTERM ends a command as SIGINT does: tidily.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        options.overrides = _overrides(rest, parser, allowed="overrides" in options)
        runtime.configure_runtime()
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt as stop:
        if options.debug:
            raise
        _fail(str(stop) or "interrupted", 128 + getattr(stop, "number", signal.SIGINT))
    except Exception as error:
        if options.debug:
            raise
        _fail(_one_line(error), 1)
    sys.exit(0)


def _spelled(arguments: Sequence[str]) -> list[str]:
    """Flags in one spelling: hyphens, but in the names of config fields, which are Python's. Either is accepted in both.

    >>> _spelled(["--skip_unreadable", "--config.train.batch-size=8", "--vary=a_b", "my-run", "--", "--a_b"])
    ['--skip-unreadable', '--config.train.batch_size=8', '--vary=a_b', 'my-run', '--', '--a_b']
    """
    words = list(arguments)
    flags = words.index("--") if "--" in words else len(words)
    for place, word in enumerate(words[:flags]):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = field_name(name) if name.startswith("config.") else name.replace("_", "-")
            words[place] = f"--{name}{equals}{value}"
    return words


def _terminate(number: int, frame: Any) -> NoReturn:
    stop = KeyboardInterrupt("terminated")
    stop.number = number
    raise stop


def _fail(message: str, code: int) -> NoReturn:
    say(f"cnnjax: {message}", error=True)
    sys.exit(code)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    expected = ValueError, TypeError, OSError, RuntimeError, FloatingPointError
    if isinstance(error, expected) and type(error).__module__ in (
        "builtins",
        "cnnjax.core.files",
        "cnnjax.training.checkpoints",
    ):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text[:400]} (--debug shows where)"


def _listed() -> str:
    """The commands with what they do, by group."""
    import textwrap

    blocks = []
    for title, names in COMMANDS.items():
        lines = [
            textwrap.fill(_command(name).HELP, 80, initial_indent=f"  {name:<16}", subsequent_indent=" " * 18)
            for name in names
        ]
        blocks.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join([*blocks, "`cnnjax COMMAND --help` has what each can be told."])


def _command(name: str) -> ModuleType:
    """The file of a command, imported."""
    return importlib.import_module(f"cnnjax.commands.{name.replace('-', '_')}")


def build_parser(first: str | None) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
      first: the first word of the command line. Where it is a command, the others' files are not imported: they are added
        by name only.
    """
    parser = argparse.ArgumentParser(
        prog="cnnjax",
        usage="cnnjax [-h] [--version] COMMAND ...",
        description="Convolutional image models in JAX and Flax: train, compare, predict.\n"
        "The first to try: cnnjax train --config quickstart",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cnnjax {__version__}")
    commands = parser.add_subparsers(prog="cnnjax", metavar="COMMAND", help=argparse.SUPPRESS)
    names = [name for group in COMMANDS.values() for name in group]
    for name in names:
        added = commands.add_parser(name, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == first or first not in names:
            command = _command(name)
            added.description = command.HELP
            added.set_defaults(run=command.run)
            add_debug(added)
            command.add_arguments(added)
    if first not in names:
        parser.epilog = _listed()
    return parser


def _overrides(rest: Sequence[str], parser: argparse.ArgumentParser, allowed: bool) -> dict[str, Any]:
    """{"section.field": value} from what argparse did not know: --config.section.field=value."""
    overrides, words = {}, iter(rest)
    for word in words:
        if not (allowed and word.startswith("--config.")):
            parser.error(f"unrecognized argument: {word}")
        path, equals, text = word.removeprefix("--config.").partition("=")
        if not equals:
            text = next(words, None)
            if text is None:
                parser.error(f"{word} needs a value: {word}=VALUE")
        from cnnjax.config import parse_value

        overrides[path] = parse_value(text)
    return overrides
