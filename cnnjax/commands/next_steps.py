"""Formats the next commands that a command suggests, quoted for the shell."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any


def command(*words: Any) -> str:
    """A cnnjax command as one line, quoted for the shell."""
    return " ".join([_program(), *(shlex.quote(str(word)) for word in words)])


def predict_command(workdir: Path, dataset: str) -> str:
    """The command that predicts a sample image, or "IMAGE..." if the data set comes without one.

    Args:
      workdir: the run directory.
      dataset: the name of the run's data set.
    """
    from cnnjax.data.catalogue import sample_image

    path = sample_image(dataset)
    if path is None:
        return f"{command('predict', '--workdir', workdir)} IMAGE...  # files or folders of your own"
    near = path.is_relative_to(Path.cwd())
    return command("predict", "--workdir", workdir, path.relative_to(Path.cwd()) if near else path)


def _program() -> str:
    """The program that starts cnnjax: its name if that is on the PATH, else the way it was started now."""
    started, here = Path(sys.argv[0]), shutil.which("cnnjax")
    if here and Path(here).parent.samefile(Path(sys.executable).parent):
        return "cnnjax"
    if started.parts[-2:] == ("cnnjax", "__main__.py"):  # python -m cnnjax
        return f"{shlex.quote(sys.executable)} -m cnnjax"
    return shlex.quote(str(started)) if started.stem == "cnnjax" else "cnnjax"
