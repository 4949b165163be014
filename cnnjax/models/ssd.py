"""SSD300: a detector with one stage on VGG-16, which classifies default boxes of many sizes on six maps and corrects their positions.

Liu et al., "SSD: single shot multibox detector", ECCV 2016, in torchvision's version: 35,641,826 parameters with COCO's 90 categories and
background.
"""

from functools import partial
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction, not_negative, positive
from cnnjax.detection import Detections, Objects
from cnnjax.detection.anchors import centred_anchors, default_box_shapes
from cnnjax.detection.boxes import clip, decode, encode, intersection_over_union
from cnnjax.detection.losses import Ratio, smooth_l1
from cnnjax.detection.matching import BACKGROUND, match_default_boxes, matched, without_ignored
from cnnjax.detection.objects import taken
from cnnjax.detection.suppression import best_detections
from cnnjax.models import vgg
from cnnjax.models.feature_pyramid import by_anchor, joined
from cnnjax.models.network import FeatureMaps
from cnnjax.models.published import COCO, V_COCO, Published, Torchvision, Weights
from cnnjax.models.vgg import BLOCKS, VGG

SIZE = (300, 300)
# Section 2.2 and torchvision: the ratios of each map's default boxes besides 1, the pixels between them, and their scales; the last scale
# is that of a seventh map, which does not exist.
RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
STEPS = (8, 16, 32, 64, 100, 300)
SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
WEIGHTS = (10.0, 10.0, 5.0, 5.0)
# Conv 8 to 11: channels of the 1x1 and of the 3x3 convolution, and the stride and padding of the latter.
FURTHER = ((256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0))
XAVIER = layers.initializer("xavier_uniform")


class SSDOutputs(NamedTuple):
    """The outputs by map: logits of background and of the classes, in this order, and offsets of the boxes from the default boxes.

    `feature_pyramid.joined` concatenates them in torchvision's order.
    """

    logits: list[Float[Array, "batch _h _w anchor class+1"]]
    offsets: list[Float[Array, "batch _h _w anchor 4"]]


class ScaledNorm(nn.Module):
    """Divides the channels of each position by their L2 norm and multiplies by a trained scale for each channel (ParseNet; section 3.1)."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"]) -> Float[Array, "batch height width channel"]:
        scale = self.param("scale_weight", nn.initializers.constant(20.0), x.shape[-1:], jnp.float32)
        length = jnp.sqrt(jnp.maximum(jnp.square(x.astype(jnp.float32)).sum(-1, keepdims=True), 1e-24))
        return (x / length * scale).astype(x.dtype)


class SSD(nn.Module):
    """VGG-16's conv 4_3, rescaled - conv 7 after a dilated conv 6 - conv 8_2 to 11_2; on each of the six maps conv 3x3 to classes and boxes."""

    num_classes: int
    foreground: Annotated[float, "smallest IoU at which a default box is matched with an object; below, it is background", fraction] = 0.5  # fmt: skip
    negatives: Annotated[float, "background boxes in the loss, those with the highest losses, for each matched box", not_negative] = 3.0  # fmt: skip
    score_threshold: Annotated[float, "score that a detection must exceed", fraction] = 0.01
    nms_threshold: Annotated[float, "IoU above which the lower-scoring of two detections of a class is dropped", fraction] = 0.45  # fmt: skip
    candidates: Annotated[int, "best candidates of each class before suppression", positive] = 400
    max_detections: Annotated[int, "detections in an image", positive] = 200
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"], train: bool = False) -> SSDOutputs | FeatureMaps:
        if x.shape[1:3] != SIZE:
            raise ValueError(f"ssd300: images of {x.shape[1]}x{x.shape[2]}: expected 300x300: set dataset.resize or augment.crop")  # fmt: skip
        encoder = VGG(0, BLOCKS["vgg16"], batch_norm=False, dtype=self.dtype, ceil_mode=True, name="encoder")
        *_, conv4_3, x, _ = encoder(x, train, features_only=True)
        maps = [ScaledNorm(name="norm4_3")(conv4_3)]
        conv, relu = partial(layers.Conv, kernel_init=XAVIER, dtype=self.dtype), layers.activation("relu")
        x = layers.max_pool(x, 3, 1, padding=1)
        x = relu(conv(1024, 3, padding=6, dilation=6, name="conv6")(x))
        maps.append(x := relu(conv(1024, 1, name="conv7")(x)))
        for number, (narrow, features, strides, padding) in enumerate(FURTHER, start=8):
            x = relu(conv(narrow, 1, name=f"conv{number}_1")(x))
            maps.append(x := relu(conv(features, 3, strides, padding, name=f"conv{number}_2")(x)))
        if not self.num_classes:
            return maps

        def head(values: int, name: str) -> list[Array]:
            shapes = [2 + 2 * len(ratios) for ratios in RATIOS]
            return [
                by_anchor([each], conv(count * values, 3, padding=1, name=f"{name}{number}"), values)[0]
                for number, (each, count) in enumerate(zip(maps, shapes, strict=True), start=1)
            ]

        return SSDOutputs(head(self.num_classes + 1, "classes"), head(4, "boxes"))

    def anchors(self, outputs: SSDOutputs) -> Float[Array, "anchor 4"]:
        """The default boxes of all maps."""
        rows = zip(outputs.offsets, SCALES, SCALES[1:], RATIOS, STEPS, strict=False)
        return jnp.concatenate(
            [
                centred_anchors(default_box_shapes(scale, following, ratios, SIZE), offsets.shape[1:3], step)
                for offsets, scale, following, ratios, step in rows
            ]
        )

    def losses(
        self, x: Float[Array, "batch height width channel"], objects: Objects, train: bool = False
    ) -> dict[str, Ratio]:
        """The losses of the batch: cross-entropy of the classes, smooth L1 of the boxes, divided by the number of matched boxes.

        Of an image's background only the boxes with the highest losses are trained, at most `negatives` for each matched box (hard
        negative mining).
        """
        outputs = self(x, train)
        anchors = self.anchors(outputs)
        overlaps = intersection_over_union(anchors, objects.boxes)
        matches = match_default_boxes(overlaps, objects.wanted, self.foreground)
        matches = without_ignored(matches, anchors, objects)
        found = matches >= 0
        classes = jnp.where(found, matched(matches, objects.classes) + 1, 0)
        log_probabilities = jax.nn.log_softmax(joined(outputs.logits))
        entropy = -jnp.take_along_axis(log_probabilities, classes[..., None], 2)[..., 0]
        worst = -jnp.sort(-jnp.where(matches == BACKGROUND, entropy, 0), axis=1)
        trained = jnp.arange(len(anchors)) < self.negatives * found.sum(1, keepdims=True)
        targets = encode(matched(matches, objects.boxes), anchors, WEIGHTS)
        distance = smooth_l1(joined(outputs.offsets) - targets, 1.0).sum(-1)
        classification = (jnp.where(found, entropy, 0) + jnp.where(trained, worst, 0)).sum(1)
        regression = jnp.where(found, distance, 0).sum(1)
        return {
            "classification": Ratio(classification, found.sum(1)),
            "regression": Ratio(regression, found.sum(1)),
        }

    def detections(self, x: Float[Array, "batch height width channel"]) -> Detections:
        """The detections in images."""
        outputs = self(x)
        boxes = clip(decode(joined(outputs.offsets), self.anchors(outputs), WEIGHTS), SIZE)
        scores = jnp.moveaxis(jax.nn.softmax(joined(outputs.logits))[..., 1:], 2, 1)
        best, chosen = jax.lax.top_k(scores, self.candidates)
        classes = jnp.broadcast_to(jnp.arange(self.num_classes)[:, None], best.shape)
        best, chosen, classes = (each.reshape(x.shape[0], -1) for each in (best, chosen, classes))
        mask = best > self.score_threshold
        return best_detections(taken(boxes, chosen), best, classes, mask, self.nms_threshold, self.max_detections)


