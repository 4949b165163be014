"""FCN on ResNet: fully convolutional networks on a dilated ResNet, in torchvision's versions.

After Long, Shelhamer and Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015: a network for
classification whose last two stages have dilated convolutions instead of strides, so that its last map is an eighth of the image; a
small head; and a second head on an earlier map, which helps training. 35,322,218 parameters on ResNet-50 with both heads and 21
classes, 54,314,346 on ResNet-101.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction
from cnnjax.models import resnet
from cnnjax.models.network import Network
from cnnjax.models.published import V_VOC, VOC, Published, Torchvision, Weights
from cnnjax.models.resnet import ResNet

# Also the stages of `deeplabv3`.
DILATED = {
    "resnet50": partial(ResNet, stages=(3, 4, 6, 3), bottleneck=True, stride_in="3x3", dilated=True),
    "resnet101": partial(ResNet, stages=(3, 4, 23, 3), bottleneck=True, stride_in="3x3", dilated=True),
}


class FCNHead(nn.Module):
    """Conv 3x3 to a quarter of the maps - batch norm - ReLU - dropout - conv 1x1 to the classes."""

    num_classes: int
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w channel"], train: bool) -> Float[Array, "batch h w class"]:
        x = layers.Conv(x.shape[-1] // 4, 3, padding=1, use_bias=False, dtype=self.dtype, name="conv")(x)
        x = layers.activation("relu")(layers.BatchNorm(self.sync_batch_norm, name="bn")(x, train))
        x = layers.Dropout(0.1)(x, train)
        if not self.num_classes:
            return x
        return layers.Conv(self.num_classes, 1, dtype=self.dtype, name="output")(x)


class EncoderHead(nn.Module):
    """A network's last map - a head - logits, resized to the images.

    In training the auxiliary head's logits, also resized to the images, are stored in the collection "auxiliary"; the training step
    adds their loss with the weight `auxiliary_weight`. In prediction this head is not computed.
    """

    num_classes: int
    encoder: Callable[..., Network] = dataclasses.field(metadata={"option": False})
    head: Callable[..., nn.Module] = dataclasses.field(metadata={"option": False})
    auxiliary_map: int = dataclasses.field(metadata={"option": False})
    auxiliary_weight: Annotated[float, "of the auxiliary head's loss; 0 leaves it out", fraction] = 0.5
    sync_batch_norm: Annotated[bool, "statistics of the batch over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False
    ) -> Float[Array, "batch height width class"]:
        size, shared = x.shape[1:-1], {"sync_batch_norm": self.sync_batch_norm, "dtype": self.dtype}
        maps = self.encoder(num_classes=0, **shared, name="encoder")(x, train, features_only=True)
        x = self.head(self.num_classes, **shared, name="head")(maps[-1], train)
        if not self.num_classes:
            return x
        if self.auxiliary_weight and (train or self.is_initializing()):
            logits = FCNHead(self.num_classes, **shared, name="auxiliary")(maps[self.auxiliary_map], train)
            if train:
                self.sow("auxiliary", "logits", layers.resize_bilinear(logits, size))
        return layers.resize_bilinear(x, size)


_HEAD = {"conv": "0", "bn": "1", "output": "4"}


def torchvision_module(
    encoder: Callable[[tuple[str, ...]], str], head: Mapping[str, str], path: tuple[str, ...]
) -> str:
    """torchvision's name of a layer of an `EncoderHead`.

    Args:
      encoder: torchvision's name of a layer in the encoder's own network.
      head: torchvision's names of the head's layers, by their paths joined by /.
      path: the layer's path.
    """
    part, *inner = path
    if part == "encoder":
        return f"backbone.{encoder(tuple(inner)).removeprefix('features.')}"
    if part == "auxiliary":
        return f"aux_classifier.{_HEAD['/'.join(inner)]}"
    return f"classifier.{head['/'.join(inner) or part]}"


# torchvision's documentation: mean IoU of its weights, which are trained on the part of COCO that has Pascal VOC's categories.
# Parameters and multiply-adds as counted.
_ROWS = {
    "resnet50": ("60.5", (32_957_013, 142_725_772_800)),
    "resnet101": ("63.7", (51_949_141, 222_746_867_200)),
}
DIFFERENCES = {
    "torchvision": "The same networks. Initial weights of the heads are uniform there, and truncated normal here.",
    "Keras": "`keras.applications` has no networks for segmentation.",
}
PUBLISHED = {
    f"fcn_{name}": Published(
        partial(EncoderHead, encoder=DILATED[name], head=FCNHead, auxiliary_map=-2),
        *VOC,
        "torchvision",
        result=f"{iou} % mean IoU on COCO val2017 with VOC's labels",
        counts=counts,
        task="segmentation",
        encoder=f"{name}_torchvision",
        torchvision=Torchvision(
            f"fcn_{name}", partial(torchvision_module, resnet.torchvision_module, _HEAD), ("head", "output")
        ),
    )
    for name, (iou, counts) in _ROWS.items()
}
TORCHVISION_WEIGHTS = (
    Weights(
        "fcn_resnet50", V_VOC, "fcn_resnet50_coco-1167a1af.pth", 135, resize=520, mean_iou=60.5, pixel_accuracy=91.4
    ),
    Weights(
        "fcn_resnet101", V_VOC, "fcn_resnet101_coco-7ecb50ca.pth", 208, resize=520, mean_iou=63.7, pixel_accuracy=91.9
    ),
)
