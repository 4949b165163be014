"""Faster R-CNN: a network proposes regions from anchors; a head classifies each region by its features and corrects its box.

Ren, He, Girshick and Sun, "Faster R-CNN: towards real-time object detection with region proposal networks", NIPS 2015: on VGG-16 with
RoI pooling, 137,078,239 parameters with VOC's 20 classes. With the feature pyramid of Lin et al., CVPR 2017, and RoIAlign any network
with feature maps can be the encoder. The versions on ResNet-50 and MobileNetV3-large are torchvision's: 41,755,286 and 19,386,354
parameters with frozen batch normalisation and COCO's categories. Both stages are trained together, without a gradient through the
proposals' boxes (the paper's approximate joint training; its experiments train the stages in turn, with the first two blocks of
VGG-16 frozen).
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from cnnjax import layers
from cnnjax.core.options import all_positive, fraction, not_negative, positive
from cnnjax.core.randomness import example_keys
from cnnjax.detection import Detections, Objects
from cnnjax.detection.anchors import pyramid_anchors
from cnnjax.detection.boxes import clip, decode, encode, intersection_over_union
from cnnjax.detection.losses import Ratio, binary_cross_entropy, smooth_l1
from cnnjax.detection.matching import NEITHER, match, matched, sample, without_ignored
from cnnjax.detection.objects import taken
from cnnjax.detection.pooling import pyramid_level, roi_align, roi_pool
from cnnjax.detection.suppression import best_detections, suppress
from cnnjax.models import feature_pyramid, mobilenet_v3, resnet
from cnnjax.models.feature_pyramid import SMALL, FeaturePyramid, by_anchor, joined, stride_of
from cnnjax.models.mobilenet_v3 import LARGE
from cnnjax.models.network import EncoderOptions, FeatureMaps, FrozenEpsilon, encoder_network
from cnnjax.models.published import COCO, V_COCO, Published, Torchvision, Weights

# Factors on the offsets that the head regresses, which give them a standard deviation near 1 (torchvision, and the authors' code).
WEIGHTS = (10.0, 10.0, 5.0, 5.0)
POOLED = 7
# Smaller proposals and boxes are dropped, as in torchvision.
LEAST_PROPOSAL, LEAST_BOX = 1e-3, 1e-2


class FasterRCNNOutputs(NamedTuple):
    """The outputs of both stages.

    Attributes:
      objectness: the logit of there being an object, for each anchor, by map of the pyramid.
      offsets: the offsets of the proposals from the anchors, by map.
      proposals: the input boxes of the head: the proposals, or in training a sample of the proposals and the objects' boxes.
      mask: whether there is a proposal.
      logits: the logits of background and of the classes, in this order, for each proposal.
      box_offsets: the offsets of each class's box from the proposal, those of background first.
      matches: the objects that sampled proposals are matched with; None without objects.
    """

    objectness: list[Float[Array, "batch _h _w anchor 1"]]
    offsets: list[Float[Array, "batch _h _w anchor 4"]]
    proposals: Float[Array, "batch proposal 4"]
    mask: Bool[Array, "batch proposal"]
    logits: Float[Array, "batch proposal class+1"]
    box_offsets: Float[Array, "batch proposal class+1 4"]
    matches: Int[Array, "batch proposal"] | None


class FasterRCNN(nn.Module):
    """Encoder - feature pyramid - conv 3x3 - objectness and proposals; of each proposal RoIAlign 7x7 - dense - dense - class and box."""

    num_classes: int
    encoder: Annotated[str, "the network whose maps are used, such as resnet18"] = "resnet18"
    encoder_options: EncoderOptions = ()
    encoder_maps: Annotated[int, "the maps of the encoder that are used, from the last", positive] = 4
    pyramid: Annotated[bool, "a feature pyramid on these maps"] = True
    further_maps: Annotated[int, "additional maps, each half the size of the one before, only for proposals", not_negative] = 1  # fmt: skip
    features: Annotated[int, "channels of the pyramid and of the proposals' convolution", positive] = 256
    hidden: Annotated[int, "units of both dense layers", positive] = 1024
    dropout_rate: Annotated[float, "dropout rate after each of the dense layers", fraction] = 0.0
    pooling: Annotated[Literal["align", "max"], "pooling of regions: RoIAlign, or RoI pooling of a single map"] = "align"  # fmt: skip
    anchor_scale: Annotated[float, "size of a map's anchors, in strides of the map", positive] = 8.0
    anchor_sizes: Annotated[tuple[float, ...], "sizes of anchors in pixels, the same on every map; replaces anchor_scale", all_positive] = ()  # fmt: skip
    ratios: Annotated[tuple[float, ...], "heights of anchors over their widths", all_positive] = (0.5, 1.0, 2.0)
    proposal_foreground: Annotated[float, "smallest IoU at which an anchor is matched with an object", fraction] = 0.7
    proposal_background: Annotated[float, "IoU below which an anchor is background", fraction] = 0.3
    inside: Annotated[bool, "leave anchors that cross the border of the image out of the losses"] = False
    proposal_samples: Annotated[int, "sampled anchors of an image in the losses, at most half of them matched with objects", positive] = 256  # fmt: skip
    proposal_threshold: Annotated[float, "IoU above which the lower-scoring of two proposals is dropped", fraction] = 0.7  # fmt: skip
    proposal_score: Annotated[float, "smallest objectness of a proposal", fraction] = 0.0
    candidates: Annotated[tuple[int, int], "best anchors of each map, for losses and for detections", all_positive] = (2000, 1000)  # fmt: skip
    proposals: Annotated[tuple[int, int], "proposals of an image, for losses and for detections", all_positive] = (2000, 1000)  # fmt: skip
    foreground: Annotated[float, "smallest IoU at which a proposal is matched with an object; below, it is background", fraction] = 0.5  # fmt: skip
    samples: Annotated[int, "sampled proposals of an image in the losses, at most a quarter of them matched with objects", positive] = 512  # fmt: skip
    beta: Annotated[float, "error at which the smooth L1 loss of the head's boxes becomes linear", not_negative] = 1 / 9
    score_threshold: Annotated[float, "score that a detection must exceed", fraction] = 0.05
    nms_threshold: Annotated[float, "IoU above which the lower-scoring of two detections of a class is dropped", fraction] = 0.5  # fmt: skip
    max_detections: Annotated[int, "detections in an image", positive] = 100
    frozen_batch_norm: Annotated[bool, "the encoder's batch normalisation is constant, for imported weights"] = False
    frozen_epsilon: FrozenEpsilon = None
    sync_batch_norm: Annotated[bool, "statistics of the batch over all devices"] = True
    dtype: Any = jnp.float32
    # The number of the encoder's last maps that are left out, fields of the encoder that are no options, and whether objectness has
    # two logits, as in the paper.
    skipped_maps: int = dataclasses.field(default=0, metadata={"option": False})
    encoder_fields: Mapping[str, Any] = dataclasses.field(default_factory=dict, metadata={"option": False})
    two_logits: bool = dataclasses.field(default=False, metadata={"option": False})

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channel"], train: bool = False, objects: Objects | None = None
    ) -> FasterRCNNOutputs | FeatureMaps:
        image = x.shape[1:3]
        with layers.frozen_batch_norm(self.frozen_batch_norm, self.frozen_epsilon):
            fields = {"sync_batch_norm": self.sync_batch_norm, "dtype": self.dtype, **self.encoder_fields}
            maps = encoder_network(self.encoder, self.encoder_options, **fields)(name="encoder")(
                x, train, features_only=True
            )
        end = len(maps) - self.skipped_maps
        maps = maps[max(end - self.encoder_maps, 0) : end]
        if self.pyramid:
            maps = FeaturePyramid(self.features, self.further_maps, "pool", self.dtype, name="pyramid")(maps)
        if not self.num_classes:
            return maps

        conv = partial(layers.Conv, kernel_init=SMALL, dtype=self.dtype)
        shapes = max(len(self.anchor_sizes), 1) * len(self.ratios)
        relu, shared = layers.activation("relu"), conv(self.features, 3, padding=1, name="proposal_conv")
        seen = [relu(shared(each)) for each in maps]
        objectness = by_anchor(seen, conv(shapes * (1 + self.two_logits), 1, name="objectness"), 1 + self.two_logits)
        if self.two_logits:  # a softmax of two is the sigmoid of their difference
            objectness = [logits[..., 1:] - logits[..., :1] for logits in objectness]
        offsets = by_anchor(seen, conv(shapes * 4, 1, name="proposal_boxes"), 4)
        boxes, mask = self._propose(objectness, offsets, image, objects is not None)
        matches = None
        if objects is not None:
            boxes, mask, matches = self._sampled(boxes, mask, objects)

        maps = maps[: len(maps) - self.further_maps] if self.pyramid else maps
        x = self._pooled(maps, boxes, image)
        x = x.reshape(*x.shape[:2], -1)
        for name in ("fc6", "fc7"):
            init = layers.initializer("he_normal")
            x = relu(layers.Dense(self.hidden, kernel_init=init, dtype=self.dtype, name=name)(x))
            x = layers.Dropout(self.dropout_rate)(x, train)
        dense, classes = partial(layers.Dense, dtype=self.dtype), self.num_classes + 1
        logits = dense(classes, kernel_init=SMALL, name="classes")(x)
        box_offsets = dense(4 * classes, kernel_init=layers.initializers.normal(0.001), name="boxes")(x)
        box_offsets = box_offsets.reshape(*box_offsets.shape[:2], classes, 4)
        logits, box_offsets = logits.astype(jnp.float32), box_offsets.astype(jnp.float32)
        return FasterRCNNOutputs(objectness, offsets, boxes, mask, logits, box_offsets, matches)

    def anchors(
        self, offsets: list[Float[Array, "batch _h _w anchor 4"]], image: tuple[int, int]
    ) -> list[Float[Array, "_anchor 4"]]:
        """The anchors of each map, for the offsets of the proposals in images of a height and width."""
        grids = [each.shape[1:3] for each in offsets]
        first = self.anchor_scale * stride_of(grids[0], image)
        sizes = [self.anchor_sizes or [first * 2**level] for level in range(len(grids))]
        return pyramid_anchors(sizes, self.ratios, grids, image)

    def _propose(
        self, objectness: list[Array], offsets: list[Array], image: tuple[int, int], for_losses: bool
    ) -> tuple[Float[Array, "batch proposal 4"], Bool[Array, "batch proposal"]]:
        """The proposals: the boxes of each map's best anchors, after suppression within each map."""
        candidates, count = (pair[0 if for_losses else 1] for pair in (self.candidates, self.proposals))
        found = []
        for level, (logits, each, anchors) in enumerate(
            zip(objectness, offsets, self.anchors(offsets, image), strict=True)
        ):
            best, chosen = jax.lax.top_k(joined([logits])[..., 0], min(candidates, len(anchors)))
            boxes = clip(decode(taken(joined([each]), chosen), anchors[chosen]), image)
            found.append((boxes, jax.nn.sigmoid(best), jnp.full(chosen.shape, level)))
        boxes, scores, levels = (jnp.concatenate(each, 1) for each in zip(*found, strict=True))
        boxes, scores = jax.lax.stop_gradient((boxes, scores))
        large = ((boxes[..., 2:] - boxes[..., :2]) >= LEAST_PROPOSAL).all(-1)
        kept, mask = suppress(
            boxes, scores, levels, large & (scores >= self.proposal_score), self.proposal_threshold, count
        )
        return taken(boxes, kept), mask

    def _sampled(self, boxes: Array, mask: Array, objects: Objects) -> tuple[Array, Array, Array]:
        """A sample of the proposals and the objects' own boxes for the head's losses, with its matches."""
        given = jnp.where(objects.wanted[..., None], objects.boxes, 0)
        boxes, mask = jnp.concatenate((boxes, given), 1), jnp.concatenate((mask, objects.wanted), 1)
        overlaps = intersection_over_union(boxes, objects.boxes)
        matches = match(overlaps, objects.wanted, self.foreground, self.foreground, keep_best=False)
        matches = jnp.where(mask, without_ignored(matches, boxes, objects), NEITHER)
        keys = example_keys(self.make_rng("sampling"), len(boxes))
        chosen, drawn = sample(keys, matches, self.samples, 0.25)
        return taken(boxes, chosen), drawn, jnp.where(drawn, taken(matches, chosen), NEITHER)

    def _pooled(self, maps: FeatureMaps, boxes: Array, image: tuple[int, int]) -> Array:
        strides = [stride_of(each.shape[1:3], image) for each in maps]
        if self.pooling == "max":
            if len(maps) > 1:
                raise ValueError(f"fasterrcnn: pooling='max' needs a single map, and there are {len(maps)}: set encoder_maps=1 and pyramid=False")  # fmt: skip
            return roi_pool(maps[0], boxes, strides[0], POOLED)
        first, last = (strides[end].bit_length() - 1 for end in (0, -1))
        return roi_align(maps, boxes, pyramid_level(boxes, first, last), strides, POOLED)

    def losses(
        self, x: Float[Array, "batch height width channel"], objects: Objects, train: bool = False
    ) -> dict[str, Ratio]:
        """The losses of the batch: cross-entropy and smooth L1 of the anchors and of the proposals, divided by the size of the sample."""
        outputs = self(x, train, objects)
        anchors = jnp.concatenate(self.anchors(outputs.offsets, x.shape[1:3]))
        trained = (clip(anchors, x.shape[1:3]) == anchors).all(-1) if self.inside else np.ones(len(anchors), bool)
        overlaps = intersection_over_union(anchors, objects.boxes) * trained[:, None]
        matches = match(overlaps, objects.wanted, self.proposal_foreground, self.proposal_background, keep_best=True)
        matches = jnp.where(trained, without_ignored(matches, anchors, objects), NEITHER)
        keys = example_keys(self.make_rng("sampling"), len(x))
        chosen, drawn = sample(keys, matches, self.proposal_samples, 0.5)
        matches = jnp.where(drawn, taken(matches, chosen), NEITHER)
        logits, offsets = (taken(joined(each), chosen) for each in (outputs.objectness, outputs.offsets))
        targets = encode(matched(matches, objects.boxes), anchors[chosen])
        entropy = binary_cross_entropy(logits[..., 0], (matches >= 0).astype(jnp.float32))
        distance = smooth_l1(offsets - targets, 1 / 9).sum(-1)

        classes = jnp.where(outputs.matches >= 0, matched(outputs.matches, objects.classes) + 1, 0)
        targets = encode(matched(outputs.matches, objects.boxes), outputs.proposals, WEIGHTS)
        own = jnp.take_along_axis(outputs.box_offsets, classes[..., None, None], 2)[..., 0, :]
        log_probabilities = jax.nn.log_softmax(outputs.logits)
        likelihood = jnp.take_along_axis(log_probabilities, classes[..., None], 2)[..., 0]
        return {
            "objectness": _mean(entropy, drawn, drawn),
            "proposal_regression": _mean(distance, matches >= 0, drawn),
            "classification": _mean(-likelihood, outputs.mask, outputs.mask),
            "regression": _mean(smooth_l1(own - targets, self.beta).sum(-1), outputs.matches >= 0, outputs.mask),
        }

    def detections(self, x: Float[Array, "batch height width channel"]) -> Detections:
        """The detections in images."""
        outputs, image = self(x), x.shape[1:3]
        scores = jax.nn.softmax(outputs.logits)[..., 1:]
        boxes = clip(decode(outputs.box_offsets[..., 1:, :], outputs.proposals[..., None, :], WEIGHTS), image)
        large = ((boxes[..., 2:] - boxes[..., :2]) >= LEAST_BOX).all(-1)
        mask = (scores > self.score_threshold) & large & outputs.mask[..., None]
        classes = jnp.broadcast_to(jnp.arange(self.num_classes), scores.shape)
        boxes, scores, classes, mask = (
            each.reshape(x.shape[0], -1, *each.shape[3:]) for each in (boxes, scores, classes, mask)
        )
        return best_detections(boxes, scores, classes, mask, self.nms_threshold, self.max_detections)


