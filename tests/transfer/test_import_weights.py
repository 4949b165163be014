"""Imported weights as a run: prediction, evaluation, and what is refused."""

import jax
import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax import runs
from cnnjax.data.datasets import DatasetOptions
from cnnjax.transfer.torchvision import load_torchvision
from tests.transfer.test_torchvision import weights


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    np.savez(folder / "resnet18.npz", **weights("resnet18"))
    return runs.import_weights(folder / "resnet18.npz", "resnet18", folder / "run")


def photo(height, width):
    return Image.fromarray(np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8))


def test_predictions_are_those_of_torchvisions_preprocessing(imported):
    image = photo(300, 400)
    resized = image.resize((341, 256), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized)[16:240, 58:282] / 255.0  # (341 - 224) / 2 = 58.5, to the even side
    normalized = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    model, variables = load_torchvision("resnet18", weights("resnet18"))
    expected = jax.nn.softmax(jax.jit(model.apply)(variables, normalized[None].astype(np.float32)))
    np.testing.assert_allclose(imported.predict([image]), expected, rtol=1e-3, atol=1e-6)
    assert imported.label_names[:2] == ("n01440764", "n01443537") and imported.metrics == {}


def test_googlenet_has_its_own_normalisation(tmp_path):
    run = runs.import_weights(weights("googlenet"), "googlenet", tmp_path / "run")
    assert run.config.dataset.mean == run.config.dataset.std == (0.5, 0.5, 0.5)
    assert run.config.model.name == "googlenet_torchvision"


def test_it_is_evaluated_on_data_of_as_many_classes(tmp_path):
    generator = np.random.RandomState(1)
    for split in ("train", "test"):
        for name in ("a", "b", "c"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for index in range(4):
                pixels = generator.randint(0, 256, (40, 50, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    head = {key: value[:3] if key.startswith("fc.") else value for key, value in weights("resnet18").items()}
    small = {"dataset.resize": (36, 36), "dataset.crop": (32, 32), "dataset.name": str(tmp_path / "photos")}
    run = runs.import_weights(head, "resnet18", tmp_path / "run", ["x", "y", "z"], small)
    result = cnnjax.evaluate([run], "test")
    folder = cnnjax.load_dataset(DatasetOptions(**run.config.dataset)).splits["test"]
    probabilities = run.predict_prepared(folder.images)
    assert result["accuracy"] == np.mean(probabilities.argmax(-1) == folder.labels)
    other = runs.import_weights(weights("resnet18"), "resnet18", tmp_path / "other", None, small)
    with pytest.raises(ValueError, match="1000 classes, data set .* 3: replace the head"):
        cnnjax.evaluate([other], "test")


def test_what_cannot_be_done_is_said(imported, tmp_path):
    state_dict = weights("resnet18")
    with pytest.raises(ValueError, match="not empty"):
        runs.import_weights(state_dict, "resnet18", imported.workdir)
    with pytest.raises(ValueError, match="imported weights of resnet18, which are not changed"):
        cnnjax.train({"dataset": {"name": "digits"}}, imported.workdir)
    with pytest.raises(ValueError, match="2 label names were given, but the weights have 1000 classes"):
        runs.import_weights(state_dict, "resnet18", tmp_path / "run", ["a", "b"])
    with pytest.raises(ValueError, match="dataset.resize or dataset.crop must be set"):
        overrides = {"dataset.resize": None, "dataset.crop": None}
        runs.import_weights(state_dict, "resnet18", tmp_path / "run", None, overrides)
    with pytest.raises(ValueError, match="2 value.s., the images 3"):
        runs.import_weights(
            state_dict, "resnet18", tmp_path / "run", None, {"dataset.mean": (0.5, 0.5), "dataset.std": (0.5, 0.5)}
        )
    assert not (tmp_path / "run").exists()
