import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax import layers
from cnnjax.layers.initializers import INITIALIZERS
from cnnjax.ops.convolution import convolution
from tests.one_program import apply, draw, init

FAN_IN, FAN_OUT = 3 * 3 * 64, 3 * 3 * 128
DEVIATIONS = {
    "zeros": 0.0,
    "small_normal": 0.01,
    "small_uniform": 0.01 / np.sqrt(3),
    "unit_normal": 1.0,
    "unit_uniform": 1 / np.sqrt(3),
    "xavier_normal": np.sqrt(2 / (FAN_IN + FAN_OUT)),
    "xavier_uniform": np.sqrt(2 / (FAN_IN + FAN_OUT)),
    "he_normal": np.sqrt(2 / FAN_IN),
    "he_uniform": np.sqrt(2 / FAN_IN),
    "lecun_normal": np.sqrt(1 / FAN_IN),
    "lecun_uniform": np.sqrt(1 / FAN_IN),
}


def test_the_constant_initialiser_is_one_hundredth_everywhere():
    assert (layers.initializer("constant")(jax.random.key(0), (3, 4), jnp.float32) == jnp.float32(0.01)).all()


@pytest.mark.parametrize("name", sorted({*INITIALIZERS} - {"constant"}))
def test_initialisers_have_their_papers_moments(name):
    values = np.asarray(
        jax.jit(layers.initializer(name), static_argnums=(1, 2))(jax.random.key(0), (3, 3, 64, 128), np.float32)
    )
    deviation = DEVIATIONS[name]
    np.testing.assert_allclose(values.std(), deviation, rtol=0.02)
    assert abs(values.mean()) <= 5 * deviation / np.sqrt(values.size)
    if name.endswith("uniform"):
        assert np.abs(values).max() <= deviation * np.sqrt(3) * 1.0001
    if name.endswith("normal"):  # untruncated: about 0.3 % lie beyond three deviations
        assert 0.001 < (np.abs(values) > 3 * deviation).mean() < 0.006


