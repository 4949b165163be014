import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax import layers
from cnnjax.core.randomness import drawn_at_once, uniform_numbers

KEY = jax.random.key(3)


def draw(*shapes):
    """Arrays of these shapes, drawn together."""
    return drawn_at_once(lambda: [uniform_numbers(KEY, shape) for shape in shapes], KEY)


def test_numbers_drawn_at_once_are_uniform_and_independent():
    first, second = draw((300, 500), (150_000,))
    assert first.shape == (300, 500) and first.dtype == jnp.float32
    for numbers in (np.ravel(first), np.asarray(second)):
        assert -1 < numbers.min() < -0.9999 and 0.9999 < numbers.max() < 1
        counts = np.histogram(numbers, 20, (-1, 1))[0]
        chi_squared = ((counts - 7500) ** 2 / 7500).sum()
        assert chi_squared < 43.8  # the 99.9th percentile with 19 degrees of freedom
    assert abs(np.corrcoef(np.ravel(first), second)[0, 1]) < 0.01
    assert abs(np.corrcoef(second[:-1024], second[1024:])[0, 1]) < 0.01


SIZES = st.sampled_from([0, 1, 511, 1024, 1500])  # few, since each list of sizes is a program


@settings(max_examples=5)
@given(st.lists(SIZES, min_size=1, max_size=3), SIZES)
def test_an_arrays_numbers_do_not_depend_on_the_others(sizes, other):
    numbers = draw(*((size,) for size in sizes))[-1]
    changed = draw(*((other,) for _ in sizes[:-1]), (sizes[-1],), (other,))[len(sizes) - 1]
    np.testing.assert_array_equal(numbers, changed)


def test_a_network_drawn_at_once_has_its_layers_distributions():
    kernel, bias = drawn_at_once(
        lambda: (
            layers.initializer("he_normal")(KEY, (3, 3, 64, 128)),
            layers.initializer("zeros")(KEY, (128,), jnp.float32),
        ),
        KEY,
    )
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (9 * 64)), rtol=0.02)
    fourth = np.mean((kernel / np.std(kernel)) ** 4)
    assert abs(fourth - 3) < 0.1 and not bias.any()  # a normal's kurtosis is 3
