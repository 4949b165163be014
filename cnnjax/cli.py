"""The command line: lists the commands, parses the arguments, and reports errors in one line."""

import argparse
import contextlib
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
from cnnjax.commands import completion
from cnnjax.commands.arguments import add_debug, field_name
from cnnjax.core import runtime
from cnnjax.core.terminal import print_json, say

# The commands by group, as `cnnjax` lists them. Each has a file in cnnjax/commands/.
COMMANDS = {
    "train and use": ("train", "evaluate", "predict", "export", "import-weights"),
    "compare": ("ablate", "search"),
    "look inside": ("diagnose", "summary", "index", "similar", "style", "animate", "report"),
    "before training": ("find-lr", "preview", "explore", "datasets", "compile"),
    "information": ("models", "fields", "doctor"),
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and exits: with 0 on success, with 1 and a one-line message on an error, with 2 on wrong usage."""
    if "_ARGCOMPLETE" in os.environ:  # a shell asks how the line can be continued
        completion.complete(build_parser((os.environ.get("COMP_LINE", "").split()[1:2] or [None])[0]))
    words = _spelled(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser(words[0] if words else None)
    names = [name for group in COMMANDS.values() for name in group]
    if words and not words[0].startswith("-") and words[0] not in names:
        from cnnjax.core.options import unknown

        parser.error(unknown("command", words[0], names))
    options, rest = parser.parse_known_args(words)
    if "run" not in options:
        if rest:
            parser.error(f"unrecognized argument: {rest[0]}")
        parser.print_help()
        sys.exit(0)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # its encoding may lack characters, as for a pipe on Windows
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if not options.debug:
        # Orbax and TFDS log their exceptions with tracebacks; after a failed write, asyncio and TensorStore log errors too.
        for name in ("absl", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        sys.unraisablehook = lambda _: None
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")  # JAX then compiles
    # Outside the training loop, which handles signals itself, SIGTERM ends a command cleanly, like SIGINT.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        options.overrides = _overrides(rest, parser, allowed="overrides" in options)
        runtime.configure_runtime()
        if options.json:
            with contextlib.redirect_stdout(sys.stderr):  # messages and progress
                found = options.run(options)
            print_json(found)
        else:
            options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has exited, such as `head`
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
    """Normalises the spelling of flags: hyphens in flags, underscores in config fields; both are accepted in both.

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
    """The help texts of the commands, by group."""
    import textwrap

    blocks = []
    for title, names in COMMANDS.items():
        lines = [
            textwrap.fill(_command(name).HELP, 80, initial_indent=f"  {name:<16}", subsequent_indent=" " * 18)
            for name in names
        ]
        blocks.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join([*blocks, "`cnnjax COMMAND --help` lists the options of a command."])


def _command(name: str) -> ModuleType:
    """Imports the file of a command."""
    return importlib.import_module(f"cnnjax.commands.{name.replace('-', '_')}")


def build_parser(first: str | None) -> argparse.ArgumentParser:
    """Builds the parser of the command line.

    Args:
      first: the first word of the command line. If it is a command, the files of other commands are not imported, and only
        their names are added.
    """
    parser = argparse.ArgumentParser(
        prog="cnnjax",
        usage="cnnjax [-h] [--version] COMMAND ...",
        description="Convolutional image models in JAX and Flax: train, compare, predict.\n"
        "To start: cnnjax train --config quickstart",
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
            added.set_defaults(run=command.run, json=False)
            add_debug(added)
            command.add_arguments(added)
    if first not in names:
        parser.epilog = _listed()
    return parser


def _overrides(rest: Sequence[str], parser: argparse.ArgumentParser, allowed: bool) -> dict[str, Any]:
    """Parses --config.section.field=value among the arguments that argparse did not know, to {"section.field": value}."""
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
