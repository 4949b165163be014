"""cnnjax: convolutional image models in JAX and Flax, each as its paper has it, trained from one config.

    import cnnjax
    config = cnnjax.load_config("quickstart", {"train.epochs": 5})
    run = cnnjax.train(config, workdir="runs/five_epochs")
    run.metrics["test/accuracy"]

The names are those of `__init__.pyi`; each is imported when it is first used, so that `import cnnjax` is instant and
JAX starts only after `configure_runtime` had its chance.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
