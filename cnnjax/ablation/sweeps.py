"""Sweeps that a config file defines in addition to `get_config()`, in one of three common forms.

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
    """The variants that a config file's `get_hyper` or `sweep` defines, or None if it has neither.

    Raises:
      ValueError: the file or the function cannot be run, or does not return variants.
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
        raise ValueError(f"config file {source}: {name} returns no variants: remove it, or let it return at least one")
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
    """Splits variants that set `seed` into variants without seed and a list of seeds, or None if no variant sets it.

    Raises:
      ValueError: not every variant has every seed.

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
            "the sweep sets seed, but not all variants have the same seeds: leave seed out and use --seeds"
        )
    return without, seeds
