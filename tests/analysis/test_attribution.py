"""Maps of what counts in an image, on networks of which that is known."""

from functools import partial

import flax.linen as nn
import jax
import numpy as np
import pytest

from cnnjax import layers
from cnnjax.analysis import grad_cam, occlusion, saliency
from cnnjax.analysis.networks import class_indices, opened
from cnnjax.models import create_model
from tests.one_program import apply, draw

GENERATOR = np.random.RandomState(0)
IMAGES = GENERATOR.normal(size=(3, 8, 8, 2)).astype(np.float32)


class Linear(nn.Module):
    """logits = W x."""

    @nn.compact
    def __call__(self, x):
        return layers.Dense(4, name="output")(layers.flatten(x))


class Corner(nn.Module):
    """Sees the upper left 3x3 pixels alone: all others are multiplied by zero."""

    @nn.compact
    def __call__(self, x):
        x = layers.Conv(3, (3, 3), padding="valid", name="conv")(
            x * np.pad(np.ones((3, 3, 1), np.float32), ((0, 5), (0, 5), (0, 0)))
        )
        return layers.Dense(4, name="output")(layers.global_average_pool(nn.tanh(x)))


class Averaged(nn.Module):
    """A convolution, global average pooling, a dense layer: Zhou et al.'s class activation maps are known for it."""

    @nn.compact
    def __call__(self, x):
        x = layers.Conv(5, (3, 3), padding="valid", name="conv")(x)
        return layers.Dense(4, name="output")(layers.global_average_pool(nn.relu(x)))


class Pooled(nn.Module):
    """A convolution over any number of axes, global average pooling and a dense layer, without an activation."""

    def setup(self):
        self.conv = layers.Conv(3, 2, padding="valid")
        self.output = layers.Dense(4)

    def maps(self, x):
        return self.conv(x)

    def __call__(self, x):
        return self.output(layers.global_average_pool(self.conv(x)))


def network(module, seed=0, shape=IMAGES.shape):
    return module, draw(module, np.zeros(shape, np.float32), seed=seed)


@pytest.fixture(scope="module")
def corner():
    return network(Corner())


@pytest.fixture(scope="module")
def averaged():
    return network(Averaged())


@pytest.mark.parametrize("size", [(6,), (3, 4, 5)])
def test_saliency_and_grad_cam_of_signals_and_volumes(size):
    inputs = np.random.RandomState(1).normal(size=(2, *size, 2)).astype(np.float32)
    model, variables = network(Linear(), shape=inputs.shape)
    weights = np.asarray(variables["params"]["output"]["kernel"]).reshape(*size, 2, 4)
    expected = np.broadcast_to(np.abs(weights[..., 1]).max(-1), (2, *size))
    np.testing.assert_allclose(saliency((model, variables), inputs, 1), expected, rtol=1e-6)
    model, variables = network(Pooled(), shape=inputs.shape)
    maps = np.asarray(apply(model, variables, inputs, method=Pooled.maps))
    weights = np.asarray(variables["params"]["output"]["kernel"])[:, 2] / np.prod(maps.shape[1:-1])
    expected = np.maximum(maps @ weights, 0)
    np.testing.assert_allclose(grad_cam((model, variables), inputs, 2), expected, atol=1e-6)


def test_a_linear_models_saliency_is_its_weights():
    model, variables = network(Linear())
    weights = np.asarray(variables["params"]["output"]["kernel"]).reshape(8, 8, 2, 4)
    for label in range(4):
        found = saliency((model, variables), IMAGES, label)
        np.testing.assert_allclose(found, np.broadcast_to(np.abs(weights[..., label]).max(-1), (3, 8, 8)), rtol=1e-6)


def test_a_network_of_one_corner_has_maps_there_alone(corner):
    found = saliency(corner, IMAGES)
    assert (found[:, :3, :3] > 0).all() and not found[:, 3:].any() and not found[:, :, 3:].any()
    fallen = occlusion(corner, IMAGES, patch=2, stride=2)
    assert fallen.shape == (3, 4, 4)
    assert (np.abs(fallen[:, :2, :2]) > 1e-4).all()
    assert np.abs(fallen[:, 2:]).max() < 1e-6 and np.abs(fallen[:, :, 2:]).max() < 1e-6  # sums in another order
    found = np.stack([grad_cam(corner, IMAGES, label) for label in range(4)])
    assert found.shape == (4, 3, 6, 6) and not found[..., 3:, :].any() and not found[..., 3:].any()
    assert found[..., :3, :3].any()


def test_the_predicted_class_is_the_one_meant_by_none(corner):
    predicted = np.asarray(apply(*corner, IMAGES)).argmax(-1)
    assert len(set(predicted.tolist())) > 1
    for method in (saliency, grad_cam, occlusion):
        np.testing.assert_array_equal(method(corner, IMAGES), method(corner, IMAGES, predicted.tolist()))


