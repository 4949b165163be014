"""The commands that a command prints as the next to give: as this shell starts cnnjax, quoted as it needs them."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any


def command(*words: Any) -> str:
    """A command of cnnjax in one line that this shell understands."""
    return " ".join([_program(), *(shlex.quote(str(word)) for word in words)])


def predict_command(workdir: Path, dataset: str) -> str:
    """The command that predicts the class of a sample image.

    Args:
      workdir: the run directory.
      dataset: the name of the run's data set. Where no sample comes with it, a word stands for the user's own images.
    """
    from cnnjax.data.catalogue import sample_image

    path = sample_image(dataset)
    if path is None:
        return f"{command('predict', '--workdir', workdir)} IMAGE...  # files or folders of your own"
    near = path.is_relative_to(Path.cwd())
    return command("predict", "--workdir", workdir, path.relative_to(Path.cwd()) if near else path)


def _program() -> str:
    """What starts cnnjax again: its name where that is on the PATH, else what started it now."""
    started, here = Path(sys.argv[0]), shutil.which("cnnjax")
    if here and Path(here).parent.samefile(Path(sys.executable).parent):
        return "cnnjax"
    if started.parts[-2:] == ("cnnjax", "__main__.py"):  # python -m cnnjax
        return f"{shlex.quote(sys.executable)} -m cnnjax"
    return shlex.quote(str(started)) if started.stem == "cnnjax" else "cnnjax"
