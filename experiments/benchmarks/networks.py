"""The networks that are timed, each described once; every framework builds what it times from the description.

A description is a tuple of the layers below, in their order. `padding` is zeros (for pooling: nothing) on every side.
Keras has no such numbers but "same", which gives as many windows here, some of them shifted by a pixel; so has our
GoogLeNet. Dropout and the order of layers are those of our models.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution with a square kernel."""

    features: int
    size: int
    strides: int = 1
    padding: int = 0
    bias: bool = True


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation with epsilon 1e-5, which keeps 0.9 of its running statistics in each step."""


@dataclasses.dataclass(frozen=True)
class Activation:
    """An elementwise function."""

    name: Literal["relu", "tanh"]


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """The maximum of square windows."""

    size: int
    strides: int
    padding: int = 0


@dataclasses.dataclass(frozen=True)
class AveragePool:
    """The mean of square windows that touch and do not overlap."""

    size: int


@dataclasses.dataclass(frozen=True)
class GlobalAveragePool:
    """The mean of each feature map."""


@dataclasses.dataclass(frozen=True)
class Flatten:
    """All values of an image in one axis."""


@dataclasses.dataclass(frozen=True)
class Dense:
    """A fully connected layer."""

    features: int


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Zeros with this probability, in training."""

    rate: float


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Branches side by side, their feature maps joined."""

    branches: tuple["Layers", ...]


@dataclasses.dataclass(frozen=True)
class Residual:
    """ReLU of the sum of two branches; an empty shortcut is the input itself."""

    body: "Layers"
    shortcut: "Layers" = ()


Layer = (
    Conv
    | BatchNorm
    | Activation
    | MaxPool
    | AveragePool
    | GlobalAveragePool
    | Flatten
    | Dense
    | Dropout
    | Parallel
    | Residual
)
Layers = tuple[Layer, ...]

RELU, TANH = Activation("relu"), Activation("tanh")


def mlp() -> Layers:
    """784-800-10."""
    return Flatten(), Dense(800), RELU, Dense(10)


def lenet5() -> Layers:
    """LeNet-5 as it is taught."""
    return (
        *(Conv(6, 5), TANH, AveragePool(2)),
        *(Conv(16, 5), TANH, AveragePool(2)),
        *(Flatten(), Dense(120), TANH, Dense(84), TANH, Dense(10)),
    )


def mnist_cnn() -> Layers:
    """Keras's `mnist_cnn.py`."""
    return (
        *(Conv(32, 3), RELU, Conv(64, 3), RELU, MaxPool(2, 2), Dropout(0.25)),
        *(Flatten(), Dense(128), RELU, Dropout(0.5), Dense(10)),
    )


def alexnet() -> Layers:
    """AlexNet of 2012 with both towers joined into one, and without local response normalisation."""
    return (
        *(Conv(96, 11, strides=4), RELU, MaxPool(3, 2)),
        *(Conv(256, 5, padding=2), RELU, MaxPool(3, 2)),
        *(Conv(384, 3, padding=1), RELU, Conv(384, 3, padding=1), RELU, Conv(256, 3, padding=1), RELU, MaxPool(3, 2)),
        *(Flatten(), Dropout(0.5), Dense(4096), RELU, Dropout(0.5), Dense(4096), RELU, Dense(1000)),
    )


def vgg16() -> Layers:
    """VGG's column D."""
    plan = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    return (
        *(layer for width, count in plan for layer in (*(Conv(width, 3, padding=1), RELU) * count, MaxPool(2, 2))),
        *(Flatten(), Dense(4096), RELU, Dropout(0.5), Dense(4096), RELU, Dropout(0.5), Dense(1000)),
    )


