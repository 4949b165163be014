"""The functions that a config file's `get_hyper(hyper)` calls, as big_vision's and scenic's configs do.

Each returns a list of variants' fields. A leading "config." of a field's name is left out.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from cnnjax.ablation import spaces

Sweep = Sequence[Mapping[str, Any]]


def sweep(name: str, values: Iterable[Any]) -> Sweep:
    """A variant for each value of a field.

    >>> sweep("config.seed", [1, 2])
    [{'seed': 1}, {'seed': 2}]
    """
    return spaces.grid({name.removeprefix("config."): values})


def fixed(name: str, value: Any, length: int = 1) -> Sweep:
    """The same value of a field, once for each trial."""
    return sweep(name, [value] * length)


def product(sweeps: Iterable[Sweep]) -> Sweep:
    """Every combination; the last one changes fastest.

    >>> product([sweep("seed", [1, 2]), fixed("devices", 1)])
    [{'seed': 1, 'devices': 1}, {'seed': 2, 'devices': 1}]
    """
    return [spaces.joined(parts) for parts in itertools.product(*sweeps)]


def zipit(sweeps: Iterable[Sweep]) -> Sweep:
    """The first of all, the second of all, and so on; one of length 1 goes with each of the others.

    Raises:
      ValueError: their lengths differ otherwise.

    >>> zipit([sweep("seed", [1, 2]), sweep("train.epochs", [3, 4])])
    [{'seed': 1, 'train.epochs': 3}, {'seed': 2, 'train.epochs': 4}]
    """
    sweeps = [list(each) for each in sweeps]
    length = max((len(each) for each in sweeps), default=0)
    if wrong := [len(each) for each in sweeps if len(each) not in (1, length)]:
        raise ValueError(f"hyper.zipit: expected sweeps of {length} variants, got one of {wrong[0]}")
    return [spaces.joined(each[index % len(each)] for each in sweeps) for index in range(length)]


def chainit(sweeps: Iterable[Sweep]) -> Sweep:
    """One after the other."""
    return list(itertools.chain(*sweeps))


def discrete(values: Iterable[Any]) -> list[Any]:
    """These values."""
    return list(values)


categorical = discrete


def boolean() -> list[bool]:
    """True and False."""
    return [True, False]


def __getattr__(name: str) -> NoReturn:
    if name.startswith("__"):
        raise AttributeError(name)
    known = "product, zipit, chainit, sweep, fixed, discrete, categorical and boolean"
    raise AttributeError(
        f"hyper.{name} is not supported: there are {known}; random values: cnnjax.ablation.spaces.random"
    )
