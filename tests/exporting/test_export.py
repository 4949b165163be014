"""`cnnjax export`: a run's files predict as the run does, wherever its images are of, and bad requests are one line."""

import json
import os

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.exporting import page
from tests.commands.shell import run as command

ort = pytest.importorskip("onnxruntime", reason="pip install 'cnnjax[test]'")


def random_images(run, count, seed=0):
    shape, dtype = tuple(run.described["image_shape"]), np.dtype(run.facts.image_dtype)
    random = np.random.default_rng(seed)
    if dtype.kind == "f":
        return random.normal(size=(count, *shape)).astype(dtype)
    return random.integers(0, np.iinfo(dtype).max + 1, (count, *shape), dtype)


def predicted(path, images):
    return ort.InferenceSession(path).run(None, {"images": images})


@pytest.mark.parametrize("count", [0, 1, 3, 64])
def test_onnx_predicts_as_the_run(finished_run, count, tmp_path):
    exported = cnnjax.export(finished_run, tmp_path / "digits.onnx")
    images = random_images(finished_run, count)
    [probabilities] = predicted(exported.path, images)
    expected = finished_run.predict_prepared(images) if count else np.zeros((0, 10))
    np.testing.assert_allclose(probabilities, expected, rtol=1e-5, atol=1e-7)
    assert exported.inputs == {"images": "(batch, 32, 32, 1) uint8"}
    assert (
        exported.outputs == {"probabilities": "(batch, 10) float32"} and exported.size == exported.path.stat().st_size
    )


def test_onnx_of_network_inputs_and_logits(finished_run, tmp_path):
    images = random_images(finished_run, 5)
    inputs = finished_run.network_inputs(images)
    plain = cnnjax.export(finished_run.workdir, tmp_path / "plain.onnx", preprocessing=False)
    np.testing.assert_allclose(
        predicted(plain.path, inputs)[0], finished_run.predict_prepared(images), rtol=1e-5, atol=1e-7
    )
    logits = cnnjax.export(finished_run, tmp_path / "logits.onnx", outputs="logits")
    assert list(logits.outputs) == ["logits"]
    expected = finished_run.model.apply(finished_run.selected.variables, inputs)
    np.testing.assert_allclose(predicted(logits.path, images)[0], expected, rtol=1e-5, atol=1e-5)


