"""Every implementation of an operation against JAX's own: values, and gradients by input and kernel."""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.ops import choice
from cnnjax.ops.convolution import convolution, transposed_convolution
from cnnjax.ops.pooling import average_pool, max_pool
from cnnjax.ops.storage import add


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ones(y):
    return np.ones(y.shape, y.dtype)


def value_and_gradients(function, *arrays, weights=lambda y: normal(y.shape, 1)):
    """The function's value as in a prediction, and with a gradient, and the gradients of its weighted sum; one program."""

    def compute(weights, *arrays):
        y, pullback = jax.vjp(function, *arrays)
        return function(*arrays), y, *pullback(weights)

    return jax.jit(compute)(jax.tree.map(weights, jax.eval_shape(function, *arrays)), *arrays)


def distance(value, expected):
    """The norm of the difference, as a fraction of the expected norm."""
    value, expected = np.asarray(value, np.float64), np.asarray(expected, np.float64)
    return np.linalg.norm(value - expected) / np.linalg.norm(expected)


def both_ways(function, *arrays):
    for ops in ("stock", "fast"):
        with choice.using(ops), choice.recorded() as record:
            yield *value_and_gradients(function, *arrays), set(record.values())


# The rule's own boundaries: images, kernel, strides, padding, and what must run.
CONVOLUTIONS = [
    ((2, 7, 6, 5), (1, 1, 5, 3), (1, 1), ((0, 0), (0, 0)), "product"),
    ((2, 7, 6, 5), (1, 1, 5, 3), (2, 3), ((0, 0), (0, 0)), "product"),
    ((32, 4, 4, 64), (3, 3, 64, 64), (1, 1), ((1, 1), (1, 1)), "winograd"),
    ((31, 4, 4, 64), (3, 3, 64, 64), (1, 1), ((1, 1), (1, 1)), "stock"),
    ((6, 9, 6, 64), (3, 3, 64, 65), (1, 1), ((0, 2), (2, 1)), "winograd"),
    ((11, 13, 5, 66), (3, 3, 66, 64), (1, 1), ((0, 0), (0, 0)), "winograd"),
    ((32, 8, 9, 1), (5, 5, 1, 6), (1, 1), ((0, 0), (0, 0)), "batch_minor"),
    ((33, 9, 8, 3), (3, 2, 3, 7), (2, 1), ((1, 0), (2, 2)), "batch_minor"),
    ((32, 6, 7, 7), (2, 3, 7, 16), (1, 1), ((1, 0), (2, 2)), "batch_minor"),
    ((32, 6, 7, 7), (2, 3, 7, 17), (1, 1), ((1, 0), (2, 2)), "columns"),
    ((31, 6, 9, 5), (3, 2, 5, 8), (1, 1), ((1, 1), (0, 0)), "columns"),  # 4 outputs of a row together
    ((33, 9, 8, 3), (3, 2, 3, 16), (2, 1), ((1, 0), (2, 3)), "columns"),  # 2 together, every other row
    ((2, 7, 9, 16), (1, 3, 16, 16), (1, 1), ((0, 0), (4, 3)), "columns"),  # padding beyond the kernel
    ((2, 13, 9, 2), (5, 4, 2, 9), (3, 2), ((2, 1), (0, 0)), "columns"),  # rows that no window has
    ((32, 7, 7, 4), (2, 3, 4, 5), (3, 3), ((0, 0), (1, 1)), "batch_minor"),
    ((4, 23, 23, 3), (7, 7, 3, 64), (2, 2), ((3, 3), (3, 3)), "columns"),
    ((6, 9, 8, 16), (3, 3, 16, 32), (2, 2), ((1, 1), (0, 1)), "columns"),  # an input gradient phase by phase
    ((2, 9, 7, 8), (2, 1, 8, 24), (3, 2), ((0, 5), (1, 4)), "columns"),  # outputs that only padding has
    ((6, 9, 8, 17), (3, 3, 17, 32), (2, 2), ((1, 1), (0, 1)), "stock"),
    ((8, 120, 60, 16), (3, 3, 16, 32), (1, 1), ((1, 1), (1, 1)), "columns"),  # in several parts of the batch
    ((2, 9, 8, 63), (3, 3, 63, 64), (1, 1), ((1, 1), (1, 1)), "stock"),
]


