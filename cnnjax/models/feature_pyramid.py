"""Feature pyramid networks: maps of several sizes that all have high-level features, and heads that are shared by all maps.

Lin, Dollár, Girshick, He, Hariharan and Belongie, "Feature pyramid networks for object detection", CVPR 2017, section 3; the additional
maps, and the heads with several convolutions, are those of Lin et al., "Focal loss for dense object detection", ICCV 2017.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.models.network import FeatureMaps
from cnnjax.models.published import CONV_NORM

SMALL = layers.initializer("small_normal")


class FeaturePyramid(nn.Module):
    """Conv 1x1 of each map - plus the enlarged sum of the smaller maps - conv 3x3; then additional maps, each half the size before.

    `kind` chooses the additional maps: every second value of the map before (`pool`, as in Faster R-CNN), or convolutions 3x3 with
    stride 2 (`convolutions`, as in RetinaNet), whose input is the map before, after a ReLU except for the first of them. As in
    torchvision, the first of them takes the pyramid's last output.
    """

    features: int
    further: int
    kind: Literal["pool", "convolutions"]
    dtype: Any

    @nn.compact
    def __call__(self, maps: FeatureMaps) -> FeatureMaps:
        conv = partial(layers.Conv, self.features, kernel_init=layers.initializer("lecun_uniform"), dtype=self.dtype)
        outputs, x = [], None
        for level, feature_map in reversed(list(enumerate(maps, start=1))):
            lateral = conv(1, name=f"lateral{level}")(feature_map)
            x = lateral if x is None else lateral + layers.resize_nearest(x, lateral.shape[1:-1])
            outputs.insert(0, conv(3, padding=1, name=f"output{level}")(x))
        for number in range(1, self.further + 1):
            if self.kind == "pool":
                outputs.append(outputs[-1][:, ::2, ::2])
            else:
                last = outputs[-1] if number == 1 else layers.activation("relu")(outputs[-1])
                outputs.append(conv(3, 2, 1, name=f"further{number}")(last))
        return outputs


class Tower(nn.Module):
    """[conv 3x3 - group normalisation (optional) - ReLU]*depth, with the same weights for each map."""

    depth: int
    group_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, maps: FeatureMaps) -> FeatureMaps:
        for index in range(1, self.depth + 1):
            features = maps[0].shape[-1]
            conv = layers.Conv(features, 3, padding=1, kernel_init=SMALL, dtype=self.dtype, name=f"conv{index}")
            norm = lambda x: x  # noqa: E731
            if self.group_norm:
                groups = math.gcd(32, features)
                norm = nn.GroupNorm(groups, epsilon=1e-5, dtype=self.dtype, name=f"norm{index}")
            maps = [layers.activation("relu")(norm(conv(x))) for x in maps]
        return maps


def by_anchor(
    maps: FeatureMaps, conv: Callable[[Array], Array], values: int
) -> list[Float[Array, "batch _h _w anchor values"]]:
    """The outputs of a convolution for each map in float32, separated by the anchors of a position."""
    outputs = [conv(x).astype(jnp.float32) for x in maps]
    return [x.reshape(*x.shape[:-1], -1, values) for x in outputs]


def joined(outputs: Sequence[Float[Array, "batch _h _w anchor values"]]) -> Float[Array, "batch anchors values"]:
    """The outputs for all anchors, in the order of maps, rows, columns and shapes."""
    return jnp.concatenate([x.reshape(x.shape[0], -1, x.shape[-1]) for x in outputs], 1)


def stride_of(grid: tuple[int, int], image: tuple[int, int]) -> int:
    """The nominal stride of a map, a power of two, from its size and that of the image.

    >>> stride_of((25, 25), (800, 800)), stride_of((9, 13), (65, 97))
    (32, 8)
    """
    return 2 ** round(max(math.log2(length / places) for places, length in zip(grid, image, strict=True)))


def torchvision_module(encoder: Callable[[tuple[str, ...]], str], path: tuple[str, ...]) -> str:
    """torchvision's name of a layer of an encoder or of the pyramid on it.

    Args:
      encoder: torchvision's name of a layer in the encoder's own network.
      path: the layer's path.
    """
    part, *inner = path
    if part == "encoder":
        return f"backbone.body.{encoder(tuple(inner)).removeprefix('features.')}"
    kind, number = inner[0].rstrip("0123456789"), int(inner[0].lstrip("abcdefghijklmnopqrstuvwxyz"))
    if kind == "further":
        return f"backbone.fpn.extra_blocks.p{number + 5}"
    return f"backbone.fpn.{ {'lateral': 'inner', 'output': 'layer'}[kind] }_blocks.{number - 1}.{CONV_NORM['conv']}"
