"""The networks that are timed, each described once; every framework builds what it times from the description.

A description is a tuple of the layers below, in their order. `padding` is zeros (for pooling: nothing) on every side.
Keras has no such numbers but "same", which gives as many windows here, some of them shifted by a pixel; so has our
GoogLeNet. Dropout and the order of layers are those of our models.
"""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from cnnjax.models.pattern import Plan, Stage, format_plan, parse_plan


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution; its kernel and padding are square unless there are two numbers, height and width."""

    features: int
    size: int | tuple[int, int]
    strides: int = 1
    padding: int | tuple[int, int] = 0
    bias: bool = True
    groups: int = 1


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation with epsilon 1e-5, which keeps 0.9 of its running statistics in each step."""


@dataclasses.dataclass(frozen=True)
class LayerNorm:
    """Normalisation of each position's channels with epsilon 1e-6."""


@dataclasses.dataclass(frozen=True)
class LayerScale:
    """A trained factor for each channel."""

    initial: float


@dataclasses.dataclass(frozen=True)
class Activation:
    """An elementwise function."""

    name: Literal["relu", "tanh", "relu6", "silu", "gelu", "hard_swish", "sigmoid", "hard_sigmoid"]


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """The maximum of square windows."""

    size: int
    strides: int
    padding: int = 0


@dataclasses.dataclass(frozen=True)
class AveragePool:
    """The mean of square windows, padding counted; without strides they touch and do not overlap."""

    size: int
    strides: int | None = None
    padding: int = 0


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
class Pointwise:
    """A fully connected layer for each position."""

    features: int


@dataclasses.dataclass(frozen=True)
class SqueezeExcitation:
    """Each channel times the gate of two fully connected layers of all channels' means, an activation between them."""

    squeezed: int
    channels: int
    hidden: Activation
    gate: Activation = Activation("sigmoid")


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Zeros with this probability, in training."""

    rate: float


@dataclasses.dataclass(frozen=True)
class Halved:
    """Every other position, and maps of zeros for those that are new: the shortcut without parameters of He et al."""

    features: int


@dataclasses.dataclass(frozen=True)
class Repeated:
    """Each position this many times along both axes: the average-pooling of a 1x1 map to a larger one."""

    times: int


@dataclasses.dataclass(frozen=True)
class Part:
    """The first or the second half of the channels, by its number 0 or 1."""

    number: int


@dataclasses.dataclass(frozen=True)
class Shuffle:
    """The channels of this many groups, dealt in turn."""

    groups: int


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Branches side by side, their feature maps joined."""

    branches: tuple["Layers", ...]


@dataclasses.dataclass(frozen=True)
class Residual:
    """The sum of two branches, and its ReLU; an empty shortcut is the input itself."""

    body: "Layers"
    shortcut: "Layers" = ()
    relu: bool = True


Layer = (
    Conv
    | BatchNorm
    | LayerNorm
    | LayerScale
    | Activation
    | MaxPool
    | AveragePool
    | GlobalAveragePool
    | Flatten
    | Dense
    | Pointwise
    | SqueezeExcitation
    | Dropout
    | Halved
    | Repeated
    | Part
    | Shuffle
    | Parallel
    | Residual
)
Layers = tuple[Layer, ...]

RELU, TANH, RELU6, SILU, GELU, HARD_SWISH = map(Activation, ("relu", "tanh", "relu6", "silu", "gelu", "hard_swish"))


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


