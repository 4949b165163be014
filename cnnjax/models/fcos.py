"""FCOS: a detector without anchors, in which every point of a map regresses its distances from the sides of the box it lies in.

Tian, Shen, Chen and He, "FCOS: fully convolutional one-stage object detection", ICCV 2019, with the additions of the authors' later
version (arXiv:2006.09214): only points near an object's centre are matched with it, and the loss of boxes is that of generalized IoU.
The version on ResNet-50 is torchvision's: 32,269,600 parameters with frozen batch normalisation and 91 classes.
"""

import math
from functools import partial
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import fraction, not_negative, positive
from cnnjax.detection import Detections, Objects
from cnnjax.detection.anchors import pyramid_anchors
from cnnjax.detection.boxes import clip
from cnnjax.detection.losses import Ratio, binary_cross_entropy, generalized_iou_loss, sigmoid_focal_loss
from cnnjax.detection.matching import NEITHER, match_points, matched, without_ignored
from cnnjax.detection.suppression import detections_by_map
from cnnjax.models import feature_pyramid, resnet
from cnnjax.models.feature_pyramid import SMALL, FeaturePyramid, Tower, by_anchor, joined, stride_of
from cnnjax.models.network import EncoderOptions, FeatureMaps, FrozenEpsilon, encoder_network
from cnnjax.models.published import COCO, V_COCO, Published, Torchvision, Weights
from cnnjax.models.retinanet import PRIOR

# The range of a map: objects whose farthest side is 4 to 8 strides away; the first map also takes nearer, the last also farther ones.
NEAREST, FARTHEST = 4, 8


class FCOSOutputs(NamedTuple):
    """The outputs by map: logits of the classes, distances from the sides in strides, and the logit of being near the centre.

    `feature_pyramid.joined` concatenates them in torchvision's order.
    """

    logits: list[Float[Array, "batch _h _w 1 class"]]
    distances: list[Float[Array, "batch _h _w 1 4"]]
    centerness: list[Float[Array, "batch _h _w 1 1"]]


class FCOS(nn.Module):
    """Encoder - feature pyramid - on each map [conv 3x3 - group norm - ReLU]*4 - classes, and the same to distances and centerness."""

    num_classes: int
    encoder: Annotated[str, "the network whose maps the pyramid is built on, such as resnet18"] = "resnet18"
    encoder_options: EncoderOptions = ()
    encoder_maps: Annotated[int, "the number of the encoder's last maps that are used", positive] = 3
    further_maps: Annotated[int, "additional maps, each half the size of the one before", not_negative] = 2
    features: Annotated[int, "channels of the pyramid and of the heads", positive] = 256
    head_depth: Annotated[int, "convolutions of each head before its output", not_negative] = 4
    radius: Annotated[float, "distance from an object's centre, in strides, within which points are matched with it", positive] = 1.5  # fmt: skip
    score_threshold: Annotated[float, "score that a detection must exceed", fraction] = 0.2
    nms_threshold: Annotated[float, "IoU above which the lower-scoring of two detections of a class is dropped", fraction] = 0.6  # fmt: skip
    candidates: Annotated[int, "best candidates of each map before suppression", positive] = 1000
    max_detections: Annotated[int, "detections in an image", positive] = 100
    frozen_batch_norm: Annotated[bool, "the encoder's batch normalisation is constant, for imported weights"] = False
    frozen_epsilon: FrozenEpsilon = None
    sync_batch_norm: Annotated[bool, "statistics of the batch over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"], train: bool = False) -> FCOSOutputs | FeatureMaps:
        with layers.frozen_batch_norm(self.frozen_batch_norm, self.frozen_epsilon):
            encoder = encoder_network(
                self.encoder, self.encoder_options, sync_batch_norm=self.sync_batch_norm, dtype=self.dtype
            )
            maps = encoder(name="encoder")(x, train, features_only=True)[-self.encoder_maps :]
        maps = FeaturePyramid(self.features, self.further_maps, "convolutions", self.dtype, name="pyramid")(maps)
        if not self.num_classes:
            return maps
        tower = partial(Tower, self.head_depth, group_norm=True, dtype=self.dtype)
        conv = partial(layers.Conv, kernel_size=3, padding=1, kernel_init=SMALL, dtype=self.dtype)
        prior = nn.initializers.constant(-math.log((1 - PRIOR) / PRIOR))
        classify = conv(self.num_classes, bias_init=prior, name="classes")
        logits = by_anchor(tower(name="classes_tower")(maps), classify, self.num_classes)
        maps = tower(name="boxes_tower")(maps)
        distances = [layers.activation("relu")(each) for each in by_anchor(maps, conv(4, name="boxes"), 4)]
        return FCOSOutputs(logits, distances, by_anchor(maps, conv(1, name="centerness"), 1))

    def points(self, outputs: FCOSOutputs, image: tuple[int, int]) -> list[Float[Array, "_point 4"]]:
        """The points of each map as squares of its stride, for outputs of images of a height and width."""
        grids = [each.shape[1:3] for each in outputs.distances]
        first = stride_of(grids[0], image)
        return pyramid_anchors([[first * 2**level] for level in range(len(grids))], (1.0,), grids, image)

    def losses(
        self, x: Float[Array, "batch height width channel"], objects: Objects, train: bool = False
    ) -> dict[str, Ratio]:
        """The losses of the batch: focal of the classes, generalized IoU of the boxes, cross-entropy of the centerness.

        All are divided by the number of the batch's points that are matched with objects.
        """
        outputs = self(x, train)
        by_map = self.points(outputs, x.shape[1:3])
        points, last = jnp.concatenate(by_map), len(by_map) - 1
        ends = [(NEAREST * (level > 0), FARTHEST if level < last else np.inf) for level in range(len(by_map))]
        ranges = np.repeat(np.float32(ends), [len(each) for each in by_map], axis=0)
        ranges = ranges * (points[:, 2:3] - points[:, 0:1])
        matches = match_points(points, objects.boxes, objects.wanted, ranges, self.radius)
        matches = without_ignored(matches, points, objects)
        found = matches >= 0

        targets = jax.nn.one_hot(matched(matches, objects.classes), self.num_classes) * found[..., None]
        focal = sigmoid_focal_loss(joined(outputs.logits), targets).sum(-1)
        boxes = matched(matches, objects.boxes)
        overlap = generalized_iou_loss(box_around(points, joined(outputs.distances)), boxes)
        entropy = binary_cross_entropy(joined(outputs.centerness)[..., 0], centerness(points, boxes, found))
        losses = {
            "classification": (focal, matches != NEITHER),
            "regression": (overlap, found),
            "centerness": (entropy, found),
        }
        return {name: Ratio(jnp.where(of, values, 0).sum(1), found.sum(1)) for name, (values, of) in losses.items()}

    def detections(self, x: Float[Array, "batch height width channel"]) -> Detections:
        """The detections in images, whose score is the mean of class and centerness, sqrt(p c)."""
        outputs, image = self(x), x.shape[1:3]
        scores, boxes = [], []
        for logits, distances, centre, points in zip(*outputs, self.points(outputs, image), strict=True):
            scores.append(jnp.sqrt(jax.nn.sigmoid(joined([logits])) * jax.nn.sigmoid(joined([centre]))))
            boxes.append(clip(box_around(points, joined([distances])), image))
        return detections_by_map(
            boxes, scores, self.score_threshold, self.candidates, self.nms_threshold, self.max_detections
        )


