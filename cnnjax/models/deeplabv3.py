"""DeepLabv3: convolutions of the last map with several dilations in parallel, so that windows of several sizes are combined.

Chen, Papandreou, Schroff and Adam, "Rethinking atrous convolution for semantic image segmentation", arXiv:1706.05587, 2017,
section 3.3, in torchvision's versions: on a dilated ResNet (42,004,074 and 60,996,202 parameters with both heads and 21 classes) and
on MobileNetV3-large (11,029,328).
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.models import mobilenet_v3, resnet
from cnnjax.models.fcn_resnet import DILATED, EncoderHead, torchvision_module
from cnnjax.models.mobilenet_v3 import LARGE, MobileNetV3
from cnnjax.models.published import CONV_NORM, V_VOC, VOC, Published, Torchvision, Weights

RATES = (12, 24, 36)


class DeepLabHead(nn.Module):
    """Atrous spatial pyramid pooling - dropout - conv 3x3 256 - conv 1x1 to the classes.

    The pyramid is a 1x1 convolution, three 3x3 convolutions dilated by 12, 24 and 36, and the mean over the map; their outputs are
    concatenated and combined by a 1x1 convolution.
    """

    num_classes: int
    sync_batch_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w channel"], train: bool) -> Float[Array, "batch h w class"]:
        conv = partial(layers.ConvNorm, 256, sync_batch_norm=self.sync_batch_norm, dtype=self.dtype)
        mean = conv(1, name="pooled")(x.mean((1, 2), keepdims=True), train)
        pyramid = (
            conv(1, name="rate1")(x, train),
            *(conv(3, dilation=rate, name=f"rate{rate}")(x, train) for rate in RATES),
            jnp.broadcast_to(mean, (*x.shape[:-1], mean.shape[-1])),
        )
        x = conv(1, name="project")(jnp.concatenate(pyramid, -1), train)
        x = layers.Dropout(0.5)(x, train)
        x = conv(3, name="last")(x, train)
        if not self.num_classes:
            return x
        return layers.Conv(self.num_classes, 1, dtype=self.dtype, name="output")(x)


_HEAD = {
    **{f"rate{rate}/{part}": f"0.convs.{i}.{n}" for i, rate in enumerate((1, *RATES)) for part, n in CONV_NORM.items()},
    **{f"pooled/{part}": f"0.convs.{len(RATES) + 1}.{number + 1}" for part, number in CONV_NORM.items()},
    **{f"project/{part}": f"0.project.{number}" for part, number in CONV_NORM.items()},
    **{f"last/{part}": f"{number + 1}" for part, number in CONV_NORM.items()},
    "output": "4",
}
_ENCODERS = {
    **dict.fromkeys(DILATED, resnet.torchvision_module),
    "mobilenet_v3_large": partial(mobilenet_v3.torchvision_module, LARGE),
}
# The network, the map of its auxiliary head, the mean IoU and the counts, as in `fcn_resnet`.
_ROWS = {
    "resnet50": (DILATED["resnet50"], -2, "66.4", (39_638_869, 168_731_205_888)),
    "resnet101": (DILATED["resnet101"], -2, "67.4", (58_630_997, 248_752_300_288)),
    "mobilenet_v3_large": (
        partial(MobileNetV3, rows=LARGE, hidden=1280, for_segmentation=True),
        -4,
        "60.3",
        (11_025_477, 10_436_350_688),
    ),
}
DIFFERENCES = {
    "torchvision": "The same networks. Initial weights of the heads are uniform there, and truncated normal here.",
    "Keras": "`keras.applications` has no networks for segmentation.",
}
PUBLISHED = {
    f"deeplabv3_{name}": Published(
        partial(EncoderHead, encoder=encoder, head=DeepLabHead, auxiliary_map=auxiliary_map),
        *VOC,
        "Chen et al., arXiv 2017, and torchvision",
        result=f"{iou} % mean IoU on COCO val2017 with VOC's labels",
        counts=counts,
        task="segmentation",
        encoder=f"{name}_torchvision" if name in DILATED else name,
        torchvision=Torchvision(
            f"deeplabv3_{name}", partial(torchvision_module, _ENCODERS[name], _HEAD), ("head", "output")
        ),
    )
    for name, (encoder, auxiliary_map, iou, counts) in _ROWS.items()
}
TORCHVISION_WEIGHTS = (
    Weights(
        "deeplabv3_mobilenet_v3_large",
        V_VOC,
        "deeplabv3_mobilenet_v3_large-fc3c493d.pth",
        42,
        resize=520,
        mean_iou=60.3,
        pixel_accuracy=91.2,
    ),
    Weights(
        "deeplabv3_resnet50",
        V_VOC,
        "deeplabv3_resnet50_coco-cd0a2569.pth",
        161,
        resize=520,
        mean_iou=66.4,
        pixel_accuracy=92.4,
    ),
    Weights(
        "deeplabv3_resnet101",
        V_VOC,
        "deeplabv3_resnet101_coco-586e9e4e.pth",
        233,
        resize=520,
        mean_iou=67.4,
        pixel_accuracy=92.4,
    ),
)