def test_xaviers_deviation_of_a_grouped_kernel_is_pytorchs():
    """torch.nn.init.xavier_normal_ of Conv2d(64, 128, 3, groups=4).weight: fans of 9 * 16 and 9 * 128."""
    draw = jax.jit(layers.initializer("xavier_normal"), static_argnums=(1, 2))
    values = np.asarray(draw(jax.random.key(0), (3, 3, 64 // 4, 128), np.float32))
    np.testing.assert_allclose(np.std(values), np.sqrt(2 / (9 * 16 + 9 * 128)), rtol=0.02)
    torch = pytest.importorskip("torch")
    theirs = torch.nn.init.xavier_normal_(torch.nn.Conv2d(64, 128, 3, groups=4).weight).detach().numpy()
    np.testing.assert_allclose(np.std(values), theirs.std(), rtol=0.03)


def test_upsampling_by_hand():
    x = np.array([[1, 2], [3, 4]], np.float32).reshape(1, 2, 2, 1)
    nearest_of, nails_of, bilinear_of = (
        np.asarray(jax.jit(upsample, static_argnums=1)(x, 2))[0, ..., 0]
        for upsample in (layers.upsample_nearest, layers.upsample_bed_of_nails, layers.upsample_bilinear)
    )
    nearest = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    np.testing.assert_array_equal(nearest_of, nearest)
    nails = [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(nails_of, nails)
    # between centres a quarter of the way each; torch.nn.functional.interpolate(mode="bilinear") of 2.13 gives these
    bilinear = [[1, 1.25, 1.75, 2], [1.5, 1.75, 2.25, 2.5], [2.5, 2.75, 3.25, 3.5], [3, 3.25, 3.75, 4]]
    np.testing.assert_allclose(bilinear_of, bilinear, rtol=1e-6)


@pytest.mark.parametrize("upsample", [layers.upsample_nearest, layers.upsample_bilinear, layers.upsample_bed_of_nails])
@pytest.mark.parametrize("factor", [0, -1, 1.5])
def test_upsampling_is_by_whole_numbers(upsample, factor):
    with pytest.raises(ValueError, match=f"factor={factor}: expected a whole number of at least 1"):
        upsample(np.ones((1, 2, 2, 1)), factor)


@pytest.mark.parametrize("size", [(5, 7), (33, 47), (13, 5), (3, 4), (1, 9)])
def test_a_map_is_resized_as_in_pytorch(size):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = np.random.RandomState(0).randn(2, 5, 7, 3).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.tensor(x).permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(
        jax.jit(layers.resize_bilinear, static_argnums=1)(x, size), expected.permute(0, 2, 3, 1).numpy(), atol=1e-5
    )


def test_unpooling_puts_values_where_the_first_maxima_were():
    """A window of zeros, which a ReLU leaves, has one such place like any other."""
    pooled = np.array([[0, 0, 2, 1], [0, 0, 3, 3], [5, 4, 0, 7], [5, 5, 7, 1]], np.float32).reshape(1, 4, 4, 1)
    x = np.array([[1, 2], [3, 4]], np.float32).reshape(1, 2, 2, 1)
    expected = [[1, 0, 0, 0], [0, 0, 2, 0], [3, 0, 0, 4], [0, 0, 0, 0]]
    unpool = jax.jit(layers.max_unpool, static_argnums=2)
    np.testing.assert_array_equal(np.asarray(unpool(x, pooled, 2))[0, ..., 0], expected)
    np.testing.assert_array_equal(unpool(x[:, :, 0], pooled[:, :, 1], 2)[0, :, 0], [1, 0, 0, 3])


def test_unpooling_is_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    pooled, values = (
        torch.tensor(np.random.RandomState(0).randint(-1, 2, shape), dtype=torch.float32)
        for shape in ((2, 3, 9, 6), (2, 3, 3, 2))
    )
    _, places = torch.nn.functional.max_pool2d(pooled, 3, return_indices=True)
    expected = torch.nn.functional.max_unpool2d(values, places, 3).permute(0, 2, 3, 1)
    last = (array.permute(0, 2, 3, 1).numpy() for array in (values, pooled))
    np.testing.assert_array_equal(layers.max_unpool(*last, 3), expected.numpy())


@settings(max_examples=8)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1))
def test_transposed_convolution_is_the_convolutions_gradient(kernel_size, strides, padding):
    padding = min(padding, kernel_size - 1)
    layer = layers.ConvTranspose(4, (kernel_size,) * 2, strides, padding, use_bias=False)
    x = np.random.RandomState(0).randn(2, 3, 4, 5).astype(np.float32)
    variables = draw(layer, x)
    result = apply(layer, variables, x)
    assert result.shape[1:3] == tuple((n - 1) * strides + kernel_size - 2 * padding for n in (3, 4))
    kernel = np.asarray(variables["params"]["kernel"]).transpose(0, 1, 3, 2)

    @jax.jit
    @jax.grad
    def gradient(y):
        return (x * convolution(y, kernel, (strides,) * 2, ((padding, padding),) * 2, (1, 1))).sum()

    np.testing.assert_allclose(result, gradient(np.zeros(result.shape, np.float32)), atol=1e-4)


def test_transposed_convolution_by_hand():
    layer = layers.ConvTranspose(1, (2,), strides=1, use_bias=False)
    kernel, x = np.array([10, 1], np.float32), np.array([1, 2, 3], np.float32)
    result = apply(layer, {"params": {"kernel": kernel.reshape(2, 1, 1)}}, x.reshape(1, 3, 1))
    np.testing.assert_array_equal(np.ravel(result), [10, 21, 32, 3])


def test_a_transposed_convolution_with_much_padding_is_cut_off():
    """More than kernel - 1 cut from one side alone: XLA read memory past the input."""
    layer = layers.ConvTranspose(2, (2,), use_bias=False)
    x = np.random.RandomState(0).randn(2, 6, 8).astype(np.float32)
    variables = draw(layer, x)
    whole = np.asarray(apply(layer, variables, x))
    pairs = list(itertools.product(range(4), repeat=2))
    clones = [layer.clone(padding=(pair,)) for pair in pairs]
    results = jax.jit(lambda x: [clone.apply(variables, x) for clone in clones])(x)
    for (before, after), result in zip(pairs, results, strict=True):
        np.testing.assert_allclose(result, whole[:, before : 7 - after], atol=1e-5)


apply_filter = jax.jit(layers.apply_filter, static_argnames=("name", "padding"))


@pytest.mark.parametrize("name", sorted(layers.FILTERS))
def test_filters_agree_with_scipy(name):
    image = np.random.RandomState(0).rand(9, 8).astype(np.float32)
    result = np.asarray(apply_filter(image[None, ..., None], name))
    expected = scipy.ndimage.correlate(image, layers.FILTERS[name], mode="constant")
    np.testing.assert_allclose(result[0, ..., 0], expected, atol=1e-5)


def test_filters_do_what_their_names_say():
    flat = np.full((1, 5, 5, 2), 3, np.float32)
    for name, kernel in layers.FILTERS.items():
        inner = apply_filter(flat, name, padding=0)
        expected = {"edges": 0, "sobel": 0}.get(name.split("_")[0], 3)
        np.testing.assert_allclose(inner, expected if name != "cross" else 3 * kernel.sum(), atol=1e-5)
    crosses = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1], [1, 0, 1, 1, 0], [1, 1, 0, 1, 1], [1, 0, 1, 1, 0.0]])
    found = apply_filter(crosses[None, ..., None], "cross", padding=0)
    np.testing.assert_array_equal(np.asarray(found)[0, ..., 0], [[5, -1, -1], [-3, 3, 1], [4, -2, 0]])
    bytes_of_it = apply_filter(flat.astype(np.uint8), "sharpen")
    np.testing.assert_array_equal(bytes_of_it, apply_filter(flat, "sharpen"))
    with pytest.raises(ValueError, match="unknown filter 'sobel'"):
        layers.apply_filter(flat, "sobel")
    with pytest.raises(ValueError, match=r"shape \(5, 5\): expected batch, height, width, channels"):
        layers.apply_filter(flat[0, ..., 0], "sharpen")


