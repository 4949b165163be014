"""Folders of files beyond 8-bit RGB, from the file to the network and back: 16 bits, bands, transparency, arrays of any axes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

import cnnjax
from cnnjax.analysis import attribution, retrieval
from cnnjax.data.transforms import read_image
from cnnjax.report import exploration, exploration_page, preview, write_report
from tests.commands.shell import run as run_command
from tests.test_runs import measured, same_bits

MODEL = {"name": "pattern", "plan": "conv 4 pool | fc 8"}


def values(shape, dtype, label, seed):
    """Random values of a class: brighter of one class in the second half of the first axis."""
    generator = np.random.RandomState(100 * label + seed)
    x = generator.uniform(0, 400, shape)
    x[len(x) // 2 :] += 200 * label
    return x.astype(dtype)


def write_deep_png(path, x):
    Image.fromarray(x[..., 0]).save(path)


def write_planar_tiff(path, x):
    tifffile.imwrite(path, np.moveaxis(x, -1, 0), photometric="minisblack", planarconfig="separate", compression="lzw")


def write_rgba(path, x):
    Image.fromarray((x // 3).astype(np.uint8)).save(path)


# The kind -> what is written of which values, the fields of the config, and what is stored for it.
KINDS = {
    "16-bit PNG": (".png", (12, 10, 1), np.uint16, write_deep_png, {}, lambda x: x),
    "16-bit colour TIFF": (".tif", (12, 10, 3), np.uint16, tifffile.imwrite, {}, lambda x: x),
    "float TIFF": (".tif", (12, 10), np.float32, tifffile.imwrite, {}, lambda x: x[..., None]),
    "six planar bands": (".tif", (12, 10, 6), np.uint16, write_planar_tiff, {}, lambda x: x),
    "RGBA": (".png", (12, 10, 4), np.uint16, write_rgba, {}, lambda x: (x // 3).astype(np.uint8)),
    "grey arrays": (".npy", (12, 10), np.int16, np.save, {}, lambda x: x[..., None]),
    "arrays of six channels": (".npy", (12, 10, 6), np.float64, np.save, {}, lambda x: x.astype(np.float32)),
    "signals": (".npy", (40, 2), np.float32, np.save, {"spatial_axes": 1}, lambda x: x),
    "volumes": (".npy", (6, 8, 10, 1), np.uint16, np.save, {}, lambda x: x),
    "16 bits as 8": (".png", (12, 10, 1), np.uint16, write_deep_png, {"depth": 8}, lambda x: np.rint(x / 257).astype(np.uint8)),
}  # fmt: skip


def make(root, kind, count=5):
    """A folder of two classes, and its values by split, in the order of the data set."""
    suffix, shape, dtype, write, _, stored = KINDS[kind]
    held = {}
    for number, split in enumerate(("train", "valid", "test")):
        for label in (0, 1):
            (root / split / "ab"[label]).mkdir(parents=True)
            for index in range(count):
                x = values(shape, dtype, label, index + 10 * number)
                write(root / split / "ab"[label] / f"{index}{suffix}", x)
                held.setdefault(split, []).append(stored(x))
    return {split: np.stack(images) for split, images in held.items()}


def config(root, kind, epochs, **dataset):
    return {
        "dataset": {"name": str(root), **KINDS[kind][4], **dataset},
        "devices": 1,
        "log": {"progress": "off", "tensorboard": False},
        "model": MODEL,
        "train": {"batch_size": 4, "epochs": epochs},
    }


# Those of every kind of storage and of axes; the others need `-m slow`.
QUICK = ("16-bit PNG", "six planar bands", "RGBA", "signals", "volumes")


@pytest.fixture(
    scope="module", params=[kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def trained(request, tmp_path_factory):
    """(the kind, its folder, its values by split, a run of one epoch on it that was then resumed to two)"""
    root = tmp_path_factory.mktemp("files") / "data"
    held = make(root, request.param)
    cnnjax.train(config(root, request.param, 1), root.parent / "run")
    return request.param, root, held, cnnjax.train(config(root, request.param, 2), root.parent / "run")


def test_values_arrive_as_they_are_in_the_files(trained):
    kind, root, held, run = trained
    for streaming in (False, True):
        dataset = cnnjax.load_dataset({"name": str(root), "streaming": streaming, **KINDS[kind][4]})
        assert dataset.image_dtype == held["train"].dtype and dataset.image_shape == held["train"].shape[1:]
        for split, images in held.items():
            found = dataset.splits[split].images[:]
            order = lambda arrays: sorted(array.tobytes() for array in arrays)  # noqa: E731
            assert found.dtype == images.dtype and order(found) == order(images)
        train = held["train"].astype(np.float64)
        mean, std = (getattr(train, name)(tuple(range(train.ndim - 1))) for name in ("mean", "std"))
        np.testing.assert_allclose(dataset.statistics.mean, mean, rtol=1e-6)
        np.testing.assert_allclose(dataset.statistics.std, std, rtol=1e-6)
    expected = (held["test"] - mean) / std
    np.testing.assert_allclose(run.network_inputs(held["test"]), expected, rtol=1e-3, atol=2e-5)


def test_a_resumed_run_is_the_whole_one(trained, tmp_path):
    kind, root, _, run = trained
    whole = cnnjax.train(config(root, kind, 2), tmp_path / "whole")
    assert same_bits(run.state, whole.state)
    assert [line["epoch"] for line in measured(run.history) if "train/loss" in line] == [1, 2]


def test_files_are_predicted_by_a_command_as_here(trained, capsys):
    """Of one kind in another process."""
    kind, root, held, run = trained
    files = sorted((root / "test").glob("*/*"))
    here = run.predict_prepared(held["test"])
    np.testing.assert_array_equal(run.predict([read_image(path, run.spatial_axes) for path in files]), here)
    out = root.parent / "predictions.npz"
    arguments = ["predict", root / "test", "--workdir", run.workdir, "--npz", out]
    if kind == "six planar bands":
        subprocess.run([sys.executable, "-m", "cnnjax", *map(str, arguments)], check=True, timeout=300)
    else:
        assert run_command(capsys, *arguments)[0] == 0
    with np.load(out) as written:
        assert written["path"].tolist() == [str(path) for path in files]
        np.testing.assert_allclose(written["predictions"], here, rtol=1e-4, atol=1e-6)


def test_explore_and_report_show_them(trained):
    kind, root, held, run = trained
    given = {f"dataset.{name}": value for name, value in KINDS[kind][4].items()}
    found = exploration.explore_source(str(root), given, lambda line: None)
    np.testing.assert_allclose(
        found.splits["train"].mean, held["train"].mean(tuple(range(held["train"].ndim - 1))), rtol=1e-4
    )
    contrast = held["train"].reshape(len(held["train"]), -1).std(1, dtype=np.float64)
    np.testing.assert_allclose(sorted(found.splits["train"].contrast), sorted(contrast), rtol=1e-3)
    assert not found.originals.damaged and not found.duplicates
    (root.parent / "explored.html").write_text(exploration_page.as_page(found), encoding="utf-8")
    written = write_report(run.workdir)
    assert not written.missing, written.missing
    text = (written.folder / "report.md").read_text()
    assert "## Gallery" in text and ("## Attribution" in text) == (held["train"].ndim == 4)


def test_retrieval_and_grad_cam_follow(trained, tmp_path):
    _, root, held, run = trained
    index = retrieval.build_index(run, root / "train")
    query = next((root / "train" / "b").glob("*"))
    found = retrieval.similar(index, query, None, run)
    [itself] = [one for one in found if one.name.endswith(f"b/{query.name}")]
    assert itself.distance == pytest.approx(0, abs=1e-4)
    assert retrieval.plot_similar(index, query, found, run)
    if held["train"].ndim == 4:
        assert np.isfinite(attribution.grad_cam(run, held["test"][:2])).all()


def test_files_of_another_kind_are_named_with_what_to_set(tmp_path, capsys):
    make(tmp_path / "data", "16-bit PNG")
    odd = tmp_path / "data" / "train" / "b" / "1.png"
    Image.fromarray(np.zeros((12, 10), np.uint8)).save(odd)
    message = f"{odd}: it holds uint8, grey, but the data set's images are uint16: set dataset.depth to 8, 16 or 32 bits for all"
    with pytest.raises(ValueError) as caught:
        cnnjax.load_dataset(str(tmp_path / "data"))
    assert message in str(caught.value) and "1 of 10 images cannot be read" in str(caught.value)
    with pytest.raises(ValueError, match="1.png: it holds uint8, grey"):
        cnnjax.load_dataset({"name": str(tmp_path / "data"), "streaming": True}).splits["train"].images[:]
    for depth, dtype in ((8, np.uint8), (16, np.uint16), (32, np.float32)):
        dataset = cnnjax.load_dataset({"name": str(tmp_path / "data"), "depth": depth})
        assert dataset.image_dtype == dtype and len(dataset.splits["train"]) == 10
    code, out, _ = run_command(capsys, "explore", tmp_path / "data", "--out", tmp_path / "found")
    assert code == 0 and any(message in line for line in out)


def test_a_run_refuses_files_of_another_kind(tmp_path, capsys):
    held = make(tmp_path / "data", "RGBA")
    run = cnnjax.train(config(tmp_path / "data", "RGBA", 1), tmp_path / "run")
    opaque = Image.fromarray(held["test"][0][..., :3])
    expected = np.concatenate([held["test"][0][..., :3], np.full((12, 10, 1), 255, np.uint8)], -1)
    np.testing.assert_array_equal(run.prepare(opaque), expected)
    Image.fromarray(np.full((12, 10), 600, np.uint16)).save(tmp_path / "deep.png")
    code, _, err = run_command(capsys, "predict", tmp_path / "deep.png", "--workdir", run.workdir)
    assert (
        code == 1
        and len(err) == 1
        and "deep.png: it holds uint16, 1 channel, but the data set's images are uint8" in err[0]
    )
    described = json.loads((run.workdir / "dataset.json").read_text())
    assert described["image_shape"] == [12, 10, 4] and described["image_dtype"] == "uint8"


def test_a_table_of_deep_tiffs_with_three_numbers_each(tmp_path):
    generator = np.random.RandomState(0)
    images, targets = generator.randint(0, 601, (30, 9, 8)).astype(np.uint16), generator.normal(0, 1, (30, 3))
    for index, image in enumerate(images):
        tifffile.imwrite(tmp_path / f"{index}.tif", image)
    rows = [f"{index}.tif,{','.join(map(str, row))}" for index, row in enumerate(targets)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,x,y,z", *rows]))
    given = config(tmp_path / "labels.csv", "16-bit PNG", 1, label_column=("x", "y", "z"))
    run = cnnjax.train({**given, "task": {"name": "regression"}}, tmp_path / "run")
    dataset = cnnjax.load_dataset(run.config.dataset)
    assert dataset.image_dtype == np.uint16 and dataset.image_shape == (9, 8, 1)
    split = dataset.splits["train"]
    for image, label in zip(split.images, split.labels, strict=True):
        [place] = [index for index, held in enumerate(images) if np.array_equal(held, image[..., 0])]
        np.testing.assert_allclose(label, targets[place], rtol=1e-6)
    assert run.predict(images[:4]).shape == (4, 3)


def test_a_preview_and_an_animation_show_deep_images(tmp_path, capsys):
    make(tmp_path / "data", "six planar bands")
    given = {**config(tmp_path / "data", "six planar bands", 1), "augment": {"rotation": 20.0}}
    assert preview.preview(given, 2, 2)
    make(tmp_path / "deep", "16-bit PNG")
    path = tmp_path / "deep" / "train" / "a" / "0.png"
    code, _, _ = run_command(capsys, "animate", "filter", "box_blur", path, "--out", tmp_path / "film.gif")
    assert code == 0 and (tmp_path / "film.gif").stat().st_size
