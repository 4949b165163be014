"""RetinaNet: a detector with one stage, whose focal loss gives little weight to the many easy anchors that are background.

Lin, Goyal, Girshick, He and Dollár, "Focal loss for dense object detection", ICCV 2017. Any network with feature maps can be the encoder.
The version on ResNet-50 is torchvision's: 34,014,999 parameters with frozen batch normalisation and 91 classes.
"""

import math
from functools import partial
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax import layers
from cnnjax.core.options import all_positive, fraction, not_negative, positive
from cnnjax.detection import Detections, Objects
from cnnjax.detection.anchors import pyramid_anchors
from cnnjax.detection.boxes import clip, decode, encode, intersection_over_union
from cnnjax.detection.losses import sigmoid_focal_loss, smooth_l1
from cnnjax.detection.matching import NEITHER, match, matched, without_ignored
from cnnjax.detection.suppression import detections_by_map
from cnnjax.models import feature_pyramid, resnet
from cnnjax.models.feature_pyramid import SMALL, FeaturePyramid, Tower, by_anchor, joined, stride_of
from cnnjax.models.network import EncoderOptions, FeatureMaps, FrozenEpsilon, encoder_network
from cnnjax.models.published import COCO, V_COCO, Published, Torchvision, Weights

# The probability of every class at the start (section 4.1): without it the sum of the background's losses hides that of the objects.
PRIOR = 0.01


class RetinaNetOutputs(NamedTuple):
    """The outputs by map of the pyramid: logits of the classes, and offsets of the boxes from the anchors.

    `feature_pyramid.joined` concatenates them in torchvision's order.
    """

    logits: list[Float[Array, "batch _h _w anchor class"]]
    offsets: list[Float[Array, "batch _h _w anchor 4"]]


class RetinaNet(nn.Module):
    """Encoder - feature pyramid - on each map [conv 3x3 - ReLU]*4 - conv 3x3 to the anchors' classes, and the same to their boxes.

    Around each position of a map there are anchors of every scale and ratio. An object is matched with the anchors whose IoU with it is at
    least `foreground`, and with those whose IoU with it is the largest.
    """

    num_classes: int
    encoder: Annotated[str, "the network whose maps the pyramid is built on, such as resnet18"] = "resnet18"
    encoder_options: EncoderOptions = ()
    encoder_maps: Annotated[int, "the number of the encoder's last maps that are used", positive] = 3
    further_maps: Annotated[int, "additional maps, each half the size of the one before", not_negative] = 2
    features: Annotated[int, "channels of the pyramid and of the heads", positive] = 256
    head_depth: Annotated[int, "convolutions of each head before its output", not_negative] = 4
    head_norm: Annotated[bool, "group normalisation after each of these convolutions"] = False
    anchor_scale: Annotated[float, "size of a map's smallest anchors, in strides of the map", positive] = 4.0
    octave: Annotated[int, "number of anchor sizes of a map, evenly spaced (in their logarithm) up to the next map's", positive] = 3  # fmt: skip
    ratios: Annotated[tuple[float, ...], "heights of anchors over their widths", all_positive] = (0.5, 1.0, 2.0)
    foreground: Annotated[float, "smallest IoU at which an anchor is matched with an object", fraction] = 0.5
    background: Annotated[float, "IoU below which an anchor is background", fraction] = 0.4
    score_threshold: Annotated[float, "score that a detection must exceed", fraction] = 0.05
    nms_threshold: Annotated[float, "IoU above which the lower-scoring of two detections of a class is dropped", fraction] = 0.5  # fmt: skip
    candidates: Annotated[int, "best candidates of each map before suppression", positive] = 1000
    max_detections: Annotated[int, "detections in an image", positive] = 300
    frozen_batch_norm: Annotated[bool, "the encoder's batch normalisation is constant, for imported weights"] = False
    frozen_epsilon: FrozenEpsilon = None
    sync_batch_norm: Annotated[bool, "statistics of the batch over all devices"] = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False
    ) -> RetinaNetOutputs | FeatureMaps:
        with layers.frozen_batch_norm(self.frozen_batch_norm, self.frozen_epsilon):
            encoder = encoder_network(
                self.encoder, self.encoder_options, sync_batch_norm=self.sync_batch_norm, dtype=self.dtype
            )
            maps = encoder(name="encoder")(x, train, features_only=True)[-self.encoder_maps :]
        maps = FeaturePyramid(self.features, self.further_maps, "convolutions", self.dtype, name="pyramid")(maps)
        if not self.num_classes:
            return maps
        tower = partial(Tower, self.head_depth, self.head_norm, self.dtype)
        conv = partial(layers.Conv, kernel_size=3, padding=1, kernel_init=SMALL, dtype=self.dtype)
        anchors, prior = self.octave * len(self.ratios), nn.initializers.constant(-math.log((1 - PRIOR) / PRIOR))
        classify = conv(anchors * self.num_classes, bias_init=prior, name="classes")
        regress = conv(anchors * 4, name="boxes")
        return RetinaNetOutputs(
            by_anchor(tower(name="classes_tower")(maps), classify, self.num_classes),
            by_anchor(tower(name="boxes_tower")(maps), regress, 4),
        )

    def anchors(self, outputs: RetinaNetOutputs, image: tuple[int, int]) -> list[Float[Array, "anchor 4"]]:
        """The anchors of each map, for outputs of images of a height and width."""
        grids = [each.shape[1:3] for each in outputs.offsets]
        first, octave = self.anchor_scale * stride_of(grids[0], image), self.octave
        sizes = [[int(first * 2 ** (level + i / octave)) for i in range(octave)] for level in range(len(grids))]
        return pyramid_anchors(sizes, self.ratios, grids, image)

    def losses(
        self, x: Float[Array, "batch height width channel"], objects: Objects, train: bool = False
    ) -> dict[str, Float[Array, "batch"]]:
        """The losses of each example: focal of the classes, L1 of the boxes, both divided by the number of its matched anchors."""
        outputs = self(x, train)
        anchors = jnp.concatenate(self.anchors(outputs, x.shape[1:3]))
        overlaps = intersection_over_union(anchors, objects.boxes)
        matches = match(overlaps, objects.wanted, self.foreground, self.background, keep_best=True)
        matches = without_ignored(matches, anchors, objects)
        found = matches >= 0
        count = jnp.maximum(found.sum(1), 1)
        targets = jax.nn.one_hot(matched(matches, objects.classes), self.num_classes) * found[..., None]
        focal = sigmoid_focal_loss(joined(outputs.logits), targets).sum(-1)
        offsets = encode(matched(matches, objects.boxes), anchors)
        distance = smooth_l1(joined(outputs.offsets) - offsets, beta=0).sum(-1)
        return {
            "classification": jnp.where(matches != NEITHER, focal, 0).sum(1) / count,
            "regression": jnp.where(found, distance, 0).sum(1) / count,
        }

    def detections(self, x: Float[Array, "batch height width channel"]) -> Detections:
        """The detections in images."""
        outputs, image = self(x), x.shape[1:3]
        scores = [jax.nn.sigmoid(joined([logits])) for logits in outputs.logits]
        by_map = zip(outputs.offsets, self.anchors(outputs, image), strict=True)
        boxes = [clip(decode(joined([offsets]), anchors), image) for offsets, anchors in by_map]
        return detections_by_map(
            boxes, scores, self.score_threshold, self.candidates, self.nms_threshold, self.max_detections
        )