def box_around(points: Float[Array, "*batch 4"], distances: Float[Array, "*batch 4"]) -> Float[Array, "*batch 4"]:
    """The boxes at distances, in strides, to the left, above, to the right of and below points."""
    x, y = (points[..., 0] + points[..., 2]) / 2, (points[..., 1] + points[..., 3]) / 2
    left, above, right, below = (distances[..., side] * (points[..., 2] - points[..., 0]) for side in range(4))
    return jnp.stack((x - left, y - above, x + right, y + below), -1)


def centerness(
    points: Float[Array, "point 4"], boxes: Float[Array, "batch point 4"], found: Array
) -> Float[Array, "batch point"]:
    """How near each point is to its box's centre (equation 3): 1 at the centre, 0 on a side, and 0 for points without a box.

    sqrt(min(left, right) / max(left, right) * min(above, below) / max(above, below))
    """
    x, y = (points[:, 0] + points[:, 2]) / 2, (points[:, 1] + points[:, 3]) / 2
    left, above, right, below = x - boxes[..., 0], y - boxes[..., 1], boxes[..., 2] - x, boxes[..., 3] - y
    nearer, farther = jnp.minimum(left, right) * jnp.minimum(above, below), jnp.maximum(left, right) * jnp.maximum(above, below)  # fmt: skip
    return jnp.sqrt(jnp.where(found, nearer / jnp.where(found, farther, 1), 0))


def torchvision_module(path: tuple[str, ...]) -> str:
    """torchvision's name of a layer; it numbers convolutions, normalisations and ReLUs of a head together."""
    part, *inner = path
    heads = {
        "classes": ("classification", "cls_logits"),
        "boxes": ("regression", "bbox_reg"),
        "centerness": ("regression", "bbox_ctrness"),
    }
    head, layer = heads.get(part.removesuffix("_tower"), ("", ""))
    if not head:
        return feature_pyramid.torchvision_module(resnet.torchvision_module, path)
    if inner:
        kind, number = inner[0][:4], int(inner[0][4:])
        layer = f"conv.{3 * (number - 1) + (kind == 'norm')}"
    return f"head.{head}_head.{layer}"


DIFFERENCES = {
    "torchvision": "`fcos_resnet50_fpn` is the same network. Its 91 classes are the numbers 0 to 90 of COCO's categories, where 0 is not "
    "used. Losses are divided by the number of matched points of the whole batch on all devices; torchvision divides by those of one "
    "device. A point that an ignored object (a crowd) covers is not trained as background.",
    "Keras": "`keras.applications` has no detectors.",
}
PUBLISHED = {
    "fcos": Published(
        FCOS,
        *COCO,
        "Tian et al., ICCV 2019",
        counts=(19_303_072, 97_487_052_800),
        task="detection",
        encoder="resnet18",
    ),
    "fcos_resnet50_fpn": Published(
        partial(FCOS, encoder="resnet50_torchvision", frozen_batch_norm=True),
        *COCO,
        "Tian et al., ICCV 2019, and torchvision",
        parameters=32_269_600,
        macs=128_207_000_000,
        result="39.2 % box mAP on COCO val2017",
        counts=(32_269_600, 128_207_052_800),
        task="detection",
        encoder="resnet50_torchvision",
        torchvision=Torchvision("fcos_resnet50_fpn", torchvision_module, ("classes",)),
    ),
}
TORCHVISION_WEIGHTS = (
    Weights("fcos_resnet50_fpn", V_COCO, "fcos_resnet50_fpn_coco-99b0c9b7.pth", 124, resize=800, box_map=39.2),
)
