"""Callbacks: functions of an event of training, called on the first process.

    def stop_when_good(event):
        if event.kind == "epoch" and event.line.get("valid/accuracy", 0) > 0.99:
            raise KeyboardInterrupt

    cnnjax.train("quickstart", callbacks=[stop_when_good])

An exception stops the run, which is saved: the same command resumes it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Event:
    """A moment of training.

    Attributes:
      kind: "begin", before the first step of this start; "step", every `log.every_steps` within an epoch; "epoch", its
        line written and its checkpoint saved; "saved", a checkpoint; "end", the test's line written.
      workdir: the run directory.
      config: the resolved config.
      step: the steps done so far.
      line: what was measured, as `metrics.jsonl` has it: of an epoch, a step's last batch, the test; {} otherwise.
      history: the lines of the epochs so far.
    """

    kind: Literal["begin", "step", "epoch", "saved", "end"]
    workdir: Path
    config: ConfigDict
    step: int
    line: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()


Callback = Callable[[Event], None]
