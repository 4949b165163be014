"""Flax's own layers within `as_ours`, against themselves on one device and against ours."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers
from cnnjax.core.randomness import AXIS
from cnnjax.layers.flax_layers import as_ours
from tests.one_program import apply, draw


class Net(nn.Module):
    rate: float = 0.5
    broadcast: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        x = nn.Dropout(self.rate, self.broadcast)(x, deterministic=not train)
        return nn.Dense(3)(x.mean((1, 2)))


IMAGES = np.random.default_rng(0).standard_normal((8, 6, 6, 2)).astype(np.float32)
LABELS = np.arange(8) % 3


def trained(model, devices, context=as_ours, steps=3):
    """Parameters and statistics after some steps over devices that share a batch."""

    def step(variables, images, labels, number):
        def loss(params):
            with context():
                logits, changed = model.apply(
                    {**variables, "params": params}, images, train=True, mutable=["batch_stats"],
                    rngs={"dropout": jax.random.fold_in(jax.random.key(5), number)},
                )  # fmt: skip
            return -jnp.take_along_axis(nn.log_softmax(logits), labels[:, None], 1).sum() / 8, changed

        gradients, changed = jax.grad(loss, has_aux=True)(variables["params"])
        gradients, changed = jax.lax.psum(gradients, AXIS), jax.lax.pmean(changed, AXIS)
        return {"params": jax.tree.map(lambda w, g: w - 0.5 * g, variables["params"], gradients), **changed}

    program = jax.pmap(step, AXIS, in_axes=(None, 0, 0, None), out_axes=None, devices=devices)
    variables = draw(model, IMAGES, seed=1)
    images, labels = (array.reshape(len(devices), -1, *array.shape[1:]) for array in (IMAGES, LABELS))
    for number in range(steps):
        variables = program(variables, images, labels, number)
    return jax.device_get(variables)


@pytest.mark.parametrize("broadcast", [(), (1, 2), (0,), (-4, 3)])
def test_a_network_of_flaxs_layers_trains_alike_on_any_number_of_devices(eight_devices, broadcast):
    model = Net(broadcast=broadcast)
    one, four = (trained(model, eight_devices[:count]) for count in (1, 4))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, four)
    assert np.abs(one["batch_stats"]["BatchNorm_0"]["mean"]).max() > 0


def test_which_it_does_not_outside(eight_devices):
    import contextlib

    one, two = (trained(Net(), eight_devices[:count], contextlib.nullcontext) for count in (1, 2))
    assert np.abs(one["params"]["Dense_0"]["kernel"] - two["params"]["Dense_0"]["kernel"]).max() > 1e-3


def test_evaluation_and_an_own_axis_are_left_alone():
    model = Net()
    variables = draw(model, IMAGES, seed=1)
    expected = apply(model, variables, IMAGES)
    with as_ours():
        np.testing.assert_array_equal(apply(model, variables, IMAGES), expected)
        norm = nn.BatchNorm(use_running_average=False, axis_name="other")
        statistics = draw(norm, IMAGES[0, 0])
        normalized = lambda x: norm.apply(statistics, x, mutable=["batch_stats"])[0]  # noqa: E731
        whole = np.asarray(jax.jit(jax.vmap(normalized, axis_name="other"))(IMAGES[0]))
    np.testing.assert_allclose(whole.mean((0, 1)), 0, atol=1e-6)


def test_dropout_draws_the_masks_of_ours():
    x, rngs = np.ones((8, 5, 4), np.float32), {"dropout": jax.random.key(3)}
    expected = apply(layers.Dropout(0.3), {}, x, train=True, rngs=rngs)
    with as_ours():
        np.testing.assert_array_equal(apply(nn.Dropout(0.3, deterministic=False), {}, x, rngs=rngs), expected)
        np.testing.assert_array_equal(apply(nn.Dropout(1.0), {}, x, deterministic=False, rngs=rngs), 0 * x)
        np.testing.assert_array_equal(apply(nn.Dropout(0.0), {}, x, deterministic=False), x)
        with pytest.raises(ValueError, match="deterministic"):
            apply(nn.Dropout(0.3), {}, x, rngs=rngs)
        other = nn.Dropout(0.3, rng_collection="noise", deterministic=False)
        assert not np.array_equal(apply(other, {}, x, rngs={"noise": jax.random.key(4)}), expected)
        half = apply(nn.Dropout(0.3, deterministic=False), {}, x.astype(jnp.bfloat16), rngs=rngs)
    assert half.dtype == jnp.bfloat16


def test_rates_may_vary_under_vmap():
    variables = draw(Net(), IMAGES, seed=1)

    @jax.jit
    def logits(rate):
        with as_ours():
            return (
                Net()
                .clone(rate=rate)
                .apply(variables, IMAGES, train=True, rngs={"dropout": jax.random.key(2)}, mutable=["batch_stats"])[0]
            )

    rates = [0.1, 0.5]
    for rate, together in zip(rates, np.asarray(jax.vmap(logits)(np.array(rates))), strict=True):
        np.testing.assert_allclose(together, logits(rate), atol=1e-5)
