"""MobileNetV3: inverted residual blocks, found by a search, with squeeze-and-excitation and hard swish.

Howard et al., "Searching for MobileNetV3", ICCV 2019, tables 1 (large) and 2 (small), with torchvision's tail: 5,483,032
and 2,542,856 parameters for 224x224x3 images and 1000 classes. The stride of a padded 3x3 or 5x5 window begins at the
border's zeros, as in torchvision; TensorFlow's 'SAME' begins elsewhere.
"""

import dataclasses
from functools import partial
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models.inverted_residual import InvertedResidual, divisible
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import CONV_NORM, IMAGENET, V1, V2, Published, Torchvision, Weights

HE = layers.initializers.scaled(2.0, "normal", "out")


class Row(NamedTuple):
    """A row of the tables: a block's kernel, expanded and output maps, squeeze-and-excitation, activation and stride."""

    kernel_size: int
    expanded: int
    features: int
    squeezes: bool
    activation: layers.ActivationName
    strides: int


LARGE = (
    Row(3, 16, 16, False, "relu", 1),
    Row(3, 64, 24, False, "relu", 2),
    Row(3, 72, 24, False, "relu", 1),
    Row(5, 72, 40, True, "relu", 2),
    Row(5, 120, 40, True, "relu", 1),
    Row(5, 120, 40, True, "relu", 1),
    Row(3, 240, 80, False, "hard_swish", 2),
    Row(3, 200, 80, False, "hard_swish", 1),
    Row(3, 184, 80, False, "hard_swish", 1),
    Row(3, 184, 80, False, "hard_swish", 1),
    Row(3, 480, 112, True, "hard_swish", 1),
    Row(3, 672, 112, True, "hard_swish", 1),
    Row(5, 672, 160, True, "hard_swish", 2),
    Row(5, 960, 160, True, "hard_swish", 1),
    Row(5, 960, 160, True, "hard_swish", 1),
)
SMALL = (
    Row(3, 16, 16, True, "relu", 2),
    Row(3, 72, 24, False, "relu", 2),
    Row(3, 88, 24, False, "relu", 1),
    Row(5, 96, 40, True, "hard_swish", 2),
    Row(5, 240, 40, True, "hard_swish", 1),
    Row(5, 240, 40, True, "hard_swish", 1),
    Row(5, 120, 48, True, "hard_swish", 1),
    Row(5, 144, 48, True, "hard_swish", 1),
    Row(5, 288, 96, True, "hard_swish", 2),
    Row(5, 576, 96, True, "hard_swish", 1),
    Row(5, 576, 96, True, "hard_swish", 1),
)


class MobileNetV3(Network):
    """Conv 3x3/2 16 - inverted residual blocks - conv 1x1 - global average - dense - dropout - output."""

    num_classes: int
    rows: tuple[Row, ...] = dataclasses.field(metadata={"option": False})
    hidden: int = dataclasses.field(metadata={"option": False})
    dropout_rate: Annotated[float, "before the output", fraction] = 0.2
    sync_batch_norm: Annotated[bool, "statistics of the batch over all devices"] = True
    dtype: Any = jnp.float32
    # torchvision's form for segmentation: the last stage is dilated in place of its stride, and the maps that are given are
    # those of the first block of each stage, then the last.
    for_segmentation: bool = dataclasses.field(default=False, metadata={"option": False})
    # torchvision's form for detection: these maps too, without the dilation.
    stage_starts: bool = dataclasses.field(default=False, metadata={"option": False})

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        conv = partial(
            layers.ConvNorm,
            activation="hard_swish",
            momentum=0.99,
            epsilon=1e-3,
            kernel_init=HE,
            sync_batch_norm=self.sync_batch_norm,
            dtype=self.dtype,
        )
        last_stage = max(number for number, row in enumerate(self.rows, start=1) if row.strides == 2)
        maps = []
        x = conv(16, 3, 2, name="stem")(x, train)
        for number, row in enumerate(self.rows, start=1):
            before = x
            dilated = self.for_segmentation and number >= last_stage
            squeeze = partial(layers.SqueezeExcitation, divisible(row.expanded / 4), "hard_sigmoid", HE, self.dtype)
            x = InvertedResidual(
                partial(conv, activation=row.activation),
                row.kernel_size,
                row.expanded,
                row.features,
                strides=1 if dilated else row.strides,
                dilation=2 if dilated else 1,
                squeeze=squeeze if row.squeezes else None,
                name=f"block{number}",
            )(x, train)
            if row.strides == 2:
                maps.append(x if self.for_segmentation or self.stage_starts else before)
        x = conv(6 * self.rows[-1].features, 1, name="last")(x, train)
        if features_only:
            return [*maps, x]
        x = layers.global_average_pool(x)
        dense = {"kernel_init": layers.initializer("small_normal"), "dtype": self.dtype}
        x = layers.activation("hard_swish")(layers.Dense(self.hidden, name="fc1", **dense)(x))
        x = layers.Dropout(self.dropout_rate)(x, train)
        return layers.output(x, self.num_classes, name="fc2", **dense)


