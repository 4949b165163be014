"""Our training step is PyTorch's: same weights, batches, momentum and weight decay."""

from functools import partial

import flax.traverse_util
import jax
import numpy as np
import pytest

from cnnjax.models import convnext, create_model, densenet, efficientnet, mobilenet_v2
from cnnjax.models.published import Torchvision
from cnnjax.models.resnet import ResNet
from cnnjax.tasks import Classification
from cnnjax.training.optimizers import make_optimizer
from cnnjax.training.parallel import over_devices
from cnnjax.training.state import start_from
from cnnjax.training.step import plain_inputs, train_step
from cnnjax.transfer.torchvision import from_torchvision, to_torchvision
from tests.training import pytorch_step, torchvision_step
from tests.transfer import made_tensors

MODELS = {
    "lenet5": create_model("lenet5", pytorch_step.CLASSES),
    "resnet": ResNet(pytorch_step.CLASSES, stages=(1, 1), bottleneck=False, features=4, stem="3x3"),
}


def after_steps(model, variables, batches):
    """The loss of each step, and the variables after them."""
    task = Classification()
    optimizer = make_optimizer(
        "sgd",
        lambda step: pytorch_step.LEARNING_RATE,
        momentum=pytorch_step.MOMENTUM,
        weight_decay=pytorch_step.WEIGHT_DECAY,
        decayed="all",
    )
    inputs = plain_inputs(task, lambda images: images / 255.0, {"num_classes": pytorch_step.CLASSES})
    step = over_devices(train_step(model, optimizer, task, inputs, 0), jax.local_devices()[:1])
    state, losses = start_from(variables["params"], variables.get("batch_stats", {}), optimizer), []
    for images, labels in batches:
        index = np.arange(len(images), dtype=np.int32)
        batch = {"image": images, "label": labels, "mask": np.ones(len(images), np.float32), "index": index}
        state, metrics = step(state, {}, {name: value[None] for name, value in batch.items()})
        losses.append(metrics["loss"] / len(images))
    return losses, jax.device_get(state.variables)


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
    batches = [pytorch_step.batch(network, number) for number in range(pytorch_step.STEPS)]
    losses, variables = after_steps(model, variables, batches)
    for number, loss in enumerate(losses):
        np.testing.assert_allclose(loss, reference[f"{network}/loss{number}"], rtol=1e-5)
    after = flax.traverse_util.flatten_dict(variables, sep="/")
    names = {path: f"{network}/{path.split('/', 1)[1]}" for path in after}
    assert {*names.values()} == {key for key in reference if key.startswith(f"{network}/") and "/loss" not in key}
    for path, value in after.items():
        np.testing.assert_allclose(value, reference[names[path]], rtol=1e-5, atol=1e-5, err_msg=path)
        assert np.abs(value - made[path]).max() > 1e-5, path


# The networks of `torchvision_step`, with the function from a layer of ours to torchvision's.
_MOBILE = (mobilenet_v2.Row(1, 16, 1, 1), mobilenet_v2.Row(6, 24, 2, 2))
_EFFICIENT = (efficientnet.Row("FusedMBConv", 1, 3, 1, 16, 1), efficientnet.Row("MBConv", 6, 3, 2, 24, 2))
TORCHVISIONS = {
    "mobilenet_v2": (
        mobilenet_v2.MobileNetV2(10, _MOBILE, dropout_rate=0.0),
        partial(mobilenet_v2.torchvision_module, _MOBILE),
    ),
    "efficientnet": (
        efficientnet.EfficientNet(10, _EFFICIENT, dropout_rate=0.0, stochastic_depth_rate=0.0),
        partial(efficientnet.torchvision_module, _EFFICIENT),
    ),
    "convnext": (
        convnext.ConvNeXt(10, (1, 2), (16, 32), stochastic_depth_rate=0.0),
        convnext.torchvision_module,
    ),
    "densenet": (densenet.DenseNet(10, (1, 2), 8, 16), densenet.torchvision_module),
}


@pytest.mark.parametrize("network", TORCHVISIONS)
def test_steps_of_torchvisions_networks_equal_its(network):
    model, module = TORCHVISIONS[network]
    equal = Torchvision(network, module, ("fc",))
    with np.load(torchvision_step.STORED) as stored:
        reference = dict(stored)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), "float32"))
    variables = from_torchvision(equal, made_tensors.tensors(equal, shapes, torchvision_step.made), shapes)
    batches = [torchvision_step.batch(number) for number in range(pytorch_step.STEPS)]
    losses, after = after_steps(model, variables, batches)
    for number, loss in enumerate(losses):
        np.testing.assert_allclose(loss, reference.pop(f"{network}/loss{number}"), rtol=1e-5)
    before, after = (to_torchvision(equal, each) for each in (variables, after))
    assert {f"{network}/{name}" for name in after} == {key for key in reference if key.startswith(f"{network}/")}
    for name, value in after.items():
        norm, product = torchvision_step.figures(name, before[name], value)
        expected_norm, expected_product = reference[f"{network}/{name}"]
        assert expected_norm > 0 and abs(norm / expected_norm - 1) < 1e-3, name
        # Of differences before and after, whose float32 values are themselves rounded to 6e-8 of their size.
        assert abs(product - expected_product) < 1e-3 * expected_norm + 1e-7, name


def test_the_stored_values_are_pytorchs():
    pytest.importorskip("torch", reason="PyTorch is not installed: its values are stored")
    with np.load(pytorch_step.STORED) as stored:
        for name, value in pytorch_step.steps().items():
            np.testing.assert_allclose(value, stored[name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_the_stored_values_are_torchvisions():
    pytest.importorskip("torchvision", reason="torchvision is not installed: its values are stored")
    with np.load(torchvision_step.STORED) as stored:
        for name, value in torchvision_step.steps().items():
            # As far as ours may be: a loss, or a change's norm and product.
            tolerance = 1e-5 if "/loss" in name else 1e-3
            assert np.abs(value - stored[name]).max() < tolerance * np.ravel(stored[name])[0], name