def test_grad_cam_by_hand(averaged):
    """In NumPy: the convolution's maps, and d logit / d map = weight / places where the ReLU lets it through."""
    model, variables = averaged
    kernel, bias = (np.asarray(variables["params"]["conv"][name], np.float64) for name in ("kernel", "bias"))
    weights = np.asarray(variables["params"]["output"]["kernel"], np.float64)
    maps = np.zeros((3, 6, 6, 5))
    for row in range(6):
        for column in range(6):
            part = IMAGES[:, row : row + 3, column : column + 3]
            maps[:, row, column] = np.tensordot(part, kernel, 3) + bias
    for label in range(4):
        gradient = (maps > 0) * weights[:, label] / 36
        expected = np.maximum((maps * gradient.mean((1, 2), keepdims=True)).sum(-1), 0)
        np.testing.assert_allclose(grad_cam((model, variables), IMAGES, label, "conv"), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("patch", "stride", "fill"), [(3, 2, 0.0), (4, 3, 1.5), (8, 1, 0.0)])
def test_occlusion_is_a_loop_of_forward_passes(averaged, patch, stride, fill):
    logits = jax.jit(partial(averaged[0].apply, averaged[1]))
    found = occlusion(averaged, IMAGES, [2, 0, 1], patch, stride, fill, batch_size=7)
    places = [*range(0, 8 - patch, stride), 8 - patch]
    assert found.shape == (3, len(places), len(places))
    for image, label in enumerate([2, 0, 1]):
        whole = np.asarray(logits(IMAGES[image : image + 1]))[0, label]
        for row, top in enumerate(places):
            for column, left in enumerate(places):
                covered = IMAGES[image : image + 1].copy()
                covered[:, top : top + patch, left : left + patch] = fill
                fall = whole - np.asarray(logits(covered))[0, label]
                np.testing.assert_allclose(found[image, row, column], fall, atol=1e-5)


def test_the_batch_size_changes_nothing(averaged):
    for method in (saliency, grad_cam, occlusion):
        np.testing.assert_allclose(method(averaged, IMAGES, batch_size=2), method(averaged, IMAGES), atol=1e-6)


def test_fast_and_stock_operations_agree_on_a_real_network():
    from cnnjax.ops.choice import using

    model = create_model("lenet5", 10)
    images = np.random.RandomState(1).normal(size=(2, 32, 32, 1)).astype(np.float32)
    network = model, draw(model, images, seed=1)
    for method in (saliency, grad_cam):
        fast = method(network, images)
        with using("stock"):
            np.testing.assert_allclose(fast, method(network, images), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: grad_cam(net, IMAGES, layer="convolution"), "unknown layer 'convolution': did you mean 'conv'"),
        (lambda net: grad_cam(net, IMAGES, layer="output"), "layer 'output' has no feature maps"),
        (lambda net: saliency(net, IMAGES, 4), "class 4: the network has classes 0 to 3"),
        (lambda net: saliency(net, IMAGES, [0, -1, 2]), "class -1: the network has classes 0 to 3"),
        (lambda net: saliency(net, IMAGES, [0, 1]), "one for each of the 3"),
        (lambda net: saliency(net, IMAGES, 0.5), "expected one number for all images"),
        (
            lambda net: saliency(net, IMAGES[0]),
            r"images of shape \(8, 8, 2\): the model does not accept them: conv: kernel_size",
        ),
        (
            lambda net: saliency(net, IMAGES[0, 0]),
            r"images of shape \(8, 2\), float32: expected at least one floating-point input",
        ),
        (lambda net: occlusion(network(Linear(), shape=(3, 8, 2)), IMAGES[:, 0]), "expected images"),
        (lambda net: saliency(net, IMAGES[:0]), "at least one"),
        (lambda net: saliency(net, (IMAGES * 9).astype(np.uint8)), "expected at least one floating-point input"),
        (lambda net: occlusion(net, IMAGES, patch=9), "patch=9, stride=4: expected a patch of 1 to 8"),
        (lambda net: occlusion(net, IMAGES, stride=0), "stride of 1 or more"),
    ],
)
def test_what_cannot_be_is_refused(averaged, call, message):
    with pytest.raises(ValueError, match=message):
        call(averaged)


def test_a_dense_network_has_no_grad_cam():
    with pytest.raises(ValueError, match="no layer of the network has feature maps"):
        grad_cam(network(Linear()), IMAGES)


def test_of_a_run_the_images_are_a_data_sets(finished_run):
    import cnnjax

    images = cnnjax.load_dataset(finished_run.config.dataset).splits["test"].images[:3]
    inputs = finished_run.network_inputs(images)
    pair = finished_run.model, finished_run.selected.variables
    np.testing.assert_array_equal(saliency(finished_run, images), saliency(pair, inputs))
    logits = apply(finished_run.model, finished_run.selected.variables, np.asarray(inputs))
    np.testing.assert_allclose(finished_run.probabilities(logits), finished_run.predict(images), rtol=1e-5)
    with pytest.raises(
        ValueError,
        match=r"images of shape \(3, 30, 32, 1\): expected at least one prepared image, uint8 of shape \(images, 32, 32, 1\)",
    ):
        saliency(finished_run, images[:, 1:-1])


def test_a_network_is_traced_once_to_see_whether_it_takes_images():
    traced = []

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x):
            traced.append(x.shape)
            return layers.Dense(4)(layers.flatten(x))

    model = Counted()
    variables = draw(model, IMAGES)
    traced.clear()
    for count in (3, 2):
        opened((model, variables), IMAGES[:count])
        class_indices(1, model, variables, IMAGES[:count])
    assert traced == [(1, 8, 8, 2)]
