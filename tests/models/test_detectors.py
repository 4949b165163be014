"""Detectors: their figures, torchvision's values, and objects that are none, empty, ignored or too many.

`torchvision_detectors.npz` has values of torchvision 0.29.1 in double precision, stored in single, for images and weights that
`tests.transfer.made_tensors` makes again: of the outputs for an image of 128x160 pixels (SSD: 300x300) every 97th anchor and every
third class; of Faster R-CNN's proposals every third row and column. `torchvision_detections.npz` has losses, proposals and detections
of outputs that are drawn here again, of which nothing else is stored.
"""

import dataclasses
import functools
import itertools
import zlib
from functools import partial
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import load_config
from cnnjax.core.randomness import AXIS
from cnnjax.detection import Objects, Ratio
from cnnjax.detection.boxes import intersection_over_union
from cnnjax.detection.matching import match
from cnnjax.models import MODELS, create_model, list_models
from cnnjax.models.faster_rcnn import FasterRCNN, FasterRCNNOutputs
from cnnjax.models.fcos import FCOS, FCOSOutputs
from cnnjax.models.feature_pyramid import joined
from cnnjax.models.retinanet import RetinaNet, RetinaNetOutputs
from cnnjax.models.ssd import SSD, SSDOutputs
from cnnjax.training.experiment import DataFacts, build
from cnnjax.transfer.torchvision import export_torchvision, load_torchvision
from tests.one_program import draw
from tests.transfer import made_tensors

NETWORKS = list_models(task="detection")
SALT = 20261124
with np.load(Path(__file__).parent / "torchvision_detectors.npz") as stored:
    VALUES = {name: stored[name] for name in stored}
# The same networks with ordinary batch normalisation, whose scales and biases are parameters, as torchvision makes them untrained.
TOTALS = {
    "fasterrcnn_mobilenet_v3_large_fpn": 19_386_354,
    "fasterrcnn_resnet50_fpn": 41_755_286,
    # VGG-16 without its output, with a convolution of 512 maps, 9 anchors' two scores and boxes, and 21 classes' scores and boxes
    "fasterrcnn_vgg16": 134_260_544 + (9 * 512 + 1) * 512 + 513 * (18 + 36) + 4097 * (21 + 84),
    "fcos_resnet50_fpn": 32_269_600,
    "retinanet_resnet50_fpn": 34_014_999,
    "ssd300_vgg16": 35_641_826,
}
UNFROZEN = {
    "fasterrcnn_mobilenet_v3_large_fpn": 19_410_754,
    "fasterrcnn_resnet50_fpn": 41_808_406,
    "fcos_resnet50_fpn": 32_322_720,
    "retinanet_resnet50_fpn": 34_068_119,
}
QUICK = "retinanet_resnet50_fpn", "ssd300_vgg16"
OF_TORCHVISION = [name for name in NETWORKS if MODELS[name].torchvision]

# A small form of each network, on an encoder of three convolutions.
ENCODER = {"encoder": "cnn_8_16_32", "encoder_maps": 2, "further_maps": 1, "features": 8}
FEW = {"candidates": (40, 40), "proposals": (24, 16), "samples": 20, "proposal_samples": 16, "hidden": 8}
SMALL = {
    "fasterrcnn": {**ENCODER, **FEW, "max_detections": 30},
    "fasterrcnn without a pyramid": {
        **{"encoder": "cnn_8_16_32", "encoder_maps": 1, "pyramid": False, "pooling": "max", "features": 8},
        **{"anchor_sizes": (16.0, 32.0), "inside": True, **FEW, "max_detections": 30},
    },
    "fcos": {**ENCODER, "head_depth": 1},
    "retinanet": {**ENCODER, "head_depth": 1},
}
IMAGES = np.random.default_rng(0).standard_normal((3, 64, 48, 3)).astype(np.float32)


def shapes(model, *size):
    images = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), images)


