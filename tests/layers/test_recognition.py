import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers.recognition import with_activations

X = jnp.linspace(-2, 2, 8)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (nn.relu, "relu"),
        (jax.nn.relu, "relu"),
        (lambda x: jnp.maximum(x, 0), "relu"),
        (lambda x: jnp.maximum(0.0, x), "relu"),
        (jax.jit(nn.relu), "relu"),
        (nn.tanh, "tanh"),
        (jnp.tanh, "tanh"),
        (nn.sigmoid, "sigmoid"),
        (jax.jit(jax.nn.sigmoid), "sigmoid"),
    ],
)
def test_an_activation_is_recognised_and_its_output_is_given(function, name):
    def apply(x):
        layer = 3 * x - 1
        return (function(layer) ** 2).sum(), {"layer": layer}

    result, outputs, found = with_activations(apply, X)
    np.testing.assert_allclose(result, apply(X)[0], rtol=1e-6)
    np.testing.assert_array_equal(outputs["layer"], 3 * X - 1)
    assert found["layer"][0] == name
    np.testing.assert_allclose(found["layer"][1], function(3 * X - 1), rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        nn.swish,
        nn.gelu,
        nn.leaky_relu,
        lambda x: jnp.maximum(x, 1),
        lambda x: nn.relu(x) + x,
        lambda x: nn.relu(x) + nn.tanh(x),
        lambda x: x,
    ],
)
def test_others_are_not(function):
    def apply(x):
        layer = 3 * x
        return function(layer).sum(), {"layer": layer}

    assert with_activations(apply, X)[2] == {}


def test_gradients_pass_as_they_do_otherwise():
    """Of ReLU at 0 too, which JAX defines itself."""

    def apply(x):
        first = x * jnp.arange(8)
        second = nn.relu(first) - 1
        return nn.tanh(second).sum(), {"b": first, "a": second}

    def loss(x):
        total, _, found = with_activations(apply, x)
        assert [(path, name) for path, (name, _) in sorted(found.items())] == [("a", "tanh"), ("b", "relu")]
        return total

    np.testing.assert_allclose(jax.grad(loss)(X), jax.grad(lambda x: apply(x)[0])(X), rtol=1e-6)
