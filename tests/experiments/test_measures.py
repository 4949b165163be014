import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.layers import Conv
from experiments.ensembles import MEASURES, by_size
from experiments.measures import (
    classes_when_shifted,
    directions,
    effective_receptive_field,
    field_size,
    layer_outputs,
    shifted,
)
from experiments.traffic_signs import taken_for


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_every_pixel_of_a_shifted_image_is_the_one_it_came_from(down, right):
    images = np.random.RandomState(0).randint(1, 256, (2, 4, 5, 1)).astype(np.uint8)
    moved = shifted(images, down, right)
    for row in range(4):
        for column in range(5):
            inside = 0 <= row - down < 4 and 0 <= column - right < 5
            expected = images[:, row - down, column - right] if inside else 0
            assert (moved[:, row, column] == expected).all()


def test_the_directions_of_a_distance_are_that_far():
    assert directions(0) == [(0, 0)]
    assert sorted(directions(3)) == [(-3, 0), (0, -3), (0, 3), (3, 0)]


def test_a_run_that_reads_a_position_is_told_every_shift():
    """Of images with one bright pixel, a "run" whose class is its row sees it move."""

    def predict(images):
        rows = images[..., 0].max(2).argmax(1)
        return np.eye(images.shape[1])[rows]

    images = np.zeros((2, 7, 7, 1), np.uint8)
    images[[0, 1], [2, 4], 3] = 255
    found = classes_when_shifted(types.SimpleNamespace(predict=predict), images, (0, 1, 2))
    assert found[0].tolist() == [[2, 4]]
    assert found[1].tolist() == [[3, 5], [1, 3], [2, 4], [2, 4]]
    assert found[2].tolist() == [[4, 6], [0, 2], [2, 4], [2, 4]]


def convolve(layers, features=1):
    """So many convolutions of 3x3 ones, without activation: images -> maps."""

    def apply(images):
        for _ in range(layers):
            images = Conv(features, (3, 3)).apply(
                {"params": {"kernel": jnp.ones((3, 3, images.shape[-1], features)), "bias": jnp.ones(features)}}, images
            )
        return images

    return apply


@pytest.mark.parametrize(("layers", "line"), [(1, [1, 1, 1]), (2, [1, 2, 3, 2, 1]), (3, [1, 3, 6, 7, 6, 3, 1])])
def test_the_field_of_convolutions_with_ones_is_the_product_of_their_lines(layers, line):
    images = jax.random.normal(jax.random.key(0), (2, 11, 11, 1))
    field = effective_receptive_field(convolve(layers, features=2), images)
    expected = np.zeros((11, 11))
    begin = 5 - len(line) // 2
    expected[begin : begin + len(line), begin : begin + len(line)] = np.outer(line, line) / max(line) ** 2
    np.testing.assert_allclose(field, expected, atol=1e-6)
    # Of three layers the corners have 1/49 of the middle's effect, less than 4.55 %; so do none of fewer layers.
    assert field_size(field) ** 2 == pytest.approx({1: 9, 2: 25, 3: 49 - 4}[layers])


def test_a_field_is_the_root_of_the_mean_square_over_images():
    def features(images):  # the middle pixel's own square: its gradient is twice its value, 2 and 6
        return images**2

    images = jnp.zeros((2, 3, 3, 1)).at[:, 1, 1, 0].set(jnp.array([1.0, 3.0])).at[0, 0, 0, 0].set(100.0)
    field = effective_receptive_field(features, images)
    assert field[1, 1] == 1 and field.sum() == 1  # nothing else moves the middle


def test_layers_put_out_what_they_compute():
    from cnnjax import create_model

    model = create_model("pattern", 3, plan="fc 4 5", activation="tanh")
    images = jax.random.normal(jax.random.key(0), (6, 1, 2, 1))
    variables = model.init(jax.random.key(1), images)
    outputs = layer_outputs(model, variables, images, ["fc1", "fc2"])
    fc1, fc2 = variables["params"]["fc1"], variables["params"]["fc2"]
    first = images.reshape(6, 2) @ fc1["kernel"] + fc1["bias"]
    np.testing.assert_allclose(outputs["fc1"], first, atol=1e-5)
    np.testing.assert_allclose(outputs["fc2"], jnp.tanh(first) @ fc2["kernel"] + fc2["bias"], atol=1e-5)


def test_ensembles_of_every_size_by_hand():
    # Three members, two examples of classes 0 and 1: the first is right on both, the others each on one, with more confidence.
    probabilities = np.array([[[0.6, 0.4], [0.4, 0.6]], [[0.9, 0.1], [0.7, 0.3]], [[0.2, 0.8], [0.1, 0.9]]])
    labels = np.array([0, 1])
    accuracy, nll, _ = MEASURES.values()
    assert by_size(probabilities, labels, accuracy) == {
        1: [100.0, 50.0, 50.0],
        2: [50.0],
        3: [100.0],
    }  # 0 and 1: .55 on the second
    found = by_size(probabilities, labels, nll, 2)
    assert [*found] == [1, 2] and found[1][0] == pytest.approx(-np.log(0.6))
    assert found[2][0] == pytest.approx(-np.log([0.75, 0.45]).mean())


def test_what_a_class_is_mostly_taken_for():
    assert taken_for(np.array([9, 2, 3]), 0, ("a", "b", "c")) == "c, 3 times"
    assert taken_for(np.array([0, 2, 0]), 1, ("a", "b", "c")) == ""