def by_example(losses):
    """Losses with one value for each example."""
    return {
        name: loss.by_example(jnp.ones(len(loss.values))) if isinstance(loss, Ratio) else loss
        for name, loss in losses.items()
    }


def parameters(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.fixture(scope="module")
def small():
    """A small detector of each kind with its variables, and its losses with their gradients and its detections, compiled once."""

    def made(name):
        model = create_model(name.split()[0], 3, **SMALL[name])
        variables = draw(model, IMAGES)

        @jax.jit
        def losses(params, images, objects):
            def total(params):
                given = {**variables, "params": params}
                rngs = {"sampling": jax.random.key(1)}
                each, _ = model.apply(given, images, objects, True, method="losses", rngs=rngs, mutable=["batch_stats"])
                each = by_example(each)
                return sum(values.sum() for values in each.values()), each

            return jax.grad(total, has_aux=True)(params)

        detections = jax.jit(
            lambda params, images: model.apply({**variables, "params": params}, images, method="detections")
        )
        return model, variables["params"], losses, detections

    return functools.cache(made)


# The others are made of the same parts.
KINDS = [name if name == "retinanet" else pytest.param(name, marks=pytest.mark.slow) for name in SMALL]


def objects(boxes, mask=True, ignore=False, classes=0):
    """The same objects in each image."""
    boxes = np.tile(np.float32(boxes).reshape(1, -1, 4), (len(IMAGES), 1, 1))
    full = partial(np.full, boxes.shape[:2])
    return Objects(boxes, full(classes), full(ignore), full(mask))


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in sorted(TOTALS)]
)
def test_parameters_are_torchvisions_with_frozen_and_with_ordinary_batch_normalisation(name):
    published = MODELS[name]
    size = published.image_shape if name.startswith("ssd") else (128, 160, 3)
    _, variables = shapes(create_model(name, published.num_classes), *size)
    assert parameters(variables) == TOTALS[name]
    if name in UNFROZEN:
        assert (
            parameters(shapes(create_model(name, published.num_classes, frozen_batch_norm=False), *size)[1])
            == (UNFROZEN[name])
        )


@pytest.mark.parametrize(
    "name",
    [name if name in ("fasterrcnn", "retinanet") else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS],
)
def test_the_trunk_has_no_layer_that_depends_on_the_classes(name):
    options, size = SMALL.get(name, {}), (300, 300) if name.startswith("ssd") else (64, 64)
    (_, whole), (maps, trunk) = (shapes(create_model(name, count, **options), *size, 3) for count in (7, 0))
    assert all(each.ndim == 4 for each in maps)
    assert all(whole["params"][part] == layers for part, layers in trunk["params"].items())


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["convnext_tiny", "densenet121", "mobilenet_v2", "vgg16", "xception"])
def test_a_pyramid_is_built_on_other_networks(encoder):
    for name, options in (("retinanet", {"head_depth": 0}), ("fasterrcnn", FEW)):
        model = create_model(name, 3, encoder=encoder, features=8, **options)
        outputs, _ = shapes(model, 128, 160, 3)
        grids = [each.shape[1:3] for each in outputs.offsets]
        assert len(grids) == 5 and grids[-1] in ((1, 2), (2, 2), (2, 3), (3, 4)), grids
        assert all(first[0] >= 2 * second[0] - 1 for first, second in itertools.pairwise(grids))


def test_a_detector_is_not_trained_to_classify():
    facts = DataFacts({"num_classes": 10}, 1000, [100] * 10)
    for name in NETWORKS:
        with pytest.raises(ValueError, match=f"model.name='{name}' is a network for detection and task.name='class"):
            build(load_config({}, {"model.name": name}), facts)


REGIONS = np.float32([[(4, 8, 60, 100), (30.5, 20.25, 150, 110), (0, 0, 16, 16), (100, 90, 159, 127)]])


class WithRegions(FasterRCNN):
    """Faster R-CNN whose head is given four regions, in place of proposals."""

    def _propose(self, *given):
        return REGIONS, np.ones(REGIONS.shape[:2], bool)