def test_the_scaled_tanh_maps_one_to_one():
    np.testing.assert_allclose(jax.jit(layers.scaled_tanh)(np.array([-1.0, 0.0, 1.0])), [-1, 0, 1], atol=1e-4)
    np.testing.assert_allclose(layers.activation("leaky_relu")(np.array([-2.0, 3.0])), [-0.02, 3], rtol=1e-6)


def test_hard_activations_are_straight_between_minus_three_and_three():
    x = np.array([-4, -3, -1, 0, 1.5, 3, 5], np.float32)
    gate = np.array([0, 0, 1 / 3, 0.5, 0.75, 1, 1], np.float32)
    np.testing.assert_allclose(layers.activation("hard_sigmoid")(x), gate, rtol=1e-6)
    np.testing.assert_allclose(layers.activation("hard_swish")(x), x * gate, rtol=1e-6)


def test_smooth_activations_are_their_definitions():
    from scipy.stats import norm

    x = np.linspace(-7, 7, 29, dtype=np.float32)
    np.testing.assert_allclose(layers.activation("gelu")(x), x * norm.cdf(x), atol=1e-6)
    np.testing.assert_allclose(layers.activation("silu")(x), x / (1 + np.exp(-x)), atol=1e-6)
    np.testing.assert_array_equal(layers.activation("relu6")(x), np.clip(x, 0, 6))