@pytest.mark.parametrize(("images", "kernel", "strides", "padding", "implementation"), CONVOLUTIONS)
def test_a_convolution_and_its_gradients_are_the_stock_ones(images, kernel, strides, padding, implementation):
    stock, fast = both_ways(
        lambda x, w, bias: convolution(x, w, strides, padding, (1, 1), bias=bias),
        normal(images),
        normal(kernel, 2) / kernel[-2] ** 0.5,
        normal(kernel[-1:], 3),
    )
    assert (stock[-1], fast[-1]) == ({"stock"}, {implementation})
    for expected, value in zip(stock[:-1], fast[:-1], strict=True):
        assert value.shape == expected.shape
        assert distance(value, expected) < 1e-5


@pytest.mark.parametrize(
    ("images", "kernel", "strides", "dilation", "groups"),
    [
        ((2, 9, 3), (3, 3, 4), (1,), (1,), 1),
        ((2, 5, 5, 5, 3), (3, 3, 3, 3, 4), (1, 1, 1), (1, 1, 1), 1),
        ((2, 9, 9, 64), (3, 3, 64, 64), (1, 1), (2, 2), 1),
        ((2, 9, 6), (3, 2, 9), (1,), (1,), 3),
    ],
)
def test_other_convolutions_are_left_to_jax(images, kernel, strides, dilation, groups):
    padding = ((0, 0),) * len(strides)
    with choice.recorded() as record:
        jax.eval_shape(
            lambda x, w: convolution(x, w, strides, padding, dilation, groups), normal(images), normal(kernel)
        )
    assert set(record.values()) == {"stock"}


@pytest.mark.parametrize(
    ("images", "kernel", "strides", "dilation", "groups"),
    [
        ((2, 7, 6, 12), (3, 3, 4, 6), (1, 1), (1, 1), 3),  # all together
        ((2, 7, 6, 48), (3, 2, 8, 30), (2, 1), (1, 1), 6),  # two together, three times
        ((2, 7, 6, 140), (1, 1, 70, 4), (1, 1), (1, 1), 2),  # each alone
        ((2, 7, 6, 6), (3, 3, 1, 18), (1, 1), (2, 1), 6),  # three features of each channel
    ],
)
def test_a_convolution_in_groups_and_its_gradients_are_the_stock_ones(images, kernel, strides, dilation, groups):
    stock, fast = both_ways(
        lambda x, w: convolution(x, w, strides, ((1, 0), (0, 1)), dilation, groups), normal(images), normal(kernel, 2)
    )
    assert stock[-1] == {"stock"} and "grouped" in fast[-1]
    for expected, value in zip(stock[:-1], fast[:-1], strict=True):
        assert value.shape == expected.shape
        assert distance(value, expected) < 1e-5


@pytest.mark.parametrize(
    ("images", "kernel", "strides", "padding", "dilation"),
    [
        ((3, 9, 8, 5), (3, 3, 1, 5), (1, 1), ((1, 1), (1, 1)), (1, 1)),
        ((2, 9, 8, 5), (5, 4, 1, 5), (2, 3), ((2, 0), (6, 1)), (1, 1)),
        ((2, 11, 9, 4), (3, 2, 1, 4), (2, 1), ((1, 4), (0, 3)), (2, 3)),
        ((2, 9, 3), (4, 1, 3), (2,), ((1, 2),), (1,)),
        ((2, 4, 5, 6, 2), (3, 2, 1, 1, 2), (1, 2, 1), ((1, 1), (0, 0), (0, 0)), (1, 1, 1)),
    ],
)
def test_a_depthwise_convolution_and_its_gradients_are_the_stock_ones(images, kernel, strides, padding, dilation):
    stock, fast = both_ways(
        lambda x, w, bias: convolution(x, w, strides, padding, dilation, x.shape[-1], bias),
        normal(images),
        normal(kernel, 2),
        normal(kernel[-1:], 3),
    )
    assert (stock[-1], fast[-1]) == ({"stock"}, {"depthwise"})
    for expected, value in zip(stock[:-1], fast[:-1], strict=True):
        assert value.shape == expected.shape
        assert distance(value, expected) < 1e-5


def test_half_precision_is_left_to_jax():
    x, kernel = normal((2, 9, 9, 64)).astype(jnp.bfloat16), normal((3, 3, 64, 64)).astype(jnp.bfloat16)
    with choice.recorded() as record:
        y = jax.eval_shape(lambda x, kernel: convolution(x, kernel, (1, 1), ((1, 1),) * 2, (1, 1)), x, kernel)
    assert y.dtype == jnp.bfloat16
    assert set(record.values()) == {"stock"}


