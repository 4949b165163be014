"""Seeing what a network is and what it learned.

Each function takes a run, a model with its variables, a data set or plain arrays, and returns arrays or a matplotlib
figure. A name is imported when it is first used, so that one of them does not bring all.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnjax.analysis.animations import animate_convolution as animate_convolution
    from cnnjax.analysis.animations import animate_filter as animate_filter
    from cnnjax.analysis.animations import animate_transposed_convolution as animate_transposed_convolution
    from cnnjax.analysis.animations import save_gif as save_gif
    from cnnjax.analysis.attribution import grad_cam as grad_cam
    from cnnjax.analysis.attribution import occlusion as occlusion
    from cnnjax.analysis.attribution import saliency as saliency
    from cnnjax.analysis.classification import calibration as calibration
    from cnnjax.analysis.classification import class_scores as class_scores
    from cnnjax.analysis.classification import compare as compare
    from cnnjax.analysis.classification import confusion_matrix as confusion_matrix
    from cnnjax.analysis.classification import wilson_interval as wilson_interval
    from cnnjax.analysis.curves import plot_curves as plot_curves
    from cnnjax.analysis.diagnosis import cannot_see as cannot_see
    from cnnjax.analysis.diagnosis import diagnose as diagnose
    from cnnjax.analysis.distributions import histograms as histograms
    from cnnjax.analysis.embedding import embed as embed
    from cnnjax.analysis.exploration import explore as explore
    from cnnjax.analysis.features import feature_maps as feature_maps
    from cnnjax.analysis.filters import plot_filters as plot_filters
    from cnnjax.analysis.pictures import plot_attributions as plot_attributions
    from cnnjax.analysis.pictures import plot_calibration as plot_calibration
    from cnnjax.analysis.pictures import plot_confusion as plot_confusion
    from cnnjax.analysis.pictures import plot_embedding as plot_embedding
    from cnnjax.analysis.pictures import plot_feature_maps as plot_feature_maps
    from cnnjax.analysis.pictures import plot_histograms as plot_histograms
    from cnnjax.analysis.report import write_report as write_report
    from cnnjax.analysis.retrieval import build_index as build_index
    from cnnjax.analysis.retrieval import load_index as load_index
    from cnnjax.analysis.retrieval import nearest as nearest
    from cnnjax.analysis.retrieval import plot_similar as plot_similar
    from cnnjax.analysis.retrieval import precision_at_k as precision_at_k
    from cnnjax.analysis.retrieval import save_index as save_index
    from cnnjax.analysis.retrieval import similar as similar
    from cnnjax.analysis.summary import summarize as summarize
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
    "calibration": "classification",
    "cannot_see": "diagnosis",
    "class_scores": "classification",
    "compare": "classification",
    "confusion_matrix": "classification",
    "diagnose": "diagnosis",
    "embed": "embedding",
    "explore": "exploration",
    "feature_maps": "features",
    "grad_cam": "attribution",
    "histograms": "distributions",
    "invert_features": "visualization",
    "invert_layer": "visualization",
    "load_index": "retrieval",
    "maximize_scores": "visualization",
    "nearest": "retrieval",
    "occlusion": "attribution",
    "plot_attributions": "pictures",
    "plot_calibration": "pictures",
    "plot_confusion": "pictures",
    "plot_curves": "curves",
    "plot_embedding": "pictures",
    "plot_feature_maps": "pictures",
    "plot_filters": "filters",
    "plot_histograms": "pictures",
    "plot_similar": "retrieval",
    "precision_at_k": "retrieval",
    "saliency": "attribution",
    "save_gif": "animations",
    "save_index": "retrieval",
    "similar": "retrieval",
    "summarize": "summary",
    "visualize_class": "visualization",
    "wilson_interval": "classification",
    "write_report": "report",
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
