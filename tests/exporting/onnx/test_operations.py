"""Each operation of the table in ONNX against JAX, and what the table lacks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnnjax import layers
from cnnjax.exporting.onnx import UnsupportedError, onnx_model

ort = pytest.importorskip("onnxruntime", reason="pip install 'cnnjax[test]'")

SHAPE = (6, 5, 4)
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 4, 4)).astype(np.float32)
MATRIX = np.random.default_rng(2).normal(size=(4, 3)).astype(np.float32)


def ran(function, *batches, shape=SHAPE, dtype=np.float32, variables=None, **settings):
    """The graph's operators, and the outputs of ONNX and of JAX for random images of each number."""
    leaves = jax.tree.leaves(jax.eval_shape(function, variables or {}, jax.ShapeDtypeStruct((2, *shape), dtype)))
    names = [f"output{place}" for place in range(len(leaves))]
    model = onnx_model(function, variables or {}, shape, dtype, names, {}, **settings)
    session = ort.InferenceSession(model.SerializeToString())
    random, both = np.random.default_rng(0), []
    for count in batches:
        images = random.normal(size=(count, *shape)) * (40 if np.dtype(dtype).kind in "iu" else 1)
        images = np.abs(images).astype(dtype) if np.dtype(dtype).kind == "u" else images.astype(dtype)
        both.append(
            (session.run(None, {"images": images}), jax.tree.leaves(jax.jit(function)(variables or {}, images)))
        )
    return [node.op_type for node in model.graph.node], both


def check(function, *batches, **settings):
    operators, both = ran(function, *batches, **settings)
    for found, expected in both:
        for one, other in zip(found, expected, strict=True):
            assert one.shape == other.shape and one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    return operators


def convolved(x, **settings):
    return lax.conv_general_dilated(
        x, KERNEL[..., : settings.pop("inputs", 4), :], dimension_numbers=("NHWC", "HWIO", "NHWC"), **settings
    )


