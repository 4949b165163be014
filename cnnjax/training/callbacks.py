"""Callbacks: functions that are called with an event of the training, on the first process.

    def stop_when_good(event):
        if event.kind == "epoch" and event.line.get("valid/accuracy", 0) > 0.99:
            raise KeyboardInterrupt

    cnnjax.train("quickstart", callbacks=[stop_when_good])

An exception stops the run. The run is saved, and the same command resumes it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Event:
    """An event of a training.

    Attributes:
      kind: the kind of event: "begin" before the first step of this start; "step" every `log.every_steps` steps within an
        epoch; "epoch" after the epoch's line was written and its checkpoint saved; "saved" after a checkpoint was saved; "end"
        after the test line was written.
      workdir: the run directory.
      config: the resolved config.
      step: the number of steps done so far.
      line: the line of `metrics.jsonl` that was written: for an epoch, a step's last batch, or the test; otherwise {}.
      history: the lines of the epochs so far.
    """

    kind: Literal["begin", "step", "epoch", "saved", "end"]
    workdir: Path
    config: ConfigDict
    step: int
    line: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()


Callback = Callable[[Event], None]
