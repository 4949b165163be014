"""The networks that began it, against their papers' tables and a computation unit by unit."""

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.models import create_model
from cnnjax.models.lecun1989 import CONNECTIONS
from tests.tasks.test_losses import COUNTS


def counts(name):
    published = cnnjax.models.MODELS[name]
    model, shape = create_model(name, published.num_classes), published.image_shape
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), "float32"))
    return {layer: sum(leaf.size for leaf in jax.tree.leaves(tree)) for layer, tree in variables["params"].items()}


def test_the_network_of_1989_has_the_papers_parameters():
    """H1 1,068, H2 2,592, H3 5,790 and the output 310 free parameters, 9,760 together."""
    found = counts("lecun1989")
    assert found["h1"] + found["h1_bias"] == 12 * 25 + 12 * 64 == 1068
    assert found["h2"] + found["h2_bias"] == 12 * 8 * 25 + 12 * 16 == 2592
    assert (found["h3"], found["output"], sum(found.values())) == (5790, 310, 9760)
    assert all(len(sources) == 8 for sources in CONNECTIONS) and len(CONNECTIONS) == 12


def test_pilotnet_has_the_papers_parameters():
    sizes = {"conv1": 1824, "conv2": 21_636, "conv3": 43_248, "conv4": 27_712, "conv5": 36_928}
    dense = {"dense1": 115_300, "dense2": 5050, "dense3": 510, "output": 11}
    assert counts("pilotnet") == sizes | dense and sum(counts("pilotnet").values()) == 252_219


def squashed(x):
    return 1.7159 * np.tanh(2 * x / 3)


def test_each_unit_of_1989_sees_its_neighbourhood_of_its_maps():
    """A unit of H1 and H2 reads 5x5 of its maps, two apart from its neighbour's, and -1 beyond the border."""
    model = create_model("lecun1989", 10)
    image = np.random.RandomState(0).uniform(-1, 1, (1, 16, 16, 1)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(1), image)
    params = jax.tree.map(np.asarray, variables["params"])
    params["h1_bias"]["bias"] = np.random.RandomState(1).normal(0, 0.3, (8, 8, 12)).astype(np.float32)
    params["h2_bias"]["bias"] = np.random.RandomState(2).normal(0, 0.3, (4, 4, 12)).astype(np.float32)
    assert np.abs(params["h1"]["kernel"]).max() <= 2.4 / 25 < 1.1 * np.abs(params["h1"]["kernel"]).max()
    assert np.abs(params["h2"]["kernel"]).max() <= 2.4 / 200 and np.abs(params["h3"]["kernel"]).max() <= 2.4 / 192

    def units(inputs, kernel, bias, connections):
        padded = np.pad(inputs, ((2, 2), (2, 2), (0, 0)), constant_values=-1)
        outputs, begin = np.zeros(bias.shape), 0
        for target, sources in enumerate(connections):
            weights = kernel[..., begin : begin + len(sources)]
            begin += len(sources)
            for row, column in np.ndindex(bias.shape[:2]):
                window = padded[2 * row : 2 * row + 5, 2 * column : 2 * column + 5, list(sources)]
                outputs[row, column, target] = (window * weights).sum() + bias[row, column, target]
        return squashed(outputs)

    h1 = units(image[0], params["h1"]["kernel"], params["h1_bias"]["bias"], 12 * ((0,),))
    h2 = units(h1, params["h2"]["kernel"], params["h2_bias"]["bias"], CONNECTIONS)
    h3 = squashed(h2.ravel() @ params["h3"]["kernel"] + params["h3"]["bias"])
    expected = squashed(h3 @ params["output"]["kernel"] + params["output"]["bias"])
    np.testing.assert_allclose(model.apply({"params": params}, image)[0], expected, rtol=1e-4, atol=1e-5)


def test_signed_targets_are_plus_and_minus_one():
    from cnnjax.tasks.losses import LOSSES, make_criterion

    loss = make_criterion(LOSSES["mean_squared_error"], COUNTS, signed=True)
    outputs = np.array([[1.0, -1.0, -1.0, -0.5], [0.2, 0.4, -1.0, -1.0]], np.float32)
    targets = np.eye(4, dtype=np.float32)[[0, 0]]
    expected = [(0.5**2) / 4, (0.8**2 + 1.4**2) / 4]
    for values in (loss.train, loss.evaluate):
        np.testing.assert_allclose(values(outputs, targets), expected, rtol=1e-6)
    np.testing.assert_allclose(
        loss.probabilities(outputs), [[1 / 1.25, 0, 0, 0.25 / 1.25], [0.6 / 1.3, 0.7 / 1.3, 0, 0]], atol=1e-5
    )


def test_pilotnet_refuses_an_image_that_its_convolutions_do_not_fit():
    with pytest.raises(ValueError, match="conv5"):
        jax.eval_shape(
            create_model("pilotnet", 1).init, jax.random.key(0), jax.ShapeDtypeStruct((1, 50, 200, 3), "float32")
        )
