"""U-Net: a contracting path, and an expanding path that also receives the contracting path's maps of each size.

Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015, figure 1:
31,030,658 parameters for grey images and 2 classes. Its convolutions have no padding: a tile of 572x572 gives the classes of its
central 388x388. The paper extends an image by mirroring, which the network here does itself, so that its output has the images' size.
`unet_same` pads its convolutions with zeros instead. With `encoder` another network is the contracting path.
"""

from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction, positive
from cnnjax.models.network import EncoderOptions, encoder_network
from cnnjax.models.published import Published

HE = layers.initializer("he_normal")


class DoubleConv(nn.Module):
    """[conv 3x3 - ReLU]*2, optionally with batch normalisation before each ReLU."""

    features: int
    padding: Literal["same", "valid"]
    batch_norm: bool
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool
    ) -> Float[Array, "batch h w features"]:
        for index in (1, 2):
            settings = {"use_bias": not self.batch_norm, "kernel_init": HE, "dtype": self.dtype, "name": f"conv{index}"}
            x = layers.Conv(self.features, 3, padding=self.padding, **settings)(x)
            if self.batch_norm:
                x = layers.BatchNorm(self.sync_batch_norm, name=f"bn{index}")(x, train)
            x = layers.activation("relu")(x)
        return x


class UNet(nn.Module):
    """[double conv - max-pool 2]*depth - double conv - [up-conv 2x2 - concatenate the map of that size - double conv]*depth - output.

    With an encoder the maps are that network's `feature_maps`, and the logits of the largest are resized to the images' size.
    """

    num_classes: int
    encoder: Annotated[str, "the network that is the contracting path, such as resnet34; empty: the published one"] = ""
    encoder_options: EncoderOptions = ()
    features: Annotated[int, "maps of the largest size, doubled at each smaller one", positive] = 64
    depth: Annotated[int, "number of poolings, without an encoder", positive] = 4
    padding: Annotated[
        Literal["valid", "same"],
        "padding of the convolutions: valid (none, and images extended by mirroring) or same (zeros); always same with an encoder",
    ] = "valid"
    upsampling: Annotated[
        Literal["transposed", "bilinear", "nearest", "bed_of_nails", "max_unpooling"],
        "how maps are enlarged: by a transposed convolution 2x2, as published, or by this function and a convolution 2x2; max_unpooling "
        "puts values back to the places of the poolings' maxima, and cannot be used with an encoder",
    ] = "transposed"
    skips: Annotated[bool, "whether the expanding path receives the contracting path's maps"] = True
    batch_norm: Annotated[bool, "batch normalisation after every convolution 3x3, which then has no bias"] = False
    dropout_rate: Annotated[float, "dropout rate at the end of the contracting path", fraction] = 0.5
    sync_batch_norm: Annotated[bool, "statistics of the batch over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False
    ) -> Float[Array, "batch height width class"]:
        if self.encoder and self.upsampling == "max_unpooling":
            raise ValueError(
                "unet: upsampling='max_unpooling' needs the poolings of the published contracting path: leave model.encoder empty"
            )
        size, valid = x.shape[1:-1], self.padding == "valid" and not self.encoder
        double = partial(
            DoubleConv,
            padding="valid" if valid else "same",
            batch_norm=self.batch_norm,
            sync_batch_norm=self.sync_batch_norm,
            dtype=self.dtype,
        )
        initial = {"kernel_init": HE, "dtype": self.dtype}

        def enlarge(x: Array, features: int, skip: Array, name: str) -> Array:
            if self.upsampling == "transposed":
                return layers.ConvTranspose(features, 2, 2, name=name, **initial)(x)
            if self.upsampling == "max_unpooling":
                x = layers.Conv(features, 2, name=name, **initial)(x)
                return layers.max_unpool(x, central(skip, (2 * x.shape[1], 2 * x.shape[2])), 2)
            grow = getattr(layers, f"upsample_{self.upsampling}")
            return layers.Conv(features, 2, name=name, **initial)(grow(x, 2))

        if self.encoder:
            encoder = encoder_network(self.encoder, self.encoder_options, sync_batch_norm=self.sync_batch_norm)
            *maps, x = encoder(dtype=self.dtype, name="encoder")(x, train, features_only=True)
        else:
            x, maps = with_context(x, self.depth, valid), []
            for level in range(self.depth):
                x = double(self.features * 2**level, name=f"down{level + 1}")(x, train)
                maps.append(x)
                x = layers.max_pool(x, 2, name=f"pool{level + 1}")
            x = double(self.features * 2**self.depth, name="bottom")(x, train)
        x = layers.Dropout(self.dropout_rate)(x, train)
        for level, skip in reversed(list(enumerate(maps))):
            features = self.features * 2**level
            x = enlarge(x, features, skip, f"enlarge{level + 1}")
            if self.encoder:  # whose maps have the sizes that its padding leaves
                x = layers.resize_bilinear(x, skip.shape[1:-1])
            if self.skips:
                x = jnp.concatenate((central(skip, x.shape[1:-1]), x), -1)
            x = double(features, name=f"up{level + 1}")(x, train)
        if self.num_classes:
            x = layers.Conv(self.num_classes, 1, name="output", **initial)(x)
        return layers.resize_bilinear(x, size) if self.encoder else central(x, size)


def with_context(
    x: Float[Array, "batch height width channel"], depth: int, valid: bool
) -> Float[Array, "batch h w channel"]:
    """Extends images so that every pooling divides its map evenly and the output is at least as large as the images.

    With padded convolutions the extension is zeros. Otherwise the images are mirrored, and extended additionally by what the
    convolutions cut off: 4 positions of its map for each double convolution.
    """
    step = 2**depth
    contracting, taken = (4 * (step - 1), 12 * step - 8) if valid else (0, 0)
    sides = []
    for length in x.shape[1:-1]:
        more = taken + -(length + taken - contracting) % step
        sides.append((more // 2, more - more // 2))
    return jnp.pad(x, ((0, 0), *sides, (0, 0)), mode="reflect" if valid else "constant")


def central(x: Float[Array, "batch h w channel"], size: tuple[int, ...]) -> Float[Array, "batch height width channel"]:
    """The central part of a map, with the given height and width."""
    top, left = ((length - wanted) // 2 for length, wanted in zip(x.shape[1:-1], size, strict=True))
    return x[:, top : top + size[0], left : left + size[1]]


PUBLISHED = {
    "unet": Published(
        UNet,
        (388, 388, 1),
        2,
        "Ronneberger et al., MICCAI 2015",
        parameters=31_030_658,
        result="92.03 % mean IoU on PhC-U373, 77.56 % on DIC-HeLa (table 2; ISBI cell tracking challenge 2015)",
        counts=(31_030_658, 150_428_424_448),
        task="segmentation",
    ),
    "unet_same": Published(
        partial(UNet, padding="same"),
        (256, 256, 3),
        2,
        "Ronneberger et al., MICCAI 2015, with padded convolutions",
        counts=(31_031_810, 48_171_581_440),
        task="segmentation",
    ),
}
