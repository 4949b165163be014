"""RegNet: networks whose widths are a quantised linear function of the block's number, given by a few parameters.

Radosavovic, Kosaraju, Girshick, He and Dollár, "Designing network design spaces", CVPR 2020. Block j of `depth` blocks has the width
initial_width + slope j, rounded to a power of `step` times the initial width and to a multiple of 8 (equations 2 to 4); the blocks of one
width are a stage. RegNetX has residual bottleneck blocks with groups of `group_width` maps and no reduction of the width; RegNetY
adds squeeze-and-excitation. The parameters of each network are torchvision's, with which its weights were trained.
"""

import math
from functools import partial
from itertools import groupby
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import not_negative, positive
from cnnjax.models.inverted_residual import divisible
from cnnjax.models.network import FeatureMaps, Network
from cnnjax.models.published import IMAGENET, V1, V2, Published, Torchvision, Weights

HE = layers.initializers.scaled(2.0, "normal", "out")
relu = layers.activation("relu")


class Stage(NamedTuple):
    """A stage: its number of blocks, their maps, and the maps of a group."""

    blocks: int
    features: int
    group_width: int


def stages(depth: int, initial_width: int, slope: float, step: float, group_width: int) -> tuple[Stage, ...]:
    """The stages of a network, by equations 2 to 4; widths are then made multiples of the group's.

    >>> [(stage.blocks, stage.features) for stage in stages(22, 24, 24.48, 2.54, 16)]
    [(1, 32), (2, 64), (7, 160), (12, 400)]

    Raises:
      ValueError: `step` is not above 1, so that there are no powers to round to.
    """
    if step <= 1:
        raise ValueError(f"regnet: step={step}: expected a ratio of widths above 1")
    powers = [round(math.log((initial_width + slope * j) / initial_width, step)) for j in range(depth)]
    widths = [8 * round(initial_width * step**power / 8) for power in powers]
    return tuple(
        Stage(len(list(blocks)), divisible(width, min(group_width, width)), min(group_width, width))
        for width, blocks in groupby(widths)
    )


class Block(nn.Module):
    """Conv 1x1 - conv 3x3 in groups - squeeze-and-excitation - conv 1x1, all of one width, and a shortcut around them."""

    features: int
    group_width: int
    strides: int
    squeeze_ratio: float
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch h w features"]:
        conv = partial(layers.Conv, self.features, use_bias=False, kernel_init=HE, dtype=self.dtype)
        norm = partial(layers.BatchNorm, self.sync_batch_norm)
        y = relu(norm(name="bn1")(conv(1, name="conv1")(x), train))
        groups = self.features // self.group_width
        y = relu(norm(name="bn2")(conv(3, self.strides, 1, groups=groups, name="conv2")(y), train))
        if self.squeeze_ratio:  # of the block's input
            squeezed = round(self.squeeze_ratio * x.shape[-1])
            y = layers.SqueezeExcitation(squeezed, kernel_init=HE, dtype=self.dtype, name="se")(y)
        y = norm(name="bn3")(conv(1, name="conv3")(y), train)
        if x.shape != y.shape:
            x = norm(name="shortcut_bn")(conv(1, self.strides, name="shortcut_conv")(x), train)
        return relu(layers.add(x, y))


class RegNet(Network):
    """Conv 3x3/2 32 - stages of residual blocks, the first block of each halves the map - global average - output."""

    num_classes: int
    depth: Annotated[int, "number of blocks", positive]
    initial_width: Annotated[int, "width of the first block, before rounding", positive]
    slope: Annotated[float, "increase of the width from block to block, before rounding", positive]
    step: Annotated[float, "ratio of the widths of successive stages", positive]
    group_width: Annotated[int, "feature maps of a group of the 3x3 convolutions", positive]
    squeeze_ratio: Annotated[
        float, "width of squeeze-and-excitation relative to the block's input; 0 for none", not_negative
    ] = 0.0
    sync_batch_norm: Annotated[bool, "whether batch statistics are over all devices"] = True
    rematerialize: Annotated[bool, "whether to recompute blocks for their gradients, which saves memory"] = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, features_only: bool = False
    ) -> Float[Array, "batch class"] | FeatureMaps:
        block = nn.remat(Block, static_argnums=(2,)) if self.rematerialize else Block
        block = partial(block, squeeze_ratio=self.squeeze_ratio, sync_batch_norm=self.sync_batch_norm, dtype=self.dtype)
        conv = layers.Conv(32, 3, 2, 1, use_bias=False, kernel_init=HE, dtype=self.dtype, name="conv1")
        x = relu(layers.BatchNorm(self.sync_batch_norm, name="bn1")(conv(x), train))
        maps = []
        line = stages(self.depth, self.initial_width, self.slope, self.step, self.group_width)
        for number, stage in enumerate(line, start=1):
            maps.append(x)
            for index in range(1, stage.blocks + 1):
                strides = 2 if index == 1 else 1
                x = block(stage.features, stage.group_width, strides, name=f"block{number}_{index}")(x, train)
        if features_only:
            return [*maps, x]
        x = layers.global_average_pool(x)
        small = layers.initializer("small_normal")
        return layers.output(x, self.num_classes, kernel_init=small, dtype=self.dtype, name="fc")


