"""A network's last layer."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cnnjax import layers


class Last(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x):
        return layers.output(x, self.classes, kernel_init=layers.initializer("small_normal"), name="fc")


def test_an_output_layer_is_dense_under_its_name_and_absent_without_classes():
    x = jnp.arange(6.0).reshape(2, 3)
    variables = Last(4).init(jax.random.key(0), x)
    kernel, bias = variables["params"]["fc"]["kernel"], variables["params"]["fc"]["bias"]
    assert kernel.shape == (3, 4)
    np.testing.assert_allclose(Last(4).apply(variables, x), np.asarray(x) @ kernel + bias, rtol=1e-6)
    trunk, variables = Last(0).init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(trunk, x)
    assert variables == {}
