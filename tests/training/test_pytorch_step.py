"""Our training step is PyTorch's: same weights, batches, momentum and weight decay."""

import flax.traverse_util
import jax
import numpy as np
import pytest

from cnnjax.models import create_model
from cnnjax.models.resnet import ResNet
from cnnjax.tasks import Classification
from cnnjax.training.optimizers import make_optimizer
from cnnjax.training.parallel import over_devices
from cnnjax.training.state import start_from
from cnnjax.training.step import plain_inputs, train_step
from tests.training import pytorch_step

MODELS = {
    "lenet5": create_model("lenet5", pytorch_step.CLASSES),
    "resnet": ResNet(pytorch_step.CLASSES, stages=(1, 1), bottleneck=False, features=4, stem="3x3"),
}


@pytest.mark.parametrize("network", MODELS)
def test_steps_equal_pytorchs(network):
    model, shape = MODELS[network], pytorch_step.SHAPES[network]
    expected_shapes = flax.traverse_util.flatten_dict(
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, "float32")), sep="/"
    )
    with np.load(pytorch_step.STORED) as stored:
        reference = dict(stored)
    made = {
        path: pytorch_step.array(f"{network}/{path.split('/', 1)[1]}", leaf.shape)
        for path, leaf in expected_shapes.items()
    }
    variables = flax.traverse_util.unflatten_dict(made, sep="/")
    optimizer = make_optimizer(
        "sgd",
        lambda step: pytorch_step.LEARNING_RATE,
        momentum=pytorch_step.MOMENTUM,
        weight_decay=pytorch_step.WEIGHT_DECAY,
        decayed="all",
    )
    step = over_devices(
        train_step(
            model,
            optimizer,
            Classification(),
            plain_inputs(Classification(), lambda images: images / 255.0, {"num_classes": pytorch_step.CLASSES}),
            0,
        ),
        jax.local_devices()[:1],
    )
    params = variables["params"]
    state = start_from(params, variables.get("batch_stats", {}), optimizer)
    for number in range(pytorch_step.STEPS):
        images, labels = pytorch_step.batch(network, number)
        index = np.arange(len(images), dtype=np.int32)
        batch = {"image": images, "label": labels, "mask": np.ones(len(images), np.float32), "index": index}
        state, metrics = step(state, {}, {name: value[None] for name, value in batch.items()})
        np.testing.assert_allclose(metrics["loss"] / len(images), reference[f"{network}/loss{number}"], rtol=1e-5)
    after = flax.traverse_util.flatten_dict(jax.device_get(state.variables), sep="/")
    names = {path: f"{network}/{path.split('/', 1)[1]}" for path in after}
    assert {*names.values()} == {key for key in reference if key.startswith(f"{network}/") and "/loss" not in key}
    for path, value in after.items():
        np.testing.assert_allclose(value, reference[names[path]], rtol=1e-5, atol=1e-5, err_msg=path)
        assert np.abs(value - made[path]).max() > 1e-5, path


def test_the_stored_values_are_pytorchs():
    pytest.importorskip("torch", reason="PyTorch is not installed: its values are stored")
    with np.load(pytorch_step.STORED) as stored:
        for name, value in pytorch_step.steps().items():
            np.testing.assert_allclose(value, stored[name], rtol=1e-6, atol=1e-7, err_msg=name)