def _mean(
    values: Float[Array, "batch sample"], of: Bool[Array, "batch sample"], all_: Bool[Array, "batch sample"]
) -> Ratio:
    """The sum of the batch's values, divided by the number of its samples."""
    return Ratio(jnp.where(of, values, 0).sum(1), all_.sum(1))


def torchvision_module(encoder: Callable[[tuple[str, ...]], str], path: tuple[str, ...]) -> str:
    """torchvision's name of a layer.

    Args:
      encoder: torchvision's name of a layer in the encoder's own network.
      path: the layer's path.
    """
    names = {
        "proposal_conv": "rpn.head.conv.0.0",
        "objectness": "rpn.head.cls_logits",
        "proposal_boxes": "rpn.head.bbox_pred",
        "fc6": "roi_heads.box_head.fc6",
        "fc7": "roi_heads.box_head.fc7",
        "classes": "roi_heads.box_predictor.cls_score",
        "boxes": "roi_heads.box_predictor.bbox_pred",
    }
    return names.get(path[0]) or feature_pyramid.torchvision_module(encoder, path)


def _torchvision(name: str, encoder: Callable[[tuple[str, ...]], str]) -> Torchvision:
    module = partial(torchvision_module, encoder)
    return Torchvision(name, module, ("classes",), flattened={"fc6": (POOLED, POOLED)}, background=True)


