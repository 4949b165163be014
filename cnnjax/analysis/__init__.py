"""Seeing what a network is and what it learned.

    from cnnjax import analysis
    index = analysis.build_index("runs/fashion_mnist_cnn", "test")

Names are imported when they are first used, as those of `cnnjax` are.
"""

import importlib
from typing import Any

# public name -> its module
_PUBLIC = {
    "build_index": "cnnjax.analysis.retrieval",
    "explore": "cnnjax.analysis.exploration",
    "load_index": "cnnjax.analysis.retrieval",
    "nearest": "cnnjax.analysis.retrieval",
    "plot_similar": "cnnjax.analysis.retrieval",
    "precision_at_k": "cnnjax.analysis.retrieval",
    "save_index": "cnnjax.analysis.retrieval",
    "similar": "cnnjax.analysis.retrieval",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cnnjax.analysis' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