def _normalized(features: int, size: int | tuple[int, int], strides: int = 1, groups: int = 1) -> Layers:
    padding = (size[0] // 2, size[1] // 2) if isinstance(size, tuple) else size // 2
    return Conv(features, size, strides, padding, False, groups), BatchNorm()


def resnet18(large: bool = False) -> Layers:
    """ResNet-18; for small images with a 3x3 convolution in place of the 7x7 and its pooling."""

    def block(features: int, strides: int, changes: bool) -> Residual:
        body = (*_normalized(features, 3, strides), RELU, *_normalized(features, 3))
        return Residual(body, _normalized(features, 1, strides) if changes else ())

    blocks = (block(64, 1, False), block(64, 1, False))
    for features in (128, 256, 512):
        blocks += (block(features, 2, True), block(features, 1, False))
    if large:
        return (*_normalized(64, 7, 2), RELU, MaxPool(3, 2, 1), *blocks, GlobalAveragePool(), Dense(1000))
    return (*_normalized(64, 3), RELU, *blocks, GlobalAveragePool(), Dense(10))


def cifar_resnet(blocks_a_stage: int, features: int = 16) -> Layers:
    """ResNet-20 (3 blocks a stage) and ResNet-56 (9) for CIFAR-10, with shortcuts without parameters."""

    def block(features: int, strides: int) -> Residual:
        body = (*_normalized(features, 3, strides), RELU, *_normalized(features, 3))
        return Residual(body, (Halved(features),) if strides > 1 else ())

    first, second, third = ((block(features * width, 1),) * blocks_a_stage for width in (1, 2, 4))
    second, third = (block(2 * features, 2), *second[1:]), (block(4 * features, 2), *third[1:])
    return (*_normalized(features, 3), RELU, *first, *second, *third, GlobalAveragePool(), Dense(10))


def vgg16_bn_32() -> Layers:
    """VGG16 with batch normalisation for images of 32x32 and 10 classes; its convolutions keep their biases, as torchvision's do."""
    layers = [each for layer in vgg16() for each in ((layer, BatchNorm()) if isinstance(layer, Conv) else (layer,))]
    place = layers.index(Flatten())
    return (*layers[:place], Repeated(7), *layers[place:-1], Dense(10))


def resnet50(groups: int = 1, width: int = 1) -> Layers:
    """ResNet-50 that halves its maps in the 3x3 convolutions, as torchvision's does; these may be wider, and in groups."""

    def block(features: int, strides: int, first: bool) -> Residual:
        inside = width * features
        narrow = (*_normalized(inside, 1), RELU, *_normalized(inside, 3, strides, groups), RELU)
        return Residual(
            (*narrow, *_normalized(4 * features, 1)), _normalized(4 * features, 1, strides) if first else ()
        )

    blocks: Layers = ()
    for features, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        strides = 1 if features == 64 else 2
        blocks += (block(features, strides, True), *(block(features, 1, False),) * (count - 1))
    return (*_normalized(64, 7, 2), RELU, MaxPool(3, 2, 1), *blocks, GlobalAveragePool(), Dense(1000))


def inverted_residuals(
    channels: int, rows: Sequence[tuple[int, int, int, int, int]], activation: Activation, squeeze: bool = False
) -> Layers:
    """Blocks of MobileNetV2, each row (expansion, kernel size, features, blocks, stride of the first), perhaps with squeeze-and-excitation."""
    layers = []
    for expansion, size, features, count, first in rows:
        for strides in (first, *(1,) * (count - 1)):
            inside = expansion * channels
            body = (*_normalized(inside, 1), activation) if expansion > 1 else ()
            body += (*_normalized(inside, size, strides, inside), activation)
            body += (SqueezeExcitation(channels // 4, inside, activation),) if squeeze else ()
            body += _normalized(features, 1)
            layers += [Residual(body, relu=False)] if strides == 1 and channels == features else body
            channels = features
    return tuple(layers)


def _mobile(
    stem: Layers, channels: int, rows: Sequence[tuple[int, ...]], activation: Activation, squeeze: bool
) -> Layers:
    blocks = inverted_residuals(channels, rows, activation, squeeze)
    return (*stem, *blocks, *_normalized(1280, 1), activation, GlobalAveragePool(), Dropout(0.2), Dense(1000))


def mobilenet_v2() -> Layers:
    """MobileNetV2 (table 2 of its paper)."""
    rows = ((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 3, 32, 3, 2), (6, 3, 64, 4, 2), (6, 3, 96, 3, 1))
    rows += ((6, 3, 160, 3, 2), (6, 3, 320, 1, 1))
    return _mobile((*_normalized(32, 3, 2), RELU6), 32, rows, RELU6, squeeze=False)


def mnasnet() -> Layers:
    """MnasNet-A1's predecessor B1, as torchvision has it."""
    rows = (
        (3, 3, 24, 3, 2),
        (3, 5, 40, 3, 2),
        (6, 5, 80, 3, 2),
        (6, 3, 96, 2, 1),
        (6, 5, 192, 4, 2),
        (6, 3, 320, 1, 1),
    )
    stem = (*_normalized(32, 3, 2), RELU, *_normalized(32, 3, 1, 32), RELU, *_normalized(16, 1))
    return _mobile(stem, 16, rows, RELU, squeeze=False)


def efficientnet_b0() -> Layers:
    """EfficientNet-B0 (table 1 of its paper), without stochastic depth."""
    rows = ((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1))
    rows += ((6, 5, 192, 4, 2), (6, 3, 320, 1, 1))
    return _mobile((*_normalized(32, 3, 2), SILU), 32, rows, SILU, squeeze=True)


def convnext_tiny() -> Layers:
    """ConvNeXt-T (table 9 of its paper), without stochastic depth."""
    layers = (Conv(96, 4, 4), LayerNorm())
    for features, count in ((96, 3), (192, 3), (384, 9), (768, 3)):
        if features > 96:
            layers += (LayerNorm(), Conv(features, 2, 2))
        body = (Conv(features, 7, padding=3, groups=features), LayerNorm(), Pointwise(4 * features), GELU)
        layers += (Residual((*body, Pointwise(features), LayerScale(1e-6)), relu=False),) * count
    return (*layers, GlobalAveragePool(), LayerNorm(), Dense(1000))


def densenet121() -> Layers:
    """DenseNet-121 (table 1 of its paper)."""
    layers, channels = (*_normalized(64, 7, 2), RELU, MaxPool(3, 2, 1)), 64
    new = (BatchNorm(), RELU, Conv(128, 1, bias=False), BatchNorm(), RELU, Conv(32, 3, padding=1, bias=False))
    for count in (6, 12, 24, 16):
        if channels > 64:
            channels //= 2
            layers += (BatchNorm(), RELU, Conv(channels, 1, bias=False), AveragePool(2))
        layers += (Parallel(((), new)),) * count
        channels += 32 * count
    return (*layers, BatchNorm(), RELU, GlobalAveragePool(), Dense(1000))


def squeezenet1_1() -> Layers:
    """SqueezeNet 1.1."""

    def fire(squeezed: int) -> Layers:
        beside = ((Conv(4 * squeezed, 1), RELU), (Conv(4 * squeezed, 3, padding=1), RELU))
        return Conv(squeezed, 1), RELU, Parallel(beside)

    halve = MaxPool(3, 2)  # at 224x224 no window is incomplete but the first pooling's
    return (
        *(Conv(64, 3, 2), RELU, halve, *fire(16), *fire(16), halve, *fire(32), *fire(32), halve),
        *(*fire(48), *fire(48), *fire(64), *fire(64), Dropout(0.5), Conv(1000, 1), RELU, GlobalAveragePool()),
    )


def regnet_y_400mf() -> Layers:
    """RegNetY-400MF (the line of table 2 of its paper), as torchvision has it."""
    layers, channels = (*_normalized(32, 3, 2), RELU), 32
    for features, count in ((48, 1), (104, 3), (208, 6), (440, 6)):
        for strides in (2, *(1,) * (count - 1)):
            body = (*_normalized(features, 1), RELU, *_normalized(features, 3, strides, features // 8), RELU)
            body += (SqueezeExcitation(round(channels / 4), features, RELU), *_normalized(features, 1))
            layers += (Residual(body, _normalized(features, 1, strides) if strides > 1 else ()),)
            channels = features
    return (*layers, GlobalAveragePool(), Dense(1000))


def mobilenet_v3_large() -> Layers:
    """MobileNetV3-Large (table 1 of its paper), as torchvision has it."""
    sigmoid, layers, channels = Activation("hard_sigmoid"), (*_normalized(16, 3, 2), HARD_SWISH), 16
    for size, inside, features, squeezed, activation, strides in (
        *((3, 16, 16, 0, RELU, 1), (3, 64, 24, 0, RELU, 2), (3, 72, 24, 0, RELU, 1)),
        *((5, 72, 40, 24, RELU, 2), *((5, 120, 40, 32, RELU, 1),) * 2),
        *((3, 240, 80, 0, HARD_SWISH, 2), (3, 200, 80, 0, HARD_SWISH, 1), *((3, 184, 80, 0, HARD_SWISH, 1),) * 2),
        *((3, 480, 112, 120, HARD_SWISH, 1), (3, 672, 112, 168, HARD_SWISH, 1)),
        *((5, 672, 160, 168, HARD_SWISH, 2), *((5, 960, 160, 240, HARD_SWISH, 1),) * 2),
    ):
        body = (*_normalized(inside, 1), activation) if inside != channels else ()
        body += (*_normalized(inside, size, strides, inside), activation)
        body += (SqueezeExcitation(squeezed, inside, RELU, sigmoid),) if squeezed else ()
        body += _normalized(features, 1)
        layers += (Residual(body, relu=False),) if strides == 1 and channels == features else body
        channels = features
    end = (*_normalized(960, 1), HARD_SWISH, GlobalAveragePool(), Dense(1280), HARD_SWISH, Dropout(0.2), Dense(1000))
    return (*layers, *end)


def efficientnet_v2_s() -> Layers:
    """EfficientNetV2-S (table 4 of its paper), without stochastic depth."""
    layers, channels = (*_normalized(24, 3, 2), SILU), 24
    for expansion, features, count, first in ((1, 24, 2, 1), (4, 48, 4, 2), (4, 64, 4, 2)):
        for strides in (first, *(1,) * (count - 1)):
            body = (*_normalized(expansion * channels if expansion > 1 else features, 3, strides), SILU)
            body += _normalized(features, 1) if expansion > 1 else ()
            layers += (Residual(body, relu=False),) if strides == 1 and channels == features else body
            channels = features
    rows = ((4, 3, 128, 6, 2), (6, 3, 160, 9, 1), (6, 3, 256, 15, 2))
    return _mobile(layers, channels, rows, SILU, squeeze=True)


def shufflenet_v2_x1_0() -> Layers:
    """ShuffleNetV2 of width 1 (table 5 of its paper)."""
    layers, channels = (*_normalized(24, 3, 2), RELU, MaxPool(3, 2, 1)), 24
    for features, count in ((116, 4), (232, 8), (464, 4)):
        half = features // 2
        point = (*_normalized(half, 1), RELU)
        both = (*_normalized(channels, 3, 2, channels), *point), (*point, *_normalized(half, 3, 2, half), *point)
        one = (Part(0),), (Part(1), *point, *_normalized(half, 3, 1, half), *point)
        layers += (Parallel(both), Shuffle(2), *(Parallel(one), Shuffle(2)) * (count - 1))
        channels = features
    return (*layers, *_normalized(1024, 1), RELU, GlobalAveragePool(), Dense(1000))


def inception_v3() -> Layers:
    """Inception v3 (table 1 of its paper) without the auxiliary head."""

    def conv(features: int, size: int | tuple[int, int], strides: int = 1, padded: bool = True) -> Layers:
        if padded:
            return *_normalized(features, size, strides), RELU
        return Conv(features, size, strides, bias=False), BatchNorm(), RELU

    def chain(*steps: tuple[int, int | tuple[int, int]], halves: bool = False) -> Layers:
        *before, (features, size) = steps
        last = conv(features, size, 2, False) if halves else conv(features, size)
        return (*(layer for step in before for layer in conv(*step)), *last)

    def pooled(features: int) -> Layers:
        return AveragePool(3, 1, 1), *conv(features, 1)

    def figure_5(features: int) -> Parallel:
        return Parallel((conv(64, 1), chain((48, 1), (64, 5)), chain((64, 1), (96, 3), (96, 3)), pooled(features)))

    def figure_6(features: int) -> Parallel:
        row, column, end = (features, (1, 7)), (features, (7, 1)), (192, (1, 7))
        longer = chain((features, 1), column, row, column, end)
        return Parallel((conv(192, 1), chain((features, 1), row, (192, (7, 1))), longer, pooled(192)))

    beside = Parallel((conv(384, (1, 3)), conv(384, (3, 1))))
    figure_7 = Parallel((conv(320, 1), (*conv(384, 1), beside), (*conv(448, 1), *conv(384, 3), beside), pooled(192)))
    halved = chain((384, 3), halves=True), chain((64, 1), (96, 3), (96, 3), halves=True), (MaxPool(3, 2),)
    again = (
        chain((192, 1), (320, 3), halves=True),
        chain((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), halves=True),
        (MaxPool(3, 2),),
    )
    return (
        *(*conv(32, 3, 2, False), *conv(32, 3, 1, False), *conv(64, 3), MaxPool(3, 2)),
        *(*conv(80, 1), *conv(192, 3, 1, False), MaxPool(3, 2)),
        *(figure_5(32), figure_5(64), figure_5(64), Parallel(halved)),
        *(figure_6(128), figure_6(160), figure_6(160), figure_6(192), Parallel(again), figure_7, figure_7),
        *(GlobalAveragePool(), Dropout(0.5), Dense(1000)),
    )


def xception() -> Layers:
    """Xception (figure 5 of its paper)."""

    def separable(features: int, channels: int) -> Layers:
        return Conv(channels, 3, padding=1, bias=False, groups=channels), *_normalized(features, 1)

    def block(channels: int, widths: Sequence[int], halves: bool, begins: bool = True) -> Residual:
        body: Layers = ()
        for place, (before, features) in enumerate(zip((channels, *widths[:-1]), widths, strict=True)):
            body += (RELU,) * (begins or place > 0) + separable(features, before)
        return (
            Residual((*body, MaxPool(3, 2, 1)), _normalized(widths[-1], 1, 2), False)
            if halves
            else Residual(body, (), False)
        )

    return (
        *(Conv(32, 3, 2, bias=False), BatchNorm(), RELU, Conv(64, 3, bias=False), BatchNorm(), RELU),
        *(block(64, (128, 128), True, False), block(128, (256, 256), True), block(256, (728, 728), True)),
        *(*(block(728, (728,) * 3, False),) * 8, block(728, (728, 1024), True)),
        *(*separable(1536, 1024), RELU, *separable(2048, 1536), RELU),
        *(GlobalAveragePool(), Dropout(0.5), Dense(1000)),
    )


def nin() -> Layers:
    """Network in network for CIFAR-10."""

    def block(features: int, size: int, *widths: int) -> Layers:
        point = (layer for width in widths for layer in (Conv(width, 1), RELU))
        return (Conv(features, size, padding=size // 2), RELU, *point)

    return (
        *(*block(192, 5, 160, 96), MaxPool(3, 2, 1), Dropout(0.5), *block(192, 5, 192, 192), AveragePool(3, 2, 1)),
        *(Dropout(0.5), *block(192, 3, 192, 10), GlobalAveragePool()),
    )


def pattern(plan: str, norm: str) -> Layers:
    """Our `pattern` with a plan such as "conv 8 16 pool | conv 32 pool | fc 64" and 10 classes."""
    parsed, layers = parse_plan(plan), []
    for stage in parsed.stages:
        for features in stage.features:
            layers += [Conv(features, 3, padding=1, bias=norm == "none"), *[BatchNorm()] * (norm == "batch"), RELU]
        layers += [MaxPool(2, 2)] * stage.pool
    layers += [Flatten(), *(layer for units in parsed.hidden for layer in (Dense(units), RELU)), Dense(10)]
    return tuple(layers)


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
    # The sizes of our configs.
    "resnet20": Network(partial(cifar_resnet, 3), "resnet20", {}, (32, 32, 3), 10, 128, 269_722),
    "resnet56": Network(partial(cifar_resnet, 9), "resnet56", {}, (32, 32, 3), 10, 128, 853_018),
    "resnet20_wide": Network(
        partial(cifar_resnet, 3, 64), "resnet20", {"features": 64}, (32, 32, 3), 10, 32, 4_286_026
    ),
    "resnet20_96": Network(partial(cifar_resnet, 3), "resnet20", {}, (96, 96, 1), 10, 32, 269_434),
    "resnet18_224": Network(partial(resnet18, large=True), "resnet18", {}, (224, 224, 3), 1000, 8, 11_689_512),
    "vgg16_bn_32": Network(vgg16_bn_32, "vgg16_bn", {}, (32, 32, 3), 10, 128, 134_309_962),
    "googlenet_96": Network(
        googlenet, "googlenet", {"auxiliary_weight": 0.0, "normalization": "none"}, (96, 96, 3), 1000, 16, 6_998_552
    ),
    # torchvision's other families.
    "mobilenet_v2": Network(mobilenet_v2, "mobilenet_v2", {}, (224, 224, 3), 1000, 16, 3_504_872),
    "mnasnet1_0": Network(mnasnet, "mnasnet1_0", {}, (224, 224, 3), 1000, 16, 4_383_312),
    "efficientnet_b0": Network(
        efficientnet_b0, "efficientnet_b0", {"stochastic_depth_rate": 0.0}, (224, 224, 3), 1000, 16, 5_288_548
    ),
    "convnext_tiny": Network(
        convnext_tiny, "convnext_tiny", {"stochastic_depth_rate": 0.0}, (224, 224, 3), 1000, 8, 28_589_128
    ),
    "densenet121": Network(densenet121, "densenet121", {}, (224, 224, 3), 1000, 8, 7_978_856),
    "resnext50_32x4d": Network(partial(resnet50, 32, 2), "resnext50_32x4d", {}, (224, 224, 3), 1000, 8, 25_028_904),
    "wide_resnet50_2": Network(partial(resnet50, 1, 2), "wide_resnet50_2", {}, (224, 224, 3), 1000, 4, 68_883_240),
    "regnet_y_400mf": Network(regnet_y_400mf, "regnet_y_400mf", {}, (224, 224, 3), 1000, 16, 4_344_144),
    "squeezenet1_1": Network(squeezenet1_1, "squeezenet1_1", {}, (224, 224, 3), 1000, 16, 1_235_496),
    "mobilenet_v3_large": Network(mobilenet_v3_large, "mobilenet_v3_large", {}, (224, 224, 3), 1000, 16, 5_483_032),
    "shufflenet_v2_x1_0": Network(shufflenet_v2_x1_0, "shufflenet_v2_x1_0", {}, (224, 224, 3), 1000, 16, 2_278_604),
    "efficientnet_v2_s": Network(
        efficientnet_v2_s, "efficientnet_v2_s", {"stochastic_depth_rate": 0.0}, (224, 224, 3), 1000, 8, 21_458_488
    ),
    "inception_v3": Network(
        inception_v3, "inception_v3", {"auxiliary_weight": 0.0}, (299, 299, 3), 1000, 8, 23_834_568
    ),
    "xception": Network(xception, "xception", {}, (299, 299, 3), 1000, 4, 22_855_952),
    "nin": Network(nin, "nin", {}, (32, 32, 3), 10, 128, 966_986),
}

# What a drawn network is made of. The multiplications of a training step are at most `MOST`.
WIDTHS, SIDES, BATCHES = (8, 12, 16, 24, 32, 48, 64, 96), (28, 32, 48, 64, 96), (16, 32, 64, 128)
MOST = 30e9


def drawn(seed: int, number: int) -> Network:
    """A `pattern` network drawn by a seed: one to three convolutions in two to four stages, images and batches of any usual size."""
    generator = random.Random(f"{seed} {number}")
    while True:
        stages = [generator.choices(WIDTHS, k=generator.randint(1, 3)) for _ in range(generator.randint(2, 4))]
        norm, side = generator.choice(("batch", "none")), generator.choice(SIDES)
        channels, batch_size = generator.choice((1, 3)), generator.choice(BATCHES)
        plan = Plan(tuple(Stage(tuple(sorted(stage)), True) for stage in stages), (generator.choice((32, 64, 128)),))
        text = format_plan(plan)
        layers = pattern(text, norm)
        parameters, products = counted(layers, (side, side, channels))
        if 3 * products * batch_size <= MOST:
            options = {"plan": text, "norm": norm}
            return Network(
                partial(pattern, text, norm), "pattern", options, (side, side, channels), 10, batch_size, parameters
            )


def counted(layers: Layers, shape: tuple[int, int, int]) -> tuple[int, int]:
    """The parameters of a chain without branches, and its multiplications for an image."""
    (height, width, channels), parameters, products = shape, 0, 0
    for layer in layers:
        match layer:
            case Conv(features, size, _, _, bias, 1):
                parameters += size * size * channels * features + features * bias
                products += height * width * size * size * channels * features
                channels = features
            case BatchNorm():
                parameters += 2 * channels
            case MaxPool():
                height, width = height // 2, width // 2
            case Flatten():
                height, width, channels = 1, 1, height * width * channels
            case Dense(features):
                parameters += (channels + 1) * features
                products += channels * features
                channels = features
    return parameters, products


def network_of(name: str) -> Network:
    """The network of a name in `NETWORKS`, or of "drawn-SEED-NUMBER"; "NAME@IMAGES" has another batch.

    Raises:
      KeyError: there is none.
    """
    name, _, images = name.partition("@")
    kind, *numbers = name.split("-")
    network = drawn(*map(int, numbers)) if kind == "drawn" else NETWORKS[name]
    return dataclasses.replace(network, batch_size=int(images)) if images else network
