"""The registry of models by name.

A new architecture is one file in this folder, which ends with `PUBLISHED`, the rows of its networks, and, if torchvision publishes
weights of them, `TORCHVISION_WEIGHTS`, the rows of the files. Its name is added to `_FILES` below.

A model is a Linen module: `model(images)` predicts and `model(images, True)` trains (`models.linen` lists other accepted forms).
Images are (batch, height, width, channel). Outputs have the batch as their first axis: logits (batch, num_classes) for a
classification. These names have a meaning and are all optional; `cnnjax.check_model(MyNet(10), (32, 32, 3))` reports what a model
supports:

    num_classes          a field: the number of logits, determined by the data. Parameters whose shape depends on it are the
                         head, which `initial.head` can draw anew. 0 means the trunk, which returns the input of the head. All
                         built-in models have this field.
    feature_maps         a method: the last feature map at each stride, for networks that build on this one (`models.network`)
    dtype                a field: the type of the computation, from `train.precision`; parameters are float32
    rate, *_dropout_rate, stochastic_depth_rate fields: dropout rates, which `vmap` may vary over trials; Python code may not
                         depend on their values
    rematerialize        a field: whether blocks are recomputed for their gradients; probes switch it off
    auxiliary            a collection that is sown in training: further outputs, whose losses are added with the weight in the
                         field `auxiliary_weight`
    batch_stats          a collection: running statistics; those of `layers.BatchNorm` and `nn.BatchNorm` are synchronised over
                         devices, and frozen if the layer's scale is frozen
    kernel, bias, scale  parameters: only kernels decay (`optimizer.weight_decay`) and are scaled (`initial.scale`)

Collections and random streams with any other names are supported too.
"""

import fnmatch
import importlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cnnjax.core.options import declared, unknown
from cnnjax.models.linen import build_model
from cnnjax.models.published import Published, Weights

_FILES = (
    "airbench",
    "alexnet",
    "alexnet_torchvision",
    "all_cnn",
    "cnn_small",
    "convnext",
    "deeplabv3",
    "densenet",
    "efficientnet",
    "efficientnet_v2",
    "farabet",
    "faster_rcnn",
    "fcn",
    "fcn_resnet",
    "fcos",
    "googlenet",
    "googlenet_torchvision",
    "inception_v3",
    "lecun1989",
    "lenet5",
    "lenet5_1998",
    "lraspp",
    "maxdrop_cnn",
    "mlp",
    "mnasnet",
    "mobilenet_v2",
    "mobilenet_v3",
    "nin",
    "pattern",
    "pilotnet",
    "regnet",
    "resnet",
    "retinanet",
    "shufflenet_v2",
    "squeezenet",
    "ssd",
    "unet",
    "vgg",
    "xception",
    "zfnet",
)
_MODULES = [importlib.import_module(f"{__name__}.{file}") for file in _FILES]
MODELS: Mapping[str, Published] = {name: row for module in _MODULES for name, row in module.PUBLISHED.items()}
PUBLISHED_WEIGHTS: tuple[Weights, ...] = tuple(
    row for module in _MODULES for row in getattr(module, "TORCHVISION_WEIGHTS", ())
)


# Arguments of other libraries' functions, and what does the same here.
_ELSEWHERE = {
    "features_only": 'model.apply(variables, images, method="feature_maps") gives the maps by stride',
    "global_pool": 'num_classes=0 creates the trunk; model.apply(variables, images, method="feature_maps") gives the maps before pooling',
    "in_chans": "a model takes images of any number of channels",
    "include_top": "num_classes=0 creates the trunk",
    "pretrained": "cnnjax.load_torchvision and load_keras return a model with its weights",
    "weights": "cnnjax.load_torchvision and load_keras return a model with its weights",
}


def list_models(pattern: str = "*", task: str | None = None) -> list[str]:
    """The names of all models that match a shell pattern, and are for a task where one is named, sorted.

    >>> list_models("resnet1*")
    ['resnet101', 'resnet101_torchvision', 'resnet110', 'resnet152', 'resnet152_torchvision', 'resnet18']
    """
    return sorted(name for name in fnmatch.filter(MODELS, pattern) if task in (None, MODELS[name].task))


def find_model(name: str) -> Published:
    """The model with the given name.

    Raises:
      ValueError: the name is unknown; the message has the nearest names.
    """
    if name not in MODELS:
        raise ValueError(unknown("model", name, MODELS, "(`cnnjax models` lists them)"))
    return MODELS[name]


def create_model(name: str, num_classes: int, dtype: Any = jnp.float32, **options: Any) -> nn.Module:
    """Creates a model by name: `model.apply(variables, images)` returns logits; pass `train=True` for training.

    `model.apply(variables, images, method="feature_maps")` gives the maps by stride, of every network but `mlp`; within another
    module `network.feature_maps(images, train)` does (`models.network`).

    Args:
      name: the model's name, one of `list_models()`.
      num_classes: the number of logits; 0 creates the trunk, which returns the input of the head, (batch, feature):
        the mean of the last feature map over space if the network has no hidden dense layer (ResNet, GoogLeNet), otherwise the
        output of the last hidden layer (4096 values in AlexNet and VGG).
      dtype: the type of the computation; parameters are float32.
      **options: the options of the model, listed by `cnnjax models NAME`.

    Raises:
      ValueError: the name or an option is unknown, or a value is not allowed.
      TypeError: an option has the wrong type.

    >>> create_model("mlp", num_classes=10, features=(800,)).features
    (800,)
    """
    build = find_model(name).build
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 0:
        raise ValueError(f"num_classes={num_classes!r}: expected a whole number of at least 1, or 0 for the trunk")
    for key in options.keys() & _ELSEWHERE.keys() - declared(build).keys():
        raise ValueError(f"create_model has no argument {key!r}: {_ELSEWHERE[key]}")
    return build_model(build, {"num_classes": num_classes}, dtype, options, name)
