"""`cnnjax train` itself, in a process of its own, watched from outside."""

import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.core import files
from experiments.benchmarks.measurement import Process, Turn, Watch

# Both caches of arrays and of compiled programs are below it; what the user set for the latter would be another.
_CACHES = {"CNNJAX_RUNTIME": "1", "JAX_COMPILATION_CACHE_DIR": None}


class TrainingRun(Process):
    """`cnnjax train`, in a directory of its own.

    Args:
      name: for errors.
      config: as a config file returns it, without its progress.
      workdir: for the config and the run; made if absent.
      caches: of arrays and compiled programs; None is the user's.
    """

    def __init__(self, name: str, config: Mapping[str, Any], workdir: Path, caches: Path | None = None):
        workdir.mkdir(parents=True, exist_ok=True)
        file = workdir / "config.json"
        files.write_json(file, {**config, "log": {"progress": "lines"}})
        command = [sys.executable, "-m", "cnnjax", "train", "--config", str(file), "--workdir", str(workdir / "run")]
        super().__init__(name, command, {**_CACHES, **({"CNNJAX_CACHE_DIR": str(caches)} if caches else {})})
        self.run_directory = workdir / "run"

    def wait_for(self, beginning: str) -> None:
        """Returns when it has written a line whose beginning matches a regular expression.

        Raises:
          ProcessError: it ended before.
        """
        while not re.match(beginning, self.read()):
            pass

    def epoch(self) -> Turn:
        """Lets it train until an epoch's line is written, then stops it where it stands.

        From one epoch's line to the next are a checkpoint, an epoch's steps, their metrics and an evaluation.

        Raises:
          ProcessError: it ended before.
        """
        watch = Watch(self.pid)
        os.kill(self.pid, signal.SIGCONT)
        self.wait_for(r" *\d+/\d+ ")
        turn = watch.turn(self.pid)
        os.kill(self.pid, signal.SIGSTOP)
        return turn
