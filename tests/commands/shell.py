"""Commands run as a shell runs them: in this process, which is left as it was, or in one of their own."""

import contextlib
import logging
import signal
import sys

import pytest

from cnnjax import cli

COMMAND = [sys.executable, "-m", "cnnjax"]
# A run of one short epoch, whose evaluations are one program.
QUICK = [
    f"--config.{field}" for field in ("train.epochs=1", "evaluate.batch_size=72", "log.tensorboard=False", "devices=1")
]


@contextlib.contextmanager
def process_as_it_was():
    """Undoes what a command sets up in its process."""
    handler, hook = signal.getsignal(signal.SIGTERM), sys.unraisablehook
    levels = {name: logging.getLogger(name).level for name in ("absl", "asyncio")}
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        sys.unraisablehook = hook
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def run(capsys, *arguments):
    """(exit code, output lines, error lines) of a command run in this process."""
    with process_as_it_was(), pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return caught.value.code, captured.out.splitlines(), captured.err.splitlines()
