import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.ops import pooling

# Each call is one program; outside `jit` each of its operations would be compiled alone.
adaptive_average_pool = jax.jit(pooling.adaptive_average_pool, static_argnums=1)
average_pool, max_pool, min_pool = (
    jax.jit(pool, static_argnums=range(1, 6)) for pool in (pooling.average_pool, pooling.max_pool, pooling.min_pool)
)
global_average_pool, global_max_pool = map(jax.jit, (pooling.global_average_pool, pooling.global_max_pool))


@settings(max_examples=15)
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([average_pool, max_pool]))
def test_pooling_is_the_mean_or_maximum_of_each_window(kernel_size, strides, pool):
    x = np.random.RandomState(0).randn(2, 7, 6, 3).astype(np.float32)
    reduce = np.mean if pool is average_pool else np.max
    rows, columns = ((size - kernel_size) // strides + 1 for size in (7, 6))
    expected = np.zeros((2, rows, columns, 3))
    for row in range(rows):
        for column in range(columns):
            top, left = row * strides, column * strides
            expected[:, row, column] = reduce(x[:, top : top + kernel_size, left : left + kernel_size], (1, 2))
    np.testing.assert_allclose(pool(x, kernel_size, strides), expected, atol=1e-6)


def test_windows_do_not_overlap_unless_asked():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(np.ravel(max_pool(x, 2)), [5, 7, 13, 15])
    np.testing.assert_array_equal(np.ravel(average_pool(x, 2)), [2.5, 4.5, 10.5, 12.5])


def test_padding_never_wins_the_maximum_and_counts_in_the_mean():
    x = -np.ones((1, 2, 2, 1))
    np.testing.assert_array_equal(max_pool(x, 2, 1, padding=1), -np.ones((1, 3, 3, 1)))
    np.testing.assert_allclose(
        np.asarray(average_pool(x, 2, 1, padding=1))[0, :, :, 0],
        [[-0.25, -0.5, -0.25], [-0.5, -1, -0.5], [-0.25, -0.5, -0.25]],
    )


def test_one_and_three_dimensions():
    assert max_pool(np.ones((1, 6, 2)), 3).shape == (1, 2, 2)
    assert average_pool(np.ones((1, 4, 4, 4, 2)), (2, 2, 4)).shape == (1, 2, 2, 1, 2)


def test_the_gradient_of_the_maximum_goes_to_the_maximum():
    x = np.array([[1.0, 2.0], [4.0, 3.0]]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(np.ravel(jax.jit(jax.grad(lambda x: max_pool(x, 2).sum()))(x)), [0, 0, 1, 0])


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="max_pool: a 3x3 window does not fit its 2x4 input"):
        max_pool(np.ones((1, 2, 4, 1)), 3)
    with pytest.raises(ValueError, match="min_pool: a 3x3 window"):
        min_pool(np.ones((1, 2, 4, 1)), 3)
    with pytest.raises(ValueError, match="s2: a 3x3 window"):
        average_pool(np.ones((1, 2, 4, 1)), 3, name="s2")


@pytest.mark.parametrize("pool", [average_pool, max_pool, min_pool])
def test_no_window_lies_in_the_padding_alone(pool):
    with pytest.raises(ValueError, match="padding=2 with a window of 2x2 leaves windows empty"):
        pool(np.ones((1, 4, 4, 1)), 2, padding=2)


def test_ceil_mode_takes_a_last_window_that_starts_inside():
    x = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    np.testing.assert_array_equal(np.ravel(max_pool(x, 2)), [1, 3])  # the 5th value is dropped
    np.testing.assert_array_equal(np.ravel(max_pool(x, 2, ceil_mode=True)), [1, 3, 4])
    np.testing.assert_array_equal(np.ravel(average_pool(x, 2, ceil_mode=True)), [0.5, 2.5, 4])
    # with padding 1 a third window would start in the padding behind: not taken
    assert max_pool(np.zeros((1, 3, 1)), 2, 2, padding=1, ceil_mode=True).shape == (1, 2, 1)
    assert max_pool(np.zeros((1, 112, 112, 1)), 3, 2, ceil_mode=True).shape == (1, 56, 56, 1)


def test_minimum_and_global_pooling():
    x = np.random.RandomState(0).randn(2, 4, 6, 3).astype(np.float32)
    np.testing.assert_array_equal(min_pool(x, 2), x.reshape(2, 2, 2, 3, 2, 3).min((2, 4)))
    np.testing.assert_allclose(global_average_pool(x), x.mean((1, 2)), atol=1e-6)
    np.testing.assert_array_equal(global_max_pool(x), x.max((1, 2)))


def test_adaptive_pooling_covers_the_map_with_cells():
    x = np.arange(5, dtype=np.float32).reshape(1, 5, 1)
    np.testing.assert_allclose(np.ravel(adaptive_average_pool(x, (2,))), [1, 3])  # 0..2 and 2..4 overlap
    np.testing.assert_allclose(
        np.ravel(adaptive_average_pool(x, (7,))), [0, 0.5, 1.5, 2, 2.5, 3.5, 4]
    )  # cells 0..0, 0..1, 1..2, 2..2, ...
    np.testing.assert_array_equal(adaptive_average_pool(x, (5,)), x)
    for size, message in (((0,), "at least 1"), ((2, 2), "expected one number or 1")):
        with pytest.raises(ValueError, match=f"adaptive_average_pool: size=.*{message}"):
            adaptive_average_pool(x, size)
