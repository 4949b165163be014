"""FCN on VGG-16: fully convolutional networks as published, FCN-32s, FCN-16s and FCN-8s.

Shelhamer, Long and Darrell, "Fully convolutional networks for semantic segmentation", PAMI 39(4), 2017 (CVPR 2015), sections
3 and 4.2, with the padding and the crops of the authors' published network files: VGG's dense layers as convolutions, scores by
1x1 convolutions of its last maps, enlarged by transposed convolutions that begin as bilinear interpolation.
136,152,917, 134,815,994 and 134,489,759 parameters with 21 classes.
"""

from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models.published import Published
from cnnjax.models.vgg import BLOCKS, VGG

# Zeros around the images, 99 here and one in the first convolution: the 7x7 convolution has room on the last map of any image.
PADDING = 100
# The offsets at which the larger map is cropped so that it is aligned with the smaller one; the last is that of the images.
OFFSETS = {32: (19,), 16: (5, 27), 8: (5, 9, 31)}


def crop(x: Float[Array, "batch h w channel"], offset: int, like: Array) -> Float[Array, "batch height width channel"]:
    """The part of a map, from an offset on, that is as large as another map."""
    height, width = like.shape[1:3]
    return x[:, offset : offset + height, offset : offset + width]


class FCN(nn.Module):
    """VGG-16 - conv 7x7 4096 - conv 1x1 4096 - scores, enlarged and added to those of earlier maps - logits of the images' size."""

    num_classes: int
    stride: Annotated[
        Literal[32, 16, 8],
        "stride of the scores that are enlarged to the images: 32; 16 with the scores of pool4 too; 8 with those of pool3 as well",
    ]
    dropout_rate: Annotated[float, "dropout rate after each of the two convolutions with 4096 maps", fraction] = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False
    ) -> Float[Array, "batch height width class"]:
        images, relu = x, layers.activation("relu")
        x = jnp.pad(x, ((0, 0), (PADDING - 1,) * 2, (PADDING - 1,) * 2, (0, 0)))
        encoder = VGG(0, BLOCKS["vgg16"], batch_norm=False, dtype=self.dtype, ceil_mode=True, name="encoder")
        *_, conv3, conv4, _, x = encoder(x, train, features_only=True)
        for name, size in (("fc6", 7), ("fc7", 1)):
            conv = layers.Conv(4096, size, padding="valid", kernel_init=layers.initializer("small_normal"), dtype=self.dtype, name=name)  # fmt: skip
            x = layers.Dropout(self.dropout_rate)(relu(conv(x)), train)
        if not self.num_classes:
            return x

        def score(x: Array, name: str) -> Array:
            zeros = layers.initializer("zeros")
            return layers.Conv(self.num_classes, 1, kernel_init=zeros, dtype=self.dtype, name=f"score_{name}")(x)

        def enlarge(x: Array, factor: int, name: str) -> Array:
            settings = {"use_bias": False, "kernel_init": layers.initializers.bilinear, "dtype": self.dtype}
            return layers.ConvTranspose(self.num_classes, 2 * factor, factor, **settings, name=f"enlarge_{name}")(x)

        x = score(x, "fc7")
        *offsets, last_offset = OFFSETS[self.stride]
        for offset, name, feature_map in zip(offsets, ("pool4", "pool3"), (conv4, conv3), strict=False):
            x = enlarge(x, 2, name)
            x += crop(score(layers.max_pool(feature_map, 2, ceil_mode=True), name), offset, x)
        return crop(enlarge(x, self.stride, "images"), last_offset, images)


# Parameters as published; mean IoU on a part of VOC 2011's validation split (table 3 of the paper); multiply-adds as counted.
_ROWS = {
    32: (136_152_917, "63.6", 181_365_854_976),
    16: (134_815_994, "65.0", 181_448_086_272),
    8: (134_489_759, "65.5", 181_529_034_048),
}
DIFFERENCES = {
    "torchvision": "`fcn_resnet50` and `fcn_resnet101` are other networks, which have the same names here ([FCN on ResNet](fcn_resnet.md)).",
    "Keras": "`keras.applications` has no networks for segmentation.",
}
PUBLISHED = {
    f"fcn{stride}s": Published(
        partial(FCN, stride=stride),
        (500, 500, 3),
        21,
        "Shelhamer et al., PAMI 2017",
        parameters=parameters,
        result=f"{iou} % mean IoU on a part of VOC 2011's validation split",
        counts=(parameters, macs),
        task="segmentation",
        encoder="vgg16",
    )
    for stride, (parameters, iou, macs) in _ROWS.items()
}