def torchvision_module(path: tuple[str, ...]) -> str:
    """torchvision's name of a layer."""
    part, *inner = path
    heads = {"classes": ("classification", "cls_logits"), "boxes": ("regression", "bbox_reg")}
    head, output = heads.get(part.removesuffix("_tower"), ("", ""))
    if not head:
        return feature_pyramid.torchvision_module(resnet.torchvision_module, path)
    layer = f"conv.{int(inner[0].removeprefix('conv')) - 1}.0" if inner else output
    return f"head.{head}_head.{layer}"


DIFFERENCES = {
    "torchvision": "`retinanet_resnet50_fpn` is the same network. Its 91 classes are the numbers 0 to 90 of COCO's categories, where 0 is "
    "not used. An anchor that an ignored object (a crowd) covers is not trained here; torchvision's recipe leaves such objects out. "
    "Objects without an area are an error in torchvision, and are ignored here. With the published weights the frozen batch "
    "normalisation has epsilon 0 (`frozen_epsilon=0.0`, which `load_torchvision` and `initial.weights` set); without them 1e-5.",
    "Keras": "`keras.applications` has no detectors.",
}
PUBLISHED = {
    "retinanet": Published(
        RetinaNet,
        *COCO,
        "Lin et al., ICCV 2017",
        counts=(21_048_471, 120_820_437_248),
        task="detection",
        encoder="resnet18",
    ),
    "retinanet_resnet50_fpn": Published(
        partial(RetinaNet, encoder="resnet50_torchvision", frozen_batch_norm=True),
        *COCO,
        "Lin et al., ICCV 2017, and torchvision",
        parameters=34_014_999,
        macs=151_540_000_000,
        result="36.4 % box mAP on COCO val2017",
        counts=(34_014_999, 151_540_437_248),
        task="detection",
        encoder="resnet50_torchvision",
        torchvision=Torchvision("retinanet_resnet50_fpn", torchvision_module, ("classes",), outputs_per_class=9),
    ),
}
TORCHVISION_WEIGHTS = (
    Weights(
        "retinanet_resnet50_fpn",
        V_COCO,
        "retinanet_resnet50_fpn_coco-eeacb38b.pth",
        130,
        resize=800,
        box_map=36.4,
        options=(("frozen_epsilon", 0.0),),
    ),
)
