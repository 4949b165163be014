"""`cnnjax import-weights` as a user meets it."""

import numpy as np
from PIL import Image

from tests.commands.shell import run


def test_weights_are_imported_and_predict(capsys, tmp_path):
    from safetensors.numpy import save_file

    from tests.transfer.test_torchvision import weights

    file, labels, photo = tmp_path / "weights.safetensors", tmp_path / "names.txt", tmp_path / "photo.png"
    save_file(weights("resnet18"), file)
    labels.write_text("".join(f"thing {index}\n" for index in range(1000)))
    Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 60, 3)).astype(np.uint8)).save(photo)
    command = "import-weights", file, "--model", "resnet18", "--workdir"
    size = "--config.dataset.resize=(72, 72)", "--config.dataset.crop=(64, 64)"
    code, out, _ = run(capsys, *command, tmp_path / "run", "--labels", labels, *size)
    assert code == 0 and out[0] == "resnet18: 1000 classes, images of 64x64x3"
    code, out, _ = run(capsys, "predict", "--workdir", tmp_path / "run", photo)
    assert code == 0 and out[0].startswith(f"{photo}  thing ")
    file.write_bytes(b"nonsense")
    code, _, errors = run(capsys, *command, tmp_path / "other")
    assert code == 1 and len(errors) == 1 and str(file) in errors[0]
    assert not (tmp_path / "other").exists()