@pytest.mark.parametrize(
    ("images", "kernel", "strides", "padding", "implementation"),
    [
        ((3, 4, 5, 6), (2, 2, 6, 5), (2, 2), ((0, 0), (0, 0)), "columns"),
        ((3, 4, 5, 6), (4, 3, 6, 2), (2, 1), ((1, 1), (0, 2)), "columns"),
        ((2, 3, 3, 2), (5, 5, 2, 3), (1, 2), ((4, 0), (2, 2)), "columns"),
        ((2, 3, 3, 2), (9, 8, 2, 3), (4, 4), ((2, 2), (2, 2)), "stock"),
    ],
)
def test_a_transposed_convolution_and_its_gradients_are_the_stock_ones(
    images, kernel, strides, padding, implementation
):
    stock, fast = both_ways(
        lambda x, w: transposed_convolution(x, w, strides, padding), normal(images), normal(kernel, 2)
    )
    assert stock[-1] == {"stock"} and implementation in fast[-1]
    for expected, value in zip(stock[:-1], fast[:-1], strict=True):
        assert value.shape == expected.shape
        assert distance(value, expected) < 1e-5


def test_a_residual_sum_is_computed_once():
    """Of three blocks in a row, no fused operation has more than one addition of two maps; plain sums are computed again."""

    def blocks(x, add):
        for _ in range(3):
            x = jax.nn.relu(add(x, convolution(x, kernel, (1, 1), ((1, 1), (1, 1)), (1, 1))))
        return x

    x, kernel = normal((2, 8, 8, 20)), normal((3, 3, 20, 20))

    def additions(add):
        text = jax.jit(lambda x: blocks(x, add)).lower(x).compile().as_text()
        return max(body.count(" add(") for body in text.split("\n\n"))

    assert additions(add) == 1 < additions(jnp.add)
    gradient, plain = (jax.jit(jax.grad(lambda x, f=f: blocks(x, f).sum()))(x) for f in (add, jnp.add))
    np.testing.assert_allclose(gradient, plain, rtol=1e-4, atol=1e-3)


WINDOWS = list(itertools.product((1, 2, 3), (1, 2, 4), (0, "same", ((1, 0), (0, 2))), (False, True)))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_max_pooling_and_its_gradient_are_the_stock_ones_ties_included(dimensions):
    size = range(7, 7 + dimensions)
    x = np.round(normal((2, *size, 3)))  # few values: many ties
    cases = []
    for kernel_size, strides, padding, ceil_mode in WINDOWS if dimensions == 2 else WINDOWS[::5]:
        padding = padding[:1] * dimensions if isinstance(padding, tuple) else padding
        with contextlib.suppress(ValueError):  # the window does not fit
            jax.eval_shape(lambda x, rest=(kernel_size, strides, padding, ceil_mode): max_pool(x, *rest), x)
            cases.append((kernel_size, strides, padding, ceil_mode))
    assert len(cases) >= (40 if dimensions == 2 else 8)
    stock, fast = both_ways(
        lambda *copies: [max_pool(x, *case) for x, case in zip(copies, cases, strict=True)], *[x] * len(cases)
    )
    for case, expected, value in zip(cases, stock[0], fast[0], strict=True):
        np.testing.assert_array_equal(value, expected, str(case))
    for case, expected, value in zip(cases, stock[2:-1], fast[2:-1], strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5, err_msg=str(case))


@pytest.mark.parametrize(
    ("images", "kernel_size", "strides", "padding"),
    [((32, 6, 8, 6), 2, 2, 0), ((33, 7, 9, 16), (3, 2), (2, 1), ((1, 0), (0, 1))), ((40, 5, 5, 1), 5, 5, 0)],
)
def test_average_pooling_with_the_batch_innermost_is_the_stock_one(images, kernel_size, strides, padding):
    x = normal(images)
    assert choice.average_pool(x) == "batch_minor"
    assert {choice.average_pool(array) for array in (x[:31], x.astype(jnp.bfloat16), np.tile(x, 17))} == {"stock"}
    stock, fast = both_ways(lambda x: average_pool(x, kernel_size, strides, padding), x)
    for expected, value in zip(stock[:-1], fast[:-1], strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-6)


