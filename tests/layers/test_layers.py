import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers
from tests.one_program import apply, draw, init


def test_conv_adds_its_bias_and_names_its_parameters():
    layer = layers.Conv(4, (3, 2), strides=2, padding="valid", bias_init=jax.nn.initializers.ones)
    x = np.ones((1, 7, 6, 3), np.float32)
    variables = jax.device_get(init(layer, x))
    assert {name: value.shape for name, value in variables["params"].items()} == {"kernel": (3, 2, 3, 4), "bias": (4,)}
    result = np.asarray(apply(layer, variables, x))
    assert result.shape == (1, 3, 3, 4)
    np.testing.assert_allclose(result[0, 0, 0], variables["params"]["kernel"].sum((0, 1, 2)) + 1, atol=1e-5)


def test_conv_computes_in_bfloat16_with_float32_parameters():
    layer = layers.Conv(2, (3, 3), dtype=jnp.bfloat16)
    x = np.ones((1, 5, 5, 1), np.float32)
    output, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    assert variables["params"]["kernel"].dtype == jnp.float32
    assert output.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.Conv(2, (3,)), "Conv: kernel_size=.*: expected one number or 2, one per spatial axis"),
        (layers.Conv(2, (7, 7), padding="valid"), "a 7x7 window does not fit its 5x5 input"),
        (layers.Conv(3, (3, 3), groups=2), "cannot both be split into 2 groups"),
        (layers.Conv(2, 0), "kernel_size=0: expected numbers of at least 1"),
        (layers.Conv(2, (3, 3), strides=(1, 1, 1)), "Conv: strides=.*: expected one number or 2"),
        (layers.Conv(2, (3, 3), padding=-1), "padding=-1: expected numbers of at least 0"),
        (layers.Conv(2, (3, 3), groups=0), "features=2, groups=0: expected at least 1 of each"),
        (layers.Conv(0, (3, 3)), "features=0, groups=1: expected at least 1 of each"),
        (layers.Conv(2, (3, 3), bias_init=layers.initializer("he_normal")), "no input and output connections"),
        (
            layers.ConvTranspose(2, (3,)),
            "ConvTranspose: kernel_size=.*: expected one number or 2, one per spatial axis",
        ),
        (layers.ConvTranspose(2, (2, 2), padding=4), "padding=4 leaves an empty output"),
        (layers.ConvTranspose(2, (2, 2), padding="same"), "padding='same': expected numbers"),
        (layers.MaxDrop(0.5, "maps"), "unknown maximum of max-drop 'maps': did you mean 'map'"),
        (layers.StochasticDropout("gaussian", 0.2, 0.1), "unknown distribution 'gaussian'"),
    ],
)
def test_layers_refuse_what_does_not_fit(layer, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(layer.init, jax.random.key(0), np.ones((1, 5, 5, 2), np.float32))


@pytest.mark.parametrize("shape", [(1, 7, 2), (1, 7, 6, 2), (1, 5, 6, 7, 2)])
@pytest.mark.parametrize("layer", [layers.Conv, layers.ConvTranspose])
def test_one_number_is_the_kernels_size_along_every_axis(layer, shape):
    one, by_axis = layer(3, 2), layer(3, (2,) * (len(shape) - 2))
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    variables = draw(one, x)
    assert variables["params"]["kernel"].shape == (*(2,) * (len(shape) - 2), 2, 3)
    np.testing.assert_array_equal(apply(one, variables, x), apply(by_axis, variables, x))


@pytest.mark.parametrize("shape", [(5, 5), (1, 5, 5, 5, 5, 2)])
def test_conv_has_one_to_three_spatial_axes(shape):
    with pytest.raises(ValueError, match="expected batch, one to three spatial axes, channels"):
        layers.Conv(2, (3,) * (len(shape) - 2)).init(jax.random.key(0), np.ones(shape))


def test_activations_and_poolings_have_names():
    np.testing.assert_allclose(layers.activation("tanh")(np.array([0.5])), np.tanh(0.5), rtol=1e-6)
    np.testing.assert_array_equal(layers.activation("relu")(np.array([-1.0, 2.0])), [0, 2])
    np.testing.assert_allclose(layers.activation("sigmoid")(np.array([1.0])), 1 / (1 + np.exp(-1)), rtol=1e-6)
    assert layers.pooling("max") is layers.max_pool
    with pytest.raises(ValueError, match="unknown activation 'rellu': did you mean 'relu'"):
        layers.activation("rellu")
    with pytest.raises(ValueError, match="unknown pooling 'mean'"):
        layers.pooling("mean")


X = np.ones((64, 50), np.float32)


def drop(rate, x=X, seed=0, train=True):
    return apply(layers.Dropout(rate), {}, x, train=train, rngs={"dropout": jax.random.key(seed)})


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    result = np.asarray(drop(0.25))
    assert set(np.unique(result)) == {np.float32(0), np.float32(4 / 3)}
    # 3200 Bernoulli draws: the share is within 4 standard deviations
    assert abs((result == 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / result.size)


def test_dropout_is_the_identity_when_predicting_or_at_rate_0():
    assert layers.Dropout(0.5).apply({}, X, train=False) is X
    np.testing.assert_array_equal(drop(0.0), X)


def test_each_example_and_each_key_has_its_own_mask():
    masks = np.asarray(drop(0.5)) > 0
    assert len({mask.tobytes() for mask in masks}) == len(masks)
    assert not np.array_equal(drop(0.5, seed=1), drop(0.5))
    np.testing.assert_array_equal(drop(0.5), drop(0.5))


def test_the_mask_does_not_depend_on_the_number_of_devices(eight_devices):
    whole = np.asarray(drop(0.5))
    for count in (2, 8):
        parts = X.reshape(count, -1, *X.shape[1:])
        function = jax.pmap(lambda x: drop(0.5, x), axis_name="devices", devices=eight_devices[:count])
        np.testing.assert_array_equal(np.asarray(function(parts)).reshape(whole.shape), whole)


def test_a_rate_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="dropout rate 1.0"):
        drop(1.0)
