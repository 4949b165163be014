"""Every network of the registry in ONNX: the outputs are ours, and the graph is what runtimes are fast at."""

import collections

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.exporting.onnx import IR_VERSION, OPSET, onnx_model
from cnnjax.models import MODELS, create_model
from cnnjax.ops import choice

ort = pytest.importorskip("onnxruntime", reason="pip install 'cnnjax[test]'")

# Networks that are built and compiled in about a second, with the size of their images; then all others.
QUICK = {
    "cnn_small": (12, 12, 1), "lenet5_1998": (32, 32, 1), "lenet5_bn": (32, 32, 1), "mlp": (8, 8, 1), "resnet20": (8, 8, 3),
}  # fmt: skip
SIZES = {
    "alexnet": (67, 67, 3), "alexnet_torchvision": (64, 64, 3), "farabet": (32, 48, 3), "googlenet": (80, 80, 3),
    "inception_v3": (299, 299, 3), "unet": (188, 188, 1), "unet_same": (16, 16, 1), "zfnet": (64, 64, 3),
}  # fmt: skip


# With kernels of variance 2 / inputs these amplify rounding: the outputs of float32 and float64 differ by more than 1e-5, in JAX alone.
CHAOTIC = ("efficientnet_b7", "efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l")
TOO_LARGE = "regnet_y_128gf"  # weights of 2.4 GiB, of which ONNX's file can hold 2


def drawn(model, shape, gain=2.0):
    """Variables whose every number matters: no scale of 1, no bias of 0."""
    random = np.random.default_rng(0)

    def array(path, leaf):
        name = path[-1].key
        if name == "kernel":
            return random.standard_normal(leaf.shape, np.float32) * np.float32(np.sqrt(gain / np.prod(leaf.shape[:-1])))
        if name in ("scale", "var"):
            return random.uniform(0.7, 1.3, leaf.shape).astype(np.float32)
        return 0.1 * random.standard_normal(leaf.shape, np.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    return jax.tree_util.tree_map_with_path(array, shapes)


def exported(name, shape, classes=5, **options):
    """A network, its variables, and its ONNX model."""
    fold = options.pop("fold_batch_norm", True)
    model = create_model(name, classes, **options)
    variables = drawn(model, shape, gain=0.5 if name in CHAOTIC else 2.0)
    apply = lambda variables, images: model.apply(variables, images)  # noqa: E731
    return apply, variables, onnx_model(apply, variables, shape, np.float32, ["logits"], {"note": "x"}, fold)


def difference(apply, variables, proto, shape, count):
    """The greatest difference of logits, relative to the greatest logit."""
    images = np.random.default_rng(count).normal(size=(count, *shape)).astype(np.float32)
    [found] = ort.InferenceSession(proto.SerializeToString()).run(None, {"images": images})
    with choice.using("stock"):
        expected = np.asarray(jax.jit(apply)(variables, images))
    assert found.shape == expected.shape and np.isfinite(expected).all()
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", QUICK)
def test_small_networks(name):
    shape = QUICK[name]
    apply, variables, proto = exported(name, shape)
    assert difference(apply, variables, proto, shape, 3) < 1e-5


@pytest.mark.parametrize(
    ("shape", "options"),
    [((40, 2), {"norm": "batch"}), ((8, 8, 8, 1), {"norm": "batch", "pooling": "average"})],
    ids=["signals", "volumes"],
)
def test_signals_and_volumes(shape, options):
    apply, variables, proto = exported("pattern", shape, **options)
    assert difference(apply, variables, proto, shape, 2) < 1e-5


# Of each family one, and the others: deeper, or slow to compile.
FAMILIES = (
    "alexnet", "all_cnn", "convnext_tiny", "deeplabv3_mobilenet_v3_large", "efficientnet_b0", "farabet", "googlenet", "googlenet_torchvision", "lraspp_mobilenet_v3_large",
    "maxdrop_cnn", "mobilenet_v3_small", "nin", "regnet_y_400mf", "resnet50", "shufflenet_v2_x0_5", "unet_same",
    "vgg11_bn",
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in FAMILIES else pytest.mark.exhaustive)
        for name in MODELS
        if name not in (*QUICK, TOO_LARGE) and MODELS[name].task != "detection"
    ],
)
def test_all_other_networks(name):
    shape = SIZES.get(name, (32, 32, MODELS[name].image_shape[-1]))
    apply, variables, proto = exported(name, shape)
    assert difference(apply, variables, proto, shape, 2) < 1e-5


class OfFlax(nn.Module):
    """Layers of Flax's own, as a user's network may have them."""

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Conv(8, (3, 3), strides=2)(x))
        x = nn.GroupNorm(2)(nn.gelu(x))
        x = nn.avg_pool(nn.max_pool(x, (2, 2), strides=(1, 1), padding="SAME"), (2, 2), strides=(2, 2))
        x = nn.LayerNorm()(nn.silu(nn.ConvTranspose(6, (2, 2), strides=(2, 2))(x)))
        x = nn.MultiHeadDotProductAttention(2)(x.reshape((len(x), -1, 6)))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=True)(x).mean(1))


@pytest.mark.slow
def test_layers_of_flax():
    model = OfFlax()
    variables = drawn(model, (12, 8, 3))
    apply = lambda variables, images: model.apply(variables, images)  # noqa: E731
    proto = onnx_model(apply, variables, (12, 8, 3), np.float32, ["logits"], {})
    assert difference(apply, variables, proto, (12, 8, 3), 3) < 1e-5


def operators(proto):
    return collections.Counter(node.op_type for node in proto.graph.node)


def test_the_graph_is_convolutions_without_transposes_between():
    _, variables, proto = exported("resnet18", (32, 32, 3))
    assert operators(proto) == {
        "Transpose": 1,
        "Conv": 20,
        "Relu": 17,
        "MaxPool": 1,
        "Add": 8,
        "ReduceMean": 1,
        "Gemm": 1,
    }
    names = {constant.name for constant in proto.graph.initializer}
    assert {"params/conv1/kernel", "params/conv5_2/conv2/kernel", "params/fc/kernel"} <= names
    assert proto.ir_version == IR_VERSION and proto.opset_import[0].version == OPSET
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {pair.key: pair.value for pair in proto.metadata_props} == {"note": "x"}
    _, _, apart = exported("resnet18", (32, 32, 3), fold_batch_norm=False)
    assert operators(apart)["Mul"] == operators(apart)["Conv"] == 20 and operators(apart)["Add"] == 28
    kernels = {constant.name: constant for constant in apart.graph.initializer}
    kernel = np.frombuffer(kernels["params/conv1/kernel"].raw_data, np.float32)
    assert (kernel == variables["params"]["conv1"]["kernel"].transpose(3, 2, 0, 1).ravel()).all()


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("mlp", (8, 8, 1), {"Reshape": 1, "Gemm": 2, "Relu": 1}),
        ("lenet5_bn", (32, 32, 1), {"Transpose": 2, "Conv": 2, "Tanh": 4, "AveragePool": 2, "Reshape": 1, "Gemm": 3}),
    ],
)
def test_small_graphs_have_no_more_than_they_need(name, shape, expected):
    assert operators(exported(name, shape)[2]) == expected