def test_max_pooling_keeps_a_nan_so_that_a_diverged_loss_is_seen():
    x = np.ones((1, 4, 4, 1), np.float32)
    x[0, 3, 2, 0] = np.nan
    y, _, gradient = map(np.asarray, value_and_gradients(lambda x: max_pool(x, 2), x, weights=ones))
    assert np.isnan(y[0, 1, 1, 0]) and np.isfinite(y).sum() == 3
    assert gradient.sum() == 4


def test_a_nans_gradient_goes_where_pytorchs_does():
    """To the last NaN of a window, or the first of equal maxima; torch.nn.functional.max_pool2d of PyTorch 2.13."""
    nan = np.nan
    x = [[nan, 2, 1, 0, 9, 4], [5, nan, 3, nan, 9, 1], [7, 0, 1, 2, 3, 9]]
    gradient = jax.jit(jax.grad(lambda x: max_pool(x, 3).sum()))(np.array(x, np.float32).reshape(1, 3, 6, 1))
    expected = [[0, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(gradient[0, ..., 0], expected)


@pytest.mark.parametrize(("kernel_size", "strides", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1)])
def test_max_poolings_gradient_with_nans_and_ties_is_what_pytorch_computes(kernel_size, strides, padding):
    torch = pytest.importorskip("torch")
    x = np.round(np.random.default_rng(0).standard_normal((3, 8, 7, 2))).astype(np.float32)
    x[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
    theirs = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    torch.nn.functional.max_pool2d(theirs, kernel_size, strides, padding).sum().backward()
    gradient = jax.jit(jax.grad(lambda x: max_pool(x, kernel_size, strides, padding).sum()))(x)
    np.testing.assert_array_equal(gradient, theirs.grad.numpy().transpose(0, 2, 3, 1))


def test_wide_windows_are_left_to_jax():
    x = normal((1, 300, 2, 1))
    y, _, gradient = map(np.asarray, value_and_gradients(lambda x: max_pool(x, (200, 1), (50, 1)), x, weights=ones))
    assert y[0, 0, 0, 0] == x[0, :200, 0, 0].max() and gradient.sum() == y.size
    assert "select_and_scatter" in jax.jit(jax.grad(lambda x: max_pool(x, (200, 1)).sum())).lower(x).as_text()


def test_what_was_compiled_with_the_one_kind_is_not_reused_for_the_other():
    @jax.jit
    def gradient(x):
        return jax.grad(lambda x: max_pool(x, 2).sum())(x)

    x = normal((1, 4, 4, 1))
    with choice.using("stock"):
        stock = gradient.lower(x).as_text()
    assert "select_and_scatter" in stock and "select_and_scatter" not in gradient.lower(x).as_text()


def test_stock_operations_can_be_differentiated_forwards():
    x = normal((1, 4, 4, 1))
    with choice.using("stock"):
        _, tangent = jax.jit(lambda x: jax.jvp(lambda x: max_pool(x, 2), (x,), (x * 0 + 1,)))(x)
    np.testing.assert_array_equal(tangent, np.ones((1, 2, 2, 1)))


def test_an_unknown_choice_names_those_there_are():
    with pytest.raises(ValueError, match="'fats'.*fast"), choice.using("fats"):
        pass


def test_an_open_batch_has_the_implementations_that_serve_any():
    def network(x):
        x = convolution(x, kernels[0], (1, 1), ((2, 2), (2, 2)), (1, 1))
        x = max_pool(average_pool(x, 2, 1), 3, 1)
        for kernel in kernels[1:]:
            x = convolution(x, kernel, (1, 1), ((kernel.shape[0] // 2,) * 2,) * 2, (1, 1))
        return x

    random = np.random.default_rng(0)
    sizes = ((5, 5, 1, 6), (3, 3, 6, 64), (3, 3, 64, 64), (1, 1, 64, 3))
    kernels = [(random.normal(size=size) / 10).astype(np.float32) for size in sizes]
    [batch] = jax.export.symbolic_shape("batch")
    with choice.recorded() as record:
        exported = jax.export.export(jax.jit(network))(jax.ShapeDtypeStruct((batch, 24, 24, 1), jnp.float32))
    assert list(record.values()) == ["columns", "stock", "columns", "winograd", "product"]
    for count in (1, 33):
        x = random.normal(size=(count, 24, 24, 1)).astype(np.float32)
        with choice.using("stock"):
            expected = jax.jit(network)(x)
        np.testing.assert_allclose(exported.call(x), expected, rtol=1e-4, atol=1e-4)
