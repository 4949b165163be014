"""The registry: models by name.

A model is a Flax module that maps images, (batch, height, width, channel), to logits, (batch, num_classes).
"""

import fnmatch
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cnnjax.models.cnn_small import CNNSmall
from cnnjax.models.lenet5 import LeNet5
from cnnjax.models.mlp import MLP
from cnnjax.options import checked, declared, unknown

MODELS: dict[str, Callable[..., nn.Module]] = {"cnn_small": CNNSmall, "lenet5": LeNet5, "mlp": MLP}


def list_models(pattern: str = "*") -> list[str]:
    """The names of all models that match a shell pattern, sorted.

    >>> list_models("lenet*")
    ['lenet5']
    """
    return sorted(fnmatch.filter(MODELS, pattern))


def find_model(name: str) -> Callable[..., nn.Module]:
    """What makes the model of that name.

    Raises:
      ValueError: there is none; the message has the nearest names.
    """
    if name not in MODELS:
        raise ValueError(unknown("model", name, MODELS, "(`cnnjax models` lists them)"))
    return MODELS[name]


def create_model(name: str, num_classes: int, dtype: Any = jnp.float32, **options: Any) -> nn.Module:
    """A model by name: `model.apply(variables, images)` gives logits, `train=True` is for training.

    Args:
      name: one of `list_models()`.
      num_classes: how many logits.
      dtype: of the computation; parameters are float32.
      **options: the model's own, as `cnnjax models NAME` lists them.

    Raises:
      ValueError: unknown name or option, or a bad value.
      TypeError: an option of the wrong type.

    >>> create_model("mlp", num_classes=10, features=(800,)).features
    (800,)
    """
    build = find_model(name)
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes={num_classes!r}: expected a whole number of at least 1")
    known = declared(build)
    for key in options:
        if key not in known:
            raise ValueError(unknown(f"option of model {name}", key, known))
    values = {key: checked(f"model.{key}", value, known[key]) for key, value in options.items()}
    return build(num_classes=num_classes, dtype=dtype, **values)
