"""Feature maps, histograms, filters, embeddings, curves, pairs: against values worked out otherwise."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import cnnjax
from cnnjax import analysis, layers, tasks
from cnnjax.analysis import pictures
from cnnjax.analysis.curves import plot_histories, series, smoothed
from cnnjax.analysis.distributions import histogram
from cnnjax.analysis.filters import filter_picture, kernels

IMAGES = np.random.RandomState(0).normal(size=(5, 6, 6, 1)).astype(np.float32)


class Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(layers.Conv(4, (3, 3), padding="valid", name="conv")(x))
        return layers.Dense(3, name="output")(layers.flatten(x))


@pytest.fixture(scope="module")
def small():
    model = Small()
    return model, model.init(jax.random.key(0), IMAGES)


def test_feature_maps_are_what_the_layers_put_out(small):
    model, variables = small
    maps = analysis.feature_maps(small, IMAGES, batch_size=2)
    assert list(maps) == ["conv", "output"]
    np.testing.assert_allclose(maps["output"], model.apply(variables, IMAGES), atol=1e-6)
    kernel = np.asarray(variables["params"]["conv"]["kernel"])
    by_hand = np.tensordot(IMAGES[:, 1:4, 2:5], kernel, 3)  # at row 1, column 2; the bias is zero
    np.testing.assert_allclose(maps["conv"][:, 1, 2], by_hand, atol=1e-5)
    with pytest.raises(ValueError, match="unknown layer 'outputs': did you mean 'output'"):
        analysis.feature_maps(small, IMAGES, ["outputs"])


def test_feature_maps_of_a_run_are_its_features(finished_run):
    images = cnnjax.load_dataset(finished_run.config.dataset).splits["test"].images[:4]
    layer = next(iter(analysis.feature_maps(finished_run, images)))
    maps = analysis.feature_maps(finished_run, images, [layer])[layer]
    np.testing.assert_allclose(maps, finished_run.features(images, layer), atol=1e-5)


def test_gradients_in_histograms_are_those_of_the_loss(small):
    """Of the output layer, by hand: the mean over the images of input x (probabilities - target)."""
    model, variables = small
    labels = np.array([0, 1, 2, 1, 0])
    found = analysis.histograms(small, IMAGES, labels, bins=7)
    hidden = np.maximum(analysis.feature_maps(small, IMAGES)["conv"], 0).reshape(5, -1)
    error = np.asarray(jax.nn.softmax(model.apply(variables, IMAGES))) - np.eye(3)[labels]
    expected = histogram(hidden.T @ error / 5, 7)
    np.testing.assert_allclose(found["output"].gradients.edges, expected.edges, atol=1e-6)
    assert found["output"].gradients.deviation == pytest.approx(expected.deviation, rel=1e-4)
    np.testing.assert_array_equal(
        found["conv"].weights.counts, np.histogram(np.asarray(variables["params"]["conv"]["kernel"]), 7)[0]
    )
    assert found["conv"].activations.counts.sum() == 5 * 4 * 4 * 4
    with pytest.raises(ValueError, match="5 images and labels of shape"):
        analysis.histograms(small, IMAGES, labels[:3])


def test_what_is_not_finite_is_counted_and_left_out():
    found = histogram(np.array([1.0, 2.0, 3.0, np.nan, np.inf, 2.0]), 2)
    assert found.counts.tolist() == [1, 3] and found.finite == pytest.approx(4 / 6) and found.mean == 2
    assert histogram(np.full(3, np.nan)).finite == 0


def test_the_first_filters_are_found_and_drawn(small, finished_run):
    name, kernel = kernels(small)
    assert name == "conv" and kernel.shape == (3, 3, 1, 4)
    picture = filter_picture(kernel)
    assert picture.shape == (7, 7, 1)  # two by two, a gap between
    largest = np.abs(kernel).max()
    np.testing.assert_array_equal(picture[:3, :3], np.round((kernel[..., 0] / largest + 1) / 2 * 255))
    assert filter_picture(np.zeros((3, 3, 5, 20))).shape == (16 * 4 - 1, 5 * 4 - 1, 1)  # a row a filter
    with pytest.raises(ValueError, match="unknown convolution 'con': did you mean 'conv'"):
        analysis.plot_filters(small, "con")
    with pytest.raises(ValueError, match="no two-dimensional convolution"):
        analysis.plot_filters(finished_run)
    assert analysis.plot_filters(small).axes[0].get_title() == "conv: 4 filters of 3x3x1"


@given(st.integers(0, 1000), st.integers(4, 30), st.integers(2, 8))
def test_pca_keeps_distances_as_far_as_two_dimensions_can(seed, count, features):
    vectors = np.random.RandomState(seed).normal(size=(count, features))
    points = analysis.embed(vectors)
    variances, axes = np.linalg.eigh(np.cov(vectors.T))
    np.testing.assert_allclose(np.sort(points.var(0, ddof=1)), variances[-2:], rtol=1e-6)
    np.testing.assert_allclose(np.abs(points[:, 0]), np.abs((vectors - vectors.mean(0)) @ axes[:, -1]), atol=1e-6)
    np.testing.assert_allclose(points, analysis.embed(vectors + 3.0), atol=1e-8)


def test_tsne_is_seeded_and_keeps_groups_together():
    groups = np.repeat([0, 1, 2], 15)
    vectors = np.random.RandomState(0).normal(size=(45, 10)) + 20 * np.eye(10)[groups]
    points = analysis.embed(vectors, "tsne", seed=3)
    np.testing.assert_array_equal(points, analysis.embed(vectors, "tsne", seed=3))
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(45)
    assert (groups[distances.argmin(1)] == groups).all()


def test_what_cannot_be_embedded_is_refused():
    with pytest.raises(ValueError, match="unknown embedding 't-sne': did you mean 'tsne'"):
        analysis.embed(np.zeros((9, 3)), "t-sne")
    with pytest.raises(ValueError, match="2 examples: expected at least 3"):
        analysis.embed(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="not finite"):
        analysis.embed(np.full((5, 3), np.nan))
    for equal in (np.zeros((9, 3)), np.full((9, 3), 3.7), 5 + 1e-8 * np.random.RandomState(0).normal(size=(9, 3))):
        for method in ("pca", "tsne"):
            with pytest.raises(ValueError, match="the features of all 9 examples are equal"):
                analysis.embed(equal, method)
    assert analysis.embed(np.arange(5.0)[:, None]).shape == (5, 2)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_tsne_has_no_scale(scale):
    """Squares of such distances vanish, or are infinite, in float32."""
    vectors = np.random.RandomState(0).normal(size=(30, 4))
    np.testing.assert_allclose(analysis.embed(scale * vectors, "tsne"), analysis.embed(vectors, "tsne"), rtol=1e-2)


def test_curves_are_the_histories(finished_run):
    figure = analysis.plot_curves(finished_run)
    lines = {line.get_label(): line for axis in figure.axes[:1] for line in axis.get_lines()}
    epochs = [line for line in finished_run.history if "train/loss" in line]
    np.testing.assert_array_equal(lines["training"].get_ydata(), [line["train/loss"] for line in epochs])
    np.testing.assert_array_equal(lines["validation"].get_ydata(), [line["valid/loss"] for line in epochs])
    histories = {"a": finished_run.history, "b": finished_run.history[:1]}
    figure = plot_histories(histories, smoothing=0.5, log=True)
    assert figure.axes[0].get_yscale() == "log" and len(figure.axes[0].get_lines()) == 4


def test_smoothing_is_the_average_without_the_start_at_zero():
    values = np.array([4.0, 1.0, np.nan, 2.0])
    np.testing.assert_array_equal(smoothed(values[:2], 0), values[:2])
    # weights 1/2, 1/4, 1/8 of what was measured, the newest first, over their sum
    expected = (2 / 2 + 1 / 4 + 4 / 8) / (7 / 8)
    assert smoothed(values, 0.5)[-1] == pytest.approx(expected)
    assert np.isnan(smoothed(np.array([np.nan, 1.0]), 0.9)[0])
    with pytest.raises(ValueError, match="smoothing=1"):
        smoothed(values, 1)
    lines = [{"epoch": 0.5, "train/batch_loss": 1.0, "learning_rate": 1.0}, {"epoch": 1, "learning_rate": 0.5}]
    np.testing.assert_array_equal(series(lines, "learning_rate"), [[1], [0.5]])


@given(st.integers(1, 200), st.integers(0, 1000))
def test_mcnemar_is_the_binomial_test_of_the_disagreements(count, seed):
    generator = np.random.RandomState(seed)
    labels, first, second = generator.randint(0, 3, (3, count))
    found = tasks.compare(first, second, labels)
    differing = found.only_first + found.only_second
    expected = stats.binomtest(found.only_first, differing).pvalue if differing else 1.0
    assert found.p_value == pytest.approx(expected)
    assert found.difference == pytest.approx((first == labels).mean() - (second == labels).mean())
    assert found.low <= found.difference <= found.high


def test_the_pictures_are_drawn(small):
    images = np.random.RandomState(0).randint(0, 256, (3, 6, 6, 1)).astype(np.uint8)
    maps = analysis.feature_maps(small, IMAGES[:3])
    saliency = analysis.saliency(small, IMAGES[:3])
    confusion, names = np.array([[3, 1], [0, 2]]), ("a", "b")
    found = tasks.calibration(np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0, 0]))
    figures = [
        analysis.plot_feature_maps(images, maps),
        analysis.plot_attributions(images, {"saliency": saliency}),
        analysis.plot_confusion(confusion, names),
        analysis.plot_calibration(found),
        analysis.plot_histograms(analysis.histograms(small, IMAGES, np.zeros(5, int))),
        analysis.plot_embedding({"PCA": np.zeros((3, 2))}, np.array([0, 1, 1]), names),
    ]
    shown = [text.get_text() for text in figures[2].axes[0].texts]
    assert sorted(shown) == ["1", "2", "3"] and all(figure.axes for figure in figures)


def test_an_overlay_is_bright_where_the_map_is():
    image = np.full((4, 4, 1), 100, np.uint8)
    values = np.zeros((4, 4))
    values[1, 2], values[0, 0] = 5.0, -9.0
    over = pictures.overlaid(image, values).astype(int).sum(-1)
    assert over.argmax() == 6 and over[0, 0] == over[3, 3]
    assert np.array_equal(pictures.tiled(np.stack([image, image]), columns=2)[:, 4], np.full((4, 1), 255))


def test_every_public_name_is_found_and_none_brings_all():
    import subprocess
    import sys

    for name in analysis.__all__:
        assert callable(getattr(analysis, name))
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = analysis.nothing
    code = "import sys, cnnjax.analysis as a; a.saliency; print('matplotlib' in sys.modules, 'cnnjax.report.report' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
