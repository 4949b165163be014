"""MnasNet: inverted residual blocks of two window sizes, found by a search that measured the time on a phone.

Tan et al., "MnasNet: Platform-aware neural architecture search for mobile", CVPR 2019, figure 7 without squeeze-and-excitation
(MnasNet-B1), in the four widths of torchvision.
"""

from functools import partial
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction, positive
from cnnjax.models.inverted_residual import InvertedResidual, divisible
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import CONV_NORM, IMAGENET, V1, Published, Torchvision, Weights


class Row(NamedTuple):
    """A stage: its blocks' expansion, kernel, output maps and number, and the first one's stride."""

    expansion: int
    kernel_size: int
    features: int
    count: int
    strides: int


STAGES = (
    Row(3, 3, 24, 3, 2),
    Row(3, 5, 40, 3, 2),
    Row(6, 5, 80, 3, 2),
    Row(6, 3, 96, 2, 1),
    Row(6, 5, 192, 4, 2),
    Row(6, 3, 320, 1, 1),
)


class MnasNet(Network):
    """Conv 3x3/2 32 - depthwise conv - conv 1x1 16 - inverted residual blocks - conv 1x1 1280 - global average - dropout - output."""

    num_classes: int
    width: Annotated[float, "factor of the numbers of maps, which are rounded to multiples of 8", positive] = 1.0
    dropout_rate: Annotated[float, "dropout rate before the output layer", fraction] = 0.2
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        conv = partial(
            layers.ConvNorm,
            momentum=0.9997,
            kernel_init=layers.initializers.scaled(2.0, "normal", "out"),
            sync_batch_norm=self.sync_batch_norm,
            dtype=self.dtype,
        )
        x = conv(divisible(32 * self.width), 3, 2, name="stem")(x, train)
        x = conv(x.shape[-1], 3, groups=x.shape[-1], name="depthwise")(x, train)
        x = conv(divisible(16 * self.width), 1, activation="identity", name="project")(x, train)
        maps = []
        for stage, row in enumerate(STAGES, start=1):
            if row.strides == 2:
                maps.append(x)
            for index in range(1, row.count + 1):
                x = InvertedResidual(
                    conv,
                    row.kernel_size,
                    row.expansion * x.shape[-1],
                    divisible(row.features * self.width),
                    row.strides if index == 1 else 1,
                    name=f"stage{stage}_{index}",
                )(x, train)
        x = conv(1280, 1, name="last")(x, train)
        if features_only:
            return [*maps, x]
        x = layers.Dropout(self.dropout_rate)(layers.global_average_pool(x), train)
        uniform = layers.initializers.scaled(1.0, "uniform", "out")
        return layers.output(x, self.num_classes, kernel_init=uniform, dtype=self.dtype, name="fc")


def torchvision_module(path: tuple[str, ...]) -> str:
    """torchvision's name of a layer; it numbers convolutions, normalisations and activations together."""
    first, *inner = path
    if first == "fc":
        return "classifier.1"
    before = {"stem": 0, "depthwise": 3, "project": 6, "last": 8 + len(STAGES)}
    if first in before:
        return f"layers.{before[first] + CONV_NORM[inner[0]]}"
    stage, index = map(int, first.removeprefix("stage").split("_"))
    layer = {"expand": 0, "depthwise": 3, "project": 6}[inner[0]] + CONV_NORM[inner[1]]
    return f"layers.{7 + stage}.{index - 1}.layers.{layer}"


# torchvision 0.29.1, `models/mnasnet.py`.
DIFFERENCES = {
    "torchvision": "The same networks, with the same initial distributions. Running statistics keep 0.9997. Files of state dict "
    "version 1 have a stem of one width, so that those of other widths than 1 do not fit. PyTorch's `load_state_dict` needs that "
    "version: `state = model.state_dict(); state.update(tensors)` keeps it.",
    "Keras": "`keras.applications` has no MnasNet.",
}
# torchvision's documentation: width, multiply-adds and accuracy. Parameters and multiply-adds as counted.
_ROWS = {
    "mnasnet0_5": (0.5, 104_000_000, "67.734", (2_218_512, 104_455_968)),
    "mnasnet0_75": (0.75, 215_000_000, "71.180", (3_170_208, 215_493_104)),
    "mnasnet1_0": (1.0, 314_000_000, "73.456", (4_383_312, 314_415_872)),
    "mnasnet1_3": (1.3, 526_000_000, "76.506", (6_282_256, 526_362_432)),
}
PUBLISHED = {
    name: Published(
        partial(MnasNet, width=width),
        *IMAGENET,
        "Tan et al., CVPR 2019, and torchvision",
        parameters=counts[0],
        macs=macs,
        result=f"{accuracy} % top-1 accuracy on ImageNet's validation split (torchvision)",
        counts=counts,
        torchvision=Torchvision(name, torchvision_module, ("fc",)),
    )
    for name, (width, macs, accuracy, counts) in _ROWS.items()
}
TORCHVISION_WEIGHTS = (
    Weights("mnasnet0_5", V1, "mnasnet0.5_top1_67.823-3ffadce67e.pth", 9, 67.734, 87.490),
    Weights("mnasnet0_75", V1, "mnasnet0_75-7090bc5f.pth", 12, 71.180, 90.496, resize=232),
    Weights("mnasnet1_0", V1, "mnasnet1.0_top1_73.512-f206786ef8.pth", 17, 73.456, 91.510),
    Weights("mnasnet1_3", V1, "mnasnet1_3-a4c69d6f.pth", 24, 76.506, 93.522, resize=232),
)
