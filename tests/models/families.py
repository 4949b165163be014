"""The networks that are tried seldom, because smaller relatives are made of the same layers."""

import pytest

from cnnjax.models import MODELS

FIRST = {"convnext_tiny", "efficientnet_b0", "mnasnet0_5"}
DEEPER = {
    "vgg13", "vgg16", "vgg19", "vgg13_bn", "vgg16_bn", "vgg19_bn", "resnet34", "resnet32", "resnet44", "resnet56", "resnet110",
    "resnet101", "resnet152", "resnet101_torchvision", "resnet152_torchvision", "mobilenet_v3_large",
    *(name for name in MODELS if name.startswith(("convnext", "efficientnet", "mnasnet")) and name not in FIRST),
}  # fmt: skip


def deeper_marked(names, mark=pytest.mark.slow):
    """Parameters of a test: the names, of which the deeper networks have a mark."""
    return [pytest.param(name, marks=mark) if name in DEEPER else name for name in names]
