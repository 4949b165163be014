"""The networks that are tried seldom, because smaller relatives are made of the same layers, or slow to trace and compile."""

import pytest

from cnnjax.models import MODELS

# Of a family of networks that are made of the same layers, the one that is tried.
FIRST = {
    "convnext_tiny", "densenet_40_12", "efficientnet_b0", "mnasnet0_5", "regnet_y_400mf", "resnext50_32x4d", "shufflenet_v2_x0_5",
    "squeezenet1_1",
}  # fmt: skip
FAMILIES = (
    "convnext", "densenet", "efficientnet", "fasterrcnn_", "fcos_", "inception_v3", "mnasnet", "regnet", "resnext", "retinanet_",
    "shufflenet", "squeezenet", "ssd300", "wide_resnet", "xception",
)  # fmt: skip
DEEPER = {
    "airbench94", "vgg13", "vgg16", "vgg19", "vgg13_bn", "vgg16_bn", "vgg19_bn", "resnet34", "resnet32", "resnet44", "resnet56", "resnet110",
    "resnet101", "resnet152", "resnet101_torchvision", "resnet152_torchvision", "mobilenet_v3_large",
    *(name for name in MODELS if name.startswith(FAMILIES) and name not in FIRST),
}  # fmt: skip


def deeper_marked(names, mark=pytest.mark.slow):
    """Parameters of a test: the names, of which the deeper networks have a mark."""
    return [pytest.param(name, marks=mark) if name in DEEPER else name for name in names]