# COCO's categories without the number 0, which is torchvision's background.
_COCO = (COCO[0], COCO[1] - 1)
DIFFERENCES = {
    "torchvision": "`fasterrcnn_resnet50_fpn` and `fasterrcnn_mobilenet_v3_large_fpn` are the same networks. torchvision counts background as "
    "a class, which it is not here: torchvision's 91 classes are 90. Losses are means over the samples of the whole batch on all "
    "devices; torchvision's are means over those of one device. An anchor or proposal that an ignored object (a crowd) "
    "covers is not trained as background. torchvision has no Faster R-CNN on VGG-16.",
    "Keras": "`keras.applications` has no detectors.",
}
PUBLISHED = {
    "fasterrcnn": Published(
        FasterRCNN,
        *_COCO,
        "Ren et al., NIPS 2015, and Lin et al., CVPR 2017",
        counts=(28_739_606, 101_693_641_216),
        task="detection",
        encoder="resnet18",
    ),
    "fasterrcnn_vgg16": Published(
        partial(
            FasterRCNN,
            encoder="vgg16",
            encoder_maps=1,
            skipped_maps=1,
            pyramid=False,
            features=512,
            hidden=4096,
            dropout_rate=0.5,
            pooling="max",
            anchor_sizes=(128.0, 256.0, 512.0),
            inside=True,
            candidates=(12_000, 6000),
            proposals=(2000, 300),
            samples=128,
            beta=1.0,
            nms_threshold=0.3,
            two_logits=True,
        ),
        (600, 1000, 3),
        20,
        "Ren et al., NIPS 2015",
        result="69.9 % mAP on VOC 2007's test split (table 2)",
        counts=(137_078_239, 224_627_447_808),
        task="detection",
        encoder="vgg16",
    ),
    "fasterrcnn_resnet50_fpn": Published(
        partial(FasterRCNN, encoder="resnet50_torchvision", frozen_batch_norm=True),
        *_COCO,
        "Ren et al., NIPS 2015, Lin et al., CVPR 2017, and torchvision",
        parameters=41_755_286,
        macs=134_380_000_000,
        result="37.0 % box mAP on COCO val2017",
        counts=(41_755_286, 134_379_721_216),
        task="detection",
        encoder="resnet50_torchvision",
        torchvision=_torchvision("fasterrcnn_resnet50_fpn", resnet.torchvision_module),
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": Published(
        partial(
            FasterRCNN,
            encoder="mobilenet_v3_large",
            encoder_maps=2,
            encoder_fields={"stage_starts": True},
            anchor_sizes=(32.0, 64.0, 128.0, 256.0, 512.0),
            proposal_score=0.05,
            frozen_batch_norm=True,
            frozen_epsilon=1e-5,
        ),
        *_COCO,
        "torchvision",
        parameters=19_386_354,
        result="32.8 % box mAP on COCO val2017",
        counts=(19_386_354, 18_853_144_256),
        task="detection",
        encoder="mobilenet_v3_large",
        torchvision=_torchvision("fasterrcnn_mobilenet_v3_large_fpn", partial(mobilenet_v3.torchvision_module, LARGE)),
    ),
}
TORCHVISION_WEIGHTS = (
    Weights(
        "fasterrcnn_resnet50_fpn",
        V_COCO,
        "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        160,
        resize=800,
        box_map=37.0,
        options=(("frozen_epsilon", 0.0),),
    ),
    Weights(
        "fasterrcnn_mobilenet_v3_large_fpn",
        V_COCO,
        "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
        74,
        resize=800,
        box_map=32.8,
    ),
)
