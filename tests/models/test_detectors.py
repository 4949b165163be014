"""Detectors: their figures, torchvision's values, and objects that are none, empty, ignored or too many.

`torchvision_detectors.npz` has values of torchvision 0.29.1 in double precision, stored in single, for images and weights that
`tests.transfer.made_tensors` makes again: of the outputs for an image of 128x160 pixels (SSD: 300x300) every 97th anchor and every
third class; of Faster R-CNN's proposals every third row and column.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.config import load_config
from cnnjax.detection import Objects
from cnnjax.models import MODELS, create_model, list_models
from cnnjax.models.feature_pyramid import joined
from cnnjax.training.experiment import DataFacts, build
from cnnjax.transfer.torchvision import export_torchvision, load_torchvision
from tests.one_program import draw
from tests.transfer import made_tensors

NETWORKS = list_models(task="detection")
SALT = 20261124
with np.load(Path(__file__).parent / "torchvision_detectors.npz") as stored:
    VALUES = {name: stored[name] for name in stored}
# The same networks with ordinary batch normalisation, whose scales and biases are parameters, as torchvision makes them untrained.
TOTALS = {"retinanet_resnet50_fpn": 34_014_999}
UNFROZEN = {"retinanet_resnet50_fpn": 34_068_119}

# A small form of each network, on an encoder of three convolutions.
SMALL = {"retinanet": {"encoder": "cnn_8_16_32", "encoder_maps": 2, "further_maps": 1, "features": 8, "head_depth": 1}}
IMAGES = np.random.default_rng(0).standard_normal((3, 64, 48, 3)).astype(np.float32)


def shapes(model, *size):
    images = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), images)


def parameters(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.fixture(scope="module")
def small():
    """A small detector of each kind with its variables, and its losses with their gradients and its detections, compiled once."""

    def made(name):
        model = create_model(name, 3, **SMALL[name])
        variables = draw(model, IMAGES)

        @jax.jit
        def losses(params, images, objects):
            def total(params):
                given = {**variables, "params": params}
                rngs = {"sampling": jax.random.key(1)}
                each, _ = model.apply(given, images, objects, True, method="losses", rngs=rngs, mutable=["batch_stats"])
                return sum(values.sum() for values in each.values()), each

            return jax.grad(total, has_aux=True)(params)

        detections = jax.jit(
            lambda params, images: model.apply({**variables, "params": params}, images, method="detections")
        )
        return model, variables["params"], losses, detections

    return {name: made(name) for name in SMALL}


def objects(boxes, mask=True, ignore=False, classes=0):
    """The same objects in each image."""
    boxes = np.tile(np.float32(boxes).reshape(1, -1, 4), (len(IMAGES), 1, 1))
    full = partial(np.full, boxes.shape[:2])
    return Objects(boxes, full(classes), full(ignore), full(mask))


@pytest.mark.parametrize("name", sorted(TOTALS))
def test_parameters_are_torchvisions_with_frozen_and_with_ordinary_batch_normalisation(name):
    published = MODELS[name]
    size = (128, 160, 3)
    _, variables = shapes(create_model(name, published.num_classes), *size)
    assert parameters(variables) == TOTALS[name]
    if name in UNFROZEN:
        assert (
            parameters(shapes(create_model(name, published.num_classes, frozen_batch_norm=False), *size)[1])
            == (UNFROZEN[name])
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_the_trunk_has_no_layer_that_depends_on_the_classes(name):
    options = SMALL.get(name, {})
    (_, whole), (maps, trunk) = (shapes(create_model(name, count, **options), 64, 64, 3) for count in (7, 0))
    assert all(each.ndim == 4 for each in maps)
    assert all(whole["params"][part] == layers for part, layers in trunk["params"].items())


def test_a_detector_is_not_trained_to_classify():
    facts = DataFacts({"num_classes": 10}, 1000, [100] * 10)
    for name in NETWORKS:
        with pytest.raises(ValueError, match=f"model.name='{name}' is a network for detection and task.name='class"):
            build(load_config({}, {"model.name": name}), facts)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["retinanet_resnet50_fpn"])
def test_outputs_are_torchvisions_and_the_weights_come_back(name):
    row = MODELS[name]
    size = (300, 300) if name.startswith("ssd") else (128, 160)
    _, variables = shapes(create_model(name, row.num_classes), *size, 3)
    state_dict = made_tensors.tensors(row.torchvision, variables, partial(made_tensors.tensor, salt=SALT))
    model, variables = load_torchvision(name, state_dict)
    assert model == create_model(name, row.num_classes)
    generator = np.random.Generator(np.random.PCG64([SALT, 0]))
    images = generator.standard_normal((1, 3, *size)).astype(np.float32).transpose(0, 2, 3, 1)
    outputs = jax.jit(model.apply)(variables, images)
    for ours, theirs in zip(outputs, ("cls_logits", "bbox_regression", "bbox_ctrness"), strict=False):
        expected = VALUES[f"{name}/{theirs}"]
        found = np.asarray(joined(ours))[:, ::97]
        found = found[..., ::3] if theirs == "cls_logits" else found
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    exported = export_torchvision(name, variables)
    assert exported.keys() == state_dict.keys()
    assert all(exported[key].tobytes() == value.tobytes() for key, value in state_dict.items())


BOX = (8.0, 8.0, 30.0, 40.0)


@pytest.mark.parametrize("name", SMALL)
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
    _, params, losses, _ = small[name]
    gradients, each = losses(params, IMAGES, given)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradients, each)))
    assert all(values.shape == (len(IMAGES),) for values in each.values())
    for loss, values in each.items():
        boxes = "regression" in loss or "box" in loss
        assert (values > 0).all() if found or not boxes else not values.any(), loss


@pytest.mark.parametrize("name", SMALL)
def test_what_is_no_object_does_not_change_the_losses(small, name):
    _, params, losses, _ = small[name]
    _, none = losses(params, IMAGES, objects([BOX, BOX], mask=False))
    _, empty = losses(params, IMAGES, objects([(9, 9, 9, 30), (5, 5, 5, 5)]))
    jax.tree.map(np.testing.assert_array_equal, none, empty)
    given = objects([BOX, (2, 2, 20, 14)])
    one = losses(params, IMAGES, given._replace(mask=given.mask & [False, True]))
    padding = given.boxes.copy()
    padding[:, 0] = np.nan
    padded = losses(params, IMAGES, given._replace(boxes=padding, mask=given.mask & [False, True]))
    jax.tree.map(np.testing.assert_array_equal, one, padded)


@pytest.mark.parametrize("name", SMALL)
def test_detections_are_within_the_image_sorted_and_of_the_fixed_number(small, name):
    model, params, _, detections = small[name]
    found = detections(params, IMAGES * 30)
    assert found.boxes.shape == (len(IMAGES), model.max_detections, 4) and found.mask.any()
    boxes, mask = np.asarray(found.boxes), np.asarray(found.mask)
    assert (boxes >= 0).all() and (boxes <= (48, 64, 48, 64)).all() and np.isfinite(boxes).all()
    assert (np.diff(found.scores, axis=1) <= 0).all() and not np.asarray(found.scores)[~mask].any()
    assert (found.scores[mask] > model.score_threshold).all() and set(np.asarray(found.classes)[mask]) <= {0, 1, 2}
