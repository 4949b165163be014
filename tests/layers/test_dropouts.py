import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers

X = jnp.array(np.random.RandomState(0).rand(64, 6, 5, 8) + 0.5, jnp.float32)


def drop(layer, x=X, seed=0, train=True):
    return np.asarray(layer.apply({}, x, train, rngs={"dropout": jax.random.key(seed)}))


def near(share, probability, draws):
    """Within five standard deviations of a binomial share."""
    return abs(share - probability) < 5 * np.sqrt(probability * (1 - probability) / draws)


def test_spatial_dropout_drops_whole_maps():
    result = drop(layers.SpatialDropout(0.3))
    dropped = (result == 0).all((1, 2))
    assert ((result == 0).any((1, 2)) == dropped).all()
    assert near(dropped.mean(), 0.3, dropped.size)
    np.testing.assert_allclose(result, np.where(dropped[:, None, None, :], 0, X / 0.7), rtol=1e-6)


def test_max_drop_of_maps_drops_their_maximum_with_its_probability():
    result = drop(layers.MaxDrop(0.4, "map"))
    maximum = np.asarray(X) == np.asarray(X).max((1, 2), keepdims=True)
    changed = result != np.asarray(X)
    assert (result[changed] == 0).all() and (changed <= maximum).all()
    assert near(changed.any((1, 2)).mean(), 0.4, 64 * 8)
    np.testing.assert_array_equal(drop(layers.MaxDrop(1.0, "map")), np.where(maximum, 0, X))


def test_max_drop_across_channels_drops_each_positions_maximum():
    result = drop(layers.MaxDrop(0.5, "channels"))
    maximum = np.asarray(X) == np.asarray(X).max(-1, keepdims=True)
    changed = result != np.asarray(X)
    assert (changed <= maximum).all() and near(changed.any(-1).mean(), 0.5, 64 * 30)


@pytest.mark.parametrize(
    ("layer", "mean", "deviation"),
    [
        (layers.StochasticDropout("normal", 0.2, 0.05), 0.2, 0.05),
        (layers.StochasticDropout("uniform", 0.1, 0.3), 0.2, 0.2 / np.sqrt(12)),
        (layers.StochasticDropout("uniform", 0.0, 0.4), 0.2, 0.4 / np.sqrt(12)),
    ],
)
def test_stochastic_dropout_draws_one_rate_a_step(layer, mean, deviation):
    results = [drop(layer, seed=seed) for seed in range(60)]
    shares = np.array([(result == 0).mean() for result in results])
    # the share of each step is its rate, up to the 15,360 draws of its mask
    assert abs(shares.mean() - mean) < 4 * deviation / np.sqrt(60)
    assert 0.6 * deviation < shares.std() < 1.5 * deviation
    for result, share in zip(results[:5], shares[:5], strict=True):
        kept = result != 0
        np.testing.assert_allclose((result / np.asarray(X))[kept].mean(), 1 / (1 - share), rtol=0.03)


def test_stochastic_depth_drops_whole_examples():
    examples = jnp.ones((4000, 2, 3))
    result = drop(layers.StochasticDepth(0.3), examples)
    dropped = (result == 0).all((1, 2))
    assert ((result == 0).any((1, 2)) == dropped).all() and near(dropped.mean(), 0.3, dropped.size)
    np.testing.assert_allclose(result[~dropped], 1 / 0.7, rtol=1e-6)
    np.testing.assert_array_equal(layers.StochasticDepth(0.0).apply({}, X, True), X)  # which asks for no key
    with pytest.raises(ValueError, match="dropout rate 1.0: expected a number from 0 up to, not including, 1"):
        drop(layers.StochasticDepth(1.0))


EACH = layers.DROPOUTS | {"stochastic_depth": layers.StochasticDepth}


@pytest.mark.parametrize("name", sorted(EACH))
def test_each_is_the_identity_when_predicting_and_the_same_on_any_number_of_devices(name, eight_devices):
    layer = EACH[name](0.2)
    np.testing.assert_array_equal(drop(layer, train=False), X)
    whole = drop(layer)
    assert (whole == X).all() == (name == "none")
    function = jax.pmap(
        lambda x: layer.apply({}, x, True, rngs={"dropout": jax.random.key(0)}),
        axis_name="devices",
        devices=eight_devices[:4],
    )
    np.testing.assert_array_equal(np.asarray(function(X.reshape(4, 16, *X.shape[1:]))).reshape(X.shape), whole)
