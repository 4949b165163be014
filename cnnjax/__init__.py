"""cnnjax: convolutional image models in JAX and Flax, each as published in its paper, trained from one config.

    import cnnjax
    config = cnnjax.load_config("quickstart", {"train.epochs": 5})
    run = cnnjax.train(config, workdir="runs/five_epochs")
    run.metrics["test/accuracy"]

The public names are listed in `__init__.pyi`. Each is imported on first use, so that `import cnnjax` is instant and
`configure_runtime` can be called before JAX starts.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
