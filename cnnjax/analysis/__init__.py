"""Seeing what a network is and what it learned.

    from cnnjax import analysis
    index = analysis.build_index("runs/fashion_mnist_cnn", "test")

Names are imported when they are first used, as those of `cnnjax` are.
"""

import importlib
from typing import Any

# public name -> its module
_PUBLIC = {
    "animate_convolution": "cnnjax.analysis.animations",
    "animate_filter": "cnnjax.analysis.animations",
    "animate_transposed_convolution": "cnnjax.analysis.animations",
    "build_index": "cnnjax.analysis.retrieval",
    "explore": "cnnjax.analysis.exploration",
    "invert_features": "cnnjax.analysis.visualization",
    "invert_layer": "cnnjax.analysis.visualization",
    "load_index": "cnnjax.analysis.retrieval",
    "maximize_scores": "cnnjax.analysis.visualization",
    "nearest": "cnnjax.analysis.retrieval",
    "plot_similar": "cnnjax.analysis.retrieval",
    "precision_at_k": "cnnjax.analysis.retrieval",
    "save_gif": "cnnjax.analysis.animations",
    "save_index": "cnnjax.analysis.retrieval",
    "similar": "cnnjax.analysis.retrieval",
    "visualize_class": "cnnjax.analysis.visualization",
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