def dense_outputs(name, outputs):
    for ours, theirs in zip(outputs, ("cls_logits", "bbox_regression", "bbox_ctrness"), strict=False):
        found = np.asarray(joined(ours))[:, ::97]
        yield theirs, found[..., ::3] if theirs == "cls_logits" else found


def two_stage_outputs(name, outputs):
    for kind, maps in (("objectness", outputs.objectness), ("deltas", outputs.offsets)):
        for level, each in enumerate(maps):
            yield f"{kind}{level}", each.reshape(*each.shape[:3], -1).transpose(0, 3, 1, 2)[:, :, ::3, ::3]
    yield "scores", outputs.logits[0]
    yield "offsets", outputs.box_offsets.reshape(4, -1)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_outputs_are_torchvisions_and_the_weights_come_back(name):
    row = MODELS[name]
    size = (300, 300) if name.startswith("ssd") else (128, 160)
    _, variables = shapes(create_model(name, row.num_classes), *size, 3)
    state_dict = made_tensors.tensors(row.torchvision, variables, partial(made_tensors.tensor, salt=SALT))
    model, variables = load_torchvision(name, state_dict)
    assert model == create_model(name, row.num_classes)
    generator = np.random.Generator(np.random.PCG64([SALT, 0]))
    images = generator.standard_normal((1, 3, *size)).astype(np.float32).transpose(0, 2, 3, 1)
    if two_stages := isinstance(model, FasterRCNN):
        model = WithRegions(
            **{field.name: getattr(model, field.name) for field in dataclasses.fields(FasterRCNN) if field.init}
        )
    outputs = jax.jit(model.apply)(variables, images)
    found = dict((two_stage_outputs if two_stages else dense_outputs)(name, outputs))
    stored = {key.partition("/")[2] for key in VALUES if key.startswith(f"{name}/")}
    assert stored - {"pooled"} == found.keys()
    for key, values in found.items():
        expected = VALUES[f"{name}/{key}"]
        assert np.abs(values - expected).max() < 1e-4 * np.abs(expected).max(), key
    exported = export_torchvision(name, variables)
    assert exported.keys() == state_dict.keys()
    assert all(exported[key].tobytes() == value.tobytes() for key, value in state_dict.items())


# --- losses and detections of given outputs, which are torchvision's ------------------------------------------------

IMAGE = (96, 128)
GIVEN_BOXES = np.float32([[(8, 8, 60, 70), (30, 20, 50, 36), (70, 40, 126, 90)]])
GRIDS = (12, 16), (6, 8), (3, 4), (2, 2), (1, 1)
with np.load(Path(__file__).parent / "torchvision_detections.npz") as stored:
    DETECTIONS = {name: stored[name] for name in stored}


RNGS = {"sampling": jax.random.key(0)}
LOSSES = {
    "fasterrcnn": ("objectness", "proposal_regression", "classification", "regression"),
    "fcos": ("classification", "regression", "centerness"),
    "retinanet": ("classification", "regression"),
    "ssd": ("classification", "regression"),
}


def numbers(name, *shape):
    generator = np.random.Generator(np.random.PCG64([SALT, zlib.crc32(name.encode())]))
    return generator.standard_normal(shape).astype(np.float32)


def by_map(values, grids):
    """Values in torchvision's order, apart by maps, rows, columns and anchors."""
    anchors = values.shape[1] // sum(height * width for height, width in grids)
    ends = np.cumsum([height * width * anchors for height, width in grids])[:-1]
    parts = np.split(values, ends, axis=1)
    return [part.reshape(1, *grid, anchors, -1) for part, grid in zip(parts, grids, strict=True)]


def with_outputs(kind):
    """The networks of a kind that have given outputs, whatever the images."""

    def made(outputs):
        class Given(kind):
            def __call__(self, x, train=False, objects=None):
                return outputs

        return Given(5)

    return made


