import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.ops.convolution import convolution
from cnnjax.ops.windows import explicit_padding, output_size, per_axis


def correlate(x, kernel, strides, padding, dilation):
    """The definition, one output at a time, in NumPy."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    reach = [gap * (extent - 1) + 1 for gap, extent in zip(dilation, kernel.shape[:2], strict=True)]
    rows, columns = ((x.shape[axis + 1] - reach[axis]) // strides[axis] + 1 for axis in (0, 1))
    result = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for row in range(rows):
        for column in range(columns):
            top, left = row * strides[0], column * strides[1]
            window = x[:, top : top + reach[0] : dilation[0], left : left + reach[1] : dilation[1]]
            result[:, row, column] = np.tensordot(window, kernel, ([1, 2, 3], [0, 1, 2]))
    return result


SMALL = st.integers(1, 3)


@settings(deadline=None, max_examples=15)
@given(
    st.tuples(SMALL, SMALL),
    st.tuples(SMALL, SMALL),
    st.tuples(SMALL, SMALL),
    st.sampled_from(["same", "valid", 1, ((0, 2), 1)]),
)
def test_convolution_is_its_definition(kernel_size, strides, dilation, padding):
    generator = np.random.RandomState(0)
    x, kernel = generator.randn(2, 8, 9, 2).astype(np.float32), generator.randn(*kernel_size, 2, 3).astype(np.float32)
    pairs = explicit_padding(padding, (8, 9), kernel_size, strides, dilation)
    expected = correlate(x, kernel, strides, pairs, dilation)
    result = convolution(jnp.array(x), jnp.array(kernel), strides, pairs, dilation)
    np.testing.assert_allclose(result, expected, atol=1e-4)
    assert result.shape[1:3] == output_size((8, 9), kernel_size, strides, pairs, dilation, "conv")
    if padding == "same":
        assert result.shape[1:3] == (-(-8 // strides[0]), -(-9 // strides[1]))


def test_a_hand_worked_example_in_one_dimension():
    # an edge detector finds where the ramp rises
    x = jnp.array([0, 0, 0, 0, 1, 2, 3, 3.0]).reshape(1, 8, 1)
    result = convolution(x, jnp.array([-1, 1.0]).reshape(2, 1, 1), (1,), ((0, 0),), (1,))
    np.testing.assert_array_equal(result.ravel(), [0, 0, 0, 1, 1, 1, 0])


def test_a_hand_worked_example_in_two_dimensions():
    x = jnp.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1], [1, 0, 1, 1, 0], [1, 1, 0, 1, 1], [1, 0, 1, 1, 0.0]])
    kernel = jnp.array([[1, -1, 1], [-1, 1, -1], [1, -1, 1.0]])
    result = convolution(x.reshape(1, 5, 5, 1), kernel.reshape(3, 3, 1, 1), (1, 1), ((0, 0),) * 2, (1, 1))
    np.testing.assert_array_equal(result.reshape(3, 3), [[5, -1, -1], [-3, 3, 1], [4, -2, 0]])


def test_three_dimensions_agree_with_scipy():
    generator = np.random.RandomState(0)
    x, kernel = generator.randn(5, 6, 7).astype(np.float32), generator.randn(2, 3, 2).astype(np.float32)
    result = convolution(x[None, ..., None], kernel[..., None, None], (1, 1, 1), ((0, 0),) * 3, (1, 1, 1))
    np.testing.assert_allclose(result[0, ..., 0], scipy.signal.correlate(x, kernel, "valid"), atol=1e-4)


def test_groups_are_separate_convolutions():
    generator = np.random.RandomState(0)
    x, kernel = generator.randn(1, 5, 5, 4).astype(np.float32), generator.randn(3, 3, 2, 6).astype(np.float32)
    arguments = ((1, 1), ((1, 1), (1, 1)), (1, 1))
    halves = [
        convolution(x[..., :2], kernel[..., :3], *arguments),
        convolution(x[..., 2:], kernel[..., 3:], *arguments),
    ]
    np.testing.assert_allclose(convolution(x, kernel, *arguments, groups=2), np.concatenate(halves, -1), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: per_axis((1, 2, 3), 2, "strides"), "expected one number or 2"),
        (lambda: per_axis(0, 2, "strides"), "at least 1"),
        (lambda: explicit_padding("full", (5,), (3,), (1,), (1,)), "expected 'same', 'valid' or numbers"),
        (lambda: explicit_padding((1, 2, 3), (5, 5), (3, 3), (1, 1), (1, 1)), "each of 2 spatial axes"),
        (
            lambda: output_size((4, 4), (5, 5), (1, 1), ((0, 0),) * 2, (1, 1), "c3"),
            "c3: a 5x5 window does not fit its 4x4 input",
        ),
    ],
)
def test_impossible_windows_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_arithmetic_of_alexnets_first_layer():
    assert output_size((227, 227), (11, 11), (4, 4), ((0, 0),) * 2, (1, 1), "conv1") == (55, 55)
