"""Timing of several processes against each other, in turns.

In every round each process runs for about the same time while all others sleep, in a random order. A turn during
which something else used the processor is repeated, up to `ATTEMPTS` times, and the least disturbed attempt counts.
Reports of a round include its remaining disturbance.
"""

import contextlib
import dataclasses
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).parents[2]
# The share of the processors' time used by other processes from which a turn is repeated, and the number of attempts.
FOREIGN_LIMIT, ATTEMPTS = 0.05, 3
TURN_SECONDS = 0.7
# The warm-up before measurements, whichever limit comes first: the allocator of a process that trains a large network gets new
# memory from the system for a dozen steps, which made VGG16's steps take 3.0 s instead of 1.3.
WARM_UP_STEPS, WARM_UP_SECONDS = 20, 40.0
# The pause between two turns, after which threads have stopped waiting actively for more work.
PAUSE_SECONDS = 0.05
# The compilation of a large network takes minutes.
ANSWER_SECONDS = 1800.0

# A function that is called with a line of progress.
Progress = Callable[[str], None]


class ProcessError(RuntimeError):
    """A timed process failed, ended or fell silent; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """One measurement.

    Attributes:
      seconds: the seconds for one step, epoch or start.
      foreign: the share of the processors' time used by other processes; None if it cannot be measured.
      memory_bytes: the process's peak resident memory so far, if it is known.
      device_bytes: the accelerator's peak memory, if there is one.
    """

    seconds: float
    foreign: float | None
    memory_bytes: int | None = None
    device_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Measured:
    """All turns of one thing.

    Attributes:
      turns: one a round.
      steps_a_turn: how many steps each was the mean of.
      first_call_seconds: the first step's time, with its compilation, where there is one.
      device: that it ran on.
    """

    turns: Sequence[Turn]
    steps_a_turn: int = 1
    first_call_seconds: float | None = None
    device: str | None = None

    @property
    def median(self) -> float:
        """Of the turns' seconds."""
        return float(np.median([turn.seconds for turn in self.turns]))

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper one of the turns' seconds."""
        low, high = np.percentile([turn.seconds for turn in self.turns], (25, 75))
        return float(low), float(high)

    @property
    def peak_bytes(self) -> int | None:
        """Of the accelerator's memory, or else of the process's resident memory, where it is known."""
        last = self.turns[-1]
        return last.device_bytes or last.memory_bytes

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"median_seconds": self.median, "quartiles_seconds": self.quartiles, **dataclasses.asdict(self)}


