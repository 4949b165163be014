"""The functions for a config file's `get_hyper(hyper)`, as in the configs of big_vision and scenic.

Each function returns a list of variants, given by their fields. A leading "config." of a field name is removed.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from cnnjax.ablation import spaces

Sweep = Sequence[Mapping[str, Any]]


def sweep(name: str, values: Iterable[Any]) -> Sweep:
    """One variant for each value of a field.

    >>> sweep("config.seed", [1, 2])
    [{'seed': 1}, {'seed': 2}]
    """
    return spaces.grid({name.removeprefix("config."): values})


def fixed(name: str, value: Any, length: int = 1) -> Sweep:
    """`length` variants with the same value of a field."""
    return sweep(name, [value] * length)


def product(sweeps: Iterable[Sweep]) -> Sweep:
    """Every combination of the sweeps' variants; the last sweep changes fastest.

    >>> product([sweep("seed", [1, 2]), fixed("devices", 1)])
    [{'seed': 1, 'devices': 1}, {'seed': 2, 'devices': 1}]
    """
    return [spaces.joined(parts) for parts in itertools.product(*sweeps)]


def zipit(sweeps: Iterable[Sweep]) -> Sweep:
    """Combines the first variants of all sweeps, the second variants, and so on; a sweep of length 1 is repeated.

    Raises:
      ValueError: the lengths of the sweeps differ otherwise.

    >>> zipit([sweep("seed", [1, 2]), sweep("train.epochs", [3, 4])])
    [{'seed': 1, 'train.epochs': 3}, {'seed': 2, 'train.epochs': 4}]
    """
    sweeps = [list(each) for each in sweeps]
    length = max((len(each) for each in sweeps), default=0)
    if wrong := [len(each) for each in sweeps if len(each) not in (1, length)]:
        raise ValueError(f"hyper.zipit: expected sweeps of {length} variants, got one of {wrong[0]}")
    return [spaces.joined(each[index % len(each)] for each in sweeps) for index in range(length)]


def chainit(sweeps: Iterable[Sweep]) -> Sweep:
    """The variants of all sweeps, one sweep after the other."""
    return list(itertools.chain(*sweeps))


def discrete(values: Iterable[Any]) -> list[Any]:
    """The values as a list."""
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
