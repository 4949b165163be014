import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers
from cnnjax.data import transforms
from tests.one_program import apply, init

X = np.random.RandomState(0).randn(4, 5, 6, 7).astype(np.float32) * 3 + 100


def test_batch_norm_is_its_formula_and_keeps_unbiased_running_statistics():
    layer = layers.BatchNorm(momentum=0.9, epsilon=1e-5)
    variables = init(layer, X)
    result, changed = apply(layer, variables, X, train=True, mutable=["batch_stats"])
    mean, var = X.mean((0, 1, 2), dtype=np.float64), X.var((0, 1, 2), dtype=np.float64)
    np.testing.assert_allclose(result, (X - mean) / np.sqrt(var + 1e-5), atol=1e-3)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(changed["batch_stats"]["var"], 0.9 + 0.1 * var * 120 / 119, rtol=1e-4)
    predicted = apply(layer, {**variables, **changed}, X)
    statistics = jax.device_get(changed["batch_stats"])
    expected = (X - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5)
    np.testing.assert_allclose(predicted, expected, rtol=1e-4)


@pytest.mark.parametrize("ratio", [0, 10, 1000])
def test_batch_norm_in_half_precision_is_as_exact_as_flaxs(ratio):
    """Against float64, at means of a number of standard deviations; the result's own rounding is 2^-9 of values of up to 4."""
    x = (np.random.RandomState(0).randn(64, 4, 4, 8) + ratio).astype(jnp.bfloat16)
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean((0, 1, 2))) / np.sqrt(exact.var((0, 1, 2)) + 1e-5)
    ours, flaxs = (
        layers.BatchNorm(),
        nn.BatchNorm(use_running_average=False, dtype=jnp.bfloat16, use_fast_variance=False),
    )

    def error(y):
        assert y.dtype == jnp.bfloat16
        return np.abs(np.asarray(y, np.float64) - exact).max()

    result, _ = apply(ours, init(ours, x), x, train=True, mutable=["batch_stats"])
    theirs, _ = apply(flaxs, init(flaxs, x), x, mutable=["batch_stats"])
    assert error(result) <= max(1.1 * error(theirs), 4 * 2**-9)


def test_batch_norm_over_devices_is_that_of_the_whole_batch(eight_devices):
    layer = layers.BatchNorm()
    variables = init(layer, X)
    whole, changed = apply(layer, variables, X, train=True, mutable=["batch_stats"])
    function = jax.pmap(
        lambda x: layer.apply(variables, x, train=True, mutable=["batch_stats"]),
        axis_name="devices",
        devices=eight_devices[:4],
    )
    parts, statistics = function(X.reshape(4, 1, 5, 6, 7))
    np.testing.assert_allclose(np.asarray(parts).reshape(X.shape), whole, atol=1e-4)
    for device in range(4):
        np.testing.assert_allclose(
            np.asarray(statistics["batch_stats"]["var"])[device], changed["batch_stats"]["var"], rtol=1e-5
        )
    alone = layers.BatchNorm(synchronized=False)
    own, _ = jax.pmap(
        lambda x: alone.apply(variables, x, train=True, mutable=["batch_stats"]),
        axis_name="devices",
        devices=eight_devices[:4],
    )(X.reshape(4, 1, 5, 6, 7))
    np.testing.assert_allclose(np.asarray(own)[0].mean((0, 1, 2)), 0, atol=1e-3)


def test_layer_norm_is_over_the_channels_of_each_position():
    scale, bias = np.linspace(0.5, 2, 7, dtype=np.float32), np.linspace(-1, 1, 7, dtype=np.float32)
    assert layers.LayerNorm().init(jax.random.key(0), X)["params"]["scale"].shape == (7,)
    result = layers.LayerNorm(epsilon=0.1).apply({"params": {"scale": scale, "bias": bias}}, X)
    x = np.asarray(X, np.float64)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.1) * scale + bias
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    low = layers.LayerNorm(dtype=jnp.bfloat16).apply({"params": {"scale": scale, "bias": bias}}, X)
    assert low.dtype == jnp.bfloat16


def test_layer_scale_begins_small_and_has_a_factor_a_channel():
    params = layers.LayerScale(1e-3).init(jax.random.key(0), X)["params"]
    np.testing.assert_array_equal(params["layer_scale"], np.full(7, 1e-3, np.float32))
    factors = np.arange(7, dtype=np.float32)
    np.testing.assert_allclose(layers.LayerScale().apply({"params": {"layer_scale": factors}}, X), X * factors)


def by_hand(x, size, k, alpha, beta):
    """The paper's formula, a channel at a time."""
    result = np.zeros_like(x)
    for i in range(x.shape[-1]):
        near = x[..., max(0, i - size // 2) : i + size // 2 + 1]
        result[..., i] = x[..., i] / (k + alpha * (near**2).sum(-1)) ** beta
    return result


def test_local_response_norm_is_the_papers():
    x = X - 100
    norm = jax.jit(layers.local_response_norm, static_argnums=range(1, 5))
    np.testing.assert_allclose(norm(x), by_hand(x, 5, 2, 1e-4, 0.75), rtol=1e-5)
    np.testing.assert_allclose(norm(x, 3, 1.0, 0.5, 0.5), by_hand(x, 3, 1, 0.5, 0.5), rtol=1e-5)


def test_caffes_and_pytorchs_alpha_is_divided_by_the_size():
    # torch.nn.functional.local_response_norm(torch.ones(1, 3, 1, 1), 3, alpha=3., beta=1., k=1.) of PyTorch 2.13:
    # the edges see two ones of three, the middle all
    norm = jax.jit(layers.caffe_local_response_norm, static_argnums=range(1, 5))
    result = norm(np.ones((1, 1, 1, 3)), 3, 1.0, 3.0, 1.0)
    np.testing.assert_allclose(np.ravel(result), [1 / 3, 1 / 4, 1 / 3], rtol=1e-6)


def test_an_even_size_has_no_middle():
    for size in (4, 0, -1):
        with pytest.raises(ValueError, match=f"size={size}: expected an odd number"):
            layers.local_response_norm(X, size)
    with pytest.raises(ValueError, match="window=4: expected an odd number"):
        transforms.local_contrast_normalize(X, 4)


def test_frozen_batch_norm_is_constant_and_has_no_parameters():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            with layers.frozen_batch_norm(epsilon=0.5):
                x = layers.BatchNorm(name="frozen")(x, train)
            with layers.frozen_batch_norm(False, epsilon=0.5):
                return layers.BatchNorm(name="free")(x, train)

    x = np.random.default_rng(0).standard_normal((4, 3, 3, 2)).astype(np.float32)
    variables = init(Net(), x)
    assert variables["params"].keys() == {"free"}
    assert jax.tree.map(np.shape, variables["batch_stats"]["frozen"]) == dict.fromkeys(
        ("scale", "bias", "mean", "var"), (2,)
    )
    values = {name: np.float32((i + 1, -2)) for i, name in enumerate(("scale", "bias", "mean"))} | {
        "var": np.float32((3, 4))
    }
    variables["batch_stats"]["frozen"] = values
    for train in (False, True):
        _, changed = apply(
            Net(), variables, x, train=train, mutable=["batch_stats", "intermediates"], capture_intermediates=True
        )
        output = changed["intermediates"]["frozen"]["__call__"][0]
        expected = values["scale"] * (x - values["mean"]) / np.sqrt(values["var"] + 0.5) + values["bias"]
        np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)
        jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"]["frozen"], values)
        free = changed["batch_stats"]["free"]["mean"]
        assert free.any() == train