def torchvision_module(path: tuple[str, ...]) -> str:
    """torchvision's name of a layer; it numbers convolutions, ReLUs and poolings, and starts again at conv 5_1."""
    part, *inner = path
    if part == "encoder":
        number = int(vgg.torchvision_module(BLOCKS["vgg16"], False, tuple(inner)).removeprefix("features."))
        pool4 = 23
        return f"backbone.features.{number}" if number < pool4 else f"backbone.extra.0.{number - pool4}"
    names = {"norm4_3": "backbone", "conv6": "backbone.extra.0.7.1", "conv7": "backbone.extra.0.7.3"}
    if part in names:
        return names[part]
    if part.startswith("conv"):
        number, which = map(int, part.removeprefix("conv").split("_"))
        return f"backbone.extra.{number - 7}.{2 * (which - 1)}"
    head = "classification" if part.startswith("classes") else "regression"
    return f"head.{head}_head.module_list.{int(part[-1]) - 1}"


DIFFERENCES = {
    "torchvision": "`ssd300_vgg16` is the same network. torchvision counts background as a class, which it is not here: torchvision's 91 "
    "classes are 90. Losses are divided by the number of matched boxes of the whole batch on all devices; torchvision divides by those "
    "of one device. A default box that an ignored object (a crowd) covers is not trained as background.",
    "Keras": "`keras.applications` has no detectors.",
}
PUBLISHED = {
    "ssd300_vgg16": Published(
        SSD,
        (*SIZE, 3),
        COCO[1] - 1,
        "Liu et al., ECCV 2016, and torchvision",
        parameters=35_641_826,
        macs=34_858_000_000,
        result="25.1 % box mAP on COCO val2017",
        counts=(35_641_826, 34_858_153_472),
        task="detection",
        encoder="vgg16",
        torchvision=Torchvision(
            "ssd300_vgg16", torchvision_module, ("classes1",), outputs_per_class=4, background=True
        ),
    ),
}
TORCHVISION_WEIGHTS = (
    Weights(
        "ssd300_vgg16",
        V_COCO,
        "ssd300_vgg16_coco-b556d3b4.pth",
        136,
        resize=300,
        mean=(0.48235, 0.45882, 0.40784),
        std=(1 / 255,) * 3,
        box_map=25.1,
    ),
)
