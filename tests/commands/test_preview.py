"""`cnnjax preview` as a user meets it."""

import numpy as np
from PIL import Image

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
