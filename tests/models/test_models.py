import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.models import MODELS, create_model, list_models

SHAPES = {"cnn_small": (28, 28, 1), "lenet5": (32, 32, 1), "mlp": (28, 28, 1)}


def shapes(name, image_shape, num_classes=10, **options):
    model = create_model(name, num_classes, **options)
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), images)


def count(name, image_shape, **options):
    logits, variables = shapes(name, image_shape, **options)
    assert logits.shape == (2, options.get("num_classes", 10))
    return {layer: sum(leaf.size for leaf in jax.tree.leaves(value)) for layer, value in variables["params"].items()}


def test_lenet5_has_the_parameters_of_its_table():
    counts = count("lenet5", (32, 32, 1))
    assert counts == {"c1": 156, "c3": 2416, "c5": 48120, "f6": 10164, "output": 850}
    assert sum(counts.values()) == 61_706


def test_cnn_small_has_the_parameters_of_the_keras_example():
    counts = count("cnn_small", (28, 28, 1))
    assert counts == {"conv1": 320, "conv2": 18496, "dense": 1179776, "output": 1290}
    assert sum(counts.values()) == 1_199_882


@pytest.mark.parametrize(
    ("features", "total"),
    [
        ((800,), 784 * 800 + 800 + 800 * 10 + 10),
        ((), 784 * 10 + 10),
        ((300, 100), 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10),
        ((2500, 2000, 1500, 1000, 500), 11_972_510),
    ],
)
def test_mlps_of_any_widths(features, total):
    assert sum(count("mlp", (28, 28, 1), features=features).values()) == total


@pytest.mark.parametrize("name", list_models())
def test_any_number_of_classes_and_channels(name):
    height, width, _ = SHAPES[name]
    logits, variables = shapes(name, (height, width, 3), num_classes=43)
    assert logits.shape == (2, 43) and logits.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("name", list_models())
def test_bfloat16_computes_with_float32_parameters(name):
    logits, variables = shapes(name, SHAPES[name], dtype=jnp.bfloat16)
    assert logits.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def test_too_small_an_image_names_the_layer_it_shrinks_to_nothing_in():
    with pytest.raises(ValueError, match="c3: a 5x5 window does not fit its 2x2 input"):
        shapes("lenet5", (8, 8, 1))


def test_lenet5_is_its_definition():
    """The forward pass again, in NumPy with SciPy's correlation."""
    import scipy.signal

    model = create_model("lenet5", 10)
    x = np.random.RandomState(0).rand(1, 32, 32, 1).astype(np.float32)
    params = jax.tree.map(np.asarray, model.init(jax.random.key(0), x)["params"])

    def convolve(x, layer):
        kernel = params[layer]["kernel"]
        maps = [
            sum(scipy.signal.correlate2d(x[..., c], kernel[..., c, f], "valid") for c in range(x.shape[-1]))
            for f in range(kernel.shape[-1])
        ]
        return np.tanh(np.stack(maps, -1) + params[layer]["bias"])

    def halve(x):
        return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).mean((1, 3))

    y = halve(convolve(halve(convolve(x[0], "c1")), "c3")).ravel()
    for layer in ("c5", "f6"):
        y = np.tanh(y @ params[layer]["kernel"] + params[layer]["bias"])
    expected = y @ params["output"]["kernel"] + params["output"]["bias"]
    np.testing.assert_allclose(model.apply({"params": params}, x)[0], expected, atol=1e-5)


def test_glorot_uniform_has_its_bound():
    model = create_model("cnn_small", 10)
    kernel = model.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))["params"]["conv2"]["kernel"]
    bound = np.sqrt(6 / (9 * 32 + 9 * 64))
    assert np.abs(kernel).max() <= bound and np.abs(kernel).max() > 0.99 * bound
    np.testing.assert_allclose(np.std(kernel), bound / np.sqrt(3), rtol=0.02)


def test_names_and_options_that_do_not_exist_have_near_ones():
    with pytest.raises(ValueError, match="unknown model 'lenet': did you mean 'lenet5'"):
        create_model("lenet", 10)
    with pytest.raises(ValueError, match="unknown option of model mlp 'feature': did you mean 'features'"):
        create_model("mlp", 10, feature=(3,))
    with pytest.raises(TypeError, match="model.features: expected a tuple"):
        create_model("mlp", 10, features="wide")
    with pytest.raises(ValueError, match="num_classes=0"):
        create_model("mlp", 0)


def test_models_are_listed_by_pattern():
    assert list_models() == sorted(MODELS)
    assert list_models("le*") == ["lenet5"] and list_models("x*") == []
