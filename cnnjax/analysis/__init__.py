"""Seeing what a network is and what it learned.

Each function takes a run, a data set, or plain arrays, and returns arrays or a matplotlib figure. A name is imported when it
is first used, so that one of them does not bring all.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnjax.analysis.animations import animate_convolution as animate_convolution
    from cnnjax.analysis.animations import animate_filter as animate_filter
    from cnnjax.analysis.animations import animate_transposed_convolution as animate_transposed_convolution
    from cnnjax.analysis.animations import save_gif as save_gif
    from cnnjax.analysis.exploration import explore as explore
    from cnnjax.analysis.retrieval import build_index as build_index
    from cnnjax.analysis.retrieval import load_index as load_index
    from cnnjax.analysis.retrieval import nearest as nearest
    from cnnjax.analysis.retrieval import plot_similar as plot_similar
    from cnnjax.analysis.retrieval import precision_at_k as precision_at_k
    from cnnjax.analysis.retrieval import save_index as save_index
    from cnnjax.analysis.retrieval import similar as similar
    from cnnjax.analysis.visualization import invert_features as invert_features
    from cnnjax.analysis.visualization import invert_layer as invert_layer
    from cnnjax.analysis.visualization import maximize_scores as maximize_scores
    from cnnjax.analysis.visualization import visualize_class as visualize_class

# public name -> the module it is in
_PUBLIC = {
    "animate_convolution": "animations",
    "animate_filter": "animations",
    "animate_transposed_convolution": "animations",
    "build_index": "retrieval",
    "explore": "exploration",
    "invert_features": "visualization",
    "invert_layer": "visualization",
    "load_index": "retrieval",
    "maximize_scores": "visualization",
    "nearest": "retrieval",
    "plot_similar": "retrieval",
    "precision_at_k": "retrieval",
    "save_gif": "animations",
    "save_index": "retrieval",
    "similar": "retrieval",
    "visualize_class": "visualization",
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cnnjax.analysis' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"cnnjax.analysis.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