_LAYERS = {
    **{
        f"{kind}{i}": f"f.{part}.{place}" for i, part in enumerate("abc", 1) for kind, place in (("conv", 0), ("bn", 1))
    },
    "shortcut_conv": "proj.0",
    "shortcut_bn": "proj.1",
}


def torchvision_module(path: tuple[str, ...]) -> str:
    """torchvision's name of a layer."""
    first, *inner = path
    if not inner:
        return {"conv1": "stem.0", "bn1": "stem.1"}.get(first, first)
    stage, block = first.split("_")
    layer = f"f.se.{inner[1]}" if inner[0] == "se" else _LAYERS[inner[0]]
    return f"trunk_output.{stage}.{stage}-{int(block) - 1}.{layer}"


# depth, initial width, slope, step and group width, as in torchvision 0.29.1; figures of its documentation; parameters and multiply-adds
# as counted. The accuracies are those of the first weights, of `y_128gf` with its end-to-end weights for images of 384 pixels.
_ROWS = {
    "regnet_x_400mf": ((22, 24, 24.48, 2.54, 16), 414_000_000, "72.834", (5_495_976, 413_812_608)),
    "regnet_x_800mf": ((16, 56, 35.73, 2.28, 16), 800_000_000, "75.212", (7_259_656, 799_699_712)),
    "regnet_x_1_6gf": ((18, 80, 34.01, 2.25, 24), 1_603_000_000, "77.040", (9_190_136, 1_602_849_792)),
    "regnet_x_3_2gf": ((25, 88, 26.31, 2.25, 48), 3_177_000_000, "78.364", (15_296_552, 3_176_621_952)),
    "regnet_x_8gf": ((23, 80, 49.56, 2.88, 120), 7_995_000_000, "79.344", (39_572_648, 7_995_132_416)),
    "regnet_x_16gf": ((22, 216, 55.59, 2.1, 128), 15_941_000_000, "80.058", (54_278_536, 15_940_755_456)),
    "regnet_x_32gf": ((23, 320, 69.86, 2.0, 168), 31_736_000_000, "80.622", (107_811_560, 31_735_929_792)),
    "regnet_y_400mf": ((16, 48, 27.89, 2.09, 8), 402_000_000, "74.046", (4_344_144, 401_842_848)),
    "regnet_y_800mf": ((14, 56, 38.84, 2.4, 16), 834_000_000, "76.420", (6_432_512, 833_856_256)),
    "regnet_y_1_6gf": ((27, 48, 20.71, 2.65, 24), 1_612_000_000, "77.950", (11_202_430, 1_612_076_160)),
    "regnet_y_3_2gf": ((21, 80, 42.63, 2.66, 24), 3_176_000_000, "78.948", (19_436_338, 3_176_482_752)),
    "regnet_y_8gf": ((17, 192, 76.82, 2.19, 56), 8_473_000_000, "80.032", (39_381_472, 8_473_070_592)),
    "regnet_y_16gf": ((18, 200, 106.23, 2.48, 112), 15_912_000_000, "80.424", (83_590_140, 15_911_510_272)),
    "regnet_y_32gf": ((20, 232, 115.89, 2.53, 232), 32_280_000_000, "80.878", (145_046_770, 32_279_552_832)),
    "regnet_y_128gf": ((27, 456, 160.83, 2.52, 264), 127_518_000_000, "88.228", (644_812_894, 127_517_815_680)),
}
# torchvision 0.29.1, `models/regnet.py`; Keras at commit 3422977 (22 August 2026), `applications/`.
DIFFERENCES = {
    "torchvision": "The same networks and initial weights.",
    "Keras": "`keras.applications` has no RegNet.",
}
PUBLISHED = {
    name: Published(
        partial(
            RegNet,
            **dict(zip(("depth", "initial_width", "slope", "step", "group_width"), line, strict=True)),
            squeeze_ratio=0.25 if "_y_" in name else 0.0,
        ),
        *IMAGENET,
        "Radosavovic et al., CVPR 2020, and torchvision",
        parameters=counts[0],
        macs=macs,
        result=f"{accuracy} % top-1 accuracy on ImageNet's validation split (torchvision's weights)",
        counts=counts,
        torchvision=Torchvision(name, torchvision_module, ("fc",)),
    )
    for name, (line, macs, accuracy, counts) in _ROWS.items()
}
# The SWAG weights (Singh et al., CVPR 2022) are for non-commercial use, CC BY-NC 4.0.
TORCHVISION_WEIGHTS = (
    Weights("regnet_y_400mf", V1, "regnet_y_400mf-c65dace8.pth", 17, 74.046, 91.716),
    Weights("regnet_y_400mf", V2, "regnet_y_400mf-e6988f5f.pth", 17, 75.804, 92.742, resize=232),
    Weights("regnet_y_800mf", V1, "regnet_y_800mf-1b27b58c.pth", 25, 76.420, 93.136),
    Weights("regnet_y_800mf", V2, "regnet_y_800mf-58fc7688.pth", 25, 78.828, 94.502, resize=232),
    Weights("regnet_y_1_6gf", V1, "regnet_y_1_6gf-b11a554e.pth", 43, 77.950, 93.966),
    Weights("regnet_y_1_6gf", V2, "regnet_y_1_6gf-0d7bc02a.pth", 43, 80.876, 95.444, resize=232),
    Weights("regnet_y_3_2gf", V1, "regnet_y_3_2gf-b5a9779c.pth", 75, 78.948, 94.576),
    Weights("regnet_y_3_2gf", V2, "regnet_y_3_2gf-9180c971.pth", 75, 81.982, 95.972, resize=232),
    Weights("regnet_y_8gf", V1, "regnet_y_8gf-d0d0e4a8.pth", 151, 80.032, 95.048),
    Weights("regnet_y_8gf", V2, "regnet_y_8gf-dc2b1b54.pth", 151, 82.828, 96.330, resize=232),
    Weights("regnet_y_16gf", V1, "regnet_y_16gf-9e6ed7dd.pth", 319, 80.424, 95.240),
    Weights("regnet_y_16gf", V2, "regnet_y_16gf-3e4a00f9.pth", 319, 82.886, 96.328, resize=232),
    Weights(
        "regnet_y_16gf",
        "IMAGENET1K_SWAG_E2E_V1",
        "regnet_y_16gf_swag-43afe44d.pth",
        319,
        86.012,
        98.054,
        resize=384,
        crop=384,
    ),
    Weights(
        "regnet_y_16gf",
        "IMAGENET1K_SWAG_LINEAR_V1",
        "regnet_y_16gf_lc_swag-f3ec0043.pth",
        319,
        83.976,
        97.244,
        resize=224,
    ),
    Weights("regnet_y_32gf", V1, "regnet_y_32gf-4dee3f7a.pth", 554, 80.878, 95.340),
    Weights("regnet_y_32gf", V2, "regnet_y_32gf-8db6d4b5.pth", 554, 83.368, 96.498, resize=232),
    Weights(
        "regnet_y_32gf",
        "IMAGENET1K_SWAG_E2E_V1",
        "regnet_y_32gf_swag-04fdfa75.pth",
        554,
        86.838,
        98.362,
        resize=384,
        crop=384,
    ),
    Weights(
        "regnet_y_32gf",
        "IMAGENET1K_SWAG_LINEAR_V1",
        "regnet_y_32gf_lc_swag-e1583746.pth",
        554,
        84.622,
        97.480,
        resize=224,
    ),
    Weights(
        "regnet_y_128gf",
        "IMAGENET1K_SWAG_E2E_V1",
        "regnet_y_128gf_swag-c8ce3e52.pth",
        2462,
        88.228,
        98.682,
        resize=384,
        crop=384,
    ),
    Weights(
        "regnet_y_128gf",
        "IMAGENET1K_SWAG_LINEAR_V1",
        "regnet_y_128gf_lc_swag-cbe8ce12.pth",
        2462,
        86.068,
        97.844,
        resize=224,
    ),
    Weights("regnet_x_400mf", V1, "regnet_x_400mf-adf1edd5.pth", 21, 72.834, 90.950),
    Weights("regnet_x_400mf", V2, "regnet_x_400mf-62229a5f.pth", 21, 74.864, 92.322, resize=232),
    Weights("regnet_x_800mf", V1, "regnet_x_800mf-ad17e45c.pth", 28, 75.212, 92.348),
    Weights("regnet_x_800mf", V2, "regnet_x_800mf-94a99ebd.pth", 28, 77.522, 93.826, resize=232),
    Weights("regnet_x_1_6gf", V1, "regnet_x_1_6gf-e3633e7f.pth", 35, 77.040, 93.440),
    Weights("regnet_x_1_6gf", V2, "regnet_x_1_6gf-a12f2b72.pth", 35, 79.668, 94.922, resize=232),
    Weights("regnet_x_3_2gf", V1, "regnet_x_3_2gf-f342aeae.pth", 59, 78.364, 93.992),
    Weights("regnet_x_3_2gf", V2, "regnet_x_3_2gf-7071aa85.pth", 59, 81.196, 95.430, resize=232),
    Weights("regnet_x_8gf", V1, "regnet_x_8gf-03ceed89.pth", 151, 79.344, 94.686),
    Weights("regnet_x_8gf", V2, "regnet_x_8gf-2b70d774.pth", 151, 81.682, 95.678, resize=232),
    Weights("regnet_x_16gf", V1, "regnet_x_16gf-2007eb11.pth", 208, 80.058, 94.944),
    Weights("regnet_x_16gf", V2, "regnet_x_16gf-ba3796d7.pth", 208, 82.716, 96.196, resize=232),
    Weights("regnet_x_32gf", V1, "regnet_x_32gf-9d47f8d0.pth", 412, 80.622, 95.248),
    Weights("regnet_x_32gf", V2, "regnet_x_32gf-6eb8fdc6.pth", 412, 83.014, 96.288, resize=232),
)
