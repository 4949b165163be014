import doctest
import itertools
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.ops import choice
from cnnjax.ops import convolution as operation
from cnnjax.ops.windows import explicit_padding, output_size, per_axis

# A call is one program; outside `jit` each of its operations would be compiled alone.
convolution = jax.jit(operation.convolution, static_argnums=range(2, 6))


def definition(x, kernel, gradient, strides, padding, dilation):
    """The convolution and its gradients by input and kernel, one element of the kernel at a time, in NumPy."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    extents = kernel.shape[:-2]
    sizes = [
        (length - gap * (extent - 1) - 1) // step + 1
        for length, extent, step, gap in zip(x.shape[1:-1], extents, strides, dilation, strict=True)
    ]
    y, towards_x, towards_kernel = (
        np.zeros((len(x), *sizes, kernel.shape[-1])),
        np.zeros(x.shape),
        np.zeros(kernel.shape),
    )
    gradient = np.zeros(y.shape) if gradient is None else gradient
    positions = range(x.ndim - 1)
    for place in itertools.product(*map(range, extents)):
        met = tuple(
            slice(gap * index, gap * index + (size - 1) * step + 1, step)
            for index, gap, size, step in zip(place, dilation, sizes, strides, strict=True)
        )
        window = (slice(None), *met)
        y += x[window] @ kernel[place]
        towards_x[window] += gradient @ kernel[place].T
        towards_kernel[place] = np.tensordot(x[window], gradient, (positions, positions))
    inside = (slice(before, length - after) for (before, after), length in zip(padding, x.shape[1:-1], strict=True))
    return y, towards_x[(slice(None), *inside)], towards_kernel


SMALL = st.integers(1, 3)


@settings(max_examples=15)
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
    expected, _, _ = definition(x, kernel, None, strides, pairs, dilation)
    result = convolution(x, kernel, strides, pairs, dilation)
    np.testing.assert_allclose(result, expected, atol=1e-4)
    assert result.shape[1:3] == output_size((8, 9), kernel_size, strides, pairs, dilation, "conv")
    if padding == "same":
        assert result.shape[1:3] == (-(-8 // strides[0]), -(-9 // strides[1]))


def values_and_gradients(cases):
    """For each (x, kernel, y's gradient, strides, padding, dilation, groups) in one program: y and the gradients."""

    @jax.jit
    def all_of_them(arrays):
        results = []
        for (x, kernel, gradient), (*_, strides, padding, dilation, groups) in zip(arrays, cases, strict=True):
            y, pullback = jax.vjp(
                lambda *xk, rest=(strides, padding, dilation, groups): operation.convolution(*xk, *rest), x, kernel
            )
            results.append((y, *pullback(gradient)))
        return results

    return all_of_them([[np.asarray(array, np.float32) for array in case[:3]] for case in cases])


def assert_all_are_the_definition(shapes):
    """Of each (size, kernel size, strides, padding, dilation, groups), with 8 channels and 4 features."""
    generator, cases = np.random.default_rng(0), []
    for size, kernel_size, strides, padding, dilation, groups in shapes:
        x, kernel = generator.standard_normal((2, *size, 8)), generator.standard_normal((*kernel_size, 8 // groups, 4))
        y_shape = (2, *output_size(size, kernel_size, strides, padding, dilation, "conv"), 4)
        cases.append((x, kernel, generator.standard_normal(y_shape), strides, padding, dilation, groups))
    for (x, kernel, gradient, *arguments, groups), results in zip(cases, values_and_gradients(cases), strict=True):
        parts = zip(*(np.split(array, groups, -1) for array in (x, kernel, gradient)), strict=True)
        for expected, result in zip(
            zip(*(definition(*part, *arguments) for part in parts), strict=True), results, strict=True
        ):
            np.testing.assert_allclose(result, np.concatenate(expected, -1), atol=1e-4, err_msg=str(arguments))


def test_every_padding_and_its_gradients_are_the_definition():
    """More than dilation * (kernel - 1) zeros on one side gave gradients of another array's memory."""
    sides = list(itertools.product(range(4), repeat=2))
    assert_all_are_the_definition(
        [((5,), (extent,), (1,), (pair,), (1,), 1) for extent in (1, 2, 3) for pair in sides]
        + [((5, 4), (2, 2), (1, 1), ((2, 1), (2, 0)), (1, 1), 1), ((5, 4), (1, 2), (1, 1), ((0, 2), (2, 0)), (1, 1), 1)]
    )


@pytest.mark.slow
def test_every_padding_of_a_2x2_kernel_and_its_gradients_are_the_definition():
    pairs = list(itertools.product(range(3), repeat=2))
    assert_all_are_the_definition(
        [((4, 5), (2, 2), (1, 1), padding, (1, 1), 1) for padding in itertools.product(pairs, repeat=2)]
    )


def test_the_troubleshooting_pages_example_runs():
    page = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
    failures, attempted = doctest.testfile(str(page), module_relative=False)
    assert failures == 0 and attempted > 5


@st.composite
def convolutions(draw):
    axes = draw(st.integers(1, 3))
    each = lambda strategy: draw(st.tuples(*(strategy,) * axes))  # noqa: E731
    kernel, dilation = each(st.integers(1, 3)), each(st.integers(1, 2))
    size = tuple(
        gap * (extent - 1) + 1 + more
        for gap, extent, more in zip(dilation, kernel, each(st.integers(0, 3)), strict=True)
    )
    padding = each(st.tuples(st.integers(0, 5), st.integers(0, 5)))
    return size, kernel, each(st.integers(1, 2)), padding, dilation, draw(st.sampled_from([1, 2, 4]))


@settings(max_examples=2)
@given(st.lists(convolutions(), min_size=6, max_size=6), st.sampled_from(["fast", "stock"]))
def test_any_padding_in_one_to_three_dimensions_and_its_gradients_are_the_definition(shapes, ops):
    with choice.using(ops):
        assert_all_are_the_definition(shapes)


def test_a_hand_worked_example_in_one_dimension():
    # an edge detector finds where the ramp rises
    x = np.array([0, 0, 0, 0, 1, 2, 3, 3.0]).reshape(1, 8, 1)
    result = convolution(x, np.array([-1, 1.0]).reshape(2, 1, 1), (1,), ((0, 0),), (1,))
    np.testing.assert_array_equal(np.ravel(result), [0, 0, 0, 1, 1, 1, 0])


def test_a_hand_worked_example_in_two_dimensions():
    x = np.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1], [1, 0, 1, 1, 0], [1, 1, 0, 1, 1], [1, 0, 1, 1, 0.0]])
    kernel = np.array([[1, -1, 1], [-1, 1, -1], [1, -1, 1.0]])
    result = convolution(x.reshape(1, 5, 5, 1), kernel.reshape(3, 3, 1, 1), (1, 1), ((0, 0),) * 2, (1, 1))
    np.testing.assert_array_equal(np.reshape(result, (3, 3)), [[5, -1, -1], [-3, 3, 1], [4, -2, 0]])


def test_three_dimensions_agree_with_scipy():
    generator = np.random.RandomState(0)
    x, kernel = generator.randn(5, 6, 7).astype(np.float32), generator.randn(2, 3, 2).astype(np.float32)
    result = convolution(x[None, ..., None], kernel[..., None, None], (1, 1, 1), ((0, 0),) * 3, (1, 1, 1))
    np.testing.assert_allclose(np.asarray(result)[0, ..., 0], scipy.signal.correlate(x, kernel, "valid"), atol=1e-4)


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
