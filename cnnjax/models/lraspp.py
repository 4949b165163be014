"""Lite R-ASPP: the segmentation head of MobileNetV3's paper, designed for little computation.

Howard et al., "Searching for MobileNetV3", ICCV 2019, section 6.4 and figure 10, in torchvision's version: 3,221,538 parameters
with 21 classes.
"""

from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.models import mobilenet_v3
from cnnjax.models.fcn_resnet import torchvision_module
from cnnjax.models.mobilenet_v3 import LARGE, MobileNetV3
from cnnjax.models.published import V_VOC, VOC, Published, Torchvision, Weights


class LRASPP(nn.Module):
    """MobileNetV3-large - the last map, gated by its mean, and a map of an eighth of the image - logits, resized to the images.

    The trunk's features are the inputs of the two classifiers, concatenated.
    """

    num_classes: int
    sync_batch_norm: Annotated[bool, "statistics of the batch over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False
    ) -> Float[Array, "batch height width class"]:
        size, shared = x.shape[1:-1], {"sync_batch_norm": self.sync_batch_norm, "dtype": self.dtype}
        conv = partial(layers.Conv, kernel_size=1, dtype=self.dtype)
        encoder = MobileNetV3(0, LARGE, 1280, **shared, for_segmentation=True, name="encoder")
        _, low, *_, high = encoder(x, train, features_only=True)
        x = conv(128, use_bias=False, name="conv")(high)
        x = layers.activation("relu")(layers.BatchNorm(self.sync_batch_norm, name="bn")(x, train))
        x *= jax.nn.sigmoid(conv(128, use_bias=False, name="gate")(high.mean((1, 2), keepdims=True)))
        x = layers.resize_bilinear(x, low.shape[1:-1])
        if not self.num_classes:
            return jnp.concatenate((low, x), -1)
        logits = conv(self.num_classes, name="low_output")(low) + conv(self.num_classes, name="high_output")(x)
        return layers.resize_bilinear(logits, size)


_HEAD = {
    "conv": "cbr.0",
    "bn": "cbr.1",
    "gate": "scale.1",
    "low_output": "low_classifier",
    "high_output": "high_classifier",
}
DIFFERENCES = {
    "torchvision": "The same network. Initial weights of the head are uniform there, and truncated normal here.",
    "Keras": "`keras.applications` has no networks for segmentation.",
}
PUBLISHED = {
    "lraspp_mobilenet_v3_large": Published(
        LRASPP,
        *VOC,
        "Howard et al., ICCV 2019, and torchvision",
        parameters=3_221_538,
        macs=2_086_000_000,
        result="57.9 % mean IoU on COCO val2017 with VOC's labels",
        counts=(3_221_538, 2_086_219_688),
        task="segmentation",
        encoder="mobilenet_v3_large",
        torchvision=Torchvision(
            "lraspp_mobilenet_v3_large",
            partial(torchvision_module, partial(mobilenet_v3.torchvision_module, LARGE), _HEAD),
            ("high_output",),
        ),
    ),
}
TORCHVISION_WEIGHTS = (
    Weights(
        "lraspp_mobilenet_v3_large",
        V_VOC,
        "lraspp_mobilenet_v3_large-d234d4ea.pth",
        12,
        resize=520,
        mean_iou=57.9,
        pixel_accuracy=91.2,
    ),
)
