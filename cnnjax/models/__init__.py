"""The registry: models by name.

A model is a Flax module that maps images, (batch, height, width, channel), to logits, (batch, num_classes).
"""

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cnnjax.core.options import unknown
from cnnjax.models import resnet, vgg
from cnnjax.models.alexnet import AlexNet
from cnnjax.models.alexnet_torchvision import AlexNetTorchvision
from cnnjax.models.cnn_small import CNNSmall
from cnnjax.models.googlenet import GoogLeNet
from cnnjax.models.googlenet_torchvision import GoogLeNetTorchvision
from cnnjax.models.lenet5 import LeNet5
from cnnjax.models.lenet5_1998 import LeNet51998
from cnnjax.models.linen import build_model as build_model
from cnnjax.models.linen import with_train_argument as with_train_argument
from cnnjax.models.maxdrop_cnn import MaxDropCNN
from cnnjax.models.mlp import MLP
from cnnjax.models.pattern import Pattern


@dataclasses.dataclass(frozen=True)
class Published:
    """A model as its source has it.

    Attributes:
      build: makes it: a Flax module's class, or one with some of its fields set.
      image_shape: height, width and channels.
      num_classes: of its output.
      source: where it is from.
      parameters: how many its source says it has when predicting, where it does, to as many digits.
      macs: multiply-adds for one image, likewise.
    """

    build: Callable[..., nn.Module]
    image_shape: tuple[int, int, int]
    num_classes: int
    source: str
    parameters: int | None = None
    macs: int | None = None


# The 32x32x3, 43-class LeNet of traffic-sign tutorials, and twice as wide.
_SIGNS = partial(Pattern, plan="conv 6 pool | conv 16 pool | fc 120", kernel_size=5, padding="valid")
_SIGNS_DOUBLE = partial(_SIGNS, plan="conv 12 pool | conv 32 pool | fc 240")
_8_16_32 = partial(Pattern, plan="conv 8 pool | conv 16 pool | conv 32", norm="batch")

_IMAGENET, _CIFAR = ((224, 224, 3), 1000), ((32, 32, 3), 10)

# Simonyan and Zisserman, table 2; with batch normalisation, torchvision's documentation.
_VGG_PARAMETERS = {
    "vgg11": 133_000_000,
    "vgg13": 133_000_000,
    "vgg16": 138_000_000,
    "vgg19": 144_000_000,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
}
# He et al., table 1.
_RESNET_MACS = {
    "resnet18": 1_800_000_000,
    "resnet34": 3_600_000_000,
    "resnet50": 3_800_000_000,
    "resnet101": 7_600_000_000,
    "resnet152": 11_300_000_000,
}
# torchvision's documentation.
_RESNET_TORCHVISION = {
    "resnet50": (25_557_032, 4_089_000_000),
    "resnet101": (44_549_160, 7_801_000_000),
    "resnet152": (60_192_808, 11_514_000_000),
}
# He et al., table 6.
_CIFAR_PARAMETERS = {20: 270_000, 32: 460_000, 44: 660_000, 56: 850_000, 110: 1_700_000}

MODELS: Mapping[str, Published] = {
    "alexnet": Published(AlexNet, (227, 227, 3), 1000, "Krizhevsky et al., NIPS 2012", 60_965_224),
    "alexnet_torchvision": Published(AlexNetTorchvision, *_IMAGENET, "torchvision", 61_100_840, 714_000_000),
    "cnn_8_16_32": Published(_8_16_32, (28, 28, 1), 10, "the tutorials' three convolutions with batch normalisation"),
    "cnn_small": Published(CNNSmall, (28, 28, 1), 10, "Keras's mnist_cnn example"),
    # table 1: the sums of its columns
    "googlenet": Published(GoogLeNet, *_IMAGENET, "Szegedy et al., CVPR 2015", 6_800_000, 1_500_000_000),
    "googlenet_torchvision": Published(GoogLeNetTorchvision, *_IMAGENET, "torchvision", 6_624_904, 1_498_000_000),
    "lenet5": Published(LeNet5, (32, 32, 1), 10, "as taught, after LeCun et al., 1998"),
    "lenet5_1998": Published(LeNet51998, (32, 32, 1), 10, "LeCun et al., Proceedings of the IEEE 1998", 60_000),
    "lenet5_bn": Published(partial(LeNet5, batch_norm=True), (32, 32, 1), 10, "LeNet-5 with batch normalisation"),
    "lenet_signs": Published(_SIGNS, (32, 32, 3), 43, "tutorials on German traffic signs", 56_195),
    "lenet_signs_double": Published(_SIGNS_DOUBLE, (32, 32, 3), 43, "the same, twice as wide"),
    "maxdrop_cnn": Published(MaxDropCNN, *_CIFAR, "Park and Kwak, ACCV 2016", 7_640_394),
    "mlp": Published(MLP, (28, 28, 1), 10, "Simard et al., ICDAR 2003"),
    "pattern": Published(Pattern, *_CIFAR, "the general pattern of a course on CNNs"),
    **{
        f"{name}{suffix}": Published(
            partial(vgg.VGG, blocks=blocks, batch_norm=bool(suffix)),
            *_IMAGENET,
            "Simonyan and Zisserman, ICLR 2015" + (", and torchvision" if suffix else ""),
            _VGG_PARAMETERS[name + suffix],
        )
        for name, blocks in vgg.BLOCKS.items()
        for suffix in ("", "_bn")
    },
    **{
        name: Published(
            partial(resnet.ResNet, stages=stages, bottleneck=bottleneck),
            *_IMAGENET,
            "He et al., CVPR 2016",
            macs=_RESNET_MACS[name],
        )
        for name, (stages, bottleneck) in resnet.STAGES.items()
    },
    **{
        f"{name}_torchvision": Published(
            partial(resnet.ResNet, stages=stages, bottleneck=True, stride_in="3x3"),
            *_IMAGENET,
            "torchvision",
            *_RESNET_TORCHVISION[name],
        )
        for name, (stages, bottleneck) in resnet.STAGES.items()
        if bottleneck
    },
    **{
        f"resnet{layers}": Published(
            partial(
                resnet.ResNet, stages=((layers - 2) // 6,) * 3, bottleneck=False, features=16, stem="3x3", shortcut="A"
            ),
            *_CIFAR,
            "He et al., CVPR 2016, table 6",
            _CIFAR_PARAMETERS[layers],
        )
        for layers in resnet.CIFAR_LAYERS
    },
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
    build = find_model(name).build
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes={num_classes!r}: expected a whole number of at least 1")
    return build_model(build, {"num_classes": num_classes}, dtype, options, name)
