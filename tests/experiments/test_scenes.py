"""What the studies of segmentation measure, and their network."""

import jax
import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis.extra.numpy import arrays

from cnnjax import layers
from experiments.fcn_strides import NarrowFCN
from experiments.pretrained_encoder import SIZES, STARTS, STUDY, variant
from experiments.scenes import iou_by_distance, near_edges
from experiments.upsampling import unevenness

MAPS = arrays(np.uint8, strategies.tuples(*[strategies.integers(1, 9)] * 3), elements=strategies.integers(0, 3))


@given(MAPS, strategies.integers(1, 4))
def test_pixels_near_an_edge_are_those_with_another_class_in_their_window(maps, distance):
    found = near_edges(maps, distance)
    for image, row, column in np.ndindex(maps.shape):
        window = maps[
            image, max(row - distance, 0) : row + distance + 1, max(column - distance, 0) : column + distance + 1
        ]
        assert found[image, row, column] == (window != maps[image, row, column]).any()


def test_the_iou_by_distance_of_a_shifted_square_is_as_counted_by_hand():
    labels = np.zeros((1, 20, 20), np.uint8)
    labels[0, 5:15, 5:15] = 1
    predicted = np.roll(
        labels, 1, axis=2
    )  # wrong: a column of 10 on either side, of which all touch the square's edges
    found = iou_by_distance(labels, predicted, 2, 255, (1, 2))
    square, ground = 90 / 110, 290 / 310
    assert found["all pixels"] == pytest.approx((square + ground) / 2)
    # Within 1 of an edge: 12^2 - 8^2 = 80 pixels, 36 of the square and 44 of the ground, 10 wrong on each side.
    assert found["within 1"] == pytest.approx((26 / 46 + 34 / 54) / 2)
    assert found["within 1"] < found["within 2"] < found["all pixels"] < found["beyond 2"] == 1.0
    ignored = np.where(labels == 1, 1, 255).astype(np.uint8)  # its edge is one to pixels without a class
    assert iou_by_distance(ignored, predicted, 2, 255, (1,))["beyond 1"] == 1.0


@pytest.mark.parametrize("stride", [32, 8])
def test_the_narrow_fcn_begins_as_interpolated_scores_of_its_last_maps(stride):
    network, images = NarrowFCN(3, stride, features=2), np.random.default_rng(0).normal(size=(1, 64, 96, 1))
    variables = jax.jit(network.init)(jax.random.key(0), images)
    params = dict(variables["params"])
    assert sum(name.startswith("score_pool") for name in params) == {32: 0, 8: 2}[stride]
    params["score_last"] = {**params["score_last"], "bias": np.array([1.0, 2.0, 3.0])}
    logits = jax.jit(network.apply)({**variables, "params": params}, images)
    assert logits.shape == (1, 64, 96, 3)
    # Even scores stay even, but at the border, where interpolation has zeros beyond.
    np.testing.assert_allclose(logits[0, 28:36, 28:68], np.broadcast_to([1.0, 2.0, 3.0], (8, 40, 3)), rtol=1e-5)


def test_an_even_map_stays_even_but_through_a_transposed_convolution_or_a_bed_of_nails():
    even, generator = np.ones((1, 12, 12, 4), np.float32), np.random.default_rng(0)
    kernel, inner = generator.normal(size=(2, 2, 4, 5)).astype(np.float32), slice(4, 20)

    def grown(name):
        if name == "transposed":
            return layers.ConvTranspose(5, 2, 2, use_bias=False).apply({"params": {"kernel": kernel}}, even)
        larger = getattr(layers, f"upsample_{name}")(even, 2)
        return layers.Conv(5, 2, use_bias=False).apply({"params": {"kernel": kernel}}, larger)

    found = {
        name: np.asarray(grown(name))[:, inner, inner] for name in ("transposed", "nearest", "bilinear", "bed_of_nails")
    }
    assert unevenness(found["nearest"]) < 1e-5 and unevenness(found["bilinear"]) < 1e-5
    deviation = kernel.sum(2).std((0, 1))  # over the four positions of a cell
    assert unevenness(found["transposed"]) == pytest.approx(np.sqrt(np.square(deviation).mean()), rel=1e-5)
    assert unevenness(found["bed_of_nails"]) == pytest.approx(unevenness(found["transposed"]), rel=1e-5)


def test_at_each_number_of_scenes_the_starts_alone_differ():
    for size in SIZES:
        scratch, *others = (STUDY.axes[variant(start, size)] for start in STARTS)
        assert scratch == {"dataset.train_split": f"train[:{size}]"}
        for fields in others:
            assert (
                fields == {**scratch, "initial.run": fields["initial.run"]} and fields["initial.run"] in STUDY.sources
            )