def googlenet() -> Layers:
    """GoogLeNet of 2014 without auxiliary heads and local response normalisation."""

    def conv(features: int, size: int, strides: int = 1) -> Layers:
        return Conv(features, size, strides, size // 2), RELU

    def inception(one: int, reduce3: int, three: int, reduce5: int, five: int, projection: int) -> Parallel:
        return Parallel(
            (
                conv(one, 1),
                (*conv(reduce3, 1), *conv(three, 3)),
                (*conv(reduce5, 1), *conv(five, 5)),
                (MaxPool(3, 1, 1), *conv(projection, 1)),
            )
        )

    halve = MaxPool(3, 2, 1)
    return (
        *(*conv(64, 7, 2), halve, *conv(64, 1), *conv(192, 3), halve),
        *(inception(64, 96, 128, 16, 32, 32), inception(128, 128, 192, 32, 96, 64), halve),
        *(inception(192, 96, 208, 16, 48, 64), inception(160, 112, 224, 24, 64, 64)),
        *(inception(128, 128, 256, 24, 64, 64), inception(112, 144, 288, 32, 64, 64)),
        *(inception(256, 160, 320, 32, 128, 128), halve),
        *(inception(256, 160, 320, 32, 128, 128), inception(384, 192, 384, 48, 128, 128)),
        *(GlobalAveragePool(), Dropout(0.4), Dense(1000)),
    )


def _normalized(features: int, size: int, strides: int = 1) -> Layers:
    return Conv(features, size, strides, size // 2, bias=False), BatchNorm()


def resnet18() -> Layers:
    """ResNet-18 for small images: a 3x3 convolution in place of the 7x7 and its pooling."""

    def block(features: int, strides: int, changes: bool) -> Residual:
        body = (*_normalized(features, 3, strides), RELU, *_normalized(features, 3))
        return Residual(body, _normalized(features, 1, strides) if changes else ())

    blocks = (block(64, 1, False), block(64, 1, False))
    for features in (128, 256, 512):
        blocks += (block(features, 2, True), block(features, 1, False))
    return (*_normalized(64, 3), RELU, *blocks, GlobalAveragePool(), Dense(10))


def resnet50() -> Layers:
    """ResNet-50 that halves its maps in the 3x3 convolutions, as torchvision's does."""

    def block(features: int, strides: int, first: bool) -> Residual:
        narrow = (*_normalized(features, 1), RELU, *_normalized(features, 3, strides), RELU)
        return Residual(
            (*narrow, *_normalized(4 * features, 1)), _normalized(4 * features, 1, strides) if first else ()
        )

    blocks: Layers = ()
    for features, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        strides = 1 if features == 64 else 2
        blocks += (block(features, strides, True), *(block(features, 1, False),) * (count - 1))
    return (*_normalized(64, 7, 2), RELU, MaxPool(3, 2, 1), *blocks, GlobalAveragePool(), Dense(1000))


@dataclasses.dataclass(frozen=True)
class Network:
    """A network to time.

    Attributes:
      describe: its layers, for plain Flax, PyTorch and Keras.
      model: ours, a name for `cnnjax.create_model`.
      options: of ours.
      image_shape: height, width and channels.
      num_classes: of its output.
      batch_size: images in a training step.
      parameters: how many it is published with, or counted by hand.
    """

    describe: Callable[[], Layers]
    model: str
    options: Mapping[str, Any]
    image_shape: tuple[int, int, int]
    num_classes: int
    batch_size: int
    parameters: int


NETWORKS: Mapping[str, Network] = {
    "mlp": Network(mlp, "mlp", {}, (28, 28, 1), 10, 128, 636_010),
    "lenet5": Network(lenet5, "lenet5", {}, (32, 32, 1), 10, 128, 61_706),
    "mnist_cnn": Network(mnist_cnn, "cnn_small", {}, (28, 28, 1), 10, 128, 1_199_882),
    "resnet18": Network(resnet18, "resnet18", {"stem": "3x3"}, (32, 32, 3), 10, 64, 11_173_962),
    "alexnet": Network(alexnet, "alexnet", {"towers": 1, "normalization": "none"}, (227, 227, 3), 1000, 32, 62_378_344),
    "googlenet": Network(
        googlenet, "googlenet", {"auxiliary_weight": 0.0, "normalization": "none"}, (224, 224, 3), 1000, 8, 6_998_552
    ),
    "resnet50": Network(resnet50, "resnet50_torchvision", {}, (224, 224, 3), 1000, 8, 25_557_032),
    "vgg16": Network(vgg16, "vgg16", {}, (224, 224, 3), 1000, 4, 138_357_544),
}