@pytest.mark.parametrize(("size", "window"), [((9, 8), 3), ((9,), (5,)), ((9, 8), (1, 7))])
def test_a_convolution_with_its_normalisation_is_its_layers_in_a_row(size, window):
    x = np.random.RandomState(0).randn(2, *size, 3).astype(np.float32)
    layer = layers.ConvNorm(4, window, activation="silu", momentum=0.75, epsilon=1e-2)
    variables = layer.init(jax.random.key(0), x)
    y, changed = layer.apply(variables, x, True, mutable=["batch_stats"])
    assert y.shape == (2, *size, 4)
    y_conv = layers.Conv(4, window, use_bias=False).apply({"params": variables["params"]["conv"]}, x)
    bn = {collection: values["bn"] for collection, values in variables.items()}
    expected, other = layers.BatchNorm(momentum=0.75, epsilon=1e-2).apply(bn, y_conv, True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, jax.nn.silu(expected), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(changed["batch_stats"]["bn"]["var"], other["batch_stats"]["var"])


def test_a_separable_convolution_is_a_convolution_whose_kernel_is_a_product():
    x = np.random.RandomState(0).randn(2, 9, 8, 3).astype(np.float32)
    layer = layers.SeparableConv(4, 3, strides=2, padding=1)
    params = draw(layer, x)["params"]
    kernel = np.einsum("hwc,cf->hwcf", params["depthwise"]["kernel"][:, :, 0], params["pointwise"]["kernel"][0, 0])
    bias = params["pointwise"]["bias"] = np.arange(4, dtype=np.float32)
    whole = {"params": {"kernel": kernel, "bias": bias}}
    expected = apply(layers.Conv(4, 3, strides=2, padding=1), whole, x)
    np.testing.assert_allclose(apply(layer, {"params": params}, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(3, 4), (5,), (2, 3, 2)])
def test_squeeze_and_excitation_scales_maps_by_what_their_means_say(size):
    x = np.random.RandomState(0).randn(2, *size, 6).astype(np.float32)
    layer = layers.SqueezeExcitation(3)
    params = jax.device_get(init(layer, x)["params"])
    w1, w2 = (np.asarray(params[name]["kernel"]).reshape(shape) for name, shape in (("fc1", (6, 3)), ("fc2", (3, 6))))
    hidden = np.maximum(x.reshape(2, -1, 6).mean(1) @ w1 + 0.5, 0)
    gate = 1 / (1 + np.exp(-(hidden @ w2 + 0.25)))
    biases = {"fc1": 0.5, "fc2": 0.25}
    biased = {name: {**params[name], "bias": params[name]["bias"] + bias} for name, bias in biases.items()}
    expected = x * gate.reshape(2, *[1] * len(size), 6)
    np.testing.assert_allclose(apply(layer, {"params": biased}, x), expected, rtol=1e-4, atol=1e-6)


def test_a_map_sees_the_maps_that_it_is_connected_to():
    x = np.random.RandomState(0).randn(1, 6, 7, 3).astype(np.float32)
    layer = layers.PartialConv(((0, 2), (1,)), 3, 1, lambda inputs: 1 / inputs)
    params = jax.device_get(init(layer, x)["params"])
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[:, :, [0, 2, 1], [0, 0, 1]] = params["kernel"]
    assert np.abs(params["kernel"][..., :2]).max() <= 1 / 18 < np.abs(params["kernel"][..., 2]).max() <= 1 / 9
    expected = jax.jit(lambda x: convolution(x, kernel, (1, 1), ((1, 1), (1, 1)), (1, 1)))(x)
    np.testing.assert_allclose(apply(layer, {"params": params}, x), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(10, 14), (9, 13), (5, 7), (2, 3)])
def test_the_nearest_values_are_pytorchs(size):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = np.random.default_rng(0).standard_normal((2, 5, 7, 3)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.tensor(x).permute(0, 3, 1, 2), size=size, mode="nearest")
    np.testing.assert_array_equal(layers.resize_nearest(x, size), expected.permute(0, 2, 3, 1).numpy())
