"""The process in which one thing is timed: `python -m experiments.benchmarks.worker`, started by `measurement.Worker`.

It reads a line of JSON, answers with one, and sleeps until the next:

    {"before": "module:function" or null, "factory": "module:function", "arguments": {...}}
        calls `before`, then makes the subject -> {"parameters": n, "device": "..."}
    {"task": name, "times": n, "untimed": m}
        -> {"seconds": s, "memory_bytes": peak resident memory so far, "device_bytes": an accelerator's or null}

What fails is answered by {"error": one line}.
"""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    """Answers until its input ends."""
    # Answers go where standard output went; what libraries print goes with the errors.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    subject = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "factory" in request:
                subject = _make(request)
                answer = {"parameters": subject.parameters, "device": subject.device}
            else:
                answer = _timed(subject, request["task"], request["times"], request["untimed"])
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"}
        print(json.dumps(answer), file=answers, flush=True)


def _make(job: dict[str, Any]) -> Any:
    if job["before"]:
        _named(job["before"])()
    return _named(job["factory"])(**job["arguments"])


def _named(name: str) -> Callable[..., Any]:
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)


def _timed(subject: Any, task: str, times: int, untimed: int) -> dict[str, Any]:
    if untimed:
        subject.tasks[task](untimed)
    start = time.perf_counter()
    subject.tasks[task](times)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory_bytes": peak_memory(), "device_bytes": subject.device_memory()}


def peak_memory() -> int:
    """The most memory this process has had resident, in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):  # not Linux; macOS counts in bytes, others in KiB
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if sys.platform == "darwin" else 1024 * used


if __name__ == "__main__":
    main()
