import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax
from cnnjax import layers
from cnnjax.config import load_config
from cnnjax.models import create_model
from cnnjax.runs.training import initial_variables, is_of_imagenet
from cnnjax.transfer.initial import encoder_alone, merge


def drawn(model, seed, images):
    """Every array filled with normal numbers."""
    generator = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree.map(lambda leaf: generator.standard_normal(leaf.shape, np.float32), shapes)


def test_an_encoder_is_given_its_networks_weights_and_the_rest_is_drawn():
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    target = drawn(create_model("unet", 4, encoder="resnet20", features=2, batch_norm=True), 0, images)
    network = drawn(create_model("resnet20", 10), 1, images)
    source, others = encoder_alone(network, target)
    variables = merge(target, source, others, False, "a run")
    for collection in ("params", "batch_stats"):
        own = {name: values for name, values in network[collection].items() if name != "fc"}
        jax.tree.map(np.testing.assert_array_equal, variables[collection]["encoder"], own)
        rest = {name: values for name, values in variables[collection].items() if name != "encoder"}
        jax.tree.map(np.testing.assert_array_equal, rest, {name: target[collection][name] for name in rest})
    shapes = jax.eval_shape(lambda: target)  # before anything is drawn
    source, others = encoder_alone(network, shapes)
    merge(shapes, source, others, False, "a run")


def test_another_network_does_not_fit():
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    target = drawn(create_model("unet", 4, encoder="resnet32", features=2), 0, images)
    source, others = encoder_alone(drawn(create_model("resnet20", 10), 1, images), target)
    with pytest.raises(ValueError, match="a run does not fit the model: 60 missing"):
        merge(target, source, others, False, "a run")


def test_dense_layers_become_the_convolutions_that_they_are():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, 7, 7, 3)).astype(np.float32)
    dense = {"kernel": generator.standard_normal((147, 5)).astype(np.float32), "bias": np.ones(5, np.float32)}
    target = {"params": {"encoder": {}, "fc6": {"kernel": np.zeros((7, 7, 3, 5)), "bias": np.zeros(5)}}}
    source, others = encoder_alone({"params": {"fc6": dense, "fc8": dense}}, target)
    convolution = layers.Conv(5, 7, padding="valid").apply({"params": source["params"]["fc6"]}, x)
    np.testing.assert_allclose(convolution[:, 0, 0], x.reshape(2, -1) @ dense["kernel"] + 1, rtol=1e-4, atol=1e-4)
    assert source["params"].keys() == {"encoder", "fc6"} and not others
    for size, kept in ((147, True), (75, False)):  # Faster R-CNN's, of as many values or of others
        target["params"]["fc6"]["kernel"] = np.zeros((size, 5))
        assert ("fc6" in encoder_alone({"params": {"fc6": dense}}, target)[0]["params"]) == kept


def test_weights_are_of_the_whole_network_or_of_its_encoder(tmp_path):
    from tests.transfer.test_torchvision import empty

    np.savez(tmp_path / "encoder.npz", **empty("resnet50"))
    np.savez(tmp_path / "whole.npz", **empty("fcn_resnet50"))
    model = {"model.name": "fcn_resnet50", "initial.weights": str(tmp_path / "whole.npz")}
    assert initial_variables(load_config({}, model))["params"].keys() == {"encoder", "head", "auxiliary"}
    model["initial.weights"] = str(tmp_path / "encoder.npz")
    assert initial_variables(load_config({}, model)).keys() == {"encoder"}
    model |= {"model.name": "unet", "model.encoder": "resnet50_torchvision"}
    assert "fc" in initial_variables(load_config({}, model))["encoder"]["params"]
    model["model.encoder"] = "resnet20"
    with pytest.raises(ValueError, match="no network that equals resnet20: choose model.encoder from"):
        initial_variables(load_config({}, model))
    assert is_of_imagenet("torchvision:IMAGENET1K_V1") and not is_of_imagenet("torchvision")


@pytest.mark.slow
def test_a_training_begins_with_the_encoder_of_a_run_that_classifies_and_keeps_it(tmp_path):
    train = {"train": {"epochs": 1, "batch_size": 48}}
    classes = {"model": {"name": "lenet5"}, "dataset": {"name": "digits", "examples_per_class": 20}, **train}
    classifier = cnnjax.train(classes, tmp_path / "classes")
    splits = cnnjax.load_dataset("digits").splits
    parts = {name: splits[name].images[:100] for name in ("train", "valid", "test")}
    ink = {name: (images, (images[..., 0] > 100).astype(np.uint8)) for name, images in parts.items()}
    config = {
        "task": {"name": "segmentation"},
        "model": {"name": "unet", "encoder": "lenet5", "features": 4},
        "initial": {"run": str(tmp_path / "classes"), "frozen": ("encoder/*",)},
        **train,
    }
    run = cnnjax.train(config, tmp_path / "maps", dataset=cnnjax.from_arrays(**ink, label_names=("paper", "ink")))
    assert run.state.params["encoder"].keys() == {"c1", "c3"} and "test/mean_iou" in run.metrics
    for name, layer in run.state.params["encoder"].items():
        jax.tree.map(np.testing.assert_array_equal, layer, classifier.selected.variables["params"][name])


@pytest.mark.parametrize("frozen", [False, True])
def test_a_detectors_encoder_is_given_its_networks_weights_and_frozen_normalisation_its_scales(frozen):
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    options = {"encoder": "resnet20", "features": 2, "head_depth": 0, "frozen_batch_norm": frozen}
    target = drawn(create_model("retinanet", 4, **options), 0, images)
    network = drawn(create_model("resnet20", 10), 1, images)
    source, others = encoder_alone(network, target)
    variables = merge(target, source, others, False, "a run")
    assert ("scale" in variables["batch_stats"]["encoder"]["bn1"]) == frozen
    for part in ("params", "batch_stats"):
        values = flax.traverse_util.flatten_dict(variables[part]["encoder"])
        given = [flax.traverse_util.flatten_dict(network[each]) for each in ("params", "batch_stats")]
        for path, value in values.items():
            np.testing.assert_array_equal(value, next(each[path] for each in given if path in each))
    jax.tree.map(np.testing.assert_array_equal, variables["params"]["pyramid"], target["params"]["pyramid"])
