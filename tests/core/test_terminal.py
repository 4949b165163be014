"""Tables as a terminal of some width shows them."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cnnjax.core.terminal import fit_table

NAMES = ("variant", "accuracy", "95 % interval", "parameters", "note")
ROWS = [
    ["resnet20 with dropout", "0.9012 ± 0.0100", "[0.8921, 0.9100]", "269,722", "as published, and trained for half as long"],
    ["mlp", "0.8 ± 0.1", "", "7,850", "short"],
]  # fmt: skip


def shown(width, least=(), names=NAMES, rows=ROWS):
    """(lines, columns left out) of a table on a terminal of this width."""
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    table, left_out = fit_table(names, rows, width, least)
    console.print(table)
    return [line.rstrip() for line in console.file.getvalue().splitlines()], left_out


def test_everything_is_on_one_line_where_there_is_room():
    lines, left_out = shown(130)
    assert not left_out
    assert lines == [
        "                              accuracy     95 % interval  parameters  note".replace("       ", "variant", 1),
        "resnet20 with dropout  0.9012 ± 0.0100  [0.8921, 0.9100]     269,722  as published, and trained for half as long",
        "mlp                          0.8 ± 0.1                         7,850  short",
    ]


@pytest.mark.parametrize(
    ("width", "least", "left_out"),
    [
        (120, (), []),
        (100, (), []),
        (80, (), ["note"]),
        (80, ("95 % interval",), ["95 % interval"]),
        (80, ("parameters",), ["parameters"]),
        (40, ("95 % interval", "accuracy"), ["accuracy", "95 % interval", "note"]),
    ],
)
def test_text_is_broken_then_the_least_important_columns_are_left_out(width, least, left_out):
    lines, missing = shown(width, least)
    assert missing == left_out and max(map(len, lines)) <= width
    assert any(line.startswith("resnet20 with dropout") for line in lines)
    whole = " ".join(" ".join(lines).split())
    for name, cells in zip(NAMES, zip(*ROWS, strict=True), strict=True):
        numbers = name in ("accuracy", "95 % interval", "parameters")
        assert not numbers or all((cell in whole) == (name not in left_out) for cell in cells if cell)


def test_a_few_words_among_numbers_stand_with_them():
    rows = [["x", "[0.1, 0.2]", "1"], ["y", "too few", "a word"], ["z", "[0.3, 0.4]", "-"]]
    lines, _ = shown(80, names=("a", "interval", "b"), rows=rows)
    assert lines == ["a    interval  b", "x  [0.1, 0.2]  1", "y     too few  a word", "z  [0.3, 0.4]  -"]


def test_what_looks_like_markup_and_wide_letters_are_shown_as_they_are():
    lines, _ = shown(80, names=("a", "b"), rows=[["[bold]x[/]", "1"], ["日本", "22"]])
    assert lines == ["a            b", "[bold]x[/]   1", "日本        22"]


@given(
    st.integers(12, 140),
    st.integers(1, 6).flatmap(
        lambda count: st.lists(
            st.lists(st.text("ab1 -.[]", max_size=40).map(str.strip), min_size=count, max_size=count),
            min_size=1, max_size=4,
        )
    ),
)  # fmt: skip
def test_no_table_is_wider_than_its_terminal_and_no_shown_letter_is_lost(width, rows):
    names = tuple("abcdef"[: len(rows[0])])
    lines, left_out = shown(width, names=names, rows=rows)
    assert max(map(len, lines)) <= width
    letters = sorted("".join(cell for row in [names, *rows] for name, cell in zip(names, row, strict=True)
                             if name not in left_out).replace(" ", ""))  # fmt: skip
    assert sorted("".join(lines).replace(" ", "")) == letters
