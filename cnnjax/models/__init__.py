"""The registry: models by name.

A new architecture is one file of this folder, which ends with `PUBLISHED`, the rows of its networks, and its name in `_FILES`
below.

A model is a Linen module. `model(images)` predicts and `model(images, True)` trains; `models.linen` says how others write
it. Images are (batch, height, width, channel), and outputs have the batch first: logits (batch, num_classes) for a class.
`cnnjax.check_model(MyNet(10), (32, 32, 3))` says which of the following a model keeps. Names with a meaning, all optional:

    num_classes          a field: how many logits, from the data. What changes its shape with it is the head, which `initial.head`
                         draws anew. 0 is the trunk: the features that the head is given. All models here have it.
    dtype                a field: the computation's type, from `train.precision`; parameters are float32
    rate, *_dropout_rate fields: dropout rates, which `vmap` may vary over trials; Python may not ask for their values
    rematerialize        a field: blocks are computed again for their gradients; probes switch it off
    auxiliary            a collection that is sown in training: further outputs, whose losses are added with the field
                         `auxiliary_weight`
    batch_stats          a collection: running statistics; those of `layers.BatchNorm` and `nn.BatchNorm` are synchronised over
                         devices, and kept where the layer's scale is frozen
    kernel, bias, scale  parameters: kernels alone decay (`optimizer.weight_decay`) and are scaled (`initial.scale`)

Other collections and random streams of any name are kept and served.
"""

import fnmatch
import importlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cnnjax.core.options import unknown
from cnnjax.models.linen import build_model
from cnnjax.models.published import Published

_FILES = (
    "alexnet",
    "alexnet_torchvision",
    "all_cnn",
    "cnn_small",
    "googlenet",
    "googlenet_torchvision",
    "lenet5",
    "lenet5_1998",
    "maxdrop_cnn",
    "mlp",
    "pattern",
    "resnet",
    "vgg",
)
MODELS: Mapping[str, Published] = {
    name: row for file in _FILES for name, row in importlib.import_module(f"{__name__}.{file}").PUBLISHED.items()
}


def list_models(pattern: str = "*") -> list[str]:
    """The names of all models that match a shell pattern, sorted.

    >>> list_models("resnet1*")
    ['resnet101', 'resnet101_torchvision', 'resnet110', 'resnet152', 'resnet152_torchvision', 'resnet18']
    """
    return sorted(fnmatch.filter(MODELS, pattern))


def find_model(name: str) -> Published:
    """The model of that name.

    Raises:
      ValueError: there is none; the message has the nearest names.
    """
    if name not in MODELS:
        raise ValueError(unknown("model", name, MODELS, "(`cnnjax models` lists them)"))
    return MODELS[name]


def create_model(name: str, num_classes: int, dtype: Any = jnp.float32, **options: Any) -> nn.Module:
    """Creates a model by name: `model.apply(variables, images)` gives logits, `train=True` is for training.

    Args:
      name: the model's name, one of `list_models()`.
      num_classes: the number of logits; 0 is the trunk, which gives the features that the head would be given.
      dtype: the computation's type; parameters are float32.
      **options: the model's own options, as `cnnjax models NAME` lists them.

    Raises:
      ValueError: unknown name or option, or a bad value.
      TypeError: an option of the wrong type.

    >>> create_model("mlp", num_classes=10, features=(800,)).features
    (800,)
    """
    build = find_model(name).build
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 0:
        raise ValueError(f"num_classes={num_classes!r}: expected a whole number of at least 1, or 0 for the trunk")
    return build_model(build, {"num_classes": num_classes}, dtype, options, name)
