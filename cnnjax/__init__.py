"""cnnjax: convolutional image models in JAX and Flax, each as its paper has it, trained from one config.

    import cnnjax
    config = cnnjax.load_config("quickstart", {"train.epochs": 5})
    run = cnnjax.train(config, workdir="runs/five_epochs")
    run.metrics["test/accuracy"]

Names are imported when they are first used, so that `import cnnjax` is instant and JAX starts only after
`configure_runtime` had its chance.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnjax.ablation.search import search as search
    from cnnjax.ablation.study import ablate as ablate
    from cnnjax.ablation.table import Table as Table
    from cnnjax.analysis.summary import summarize as summarize
    from cnnjax.config import load_config as load_config
    from cnnjax.data.datasets import load_dataset as load_dataset
    from cnnjax.models import create_model as create_model
    from cnnjax.models import list_models as list_models
    from cnnjax.runs import Run as Run
    from cnnjax.runs import evaluate as evaluate
    from cnnjax.runs import find_learning_rate as find_learning_rate
    from cnnjax.runs import import_weights as import_weights
    from cnnjax.runs import load_run as load_run
    from cnnjax.runs import preview as preview
    from cnnjax.runs import train as train
    from cnnjax.runtime import configure as configure_runtime  # noqa: F401
    from cnnjax.transfer.torchvision import export_torchvision as export_torchvision
    from cnnjax.transfer.torchvision import load_torchvision as load_torchvision

__version__ = "0.1.0"

# public name -> (module, its name there)
_PUBLIC = {
    "Run": ("cnnjax.runs", "Run"),
    "Table": ("cnnjax.ablation.table", "Table"),
    "ablate": ("cnnjax.ablation.study", "ablate"),
    "configure_runtime": ("cnnjax.runtime", "configure"),
    "create_model": ("cnnjax.models", "create_model"),
    "export_torchvision": ("cnnjax.transfer.torchvision", "export_torchvision"),
    "evaluate": ("cnnjax.runs", "evaluate"),
    "find_learning_rate": ("cnnjax.runs", "find_learning_rate"),
    "import_weights": ("cnnjax.runs", "import_weights"),
    "preview": ("cnnjax.runs", "preview"),
    "list_models": ("cnnjax.models", "list_models"),
    "load_config": ("cnnjax.config", "load_config"),
    "load_dataset": ("cnnjax.data.datasets", "load_dataset"),
    "load_run": ("cnnjax.runs", "load_run"),
    "load_torchvision": ("cnnjax.transfer.torchvision", "load_torchvision"),
    "search": ("cnnjax.ablation.search", "search"),
    "summarize": ("cnnjax.analysis.summary", "summarize"),
    "train": ("cnnjax.runs", "train"),
}
__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cnnjax' has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
