"""Tables fitted to the width of a terminal, or complete and tab-separated where a program reads them.

Names of files and classes are untrusted: control characters in them are shown as escapes.
"""

import dataclasses
import json
import math
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

# Text is wrapped before a column is left out, but no column is made narrower than this.
TEXT = 20
GAP = 2
_NUMBER = r"[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?"
_FIGURE = re.compile(rf"{_NUMBER}( ± {_NUMBER})?( ?%| [A-Za-z]+| of \d+)?|\[{_NUMBER}, {_NUMBER}\]")


# Characters that change the direction of text: U+202A to U+202E, U+2066 to U+2069.
_DIRECTIONS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def printable(text: Any, keep: str = "") -> str:
    r"""Replaces control characters, and bytes that are not UTF-8, by escapes.

    Args:
      text: the text: a path, a class name, a message.
      keep: the control characters to keep.

    >>> print(printable("\x1b[31mred.png"), printable("two\nlines.png"))
    \x1b[31mred.png two\nlines.png
    """
    return "".join(char if char in keep else _escaped(char) for char in str(text))


def _escaped(char: str) -> str:
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:  # Python's representation of a byte that is not UTF-8
        return f"\\x{number - 0xDC00:02x}"
    if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or number in _DIRECTIONS:
        return char.encode("unicode_escape", "surrogatepass").decode("ascii")
    return char


def say(text: str = "", error: bool = False) -> None:
    """Prints a message of one or several lines and flushes the output."""
    print(printable(text, keep="\n\t"), file=sys.stderr if error else sys.stdout, flush=True)


def count_of(number: int, what: str) -> str:
    """A number of things in words.

    >>> count_of(1, "epoch"), count_of(1200, "image")
    ('1 epoch', '1,200 images')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time in words.

    >>> [duration(seconds) for seconds in (3.6, 75, 3700)]
    ['4 s', '1 min 15 s', '1 h 1 min']
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def print_json(value: Any) -> None:
    """Prints a value as JSON: NumPy's numbers and arrays as numbers and lists, paths as text, what is not finite as null.

    >>> print_json({"loss": float("nan"), "shape": (2, 3)})
    {
      "loss": null,
      "shape": [
        2,
        3
      ]
    }
    """
    print(json.dumps(_plain(value), indent=2, allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    import numpy as np

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], least: Sequence[str] = ()) -> None:
    """Prints a table and names the columns that did not fit on the terminal.

    Args:
      columns: the names of the columns.
      rows: the rows, with one cell per column.
      least: the columns to leave out first, in this order, before the others from right to left. The first column is
        always shown.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            print("\t".join(row).rstrip())
        return
    from rich.console import Console

    console = Console(highlight=False)
    table, left_out = fit_table(columns, rows, console.width, least)
    console.print(table)
    if left_out:
        console.print(f"no room for: {', '.join(left_out)} (a wider terminal shows all columns, as does `| cat`)")


def text_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """The lines of a table in plain text, each column as wide as its widest cell, numbers on the right.

    >>> text_table(["rate", "accuracy"], [["0.01", "0.9"], ["0.5", "0.95"]])
    ['rate  accuracy', '0.01       0.9', ' 0.5      0.95']
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    by_column = [[row[place] for row in cells] for place in range(len(columns))]
    widths = [max(map(len, [name, *column])) for name, column in zip(columns, by_column, strict=True)]
    right = [are_figures(column) for column in by_column]
    return [
        (" " * GAP)
        .join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(row, widths, right, strict=True)
        )
        .rstrip()
        for row in [columns, *cells]
    ]


def fit_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, least: Sequence[str] = ()
) -> tuple["Table", list[str]]:
    """A table that fits into `width` characters, and the names of the columns left out.

    Numbers are aligned right and never wrapped, and neither is the first column. Titles are wrapped first, then text in the
    other columns; if that is not enough, columns are left out.

    Args:
      columns: the names of the columns.
      rows: the rows, with one cell per column.
      width: the available width in characters.
      least: the columns to leave out first, as in `print_table`.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    cells = {name: [row[place] for row in rows] for place, name in enumerate(columns)}
    numeric = {name: are_figures(column) for name, column in cells.items()}
    first, *others = columns
    widths = {name: max(map(cell_len, [name, *column])) for name, column in cells.items()}
    if sum(widths.values()) + GAP * len(others) > width:  # titles are wrapped first, at their spaces
        widths = {name: max(map(cell_len, [*name.split(), *column]), default=0) for name, column in cells.items()}
    narrowest = {name: widths[name] if numeric[name] else min(widths[name], TEXT) for name in others}
    order = [*(name for name in least if name in others), *(name for name in reversed(others) if name not in least)]
    left_out = []
    while len(narrowest) > 1 and widths[first] + sum(length + GAP for length in narrowest.values()) > width:
        left_out.append(order[len(left_out)])
        del narrowest[left_out[-1]]
    shown = [first, *(name for name in others if name in narrowest)]
    space = max(width - GAP * len(narrowest), len(shown))
    while sum(widths[name] for name in shown) > space:
        broken = [name for name in narrowest if widths[name] > narrowest[name]]
        widths[max(broken, key=widths.__getitem__) if broken else max(shown, key=widths.__getitem__)] -= 1
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    for name in shown:
        right = name != first and numeric[name]
        table.add_column(
            Text(name), width=widths[name], justify="right" if right else "left", overflow="fold", vertical="top"
        )
    for row in zip(*(cells[name] for name in shown), strict=True):
        table.add_row(*map(Text, row))
    return table, [name for name in columns if name in left_out]


def are_figures(column: Sequence[str]) -> bool:
    """Whether a column holds numbers, with units and spreads; empty cells and a few words no wider than these are allowed."""
    figures = [cell for cell in column if _FIGURE.fullmatch(cell)]
    words = [cell for cell in column if cell.strip("-") and cell not in figures]
    return len(words) < len(figures) and max(map(len, words), default=0) <= max(map(len, figures))
