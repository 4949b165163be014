"""Farabet's network: the same layers on three scales of an image, for scene labelling.

Farabet, Couprie, Najman and LeCun, "Learning hierarchical features for scene labeling", PAMI 35(8), 2013, sections 3 and 5: a
Laplacian pyramid of three octaves; the same convolutional network is applied to each scale, and its maps are enlarged and concatenated
for a classifier of each position. The superpixels and trees with which the paper smooths the labels are not implemented.
427,910 parameters in the shared network.
"""

from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import positive
from cnnjax.models.published import Published

SCALES = 3
# Y, U and V of red, green and blue (ITU-R BT.601).
YUV = ((0.299, 0.587, 0.114), (-0.14713, -0.28886, 0.436), (0.615, -0.51499, -0.10001))
# Of the first 16 maps, 10 are connected to Y, and 6 to U and V.
FIRST = ((0,),) * 10 + ((1, 2),) * 6


def chosen(count: int, of: int, maps: int) -> tuple[tuple[int, ...], ...]:
    """For each of the maps the indices of its `count` inputs among `of`; the same for every network."""
    generator = np.random.RandomState(2013)
    return tuple(tuple(sorted(map(int, generator.permutation(of)[:count]))) for _ in range(maps))


def laplacian_pyramid(x: Float[Array, "batch height width channel"]) -> list[Float[Array, "batch h w channel"]]:
    """The difference of each octave from the next coarser one, and the coarsest octave (Burt and Adelson, 1983)."""
    pyramid = []
    for _ in range(SCALES - 1):
        coarser = _blurred(x)[:, ::2, ::2]
        pyramid.append(x - layers.resize_bilinear(coarser, x.shape[1:-1]))
        x = coarser
    return [*pyramid, x]


def _blurred(x: Float[Array, "batch height width channel"]) -> Float[Array, "batch height width channel"]:
    weights = jnp.array([1, 4, 6, 4, 1], x.dtype) / 16
    for axis in (1, 2):
        sides = [(2, 2) if each == axis else (0, 0) for each in range(x.ndim)]
        padded, length = jnp.pad(x, sides, mode="edge"), x.shape[axis]
        x = sum(weights[i] * jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(5))
    return x


def locally_normalized(
    x: Float[Array, "batch height width channel"], size: int = 15
) -> Float[Array, "batch height width channel"]:
    """Each channel less its mean in the window around a pixel, divided by its standard deviation there.

    The latter is taken for at least its mean over the image, so that even surfaces stay even (Jarrett et al., ICCV 2009).
    """

    half = size // 2
    # How much of each window lies within the image, which the pooling divides by the window's whole size.
    rows, columns = (
        np.minimum(np.arange(length) + half, length - 1) - np.maximum(np.arange(length) - half, 0) + 1
        for length in x.shape[1:3]
    )
    within = jnp.asarray(np.outer(rows, columns)[:, :, None] / size**2, x.dtype)

    def mean(x: Array) -> Array:
        return layers.average_pool(x, size, 1, padding=half) / within

    x = x - mean(x)
    deviation = jnp.sqrt(mean(jnp.square(x)) + 1e-8)
    return x / jnp.maximum(deviation, deviation.mean((1, 2), keepdims=True))


class SharedNetwork(nn.Module):
    """[conv 7x7 - tanh - max-pool 2] 16, 64 - conv 7x7 256, most of whose connections are left out."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"]) -> Float[Array, "batch h w 256"]:
        first = FIRST if x.shape[-1] == 3 else (tuple(range(x.shape[-1])),) * 16

        def conv(connections: tuple[tuple[int, ...], ...], name: str, x: Array) -> Array:
            return layers.PartialConv(connections, 7, 3, lambda fan_in: fan_in**-0.5, self.dtype, name=name)(x)

        x = layers.max_pool(layers.activation("tanh")(conv(first, "conv1", x)), 2, name="pool1")
        x = layers.max_pool(layers.activation("tanh")(conv(chosen(8, 16, 64), "conv2", x)), 2, name="pool2")
        return conv(chosen(32, 64, 256), "conv3", x)


class Farabet(nn.Module):
    """Laplacian pyramid - the shared network on each scale - 768 maps - hidden layer at each place - logits of the images' size."""

    num_classes: int
    hidden: Annotated[int, "units of the classifier's hidden layer", positive] = 1024
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False
    ) -> Float[Array, "batch height width class"]:
        size, network = x.shape[1:-1], SharedNetwork(self.dtype, name="shared")
        if x.shape[-1] == 3:
            x = x @ jnp.array(YUV, x.dtype).T
        maps = [network(locally_normalized(scale)) for scale in laplacian_pyramid(x)]
        x = jnp.concatenate([layers.resize_bilinear(each, maps[0].shape[1:-1]) for each in maps], -1)
        x = layers.activation("tanh")(layers.Conv(self.hidden, 1, dtype=self.dtype, name="fc1")(x))
        if not self.num_classes:
            return x
        return layers.resize_bilinear(layers.Conv(self.num_classes, 1, dtype=self.dtype, name="fc2")(x), size)


PUBLISHED = {
    "farabet": Published(
        Farabet,
        (240, 320, 3),
        8,
        "Farabet et al., PAMI 2013",
        counts=(1_223_566, 10_374_144_000),
        task="segmentation",
    ),
}
