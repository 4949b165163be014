import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnnjax
from experiments.benchmarks import networks, plain_flax
from experiments.benchmarks.networks import NETWORKS
from experiments.benchmarks.train_step import check_parameters


def shapes(model, image_shape):
    """The sorted shapes of all trained parameters, nothing computed."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return sorted(leaf.shape for leaf in jax.tree.leaves(variables["params"]))


# Seconds of tracing each, for blocks that repeat.
DEEP = (
    "resnet50",
    "googlenet",
    "densenet121",
    "regnet_y_400mf",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "efficientnet_b0",
    "mnasnet1_0",
)
DEEP += ("mobilenet_v2", "convnext_tiny", "googlenet_96", "resnet56")
DEEP += ("mobilenet_v3_large", "shufflenet_v2_x1_0", "efficientnet_v2_s", "inception_v3", "xception")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEP)) for name in (*NETWORKS, "drawn-0-0", "drawn-0-1")],
)
def test_our_model_and_plain_flax_have_the_published_parameters_and_the_same_arithmetic(name):
    network = networks.network_of(name)
    model = cnnjax.create_model(network.model, network.num_classes, **network.options)
    plain = plain_flax.PlainFlax(network.describe())
    ours = shapes(model, network.image_shape)
    assert ours == shapes(plain, network.image_shape)
    assert sum(int(np.prod(shape)) for shape in ours) == network.parameters
    # Equal counts would hide a stride in another layer.
    macs = [cnnjax.summarize(module, network.image_shape).total_macs for module in (model, plain)]
    assert macs[0] == macs[1] > 0


@pytest.mark.parametrize("name", [*NETWORKS, "drawn-0-0", "drawn-0-1"])
def test_pytorch_has_the_published_parameters(name):
    pytest.importorskip("torch")
    from experiments.benchmarks import pytorch

    network = networks.network_of(name)
    module = pytorch.build(network.describe(), network.image_shape, "meta")
    assert pytorch.count(module) == network.parameters


@pytest.mark.parametrize("name", ["lenet5", "resnet18"])
def test_keras_has_the_published_parameters(name, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    pytest.importorskip("keras")
    from experiments.benchmarks import keras_jax

    network = NETWORKS[name]
    assert keras_jax.count(keras_jax.build(network.describe(), network.image_shape)) == network.parameters


# Every kind of layer once, small.
_NORMALIZED = (networks.Conv(4, 3, strides=2, padding=1, bias=False), networks.BatchNorm())
ALL_LAYERS = (
    *(networks.Conv(4, 5), networks.TANH, networks.MaxPool(3, 2, 1)),
    *(networks.Residual(_NORMALIZED, _NORMALIZED), networks.Residual((networks.Conv(4, 3, padding=1), networks.RELU))),
    networks.Residual((networks.Conv(4, 3, padding=1, groups=2), networks.LayerNorm(), networks.GELU), relu=False),
    networks.Residual((networks.Pointwise(4), networks.SILU, networks.LayerScale(0.5)), relu=False),
    networks.SqueezeExcitation(2, 4, networks.RELU6),
    networks.SqueezeExcitation(2, 4, networks.RELU, networks.Activation("hard_sigmoid")),
    networks.Parallel(((networks.Part(1), networks.Conv(2, 1), networks.HARD_SWISH), (networks.Part(0),))),
    *(networks.AveragePool(3, 1, 1), networks.Shuffle(2)),
    networks.Residual((networks.RELU, networks.Conv(4, (1, 3), padding=(0, 1))), relu=False),
    networks.Parallel(((networks.Conv(2, 1),), (networks.MaxPool(3, 1, 1), networks.Conv(3, 3, padding=1)))),
    networks.Residual((networks.Conv(8, 3, 2, 1),), (networks.Halved(8),)),
    *(
        networks.AveragePool(2),
        networks.Repeated(3),
        networks.Dropout(0.5),
        networks.GlobalAveragePool(),
        networks.Dense(3),
    ),
)


def test_flax_and_pytorch_compute_the_same():
    torch = pytest.importorskip("torch")
    from experiments.benchmarks import pytorch

    images = np.random.default_rng(0).standard_normal((2, 20, 20, 1), dtype=np.float32)
    module = pytorch.build(ALL_LAYERS, (20, 20, 1), "cpu")
    model = plain_flax.PlainFlax(ALL_LAYERS)
    layers = [layer for layer in module.modules() if hasattr(layer, "weight")]
    variables = flax.traverse_util.flatten_dict(model.init(jax.random.key(0), images))
    given = {}
    given["params", "_LayerScale_0", "scale"] = np.full(4, 0.5)
    for kind, weight in (("Conv", "kernel"), ("BatchNorm", "scale"), ("LayerNorm", "scale"), ("Dense", "kernel")):
        of_kind = [layer for layer in layers if type(layer).__name__.startswith(kind.replace("Dense", "Linear"))]
        for number, layer in enumerate(of_kind):
            tensor = layer.weight.detach().numpy()
            axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[tensor.ndim]
            given["params", f"{kind}_{number}", weight] = tensor.transpose(axes)
            if layer.bias is not None:
                given["params", f"{kind}_{number}", "bias"] = layer.bias.detach().numpy()
    statistics = {path: value for path, value in variables.items() if path[0] == "batch_stats"}
    assert given.keys() == variables.keys() - statistics.keys()
    logits = model.apply(flax.traverse_util.unflatten_dict(given | statistics), images)
    expected = module(torch.from_numpy(images.transpose(0, 3, 1, 2))).detach().numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_networks_that_differ_are_not_compared():
    check_parameters("mlp", {"cnnjax": 636_010, "flax": 636_010})
    with pytest.raises(ValueError, match="mlp: expected 636,010 parameters and flax has 636,000"):
        check_parameters("mlp", {"cnnjax": 636_010, "flax": 636_000})