def torchvision_module(rows: tuple[Row, ...], path: tuple[str, ...]) -> str:
    """torchvision's name of a layer; it numbers the layers that a block has."""
    first, *inner = path
    if first.startswith("fc"):
        return f"classifier.{ {'fc1': 0, 'fc2': 3}[first] }"
    ends = {"stem": 0, "last": len(rows) + 1}
    if first in ends:
        return f"features.{ends[first]}.{CONV_NORM[inner[0]]}"
    number = int(first.removeprefix("block"))
    row, width = rows[number - 1], rows[number - 2].features if number > 1 else 16
    expand, squeeze = ["expand"] * (row.expanded != width), ["squeeze"] * row.squeezes
    layer = [*expand, "depthwise", *squeeze, "project"].index(inner[0])
    return f"features.{number}.block.{layer}.{CONV_NORM.get(inner[1], inner[1])}"


DIFFERENCES = {
    "torchvision": "The same networks.",
    "Keras": "`MobileNetV3Large` and `MobileNetV3Small` scale the images themselves, and pad strided convolutions as TensorFlow does: "
    "one zero fewer at the top and at the left of maps of even size.",
}
PUBLISHED = {
    "mobilenet_v3_large": Published(
        partial(MobileNetV3, rows=LARGE, hidden=1280),
        *IMAGENET,
        "Howard et al., ICCV 2019, and torchvision",
        parameters=5_483_032,
        macs=217_000_000,
        result="74.042 % top-1 accuracy on ImageNet's validation split (torchvision's first weights)",
        counts=(5_483_032, 216_589_760),
        torchvision=Torchvision("mobilenet_v3_large", partial(torchvision_module, LARGE), ("fc2",)),
    ),
    "mobilenet_v3_small": Published(
        partial(MobileNetV3, rows=SMALL, hidden=1024),
        *IMAGENET,
        "Howard et al., ICCV 2019, and torchvision",
        parameters=2_542_856,
        macs=57_000_000,
        result="67.668 % top-1 accuracy on ImageNet's validation split",
        counts=(2_542_856, 56_510_400),
        torchvision=Torchvision("mobilenet_v3_small", partial(torchvision_module, SMALL), ("fc2",)),
    ),
}
TORCHVISION_WEIGHTS = (
    Weights("mobilenet_v3_large", V1, "mobilenet_v3_large-8738ca79.pth", 21, 74.042, 91.340),
    Weights("mobilenet_v3_large", V2, "mobilenet_v3_large-5c1a4163.pth", 21, 75.274, 92.566, resize=232),
    Weights("mobilenet_v3_small", V1, "mobilenet_v3_small-047dcff4.pth", 10, 67.668, 87.402),
)