def check(name, make, outputs, image, scale=1.0):
    """Losses with three objects and with none, and detections, are torchvision's."""
    images = np.zeros((1, *image, 3), np.float32)

    @jax.jit
    def losses_of(outputs, given):
        return by_example(make(outputs).apply({}, images, given, method="losses", rngs=RNGS))

    boxes = GIVEN_BOXES * np.float32(scale)
    for index, mask in enumerate((True, False)):
        full = partial(np.full, (1, 3))
        given = Objects(boxes, np.array([[1, 0, 4]]), full(False), full(mask))
        losses = losses_of(outputs, given)
        expected = dict(zip(LOSSES[name], DETECTIONS[f"{name}/losses{index}"], strict=True))
        assert losses.keys() == expected.keys()
        for loss, values in losses.items():
            np.testing.assert_allclose(values, [expected[loss]], rtol=2e-5, err_msg=loss)
    found = jax.jit(lambda outputs: make(outputs).apply({}, images, method="detections"))(outputs)
    boxes, scores, labels = (DETECTIONS[f"{name}/found_{what}"] for what in ("boxes", "scores", "labels"))
    count = len(scores)
    assert found.mask[0].tolist() == [True] * count + [False] * (found.mask.shape[1] - count)
    np.testing.assert_allclose(found.scores[0, :count], scores, rtol=1e-5)
    np.testing.assert_array_equal(found.classes[0, :count], labels - (name in ("ssd", "fasterrcnn")))
    np.testing.assert_allclose(found.boxes[0, :count], boxes, rtol=1e-4, atol=1e-3)


def test_retinanets_losses_and_detections_are_torchvisions():
    count = 9 * sum(height * width for height, width in GRIDS)
    logits = -3 + 1.5 * numbers("retinanet/logits", 1, count, 5)
    outputs = by_map(logits, GRIDS), by_map(np.float32(0.3) * numbers("retinanet/offsets", 1, count, 4), GRIDS)
    check("retinanet", with_outputs(RetinaNet), RetinaNetOutputs(*outputs), IMAGE)


def test_fcos_losses_and_detections_are_torchvisions():
    count = sum(height * width for height, width in GRIDS)
    logits, distances = -1 + 1.5 * numbers("fcos/logits", 1, count, 5), 2 * np.abs(numbers("fcos/offsets", 1, count, 4))
    outputs = (by_map(each, GRIDS) for each in (logits, distances, numbers("fcos/centerness", 1, count, 1)))
    check("fcos", with_outputs(FCOS), FCOSOutputs(*outputs), IMAGE)


def test_ssds_losses_and_detections_are_torchvisions():
    grids, count = [(side, side) for side in (38, 19, 10, 5, 3, 1)], 8732
    logits, offsets = 1.5 * numbers("ssd/logits", 1, count, 6), numbers("ssd/offsets", 1, count, 4)
    anchors = [4, 6, 6, 6, 4, 4]
    ends = np.cumsum([height * width * each for (height, width), each in zip(grids, anchors, strict=True)])[:-1]
    outputs = [
        [
            part.reshape(1, *grid, each, -1)
            for part, grid, each in zip(np.split(values, ends, 1), grids, anchors, strict=True)
        ]
        for values in (logits, offsets)
    ]
    check("ssd", with_outputs(SSD), SSDOutputs(*outputs), (300, 300), scale=2.3)