class Process(contextlib.AbstractContextManager["Process"]):
    """A process that writes lines; it is killed at the end of the `with` block.

    Args:
      name: for errors.
      command: what to run, in the repository's folder.
      environment: changes to this process's; None removes a variable.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str | None]):
        changed = {**os.environ, **environment}
        self._name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (`__exit__` closes it)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env={key: value for key, value in changed.items() if value is not None},
        )
        self._unread = b""
        # Where memory runs out, let it end this process rather than another.
        with contextlib.suppress(OSError):
            Path(f"/proc/{self.pid}/oom_score_adj").write_text("1000", encoding="utf-8")

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def write(self, line: str) -> None:
        """Writes a line to its input; that it has ended shows when its answer is read."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def read(self, timeout_seconds: float = ANSWER_SECONDS) -> str:
        """The next line it writes.

        Raises:
          ProcessError: it ended, or wrote none in that time.
        """
        output, deadline = self._process.stdout, time.monotonic() + timeout_seconds
        while b"\n" not in self._unread:
            ready, _, _ = select.select([output], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise ProcessError(f"{self._name}: no answer in {timeout_seconds:.0f} s{self._last_words()}")
            received = os.read(output.fileno(), 65536)
            if not received:
                raise ProcessError(f"{self._name}: {_ending(self._process.wait())}{self._last_words()}")
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def _last_words(self) -> str:
        # Not `seek`: the process writes at the same position.
        size = os.fstat(self._errors.fileno()).st_size
        text = os.pread(self._errors.fileno(), 4096, max(size - 4096, 0)).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f" ({lines[-1][:300]})" if lines else ""

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit status {code}"
    name = signal.Signals(-code).name
    return f"was ended by {name}" + (": is there enough memory?" if name == "SIGKILL" else "")


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker is to time.

    Attributes:
      factory: "module:function", which makes a `Subject`.
      arguments: of the function.
      before: "module:function", called before the factory's module is imported.
      environment: changes to it; None removes a variable.
      python: the interpreter; None is this process's.
    """

    factory: str
    arguments: Mapping[str, Any]
    before: str | None = None
    environment: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    python: str | None = None


class Worker(Process):
    """A process that makes a subject and runs its tasks when told to, and sleeps in between.

    Raises:
      ProcessError: the subject could not be made.
    """

    def __init__(self, name: str, job: Job):
        python = job.python or sys.executable
        super().__init__(name, [python, "-m", "experiments.benchmarks.worker"], job.environment)
        try:
            self.facts = self._ask({"before": job.before, "factory": job.factory, "arguments": job.arguments})
        except BaseException:
            self.__exit__()
            raise

    def run(self, task: str, times: int, untimed: int = 1) -> Turn:
        """Runs a task a number of times; the turn's seconds are of one.

        Args:
          task: of the subject.
          times: at least 1.
          untimed: as many before, so that what the operating system took while the worker slept is back.

        Raises:
          ProcessError: it failed.
        """
        watch = Watch(self.pid)
        answer = self._ask({"task": task, "times": times, "untimed": untimed})
        return Turn(
            answer["seconds"] / times, watch.turn(self.pid).foreign, answer["memory_bytes"], answer["device_bytes"]
        )

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.write(json.dumps(request))
        answer = json.loads(self.read())
        if "error" in answer:
            raise ProcessError(f"{self._name}: {answer['error']}")
        return answer


class Watch:
    """Times what a process does from here on.

    Args:
      pid: of the process; None is one that is about to be started.
    """

    def __init__(self, pid: int | None):
        self._before, self._start = _processor_seconds(pid), time.perf_counter()

    def turn(self, pid: int) -> Turn:
        """What was measured until now."""
        seconds = time.perf_counter() - self._start
        return Turn(seconds, foreign_share(self._before, _processor_seconds(pid)))


@dataclasses.dataclass(frozen=True)
class ProcessorSeconds:
    """Clock time, and what the processors have been doing so far, all in seconds."""

    clock: float
    idle: float
    own: float
    processors: int


def process_tree(pid: int) -> list[psutil.Process]:
    """A process, its children, and theirs."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _processor_seconds(pid: int | None) -> ProcessorSeconds | None:
    """Those of the processors this process may use, and the part of a process and its children; None where there is no /proc."""
    try:
        processors = os.sched_getaffinity(0)
        clock, tick = time.perf_counter(), os.sysconf("SC_CLK_TCK")
        lines = [line.split() for line in Path("/proc/stat").read_text(encoding="utf-8").splitlines()]
        own = sum(_own_ticks(process.pid) for process in process_tree(pid)) if pid else 0
    except (AttributeError, OSError, psutil.Error):
        return None
    idle = sum(int(line[4]) + int(line[5]) for line in lines if line[0] in {f"cpu{number}" for number in processors})
    return ProcessorSeconds(clock, idle / tick, own / tick, len(processors))


def _own_ticks(pid: int) -> int:
    """User and system time of a process's threads, and of its children that have ended; 0 where it has ended itself."""
    try:
        counters = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except FileNotFoundError:
        return 0
    return sum(map(int, counters[11:15]))


def foreign_share(before: ProcessorSeconds | None, after: ProcessorSeconds | None) -> float | None:
    """The share of the processors' time that was neither idle nor the process's own; other virtual machines' counts."""
    if before is None or after is None:
        return None
    available = (after.clock - before.clock) * after.processors
    busy = available - (after.idle - before.idle)
    return min(max((busy - (after.own - before.own)) / available, 0.0), 1.0)


def undisturbed(turn: Callable[[], Turn]) -> Turn:
    """The turn, taken again while it is disturbed; of the attempts the least disturbed."""
    attempts = []
    while len(attempts) < ATTEMPTS:
        time.sleep(PAUSE_SECONDS * 4 ** len(attempts))
        attempts.append(turn())
        if (attempts[-1].foreign or 0) <= FOREIGN_LIMIT:
            break
    return min(attempts, key=lambda attempt: attempt.foreign or 0)


def warm_up(run: Callable[[int], Turn]) -> None:
    """Runs steps until times are those of a long training."""
    start, steps = time.perf_counter(), 0
    while steps < WARM_UP_STEPS and time.perf_counter() - start < WARM_UP_SECONDS:
        run(1)
        steps += 1


def steps_for(run: Callable[[int], Turn], seconds: float) -> int:
    """The number of steps that take about a number of seconds.

    Args:
      run: a number of steps -> the turn, whose seconds are of one.
      seconds: of a turn.
    """
    steps = 1
    while (taken := steps * run(steps).seconds) < seconds / 4:
        steps *= 4
    return max(round(steps * seconds / taken), 1)


def in_turns(
    turns: Mapping[str, Callable[[], Turn]], rounds: int, progress: Progress
) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    """Takes rounds of turns, each round in a random order.

    Args:
      turns: the functions that take one turn, by name.
      rounds: the number of rounds.
      progress: a function that is called with a line of progress.

    Returns:
      The turns by name, and the errors of those that failed, which have no turns.
    """
    taken: dict[str, list[Turn]] = {name: [] for name in turns}
    failures: dict[str, str] = {}
    for number in range(rounds):
        progress(f"round {number + 1}/{rounds}")
        for name in random.Random(number).sample(list(taken), len(taken)):
            try:
                taken[name].append(undisturbed(turns[name]))
            except ProcessError as error:
                failures[name] = str(error)
                del taken[name]
    return taken, failures


def started(
    stack: contextlib.ExitStack, jobs: Mapping[str, Job], progress: Progress
) -> tuple[dict[str, Worker], dict[str, str]]:
    """A worker for each job, which ends with the stack; and why those that failed did."""
    workers: dict[str, Worker] = {}
    failures: dict[str, str] = {}
    for name, job in jobs.items():
        progress(f"{name} starts")
        try:
            workers[name] = stack.enter_context(Worker(name, job))
        except ProcessError as error:
            failures[name] = str(error)
    return workers, failures


def timed(
    workers: Mapping[str, Worker], task: str, rounds: int, progress: Progress
) -> tuple[dict[str, Measured], dict[str, str]]:
    """What the workers need for a step of one of their tasks; and why those that failed did."""
    first: dict[str, Turn] = {}
    steps: dict[str, int] = {}
    failures: dict[str, str] = {}
    for name, worker in workers.items():
        progress(f"{name} compiles and warms up")
        try:
            first[name] = worker.run(task, 1, untimed=0)
            warm_up(partial(worker.run, task, untimed=0))
            steps[name] = steps_for(partial(worker.run, task), TURN_SECONDS)
        except ProcessError as error:
            failures[name] = str(error)
    taken, failed = in_turns(
        {name: partial(workers[name].run, task, times) for name, times in steps.items()}, rounds, progress
    )
    measured = {
        name: Measured(turns, steps[name], first[name].seconds, workers[name].facts["device"])
        for name, turns in taken.items()
    }
    return measured, failures | failed
