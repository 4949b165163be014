"""Sweeps that a config file defines beside its `get_config()`, in the dialects that are around.

def get_hyper(hyper): return hyper.product([hyper.sweep("optimizer.learning_rate", [0.1, 0.2]), ...])
def sweep(add): add(**{"optimizer.learning_rate": 0.1}); add(...)
def sweep(): yield {"optimizer.learning_rate": 0.1}; ...
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cnnjax.ablation import hyper
from cnnjax.config import load_module


def read_sweep(source: str) -> list[dict[str, Any]] | None:
    """The variants that a config file's `get_hyper` or `sweep` defines, or None where it has neither.

    Raises:
      ValueError: the file or the function cannot be run, or gives something else than variants.
    """
    if source.endswith(".json"):
        return None
    module, _ = load_module(source)
    names = [name for name in ("get_hyper", "sweep") if callable(getattr(module, name, None))]
    if not names:
        return None
    name = names[0]
    try:
        variants = [_fields(variant) for variant in _run(getattr(module, name))]
    except Exception as error:
        raise ValueError(f"config file {source}: {name} cannot be run: {type(error).__name__}: {error}") from error
    if not variants:
        raise ValueError(f"config file {source}: {name} gives no variant: take it out, or let it give some")
    return variants


def _run(function: Callable[..., Any]) -> Iterable[Any]:
    parameters = list(inspect.signature(function).parameters)
    if not parameters:
        return function()
    if function.__name__ == "get_hyper" or parameters[0] == "hyper":
        return function(hyper)
    added: list[Mapping[str, Any]] = []
    function(lambda fields=None, /, **named: added.append({**(fields or {}), **named}))
    return added


def _fields(variant: Any) -> dict[str, Any]:
    if not isinstance(variant, Mapping):
        raise TypeError(f"expected the fields of a variant as a dict, got {variant!r}")
    return {path.removeprefix("config."): value for path, value in variant.items()}


def split_seeds(variants: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[int] | None]:
    """Variants that set `seed` -> the variants without it, and the seeds; None where none sets it.

    Raises:
      ValueError: not every variant comes with every seed.

    >>> split_seeds([{"devices": 1, "seed": 0}, {"devices": 1, "seed": 1}])
    ([{'devices': 1}], [0, 1])
    """
    if not any("seed" in variant for variant in variants):
        return [dict(variant) for variant in variants], None
    without: list[dict[str, Any]] = []
    for variant in variants:
        rest = {path: value for path, value in variant.items() if path != "seed"}
        if rest not in without:
            without.append(rest)
    seeds = list(dict.fromkeys(variant.get("seed") for variant in variants))
    if any({**rest, "seed": seed} not in list(variants) for rest in without for seed in seeds):
        raise ValueError(
            "the sweep sets seed, and not every variant has the same seeds: leave seed out, and give --seeds"
        )
    return without, seeds