def test_faster_rcnns_losses_proposals_and_detections_are_torchvisions():
    """With all anchors sampled, so that nothing is random; the head's proposals are given, with their matches."""
    grids = (24, 32), (12, 16), (6, 8), (3, 4), (2, 2)
    count = 3 * sum(height * width for height, width in grids)
    objectness = by_map(2 * numbers("fasterrcnn/objectness", 1, count)[..., None], grids)
    offsets = by_map(np.float32(0.3) * numbers("fasterrcnn/offsets", 1, count, 4), grids)
    near = np.concatenate((GIVEN_BOXES[0], GIVEN_BOXES[0] + 8 * numbers("fasterrcnn/near", 3, 4)))
    far = numbers("fasterrcnn/far", 30, 4) * 30 + np.float32([40, 30, 80, 60])
    far = np.concatenate((np.minimum(far[:, :2], far[:, 2:]), np.maximum(far[:, :2], far[:, 2:])), 1)
    regions = np.clip(np.concatenate((near, far)), 0, (128, 96, 128, 96)).astype(np.float32)
    logits = numbers("fasterrcnn/classes", len(regions), 6)[None]
    boxes = 0.5 * numbers("fasterrcnn/boxes", len(regions), 24).reshape(1, -1, 6, 4)
    mask = np.ones((1, len(regions)), bool)

    def made(outputs):
        class Given(FasterRCNN):
            def __call__(self, x, train=False, objects=None):
                if objects is None:
                    return outputs
                overlaps = intersection_over_union(outputs.proposals, objects.boxes)
                return outputs._replace(matches=match(overlaps, objects.wanted, 0.5, 0.5, keep_best=False))

            def proposed(self):
                return self._propose(outputs.objectness, outputs.offsets, IMAGE, False)

        return Given(5, proposal_samples=2 * count)

    outputs = FasterRCNNOutputs(objectness, offsets, regions[None], mask, logits, boxes, None)
    check("fasterrcnn", made, outputs, IMAGE)
    found, which = jax.jit(lambda outputs: made(outputs).apply({}, method="proposed"))(outputs)
    assert which.sum() == DETECTIONS["fasterrcnn/proposal_count"]
    np.testing.assert_allclose(found[0, : which.sum()][::7], DETECTIONS["fasterrcnn/proposals"], rtol=1e-4, atol=1e-3)


def test_anchors_that_cross_the_border_are_not_trained():
    """Objectness is wrong there alone, so that its loss is small without them."""
    outside = np.ones((6, 8, 1, 1), bool)
    outside[1:-1, 1:-1] = False  # of 32 pixels about the places 0, 16, ...
    objectness, offsets = np.where(outside, 30, -30).astype(np.float32)[None], np.zeros((1, 6, 8, 1, 4), np.float32)
    head = np.zeros((1, 2, 4), np.float32), np.ones((1, 2), bool), np.zeros((1, 2, 6), np.float32)
    outputs = FasterRCNNOutputs([objectness], [offsets], *head, np.zeros((1, 2, 6, 4), np.float32), np.full((1, 2), -1))
    nothing = Objects(GIVEN_BOXES, np.zeros((1, 3), int), *(np.zeros((1, 3), bool),) * 2)
    for inside, least in ((False, 10), (True, 0)):
        model = with_outputs(FasterRCNN)(outputs).clone(inside=inside, anchor_sizes=(32.0,), ratios=(1.0,))
        apply = jax.jit(
            lambda model=model: model.apply({}, np.zeros((1, 96, 128, 3)), nothing, method="losses", rngs=RNGS)
        )
        assert least <= float(by_example(apply())["objectness"][0]) < least + 10


# --- objects that are none, empty, ignored ---------------------------------------------------------------------------

BOX = (8.0, 8.0, 30.0, 40.0)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("given", "found"),
    [
        (objects([BOX, (2, 2, 20, 14)]), True),
        (objects([BOX, BOX], mask=False), False),
        (objects([(9, 9, 9, 30), (5, 5, 5, 5)]), False),
        (objects([BOX, (2, 2, 20, 14)], ignore=True), False),
    ],
    ids=["objects", "none", "without area", "ignored"],
)
def test_losses_and_gradients_are_finite_for_any_objects(small, name, given, found):
    _, params, losses, _ = small(name)
    gradients, each = losses(params, IMAGES, given)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradients, each)))
    assert all(values.shape == (len(IMAGES),) for values in each.values())
    for loss, values in each.items():
        assert (values > 0).all() if found or loss in ("classification", "objectness") else not values.any(), loss


