"""What a benchmark says: tables for people, JSON for programs, and on what machine it was."""

import argparse
import dataclasses
import datetime
import importlib.metadata
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table as RichTable

from cnnjax.core import files
from experiments.benchmarks.measurement import FOREIGN_LIMIT, Measured

PACKAGES = ("cnnjax", "jax", "jaxlib", "flax", "torch", "keras")


@dataclasses.dataclass(frozen=True)
class Table:
    """A title, columns, rows of text, and lines that stand below."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return "\n\n".join((f"## {self.title}", table, *self.notes))

    def show(self, console: Console) -> None:
        """Prints it."""
        table = RichTable(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        console.print(table, *self.notes, sep="\n", highlight=False)


def parser(description: str, rounds: int) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    made = argparse.ArgumentParser(description=description, allow_abbrev=False)
    made.add_argument(
        "--rounds", type=positive, default=rounds, metavar="N", help=f"turns each takes (default: {rounds})"
    )
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    made.add_argument(
        "--json", type=Path, metavar="FILE", help="write every round's figure, machine and versions there"
    )
    return made


class Interrupted(SystemExit):
    """Ctrl-C or SIGTERM came; it ends the program with one line, and every process that it started."""


def parse(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; from here on Ctrl-C and SIGTERM raise `Interrupted`."""

    def stop(number: int, frame: object) -> NoReturn:
        raise Interrupted("interrupted")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return made.parse_args(arguments)


def positive(text: str) -> int:
    """An option's type: a whole number of at least 1."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return int(text)


def names_of(kind: str, valid: Sequence[str]) -> Callable[[str], list[str]]:
    """An option's type: names from a list, with commas between them.

    >>> names_of("network", ["mlp", "lenet5"])("lenet5,mlp")
    ['lenet5', 'mlp']
    """

    def names(text: str) -> list[str]:
        given = [name.strip() for name in text.split(",")]
        for name in given:
            if name not in valid:
                raise argparse.ArgumentTypeError(f"unknown {kind} {name!r}: choose from {', '.join(valid)}")
        return given

    return names


def add_networks(parser: argparse.ArgumentParser, valid: Sequence[str], default: Sequence[str] = ()) -> None:
    """Adds `--networks`; all that are valid unless there is a default."""
    chosen = list(default or valid)
    parser.add_argument(
        "--networks",
        type=names_of("network", valid),
        default=chosen,
        metavar="NAME,...",
        help=f"{', '.join(valid)} (default: {'all' if chosen == list(valid) else ','.join(chosen)})",
    )


def progress(line: str) -> None:
    """Says what is going on, where a person watches: a line that the next one replaces."""
    console = Console(stderr=True)
    if console.is_terminal:
        console.print(f"\r\033[K{line}", end="", highlight=False)


def note(line: str) -> None:
    """A line that stays, beside the tables: of what is done, or left out."""
    progress("")
    print(line, file=sys.stderr, flush=True)


def finish(
    options: argparse.Namespace,
    title: str,
    tables: Sequence[Table],
    results: Sequence[Mapping[str, Any]],
    failures: Sequence[str],
) -> NoReturn:
    """Prints and writes what was measured, and ends the program: with status 1 where something failed."""
    progress("")
    console, where = Console(), machine()
    about = (
        f"{where['processor']}, {where['cores']} cores; python {where['python']}, "
        + ", ".join(f"{name} {version}" for name, version in where["packages"].items())
        + f"; {where['date']}; rounds: {options.rounds}."
    )
    for table in tables:
        table.show(console)
    console.print(about, *failures, sep="\n", highlight=False)
    if options.markdown:
        failed = [f"Failed: {line}" for line in failures]
        text = "\n\n".join([f"# {title}", about, *(table.markdown() for table in tables), *failed])
        files.write_atomically(options.markdown, text + "\n")
    if options.json:
        content = {"title": title, "machine": where, "results": list(results), "failures": list(failures)}
        files.write_json(options.json, content)
    raise SystemExit(1 if failures else 0)


def machine() -> dict[str, Any]:
    """Processor, cores, versions and today's date."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "date": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cell(measured: Measured | None, unit_seconds: float) -> str:
    """Median and quartiles: "4.52 (4.50 to 4.61)"."""
    if measured is None:
        return "failed"
    middle, low, high = (digits(value / unit_seconds) for value in (measured.median, *measured.quartiles))
    return f"{middle} ({low} to {high})"


def digits(value: float) -> str:
    """Three of them, or a whole number."""
    return f"{value:#.3g}" if value < 99.95 else f"{value:.0f}"


def ratio(measured: Measured | None, others: Sequence[Measured | None]) -> str:
    """A median over the smallest of the others': below 1 where it is the faster."""
    medians = [other.median for other in others if other]
    return f"{measured.median / min(medians):.2f}" if measured and medians else ""


def foreign_note(measured: Iterable[Measured]) -> str:
    """A line on what else the processors did during the turns that count."""
    shares = [turn.foreign for item in measured for turn in item.turns]
    if None in shares:
        return "Foreign load: cannot be seen on this system."
    disturbed = [share for share in shares if share > FOREIGN_LIMIT]
    if not disturbed:
        return f"Foreign load: at most {max(shares, default=0):.0%} in every turn."
    return (
        f"Foreign load: above {FOREIGN_LIMIT:.0%} in {len(disturbed)} of {len(shares)} turns, also when repeated; "
        f"at most {max(disturbed):.0%}. Measure again on a machine at rest."
    )
