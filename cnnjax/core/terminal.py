"""Tables fitted to the width of a terminal, or complete and tab-separated where a program reads them.

Names of files and classes are untrusted: control characters in them are shown as escapes.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
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
    numeric = {name: _are_figures(column) for name, column in cells.items()}
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


def _are_figures(column: Sequence[str]) -> bool:
    """Whether a column holds numbers, with units and spreads; empty cells and a few words no wider than these are allowed."""
    figures = [cell for cell in column if _FIGURE.fullmatch(cell)]
    words = [cell for cell in column if cell.strip("-") and cell not in figures]
    return len(words) < len(figures) and max(map(len, words), default=0) <= max(map(len, figures))
