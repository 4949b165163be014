"""Numbers and values as text."""

from collections.abc import Sequence
from typing import Any


def duration(seconds: float | None) -> str:
    """A duration for a person.

    >>> [duration(seconds) for seconds in (None, 9.84, 75, 7300)]
    ['unknown', '9.8 s', '1 min 15 s', '2 h 1 min']
    """
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min"


def listed(names: Sequence[str], word: str = "and") -> str:
    """Names as a list in a sentence.

    >>> listed(["a", "b", "c"]), listed(["a", "b"], "or"), listed(["a"])
    ('a, b and c', 'a or b', 'a')
    """
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def config_value(value: Any) -> str:
    """A config's value as text in a table."""
    return value if isinstance(value, str) else repr(value)


def evenly(names: Sequence[str], count: int) -> list[str]:
    """At most `count` evenly spaced names, including the first and the last.

    >>> evenly("abcdefg", 3)
    ['a', 'd', 'g']
    """
    if len(names) <= count:
        return list(names)
    return [names[round(place * (len(names) - 1) / (count - 1))] for place in range(count)]
