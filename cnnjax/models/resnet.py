"""Residual networks.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016: tables 1 (ImageNet, 18 to 152 layers)
and 6 (CIFAR-10, 20 to 110 layers). In a bottleneck the paper halves the map in the first 1x1 convolution; torchvision
in the 3x3, which `stride_in` chooses. `preactivation` puts normalisation and ReLU before the convolutions ("Identity
mappings in deep residual networks", ECCV 2016).
"""

from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import positive

# Blocks in conv2_x to conv5_x, and whether they are bottlenecks.
STAGES = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
# Layers of the CIFAR-10 networks: 6 n + 2, with n blocks in each of three stages.
CIFAR_LAYERS = (20, 32, 44, 56, 110)

Shortcut = Literal["A", "B", "C", "none"]
HE = layers.initializer("he_normal")


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1 - 3x3 - 1x1, around which the input is added."""

    features: int
    strides: int
    bottleneck: bool
    shortcut: Shortcut
    stride_in: Literal["1x1", "3x3"]
    preactivation: bool
    zero_init: bool
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch h w features"]:
        relu = layers.activation("relu")
        width = 4 * self.features if self.bottleneck else self.features
        first, second = (self.strides, 1) if self.stride_in == "1x1" or not self.bottleneck else (1, self.strides)
        plan = [(3, self.features, self.strides), (3, self.features, 1)]
        if self.bottleneck:
            plan = [(1, self.features, first), (3, self.features, second), (1, width, 1)]

        def norm(name: str, x: Array, last: bool = False) -> Array:
            scale = nn.initializers.zeros if last and self.zero_init else nn.initializers.ones
            return layers.BatchNorm(self.sync_batch_norm, scale_init=scale, name=name)(x, train)

        y = shortcut_input = x
        for index, (size, features, strides) in enumerate(plan, start=1):
            conv = layers.Conv(
                features,
                (size, size),
                strides,
                size // 2,
                use_bias=False,
                kernel_init=HE,
                dtype=self.dtype,
                name=f"conv{index}",
            )
            if self.preactivation:
                y = relu(norm(f"bn{index}", y))
                shortcut_input = y if index == 1 else shortcut_input
                y = conv(y)
            else:
                y = norm(f"bn{index}", conv(y), last=index == len(plan))
                y = relu(y) if index < len(plan) else y

        if self.shortcut == "none":
            return y if self.preactivation else relu(y)
        changes = x.shape[-1] != width or self.strides != 1
        if self.shortcut == "C" or (self.shortcut == "B" and changes):
            source = shortcut_input if self.preactivation else x
            x = layers.Conv(
                width,
                (1, 1),
                self.strides,
                "valid",
                use_bias=False,
                kernel_init=HE,
                dtype=self.dtype,
                name="shortcut_conv",
            )(source)
            x = x if self.preactivation else norm("shortcut_bn", x)
        elif changes:  # A: every other position, and zeros for the new channels
            x = x[:, :: self.strides, :: self.strides]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, width - x.shape[-1])))
        return x + y if self.preactivation else relu(x + y)


class ResNet(nn.Module):
    """Stem - stages of residual blocks, each after the first at half the size and twice the maps - global average - output."""

    num_classes: int
    stages: tuple[int, ...]
    bottleneck: bool
    features: Annotated[int, "maps of the first stage, doubled in each that follows", positive] = 64
    stem: Annotated[Literal["7x7", "3x3"], "7x7/2 and max-pool as published, or 3x3/1 for small images"] = "7x7"
    shortcut: Annotated[
        Shortcut,
        "where the shape changes: zero-padded identity (A), projection (B); projections everywhere (C); none: a plain network",
    ] = "B"
    stride_in: Annotated[Literal["1x1", "3x3"], "which convolution of a bottleneck halves the map"] = "1x1"
    preactivation: Annotated[bool, "normalisation and ReLU before the convolutions"] = False
    zero_init: Annotated[bool, "start each block as the identity: its last scale is 0"] = False
    sync_batch_norm: Annotated[bool, "statistics of the batch over all devices"] = True
    rematerialize: Annotated[bool, "less memory: blocks are computed again for their gradients, not kept"] = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False
    ) -> Float[Array, "batch class"]:
        if self.zero_init and self.preactivation:
            raise ValueError("resnet: zero_init needs blocks that end in a scale, those of preactivation do not")
        relu = layers.activation("relu")
        block = nn.remat(Block, static_argnums=(2,)) if self.rematerialize else Block
        size, strides = (7, 2) if self.stem == "7x7" else (3, 1)
        x = layers.Conv(
            self.features,
            (size, size),
            strides,
            size // 2,
            use_bias=False,
            kernel_init=HE,
            dtype=self.dtype,
            name="conv1",
        )(x)
        if not self.preactivation:
            x = relu(layers.BatchNorm(self.sync_batch_norm, name="bn1")(x, train))
        if self.stem == "7x7":
            x = layers.max_pool(x, 3, 2, padding=1)
        for stage, count in enumerate(self.stages):
            for index in range(count):
                x = block(
                    features=self.features * 2**stage,
                    strides=2 if stage > 0 and index == 0 else 1,
                    bottleneck=self.bottleneck,
                    shortcut=self.shortcut,
                    stride_in=self.stride_in,
                    preactivation=self.preactivation,
                    zero_init=self.zero_init,
                    sync_batch_norm=self.sync_batch_norm,
                    dtype=self.dtype,
                    name=f"conv{stage + 2}_{index + 1}",
                )(x, train)
        if self.preactivation:
            x = relu(layers.BatchNorm(self.sync_batch_norm, name="bn_last")(x, train))
        x = layers.global_average_pool(x)
        return layers.Dense(
            self.num_classes, kernel_init=layers.initializer("small_normal"), dtype=self.dtype, name="fc"
        )(x)
