"""Against Keras 3.15, from whose networks `keras_layers.json` and `keras_logits.npz` are (`keras_networks`); files are written here."""

import json
import re

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax import runs
from cnnjax.models import MODELS
from cnnjax.runs.training import initial_variables
from cnnjax.transfer.keras import NETWORKS, load_keras, read_layers
from tests.transfer import keras_networks

h5py = pytest.importorskip("h5py")

LAYERS = json.loads((keras_networks.HERE / "keras_layers.json").read_text())
SMALL = "DenseNet121"


def snake(name):
    """Keras's names of layers in files of its version 3: "SeparableConv2D" -> "separable_conv2d"."""
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def write(path, network, changed=lambda layer, weights: weights):
    """Writes a network's weights as Keras does, in the form that the name says."""
    with h5py.File(path, "w") as file:
        names, counts = [], {}
        for kind, layer, shapes in LAYERS[network]:
            weights = changed(layer, keras_networks.weights(layer, [tuple(shape) for shape in shapes]))
            if weights is None:
                continue
            if path.name.endswith(".weights.h5"):
                number = counts[kind] = counts.get(kind, -1) + 1
                group = file.create_group(f"layers/{snake(kind)}{f'_{number}' if number else ''}/vars")
                for index, value in enumerate(weights):
                    group[str(index)] = value
            else:
                group, own = file.create_group(layer), [f"{layer}/{index}:0".encode() for index in range(len(weights))]
                group.attrs["weight_names"] = own
                for name, value in zip(own, weights, strict=True):
                    group[name.decode()] = value
                names.append(layer.encode())
        if names:
            empty = file.create_group("an_activation")
            empty.attrs["weight_names"] = np.zeros(0, "S1")
            names.insert(1, b"an_activation")
            for number, part in enumerate(np.array_split(np.array(names), 2)):  # as Keras divides a long list
                file.attrs[f"layer_names{number}"] = part
    return path


def same(tree, other):
    return jax.tree.all(jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), tree, other))


def test_all_forms_of_files_have_the_same_layers_and_give_a_network(tmp_path):
    old, whole, new = (tmp_path / name for name in ("old.h5", "whole.h5", "new.weights.h5"))
    layers = [read_layers(write(path, SMALL)) for path in (old, new)]
    with h5py.File(old) as file, h5py.File(whole, "w") as model:
        file.copy(file, model, "model_weights")
    layers.append(read_layers(whole))
    assert all(same(layers[0], other) for other in layers[1:])
    model, variables = load_keras(SMALL, new, reverse_channels=True)
    assert model == cnnjax.create_model("densenet121", keras_networks.CLASSES)
    kernel = layers[0]["convolution"][0][0]
    np.testing.assert_array_equal(variables["params"]["conv1"]["kernel"], kernel[:, :, ::-1])


def test_what_does_not_fit_is_listed_and_refused(tmp_path):
    path = tmp_path / "weights.h5"
    write(path, SMALL, lambda layer, values: None if layer in ("conv1_conv", "relu", "bn") else values)
    with pytest.raises(
        ValueError, match="119 layers with the weights of a convolution, expected 120; 120 layers .* batch norm"
    ):
        load_keras(SMALL, path)
    changes = {"bn": [np.full(1024, np.nan, np.float32)] * 4, "predictions": [np.zeros((7, 10)), np.zeros(10)]}
    write(path, SMALL, lambda layer, values: changes.get(layer, values))
    with pytest.raises(
        ValueError, match=r"bn_last/scale has values .* not finite.*; fc/kernel is \(7, 10\), expected \(1024, 10\)"
    ):
        load_keras(SMALL, path)
    with pytest.raises(ValueError, match="unknown Keras model 'densenet121': did you mean 'DenseNet121'"):
        load_keras("densenet121", path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="weights.h5 cannot be read"):
        load_keras(SMALL, path)
    with h5py.File(path, "w") as file:
        file["values"] = np.zeros(3)
    with pytest.raises(ValueError, match="no layers with weights"):
        load_keras(SMALL, path)
    with pytest.raises(FileNotFoundError, match="nowhere.h5 does not exist"):
        load_keras(SMALL, tmp_path / "nowhere.h5")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ending"), list(zip(LAYERS, (".h5", ".weights.h5") * 2, strict=True)))
def test_the_logits_are_kerass(name, ending, tmp_path):
    model, variables = load_keras(name, write(tmp_path / f"file{ending}", name))
    logits = jax.jit(model.apply)(variables, keras_networks.images(name))
    with np.load(keras_networks.HERE / "keras_logits.npz") as stored:
        expected = stored[name]
    assert np.abs(logits - expected).max() / np.abs(expected).max() < 1e-4


@pytest.mark.slow
def test_a_run_of_caffes_order_takes_rgb_and_a_training_begins_with_it(tmp_path):
    from PIL import Image

    path = write(tmp_path / "resnet50.h5", "ResNet50")
    small = {"dataset.resize": (64, 64), "dataset.crop": (64, 64)}
    run = runs.import_weights(path, "ResNet50", tmp_path / "run", list("abcdefghij"), small)
    image = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    model, variables = load_keras("ResNet50", path)
    caffe = image[..., ::-1].astype(np.float32) - [103.939, 116.779, 123.68]
    expected = jax.nn.softmax(jax.jit(model.apply)(variables, caffe[None].astype(np.float32)))
    np.testing.assert_allclose(run.predict([Image.fromarray(image)]), expected, rtol=1e-3, atol=1e-5)
    trunk = write(tmp_path / "trunk.h5", "ResNet50", lambda layer, values: None if layer == "predictions" else values)
    with pytest.raises(ValueError, match=r"trunk.h5 has no output layer \(include_top=False\)"):
        runs.import_weights(trunk, "ResNet50", tmp_path / "other")
    config = cnnjax.load_config({}, {"model.name": "resnet50", "initial.weights": str(path)})
    begin = initial_variables(config)
    assert same(begin["params"], run.selected.variables["params"])
    config = cnnjax.load_config({}, {"model.name": "resnet18", "initial.weights": str(path)})
    with pytest.raises(
        ValueError, match="is Keras's, which has no network that equals resnet18: choose from densenet121"
    ):
        initial_variables(config)


def test_the_networks_that_keras_has_too():
    assert {name: MODELS[ours].parameters or MODELS[ours].counts[0] for name, ours in NETWORKS.items()}.keys() == {
        *(
            "VGG16",
            "VGG19",
            "ResNet50",
            "ResNet101",
            "ResNet152",
            "DenseNet121",
            "DenseNet169",
            "DenseNet201",
            "Xception",
        )
    }


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LAYERS)
def test_what_is_stored_and_written_here_is_kerass(name, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="Keras is not installed: its values are stored")
    keras.backend.clear_session()
    model = keras_networks.build(name)
    assert keras_networks.layers(model) == LAYERS[name]
    with np.load(keras_networks.HERE / "keras_logits.npz") as stored:
        np.testing.assert_allclose(
            model.predict(keras_networks.images(name), verbose=0), stored[name], rtol=1e-4, atol=1e-4
        )
    model.save_weights(tmp_path / "theirs.weights.h5")
    theirs, ours = (
        load_keras(name, path)[1]
        for path in (tmp_path / "theirs.weights.h5", write(tmp_path / "ours.weights.h5", name))
    )
    assert same(theirs, ours)