@pytest.mark.parametrize("name", KINDS)
def test_what_is_no_object_does_not_change_the_losses(small, name):
    _, params, losses, _ = small(name)
    _, none = losses(params, IMAGES, objects([BOX, BOX], mask=False))
    _, empty = losses(params, IMAGES, objects([(9, 9, 9, 30), (5, 5, 5, 5)]))
    jax.tree.map(np.testing.assert_array_equal, none, empty)
    given = objects([BOX, (2, 2, 20, 14)])
    one = losses(params, IMAGES, given._replace(mask=given.mask & [False, True]))
    padding = given.boxes.copy()
    padding[:, 0] = np.nan
    padded = losses(params, IMAGES, given._replace(boxes=padding, mask=given.mask & [False, True]))
    jax.tree.map(np.testing.assert_array_equal, one, padded)


@pytest.mark.parametrize("name", KINDS)
def test_detections_are_within_the_image_sorted_and_of_the_fixed_number(small, name):
    model, params, _, detections = small(name)
    found = detections(params, IMAGES * 30)
    assert found.boxes.shape == (len(IMAGES), model.max_detections, 4) and found.mask.any()
    boxes, mask = np.asarray(found.boxes), np.asarray(found.mask)
    assert (boxes >= 0).all() and (boxes <= (48, 64, 48, 64)).all() and np.isfinite(boxes).all()
    assert (np.diff(found.scores, axis=1) <= 0).all() and not np.asarray(found.scores)[~mask].any()
    assert (found.scores[mask] > model.score_threshold).all() and set(np.asarray(found.classes)[mask]) <= {0, 1, 2}


@pytest.mark.parametrize("name", [*KINDS, pytest.param("ssd300_vgg16", marks=pytest.mark.slow)])
def test_detections_are_of_any_number_of_images(name):
    """As `cnnjax export` writes them."""
    model, size = create_model(name.split()[0], 3, **SMALL.get(name, {})), (300, 300) if "ssd" in name else (64, 48)
    _, variables = shapes(model, *size, 3)
    [batch] = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *size, 3), jnp.float32)
    found = jax.eval_shape(partial(model.apply, method="detections"), variables, images)
    assert found.boxes.shape == (batch, model.max_detections, 4)


@pytest.mark.slow
def test_losses_and_gradients_are_the_same_on_one_two_and_four_devices():
    """Samples are drawn by the example, and sums divided by numbers over all devices, of which each has other objects."""
    model = create_model("fasterrcnn", 3, **SMALL["fasterrcnn"])
    images = np.random.default_rng(1).standard_normal((4, 64, 48, 3)).astype(np.float32)
    variables = draw(model, images)
    given = jax.tree.map(lambda leaf: np.repeat(leaf[:1], 4, 0), objects([BOX, (2, 2, 20, 14)]))
    given.mask[1, 1], given.mask[2] = False, False

    def on(devices):
        def losses_and_gradients(images, given):
            def share(params):
                state = {**variables, "params": params}
                rngs = {"sampling": jax.random.key(0)}
                losses, _ = model.apply(state, images, given, True, method="losses", rngs=rngs, mutable=["batch_stats"])
                losses = by_example(losses)
                return sum(values.sum() for values in losses.values()) / 4, losses

            (_, losses), gradients = jax.value_and_grad(share, has_aux=True)(variables["params"])
            return losses, jax.lax.psum(gradients, AXIS)

        parts = jax.tree.map(lambda leaf: leaf.reshape(devices, 4 // devices, *leaf.shape[1:]), (images, given))
        losses, gradients = jax.jit(jax.vmap(losses_and_gradients, axis_name=AXIS))(*parts)
        return {name: values.ravel() for name, values in losses.items()}, jax.tree.map(lambda leaf: leaf[0], gradients)

    whole, gradients = on(1)
    for devices in (2, 4):
        shared, theirs = on(devices)
        for name, values in whole.items():
            np.testing.assert_allclose(shared[name], values, rtol=2e-6, atol=1e-7, err_msg=name)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max()), theirs, gradients
        )