# Functions of one array; those of a line are compared in one graph.
FUNCTIONS = {
    "unary": lambda x: [
        jnp.abs(x), jnp.ceil(x), jnp.cos(x), jnp.exp(x), jnp.floor(x), jnp.log(x**2 + 1), jnp.log1p(x**2), jnp.expm1(x), -x,
        jnp.sign(x), jnp.sin(x), jnp.sqrt(x**2), lax.rsqrt(x**2 + 1), jnp.tan(x), jnp.tanh(x), jax.nn.sigmoid(x), lax.erf(x),
        jnp.round(x), x**3, x**2, jnp.power(2.0, x), (x**2 + 0.5) ** -0.75, jnp.sinh(x), jnp.cosh(x), jnp.atan(x),
    ],
    "activations": lambda x: [
        *(layers.activation(name)(x) for name in (
            "gelu", "hard_sigmoid", "hard_swish", "identity", "leaky_relu", "relu", "relu6", "scaled_tanh", "sigmoid", "silu",
            "tanh"
        )),
        jax.nn.relu6(x), jax.nn.silu(x), jax.nn.gelu(x), jax.nn.elu(x), jax.nn.softplus(x), jnp.clip(x, -0.5, 0.5),
        jax.nn.softmax(x), jax.nn.softmax(x, 1), jax.nn.log_softmax(x), jax.nn.logsumexp(x, -1),
    ],
    "two arrays": lambda x: [
        x + x[:, ::-1], x - x[:, :1], x * x.mean(-1, keepdims=True), x / (x.max((1, 2), keepdims=True) ** 2 + 1),
        jnp.maximum(x, x[..., ::-1]), jnp.minimum(x, 0.3), jnp.minimum(x, x[:, :, :1]), x + np.arange(4, dtype=np.float32),
        jnp.where(x > 0, x, 0.1 * x), jnp.where(x == x.max(), 1.0, 0.0), jnp.where((x >= 0) & ~(x < 1) | (x <= -1), x, 2.0),
        jnp.where(x != x[:, ::-1], x, 1.0),
    ],
    "reductions": lambda x: [
        x.sum((1, 2)), x.mean((1, 2)), x.mean(-1), x.max((1, 2)), x.min(-1, keepdims=True), x.prod(1), x.argmax(-1),
        x.argmin(1), (x > 0).any(-1), (x > 0).all((1, 2)), x.cumsum(1), x.var((1, 2)), x[:, :1].sum(1), jnp.zeros_like(x).sum(1),
    ],
    "views": lambda x: [
        x.reshape(x.shape[0], -1), x.reshape(-1, 4), x.reshape(x.shape[0], 6, 20), x.transpose(0, 3, 1, 2), x[:, :, None],
        x[:, 1:5:2, ::-1], x[:, ::2, ::2], x[:, 2], x[..., [0, 3, 1]], x[:, [1, 1], :], jnp.concatenate([x, 2 * x, x[..., :1]], -1),
        jnp.stack([x, x], 1), jnp.repeat(x, 2, 1), jnp.split(x, [1, 3], 3), jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0))),
        jnp.pad(x, ((0, 0), (2, 0), (0, 1), (0, 0)), mode="edge"), lax.pad(x, 0.5, ((0, 0, 0), (1, -1, 2), (0, 0, 1), (0, 2, 0))),
        jnp.broadcast_to(x[:, :1], x.shape), jnp.flip(x, (1, 2)), jnp.squeeze(x[:, :1, :1], (1, 2)), jnp.tile(x, (1, 2, 1, 1)),
        layers.upsample_bed_of_nails(x, 2), lax.dynamic_slice_in_dim(x, 2, 3, 1), jnp.expand_dims(x.mean((1, 2)), (1, 2)) + x,
        x.astype(jnp.int32), (x > 0).astype(jnp.float32), jnp.ones_like(x) * jnp.arange(5.0)[:, None],
    ],
    "products": lambda x: [
        x @ MATRIX, x[:, 0, 0] @ MATRIX, x.reshape(x.shape[0], -1)[:, :4] @ MATRIX + 1.0, jnp.einsum("bhwc,bhvc->bwv", x, x),
        jnp.einsum("bhwc,bhwd->bcd", x, x), jnp.einsum("bhwc,oh->bowc", x, KERNEL[0, 0, :, :1].repeat(6, 1)),
        jnp.einsum("bc,bc->b", x[:, 0, 0], x[:, 1, 1]),
    ],
    "windows": lambda x: [
        layers.max_pool(x, 2), layers.max_pool(x, 3, 2, "same"), layers.max_pool(x, 2, 2, ceil_mode=True), layers.min_pool(x, 2),
        layers.average_pool(x, 2), layers.average_pool(x, 3, 1, 1), layers.average_pool(x, 3, 2, 1, ceil_mode=True),
        layers.global_average_pool(x), layers.global_max_pool(x), layers.adaptive_average_pool(x, (3, 2)),
        layers.local_response_norm(x), layers.caffe_local_response_norm(x, 3), layers.local_response_norm(x[:, 0], 3),
    ],
    "convolutions": lambda x: [
        convolved(x, window_strides=(1, 1), padding="SAME"), convolved(x, window_strides=(2, 1), padding=((0, 2), (1, 0))),
        convolved(x, window_strides=(1, 1), padding=((2, 2), (2, 2)), rhs_dilation=(2, 2)),
        convolved(x, window_strides=(1, 1), padding="SAME", feature_group_count=2, inputs=2),
        convolved(x, window_strides=(1, 1), padding=((2, 2), (1, 2)), lhs_dilation=(2, 3)),
        layers.apply_filter(x, "sobel_horizontal"), jax.nn.relu(convolved(x, window_strides=(1, 1), padding="SAME") * 2.0 + 1.0),
    ],
    "interpolation": lambda x: [
        layers.upsample_bilinear(x, 2), layers.resize_bilinear(x, (9, 3)), layers.resize_bilinear(x, (3, 2)),
        layers.upsample_nearest(x, 3), jax.image.resize(x, (x.shape[0], 3, 3, 4), "linear"),
        jax.image.resize(x, (x.shape[0], 12, 10, 4), "nearest"), jax.image.resize(x, (x.shape[0], 12, 10, 4), "cubic"),
        layers.resize_bilinear(x[:, 0], (9,)), layers.max_unpool(layers.max_pool(x[:, :, :4], 2), x[:, :, :4], 2),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_are_jax_s(name):
    check(lambda _, x: FUNCTIONS[name](x), 3)


def test_other_types_of_images():
    assert "Cast" in check(lambda _, x: x.astype(jnp.float32) / 255, 2, dtype=np.uint8)
    check(lambda _, x: (x.astype(jnp.float32) - 3).mean((1, 2)), 2, dtype=np.uint16)
    check(lambda _, x: [x + 1, x * x, jnp.maximum(x, 2), x.sum(1), x // 3], 2, dtype=np.int32)


def test_no_images_and_many():
    function = lambda _, x: jax.nn.softmax(layers.max_pool(x, 2).reshape(x.shape[0], 24))  # noqa: E731
    assert check(function, 0, 1, 64) == ["Transpose", "MaxPool", "Transpose", "Reshape", "Softmax"]


def test_a_function_may_take_the_number_of_images_for_a_number():
    function = lambda _, x: layers.max_pool(x, 2).reshape((len(x), -1))[:, 1::3] * np.ones((len(x), 1), np.float32)[0]  # noqa: E731
    check(function, 1, 3)
    for wrong in (lambda _, x: x.sum((1, 2)) / len(x), lambda _, x: x * (1 / len(x)), lambda _, x: x + float(len(x))):
        with pytest.raises(ValueError, match="the network computes with the number of images"):
            onnx_model(wrong, {}, SHAPE, np.float32, ["y"], {})


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(12, 3), (5, 6, 7, 2)], ids=["signals", "volumes"])
def test_signals_and_volumes(shape):
    axes = len(shape) - 1

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = layers.BatchNorm()(layers.Conv(4, 3, strides=2)(x), train)
            x = layers.max_pool(layers.activation("relu")(x), 2)
            return layers.ConvTranspose(3, 2, 2)(x), layers.global_average_pool(x)

    net = Net()
    variables = jax.jit(net.init)(jax.random.key(0), np.zeros((1, *shape), np.float32))
    operators = check(lambda v, x: net.apply(v, x), 1, 3, shape=shape, variables=variables)
    assert operators.count("Transpose") <= 2 and "ConvTranspose" in operators and axes in (1, 3)


class Sorted(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.sort(nn.Dense(3, name="fc")(x))


class Outer(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Sorted(name="ranked")(x)


def test_what_the_table_lacks_is_named_with_its_layer():
    net = Outer()
    variables = net.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
    with pytest.raises(
        UnsupportedError, match="'sort' in the layer Outer/ranked cannot be exported: export to .jaxexport"
    ) as caught:
        onnx_model(lambda v, x: net.apply(v, x), variables, SHAPE, np.float32, ["y"], {})
    assert "\n" not in str(caught.value)
    kernel = np.ones((2, 2, 4, 4), np.float32)
    for function in (
        lambda x: lax.conv_general_dilated(
            x, kernel, (1, 1), ((-1, 0), (0, 0)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        lambda x: jnp.arange(x.shape[0]) + x[:, 0, 0, 0],
        lambda x: x[:, x[0, 0, 0, 0].astype(int)],
        lambda x: jax.random.normal(jax.random.key(0), x.shape),
    ):
        with pytest.raises(UnsupportedError, match="JAX's operation"):
            onnx_model(lambda _, x, function=function: function(x), {}, SHAPE, np.float32, ["y"], {})
