"""`cnnjax preview` as a user meets it."""

import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax.report import preview
from tests.commands.shell import run


def test_augmented_images_are_drawn(capsys, tmp_path):
    command = "preview", "--config", "quickstart", "--config.augment.rotation=20", "--out"
    code, out, _ = run(capsys, *command, tmp_path / "preview.png")
    assert code == 0 and out == [f"picture: {tmp_path / 'preview.png'}"]
    with Image.open(tmp_path / "preview.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50
    code, _, errors = run(capsys, *command, tmp_path / "preview.jpg")
    assert code == 1 and "expected a name that ends in .png" in errors[0]
    code, _, errors = run(capsys, *command, tmp_path / "p.png", "--config.augment.hue=0.1")
    assert code == 1 and len(errors) == 1
    assert errors[0].startswith("cnnjax: config: augment.hue needs 3 channels; the images have 1")


@pytest.mark.parametrize(
    ("task", "labels", "titles"),
    [
        ("multilabel", [[1, 0, 1], [0, 0, 0]], ["a, c", ""]),
        ("regression", [[0.5, 2.0, -1.0], [3.0, 0.25, 0.0]], ["0.5  2  -1", "3  0.25  0"]),
    ],
)
def test_examples_of_every_task_are_titled_by_their_labels(task, labels, titles, monkeypatch):
    images = np.random.RandomState(0).randint(0, 256, (2, 32, 32, 1)).astype(np.uint8)
    part = images, np.array(labels)
    data = cnnjax.from_arrays(train=part, valid=part, test=part, label_names=("a", "b", "c"))
    monkeypatch.setattr(preview, "load_dataset", lambda *args, **kwargs: data)
    figure = preview.preview({"task": {"name": task}, "train": {"batch_size": 2}}, examples=2, epochs=1)
    assert [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()] == [title for title in titles if title]
