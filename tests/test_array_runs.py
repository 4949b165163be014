"""Runs on signals, volumes and images of many channels and types: trained, resumed, evaluated, and asked in other ways."""

import csv
import subprocess
import sys

import jax
import numpy as np
import pytest
from scipy.io import wavfile

import cnnjax
from cnnjax.report import write_report
from tests.commands.shell import run as shell
from tests.tasks.runs_alike import assert_resumes_to_the_same_bits, timeless

NET = """
import flax.linen as nn

class Net(nn.Module):
    num_classes: int = 2

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(4, (3,) * (x.ndim - 2))(x))
        return nn.Dense(self.num_classes)(x.mean(range(1, x.ndim - 1)))
"""
# Of each kind, the shape of an example and the type; classes differ in how fast values change along the last spatial axis.
KINDS = {
    "signal": ((64, 1), "int16", {"shift": 2.0, "noise": 0.001, "flip_horizontal": True, "brightness": 0.1}),
    "image": ((8, 12, 6), "uint16", {"pad": 1, "crop": (8, 10), "rotation": 5.0, "contrast": 0.1, "noise": 0.0005}),
    "volume": (
        (6, 5, 12, 2),
        "float32",
        {"pad": 1, "flip_depth": True, "tilt": 3.0, "cutout": 2, "cutmix": 1.0, "stretch": 0.1},
    ),
}
# Training examples: 41 batches of 10.
COUNTS = {"train": 410, "valid": 61, "test": 63}


def examples(kind, count, seed):
    shape, dtype, _ = KINDS[kind]
    generator = np.random.RandomState(seed)
    classes = np.arange(count) % 2
    phase = generator.uniform(0, 6, (count, 1)) + np.arange(shape[-2]) * np.where(classes, 1.5, 0.4)[:, None]
    wave = np.sin(phase).reshape(count, *(1,) * (len(shape) - 2), shape[-2], 1) + generator.normal(
        0, 0.1, (count, *shape)
    )
    return (300 + 250 * wave).clip(0, 600).astype(dtype), classes


