"""Networks on signals and volumes: `lenet5`, `pattern` and `resnet` over one and three spatial axes."""

import itertools

import jax
import numpy as np
import pytest
from scipy import signal

import cnnjax
from cnnjax.analysis.summary import summarize
from tests.one_program import apply, draw


def correlated(x, layer, padding):
    """The convolution of an example (*size, channel), by SciPy."""
    kernel = np.asarray(layer["kernel"], np.float64)
    out = [
        sum(signal.correlate(x[..., c], kernel[..., c, f], padding, method="direct") for c in range(x.shape[-1]))
        for f in range(kernel.shape[-1])
    ]
    return np.stack(out, -1) + np.asarray(layer["bias"])


def pooled(x, reduce):
    """Windows of 2 along every spatial axis, what is left over dropped."""
    for axis in range(x.ndim - 1):
        pairs = np.moveaxis(x, axis, 0)[: x.shape[axis] // 2 * 2]
        x = np.moveaxis(reduce(pairs.reshape(-1, 2, *pairs.shape[1:]), 1), 0, axis)
    return x


def dense(x, layer):
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])


def variables_of(model, shape):
    return draw(model, np.zeros((1, *shape), np.float32))


@pytest.mark.parametrize("shape", [(22, 2), (17, 18, 1), (16, 17, 18, 1)])
def test_lenet5_is_what_its_table_says_over_one_to_three_axes(shape):
    model = cnnjax.create_model("lenet5", 3, widths=(2, 3, 8, 6))
    variables = variables_of(model, shape)
    x = np.random.RandomState(1).normal(size=shape)
    p = variables["params"]
    y = pooled(np.tanh(correlated(x, p["c1"], "valid")), np.mean)
    y = pooled(np.tanh(correlated(y, p["c3"], "valid")), np.mean)
    expected = dense(np.tanh(dense(np.tanh(dense(y.reshape(-1), p["c5"])), p["f6"])), p["output"])
    np.testing.assert_allclose(np.asarray(apply(model, variables, x[None].astype(np.float32)))[0], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 2), (6, 5, 7, 1)])
def test_pattern_over_one_and_three_axes(shape):
    model = cnnjax.create_model("pattern", 3, plan="conv 2 pool | conv 3 | fc 4")
    variables = variables_of(model, shape)
    x = np.random.RandomState(1).normal(size=shape)
    p = variables["params"]
    y = pooled(np.maximum(correlated(x, p["conv1_1"], "same"), 0), np.max)
    y = np.maximum(correlated(y, p["conv2_1"], "same"), 0)
    expected = dense(np.maximum(dense(y.reshape(-1), p["fc1"]), 0), p["output"])
    np.testing.assert_allclose(np.asarray(apply(model, variables, x[None].astype(np.float32)))[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"shortcut": "B", "preactivation": True}, {"bottleneck": True, "shortcut": "B"}]
)
def test_resnet_of_signals_is_that_of_images_one_pixel_wide(options):
    """A 3x3 kernel with zeros left and right of its middle, on an image one pixel wide, is a kernel of 3 along its height."""
    options = {"stages": (1, 1), "features": 4, **options}
    model = cnnjax.create_model("resnet20", 3, **options)
    signals = np.random.RandomState(0).normal(size=(2, 12, 1)).astype(np.float32)
    variables = variables_of(model, (12, 1))
    as_images = jax.tree.map(
        lambda leaf: (
            np.pad(leaf[:, None], ((0, 0), (leaf.shape[0] // 2,) * 2, (0, 0), (0, 0))) if leaf.ndim == 3 else leaf
        ),
        variables,
    )
    assert as_images["params"]["conv1"]["kernel"].shape == (3, 3, 1, 4)
    np.testing.assert_allclose(
        apply(model, variables, signals), apply(model, as_images, signals[:, :, None]), atol=1e-5
    )


def test_resnet18_of_volumes_has_its_kernels_parameters():
    """Table 1's kernels with a third axis: 7^3 for 7^2 and 3^3 for 3^2; projections, scales and the head as they are."""
    summary = summarize("resnet18", (32, 32, 32, 1), 10)
    widths = [64, 64, 64, 64, 64, 128, 128, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512]
    kernels = 343 * 64 + sum(27 * before * after for before, after in itertools.pairwise(widths))
    projections = 64 * 128 + 128 * 256 + 256 * 512
    scales = 2 * (sum(widths) + 128 + 256 + 512)
    assert summary.total_parameters == kernels + projections + scales + 512 * 10 + 10
    assert summary.layers[0].operation == "conv 7x7x7/2" and summary.layers[0].output_shape == (16, 16, 16, 64)
    assert summary.layers[-1].output_shape == (10,) and "global-pool" in {row.operation for row in summary.layers}


def test_a_summary_names_the_first_axis():
    columns = [summarize("pattern", shape, 2).table()[0][3] for shape in ((32, 1), (32, 32, 1), (16, 16, 16, 1))]
    assert columns == ["length", "height", "depth"]
    last = summarize("pattern", (64, 3), 2, plan="conv 4 pool | conv 4 pool").layers
    assert [row.output_shape for row in last] == [(64, 4), (32, 4), (32, 4), (16, 4), (64,), (2,)]
    assert last[-1].receptive_field == 70  # 3, 4, 8, 10 positions, then 15 more windows 4 apart
