"""Found images against images known in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import cnnjax
from cnnjax import analysis
from cnnjax.analysis import visualization
from cnnjax.data.datasets import DatasetOptions

SHAPE = (6, 5, 1)


@pytest.fixture(scope="module")
def images():
    return jnp.asarray(np.random.RandomState(0).uniform(-0.5, 0.5, (2, *SHAPE)), jnp.float32)


def linear(rows, seed=1):
    weights = np.random.RandomState(seed).normal(size=(rows, np.prod(SHAPE))).astype(np.float32)
    return weights, lambda x: x.reshape(len(x), -1) @ weights.T


def test_the_identity_is_inverted_to_the_image(images):
    found, losses = analysis.invert_features(lambda x: x, images, SHAPE, steps=300)
    np.testing.assert_allclose(found, images, atol=1e-3)
    assert losses.shape == (300, 2) and (losses[-1] < 1e-4 * losses[0]).all()


def test_an_invertible_linear_layer_is_inverted_to_the_image(images):
    _, layer = linear(60)
    found, _ = analysis.invert_features(layer, layer(images), SHAPE, steps=600)
    np.testing.assert_allclose(found, images, atol=5e-3)


def test_a_squared_norm_gives_ridge_regression(images):
    """min |Wx - y|^2 / |y|^2 + a |x|^2 has the solution (W'W + a |y|^2)^-1 W'y; W knows a third of the image."""
    weights, layer = linear(10)
    target = layer(images)
    found, _ = analysis.invert_features(layer, target, SHAPE, alpha_weight=0.1, alpha=2.0, steps=800)
    for image, y in zip(np.asarray(found), np.asarray(target), strict=True):
        expected = np.linalg.solve(weights.T @ weights + 0.1 * (y @ y) * np.eye(30), weights.T @ y)
        np.testing.assert_allclose(image.ravel(), expected, atol=3e-3)


def test_smoothness_is_a_linear_system(images):
    """min |x - y|^2 / |y|^2 + a |Dx|^2, D the differences right and down, has the solution (1 + a |y|^2 D'D)^-1 y."""
    positions = np.arange(30).reshape(6, 5)
    pairs = [*zip(positions[:, :-1].ravel(), positions[:, 1:].ravel(), strict=True)]
    pairs += zip(positions[:-1].ravel(), positions[1:].ravel(), strict=True)
    differences = np.zeros((len(pairs), 30))
    for row, (first, second) in enumerate(pairs):
        differences[row, [first, second]] = -1, 1
    found, _ = analysis.invert_features(lambda x: x, images, SHAPE, total_variation_weight=0.1, steps=400)
    for image, target in zip(np.asarray(found), np.asarray(images), strict=True):
        y = target.ravel()
        expected = np.linalg.solve(np.eye(30) + 0.1 * (y @ y) * differences.T @ differences, y)
        np.testing.assert_allclose(image.ravel(), expected, atol=2e-3)


def test_total_variation_by_hand():
    image = jnp.array([[0.0, 3.0], [4.0, 4.0]])[None, :, :, None]
    # differences right and down: (3, 4), (0, 1), (0, 0), (0, 0)
    np.testing.assert_allclose(visualization.total_variation(image), [25 + 1])
    np.testing.assert_allclose(visualization.total_variation(image, 1.0), [5 + 1], rtol=1e-6)
    gradient = jax.grad(lambda x: visualization.total_variation(x, 1.0).sum())(jnp.ones((1, 3, 3, 1)))
    np.testing.assert_array_equal(gradient, jnp.zeros((1, 3, 3, 1)))
    np.testing.assert_allclose(visualization.alpha_norm(image - 3, 3), [27 + 1 + 1])


def test_total_variation_of_signals_and_volumes_by_hand():
    signal = jnp.array([0.0, 3.0, -1.0])[None, :, None]
    np.testing.assert_allclose(visualization.total_variation(signal), [9 + 16])
    volume = jnp.zeros((1, 2, 2, 2, 1)).at[0, 0, 0, 0].set(2.0)  # the corner differs from three neighbours
    np.testing.assert_allclose(visualization.total_variation(volume), [12])


@pytest.mark.parametrize("spatial", [(7,), (5, 6), (3, 4, 5)])
def test_the_blur_is_scipys_along_each_axis(spatial):
    given = np.random.RandomState(0).normal(size=(1, *spatial, 2)).astype(np.float32)
    expected = given
    for axis in range(1, 1 + len(spatial)):
        expected = ndimage.convolve1d(expected, [0.25, 0.5, 0.25], axis=axis, mode="constant")
    np.testing.assert_allclose(visualization._blurred(jnp.asarray(given)), expected, atol=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_total_variation_does_not_change_with_brightness_and_grows_as_the_square(seed):
    x = jnp.asarray(np.random.RandomState(seed).normal(size=(1, 4, 4, 2)), jnp.float32)
    value = visualization.total_variation(x)
    np.testing.assert_allclose(visualization.total_variation(x + 5), value, rtol=1e-4)
    np.testing.assert_allclose(visualization.total_variation(3 * x), 9 * value, rtol=1e-4)


@pytest.mark.parametrize("l2", [0.5, 2.0])
def test_a_linear_class_is_its_weights_over_twice_the_coefficient(l2):
    weights, layer = linear(2)
    found, scores = analysis.maximize_scores(
        lambda x: layer(x)[jnp.arange(2), jnp.array([1, 0])],
        jnp.zeros((2, *SHAPE)),
        l2=l2,
        steps=600,
        learning_rate=0.1,
    )
    np.testing.assert_allclose(np.asarray(found).reshape(2, -1), weights[::-1] / (2 * l2), atol=5e-3)
    # and the maximum is |w|^2 / (4 l2)
    np.testing.assert_allclose(scores[-1], (weights[::-1] ** 2).sum(1) / (4 * l2), rtol=1e-3)


def test_shifts_are_the_seeds_and_blur_leaves_out_fine_noise():
    board = jnp.asarray(np.indices(SHAPE).sum(0) % 2 - 0.5)[None]
    score = lambda x: (x * board).sum((1, 2, 3))  # noqa: E731
    start = jnp.zeros((1, *SHAPE))
    runs = [analysis.maximize_scores(score, start, l2=0.5, jitter=1, steps=40, seed=seed)[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[0] - runs[2]).max() > 1e-3
    sharp, soft = (analysis.maximize_scores(score, start, l2=0.5, blur=blur, steps=200)[0] for blur in (0, 0.5))
    assert np.abs(soft).max() < 0.5 * np.abs(sharp).max()


def test_numbers_that_make_no_sense_are_refused():
    score = lambda x: x.sum((1, 2, 3))  # noqa: E731
    with pytest.raises(ValueError, match="blur=2.*expected 0 to 1"):
        analysis.maximize_scores(score, jnp.zeros((1, *SHAPE)), blur=2)
    with pytest.raises(ValueError, match="steps=0: expected a number above 0"):
        analysis.maximize_scores(score, jnp.zeros((1, *SHAPE)), steps=0)


@pytest.fixture(scope="module")
def digits():
    return cnnjax.load_dataset(DatasetOptions()).splits["test"]


def test_a_run_s_first_layer_of_all_pixels_is_inverted(finished_run, digits):
    """As many features as pixels, so that nothing is lost."""
    model = cnnjax.create_model("mlp", 10, features=(1024,))
    drawn = np.linalg.qr(np.random.RandomState(0).normal(size=(1024, 1024)))[0]
    params = {
        "hidden1": {"kernel": jnp.asarray(drawn, jnp.float32), "bias": jnp.zeros(1024)},
        "output": {"kernel": jnp.zeros((1024, 10)), "bias": jnp.zeros(10)},
    }
    run = dataclasses.replace(
        finished_run, model=model, selected=finished_run.selected.replace(params=params, batch_stats={})
    )
    found = analysis.invert_layer(
        run, digits.images[:2], "hidden1", total_variation_weight=0, alpha_weight=0, steps=300
    )
    assert found.dtype == np.uint8 and np.abs(found.astype(int) - digits.images[:2]).max() <= 3


def test_a_class_image_is_of_its_class(finished_run):
    names = finished_run.label_names
    images = analysis.visualize_class(finished_run, names, steps=60)
    assert images.shape == (10, 32, 32, 1)
    assert (finished_run.predict_prepared(images).argmax(-1) == np.arange(10)).all()
    with pytest.raises(ValueError, match="unknown class 'ten': choose from 0, 1"):
        analysis.visualize_class(finished_run, ["ten"])
    with pytest.raises(ValueError, match="unknown layer 'conv': choose from hidden1, output"):
        analysis.invert_layer(finished_run, images, "conv")


def test_signals_of_floats_are_found_in_their_own_range(tmp_path):
    generator = np.random.RandomState(0)
    wave, classes = np.sin(np.arange(12) / 2)[:, None], np.arange(40) % 2
    signals = 1e4 + 300 * (np.where(classes[:, None, None] == 0, wave, -wave) + generator.normal(0, 0.1, (40, 12, 1)))
    config = {
        "devices": 1,
        "log": {"progress": "off", "tensorboard": False},
        "model": {"name": "mlp", "features": (8,)},
        "train": {"batch_size": 8, "epochs": 4},
    }
    run = cnnjax.train(config, tmp_path / "run", dataset=cnnjax.from_arrays((signals.astype(np.float32), classes)))
    made = analysis.visualize_class(run, ["0", "1"], steps=40)
    assert made.shape == (2, 12, 1) and made.dtype == np.float32
    assert (run.predict_prepared(made).argmax(-1) == [0, 1]).all()
    for image, sign in zip(made, (1, -1), strict=True):
        assert abs(image.mean() - 1e4) < 500 and np.corrcoef(image[:, 0], sign * wave[:, 0])[0, 1] > 0.5
    found = analysis.invert_layer(run, signals[:2].astype(np.float32), "hidden1", steps=40)
    assert found.shape == (2, 12, 1) and found.dtype == np.float32 and np.abs(found - 1e4).max() < 5000
    plain = dataclasses.replace(run, described={**run.described, "statistics": None})
    with pytest.raises(
        ValueError, match=r"visualize_class: the run's images are float32, and the run has no statistics"
    ):
        analysis.visualize_class(plain, ["0"])