@pytest.fixture(
    scope="module", params=["signal", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("image", "volume"))]
)
def trained(request, tmp_path_factory):
    """The data of a kind, the config and its run; the network is a file of the user's."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "net.py").write_text(NET)
    data = {split: examples(request.param, count, seed) for seed, (split, count) in enumerate(COUNTS.items())}
    np.savez(folder / "data.npz", **{f"{split}_{part}": array for split, pair in data.items()
                                     for part, array in zip(("images", "labels"), pair, strict=True)})  # fmt: skip
    config = {
        "folder": str(folder),
        "dataset": {"name": "data.npz"},
        "model": {"name": "./net.py:Net"},
        "devices": 1,
        "augment": KINDS[request.param][2],
        "log": {"progress": "off", "tensorboard": False},
        "checkpoint": {"every_steps": 30},
        "optimizer": {"name": "adam", "learning_rate": 0.02},
        "train": {"batch_size": 10, "epochs": 2},
    }
    return request.param, data, cnnjax.train(config, folder / "run")


def test_it_learns_resumes_to_the_same_bits_and_is_the_same_streamed_from_the_host(trained, tmp_path):
    kind, _, run = trained
    assert run.metrics["test/accuracy"] > 0.85, kind
    assert_resumes_to_the_same_bits(run, None, tmp_path)
    config = run.config.copy_and_resolve_references()
    with config.unlocked():
        config.dataset.resident = False
    again = cnnjax.train(config, tmp_path / "host")
    jax.tree.map(np.testing.assert_array_equal, again.state.params, run.state.params)
    assert timeless(tmp_path / "host") == timeless(run.workdir)


def test_predictions_are_the_networks_on_input_normalised_as_numpy_does(trained):
    kind, data, run = trained
    images, train = data["test"][0], data["train"][0].astype(np.float64)
    axes = tuple(range(train.ndim - 1))
    x = (images - train.mean(axes)) / train.std(axes)
    if kind == "image":
        x = x[:, :, 1:-1]
    np.testing.assert_allclose(run.network_inputs(images), x, atol=1e-5)
    expected = jax.nn.softmax(run.model.apply(run.selected.variables, x.astype(np.float32), False))
    found = run.predict(images)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(run.predict(images[3]), run.predict(images[3:4]))
    np.testing.assert_allclose(run.predict([*images[:5]]), found[:5], atol=1e-6)
    assert (found.argmax(-1) == data["test"][1]).mean() == pytest.approx(run.metrics["test/accuracy"])
    wide = images.astype("float64" if images.dtype.kind == "f" else "int64")
    np.testing.assert_array_equal(run.predict(wide), found)


def test_the_report_explains_it(trained):
    written = write_report(trained[2].workdir, examples=20)
    assert not written.missing and "## Gallery" in (written.folder / "report.md").read_text()


def test_examples_of_another_kind_are_refused_in_a_line(trained):
    kind, data, run = trained
    images = data["test"][0][:3]
    with pytest.raises(ValueError, match=r"images: an array of \(1, 1, .*: expected one example of \("):
        run.predict(np.zeros((1,) * 7, images.dtype))
    with pytest.raises(
        ValueError, match=r"image 0: it holds .*the network takes" if kind != "image" else "image 0: it holds"
    ):
        run.predict(images[:, :-1, ..., :1] if kind == "image" else images[:, :-1])
    if images.dtype.kind != "f":
        with pytest.raises(
            ValueError, match=r"image 1: it holds float32, .* but the data set's images are u?int16: pass values"
        ):
            run.predict([images[0], images[1] + 0.5])
        with pytest.raises(
            ValueError, match=r"image 0: it holds int32, .* but the data set's images are u?int16: pass values"
        ):
            run.predict(np.where(images == images[0].max(), 10**6, images.astype(np.int64)))
    else:
        with pytest.raises(ValueError, match="image 0: values that are not finite in float32"):
            run.predict(images * np.nan)
    assert run.predict(images[:0]).shape == (0, 2)


def test_predict_and_evaluate_from_the_command_line_in_another_process(trained, tmp_path, capsys):
    kind, data, run = trained
    images = data["test"][0]
    np.save(tmp_path / "one.npy", images[0])
    np.save(tmp_path / "several.npy", images[1:4])
    expected, table = run.predict(images[:4]), tmp_path / "table.csv"
    command = ["predict", "--workdir", run.workdir, tmp_path / "one.npy", tmp_path / "several.npy", "--csv", table]
    subprocess.run([sys.executable, "-m", "cnnjax", *map(str, command)], check=True, cwd=tmp_path)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["path"] for row in rows] == [
        str(tmp_path / "one.npy"), *(f"{tmp_path / 'several.npy'}[{number}]" for number in range(3)),
    ]  # fmt: skip
    np.testing.assert_allclose([float(row["probability_1"]) for row in rows], expected.max(-1), atol=2e-6)
    np.save(tmp_path / "short.npy", images[0][:-1])
    code, _, err = shell(capsys, "predict", "--workdir", run.workdir, tmp_path / "short.npy")
    if kind != "image":  # which is resized
        assert code == 1 and len(err) == 1 and "short.npy: it holds" in err[0] and "the network takes" in err[0]
    assert cnnjax.evaluate([run])["accuracy"] == pytest.approx(run.metrics["test/accuracy"])


@pytest.mark.parametrize("trained", ["signal"], indirect=True)
def test_wav_files_are_predicted_in_the_type_that_they_store(trained, tmp_path, capsys):
    _, data, run = trained
    images = data["test"][0]
    (tmp_path / "sounds").mkdir()
    for number in range(2):
        wavfile.write(tmp_path / "sounds" / f"{number}.wav", 8000, images[number, :, 0])
    code, out, _ = shell(capsys, "predict", "--workdir", run.workdir, tmp_path / "sounds", "--topk", 1)
    expected = run.predict(images[:2])
    assert code == 0
    assert out == [
        f"{tmp_path / 'sounds' / f'{number}.wav'}  {row.argmax()} {row.max():.4f}"
        for number, row in enumerate(expected)
    ]
    wavfile.write(tmp_path / "stereo.wav", 8000, images[:2, :, 0].T)
    wavfile.write(tmp_path / "float.wav", 8000, images[0].astype(np.float32) + 0.5)
    (tmp_path / "noise.wav").write_bytes(b"RIFF noise")
    for name, message in (
        ("stereo", "stereo.wav: it holds"),
        ("float", "float.wav: it holds float32"),
        ("noise", "noise.wav: a damaged WAV file"),
    ):
        code, _, err = shell(capsys, "predict", "--workdir", run.workdir, tmp_path / f"{name}.wav")
        assert code == 1 and len(err) == 1 and message in err[0], err


@pytest.mark.parametrize("trained", ["signal"], indirect=True)
@pytest.mark.parametrize("fields", [{"folds": 3, "fold": 1}, {"examples_per_class": 40}, {"balanced": True}])
def test_folds_few_examples_and_balancing_hold_for_signals(trained, fields, tmp_path):
    _, _, run = trained
    config = run.config.copy_and_resolve_references()
    with config.unlocked():
        config.dataset.update(fields)
        config.train.epochs = 1
    assert cnnjax.train(config, tmp_path / "run").metrics["train/loss"] > 0