def test_onnx_says_what_it_takes(finished_run, tmp_path):
    path = cnnjax.export(finished_run, tmp_path / "digits.onnx").path
    texts = ort.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert json.loads(texts["classes"]) == list("0123456789") and texts["network"] == "mlp"
    prepared = json.loads(texts["preprocessing"])
    assert json.loads(texts["preprocessing_included"]) is True and prepared["normalize"] == "dataset"
    images = random_images(finished_run, 2)
    np.testing.assert_allclose(
        (images - np.float32(prepared["mean"])) / np.float32(prepared["std"]),
        finished_run.network_inputs(images),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("platforms", [("cpu", "cuda", "tpu"), ("cpu",)])
def test_stablehlo_takes_batches_of_any_size(finished_run, platforms, tmp_path):
    from jax import export

    exported = cnnjax.export(finished_run, tmp_path / "digits.jaxexport", platforms=platforms)
    assert "six months" in exported.remarks[0]
    loaded = export.deserialize(bytearray(exported.path.read_bytes()))
    assert loaded.platforms == platforms
    for count in (1, 3, 64):
        images = random_images(finished_run, count)
        np.testing.assert_allclose(loaded.call(images), finished_run.predict_prepared(images), rtol=1e-5, atol=1e-7)


def test_weights_load_back_with_every_bit(finished_run, tmp_path):
    exported = cnnjax.export(finished_run, tmp_path / "digits.safetensors")
    assert "cnnjax's names" in exported.remarks[0]
    model, variables = cnnjax.load_weights(exported.path)
    own = jax.tree.leaves_with_path(finished_run.selected.variables["params"])
    assert [path for path, _ in own] == [path for path, _ in jax.tree.leaves_with_path(variables["params"])]
    assert all((one == other).all() for (_, one), other in zip(own, jax.tree.leaves(variables["params"]), strict=True))
    inputs = finished_run.network_inputs(random_images(finished_run, 2))
    assert (model.apply(variables, inputs) == finished_run.model.apply(finished_run.selected.variables, inputs)).all()


def tiny(task, dataset, workdir, **model):
    config = {
        "task": {"name": task},
        "devices": 1,
        "log": {"progress": "off", "tensorboard": False},
        "model": model or {"name": "pattern", "plan": "conv 4 pool | fc 6", "norm": "batch"},
        "train": {"batch_size": 8, "epochs": 1},
    }
    return cnnjax.train(config, workdir, dataset=dataset)


def arrays(shape, dtype, labels):
    random = np.random.default_rng(0)
    images = (
        random.normal(size=(24, *shape)) * 10 if np.dtype(dtype).kind == "f" else random.integers(0, 255, (24, *shape))
    )
    part = (images.astype(dtype), labels(random))
    return cnnjax.from_arrays(train=part, valid=part, test=part)


CASES = {
    "signals, float": ("classification", (32, 2), np.float32, lambda random: random.integers(0, 3, 24)),
    "many channels, uint16": (
        "multilabel",
        (8, 8, 6),
        np.uint16,
        lambda random: random.integers(0, 2, (24, 3)).astype(np.float32),
    ),
    "volumes": ("regression", (8, 8, 8, 1), np.float32, lambda random: random.normal(size=(24, 2)).astype(np.float32)),
}


@pytest.mark.parametrize(
    "case", [case if "16" in case else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_runs_of_other_data_and_tasks(case, tmp_path):
    task, shape, dtype, labels = CASES[case]
    run = tiny(task, arrays(shape, dtype, labels), tmp_path / "run")
    exported = cnnjax.export(run, tmp_path / "it.onnx")
    assert list(exported.outputs) == ["values" if task == "regression" else "probabilities"]
    images = random_images(run, 3)
    np.testing.assert_allclose(predicted(exported.path, images)[0], run.predict_prepared(images), rtol=1e-5, atol=1e-5)
    assert cnnjax.load_weights(cnnjax.export(run, tmp_path / "it.safetensors").path)[0] is not None
    with pytest.raises(ValueError, match="a page (shows|takes)"):
        cnnjax.export(run, tmp_path / "it.html")
    assert not (tmp_path / "it.html").exists()


@pytest.mark.slow
def test_a_segmentation_in_bfloat16_and_views(tmp_path):
    random = np.random.default_rng(0)
    images, maps = (
        random.integers(0, 255, (24, 16, 16, 1)).astype(np.uint8),
        random.integers(0, 3, (24, 16, 16)).astype(np.uint8),
    )
    part = (images, maps)
    run = tiny(
        "segmentation",
        cnnjax.from_arrays(train=part, valid=part, test=part),
        tmp_path / "run",
        name="unet_same",
        encoder="resnet20",
    )
    exported = cnnjax.export(run, tmp_path / "it.onnx")
    np.testing.assert_allclose(predicted(exported.path, images)[0], run.predict_prepared(images), rtol=1e-5, atol=1e-5)
    config = {
        "dataset": {"name": "digits"}, "model": {"name": "lenet5"}, "train": {"epochs": 1, "precision": "bfloat16"}, "devices": 1,
        "evaluate": {"views": "flip"}, "log": {"progress": "off", "tensorboard": False},
    }  # fmt: skip
    run = cnnjax.train(config, tmp_path / "views")
    exported = cnnjax.export(run, tmp_path / "views.onnx")
    assert "it computes in float32, the run in bfloat16" in exported.remarks
    digits = random_images(run, 3)
    np.testing.assert_allclose(predicted(exported.path, digits)[0], run.predict_prepared(digits), atol=2e-2)


@pytest.mark.slow
def test_torchvision_s_names_where_the_network_is_torchvision_s(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3)).astype(np.uint8)
    part = (images, np.arange(16) % 4)
    data = cnnjax.from_arrays(train=part, valid=part, test=part)
    run = tiny("classification", data, tmp_path / "run", name="resnet18")
    exported = cnnjax.export(run, tmp_path / "it.safetensors")
    assert "torchvision:resnet18's names" in exported.remarks[0]
    from safetensors.numpy import load_file

    tensors = load_file(exported.path)
    assert tensors["layer1.0.bn1.weight"].shape == (64,) and tensors["conv1.weight"].shape == (64, 3, 7, 7)
    for model, variables in (cnnjax.load_weights(exported.path), cnnjax.load_torchvision("resnet18", exported.path)):
        inputs = run.network_inputs(images[:2])
        assert (model.apply(variables, inputs) == run.model.apply(run.selected.variables, inputs)).all()


@pytest.mark.slow
def test_a_network_of_one_s_own_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import flax.linen as nn\n\nclass Net(nn.Module):\n    num_classes: int\n    width: int = 5\n\n    @nn.compact\n"
        "    def __call__(self, x, train=False):\n        x = nn.relu(nn.Conv(self.width, (3, 3))(x)).mean((1, 2))\n"
        "        return nn.Dense(self.num_classes)(x.reshape((len(x), -1)))\n"
    )
    images = np.random.default_rng(0).integers(0, 255, (24, 8, 8, 3)).astype(np.uint8)
    part = (images, np.arange(24) % 3)
    data = cnnjax.from_arrays(train=part, valid=part, test=part)
    run = tiny("classification", data, tmp_path / "run", name="./mine.py:Net", width=4)
    exported = cnnjax.export(run, tmp_path / "it.onnx")
    np.testing.assert_allclose(predicted(exported.path, images)[0], run.predict_prepared(images), rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match=r"such as len\(x\), which is open in this file: write x.shape\[0\]"):
        cnnjax.export(run, tmp_path / "it.jaxexport")
    model, variables = cnnjax.load_weights(cnnjax.export(run, tmp_path / "it.safetensors").path)
    inputs = run.network_inputs(images[:2])
    assert (model.apply(variables, inputs) == run.model.apply(run.selected.variables, inputs)).all()


def test_the_command(finished_run, tmp_path, capsys):
    code, out, _ = command(
        capsys, "export", finished_run.workdir, tmp_path / "it.onnx", "--no-preprocessing", "--outputs", "logits"
    )
    assert code == 0 and out[1:3] == [
        "input   images: (batch, 32, 32, 1) float32",
        "output  logits: (batch, 10) float32",
    ]
    code, out, _ = command(capsys, "export", finished_run.workdir, tmp_path / "it.safetensors", "--json")
    found = json.loads("\n".join(out))
    assert code == 0 and found["bytes"] == (tmp_path / "it.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "{tmp}/it.pt"], "the file's suffix chooses the format: .onnx: ONNX"),
        (["{run}", "{tmp}/it"], "the file's suffix chooses the format"),
        (["{run}", "{tmp}/nowhere/it.onnx"], "there is no folder {tmp}/nowhere"),
        (["{run}", "{tmp}/folder.onnx"], "{tmp}/folder.onnx is a folder: expected a file"),
        (["{tmp}", "{tmp}/it.onnx"], "holds no run"),
        (["{run}", "{tmp}/it.jaxexport", "--platforms", "cpu,gpu"], "unknown platform 'gpu'"),
        (["{run}", "{tmp}/it.safetensors", "--outputs", "logits"], "outputs is for .onnx and .jaxexport: leave it out"),
        (["{run}", "{tmp}/it.onnx", "--runtime", "{tmp}"], "runtime is for .html: leave it out"),
        (["{run}", "{tmp}/it.html", "--runtime", "{tmp}/none.tgz"], "there is no such file or folder"),
        (["{run}", "{tmp}/it.html", "--runtime", "{tmp}/folder.onnx"], "expected the npm package onnxruntime-web"),
        (["{run}", "{tmp}/it.html", "--runtime", "{tmp}/text.tgz"], "expected the npm package onnxruntime-web"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_no_file(arguments, message, finished_run, tmp_path, capsys):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "text.tgz").write_text("no archive")
    fill = {"tmp": str(tmp_path), "run": str(finished_run.workdir)}
    code, _, errors = command(capsys, "export", *(argument.format(**fill) for argument in arguments))
    assert code == 1 and len(errors) == 1 and message.format(**fill) in errors[0]
    assert {path.name for path in tmp_path.iterdir()} == {"folder.onnx", "text.tgz"}


def test_a_file_is_replaced_whole_or_not_at_all(finished_run, tmp_path, monkeypatch):
    path = tmp_path / "it.safetensors"
    path.write_text("before")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        cnnjax.export(finished_run, path)
    assert path.read_text() == "before" and [found.name for found in tmp_path.iterdir()] == [path.name]
    monkeypatch.undo()
    assert cnnjax.export(finished_run, path).path == path and path.stat().st_size > 1000


def test_missing_packages_and_npm_are_said(finished_run, tmp_path, monkeypatch):
    import sys

    for name, suffix in (("onnx", ".onnx"), ("flatbuffers", ".jaxexport")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=f"the package {name} writes it: pip install 'cnnjax\\[export\\]'"):
            cnnjax.export(finished_run, tmp_path / f"it{suffix}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match=f"no npm to fetch it: fetch https://.*{page.VERSION}.tgz elsewhere"):
        cnnjax.export(finished_run, tmp_path / "it.html")
    assert not list(tmp_path.glob("it*"))


def test_weights_that_are_not_ours_are_refused(finished_run, tmp_path):
    from safetensors.numpy import save_file

    save_file({"w": np.ones(2, np.float32)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("text")
    for name, error, message in (
        ("other", ValueError, "was not written by cnnjax"), ("text", ValueError, "cannot be read"), ("none", FileNotFoundError, "does not"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            cnnjax.load_weights(tmp_path / f"{name}.safetensors")
