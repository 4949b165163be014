"""`cnnjax predict` as a user meets it."""

import contextlib
import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax.data.datasets import DatasetOptions, load_dataset
from tests.commands.shell import run


@pytest.fixture
def pictures(tmp_path):
    """Three test digits as files, in two folders, with their classes."""
    test = load_dataset(DatasetOptions()).splits["test"]
    paths = [
        tmp_path / "pictures" / "a" / "0.png",
        tmp_path / "pictures" / "a" / "1.png",
        tmp_path / "pictures" / "b" / "2.bmp",
    ]
    for index, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(test.images[index, ..., 0]).save(path)
    return paths


def test_predict_names_the_classes_of_files_and_folders(capsys, finished_run, pictures, tmp_path):
    images = load_dataset(DatasetOptions()).splits["test"].images[:3]
    probabilities = finished_run.predict(images)
    code, out, _ = run(capsys, "predict", "--workdir", finished_run.workdir, tmp_path / "pictures", "--topk", 2)
    assert code == 0
    for path, row, line in zip(pictures, probabilities, out, strict=True):
        first, second = np.argsort(-row)[:2]
        assert line == f"{path}  {first} {row[first]:.4f}  {second} {row[second]:.4f}"
    table = tmp_path / "table.csv"
    code, out, _ = run(capsys, "predict", "--workdir", finished_run.workdir, *pictures[::-1], "--csv", table)
    assert code == 0 and out == [f"3 predictions in {table}"]
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["path"] for row in rows] == [str(path) for path in pictures[::-1]]
    assert [int(row["label_1"]) for row in rows] == probabilities.argmax(-1)[::-1].tolist()
    np.testing.assert_allclose([float(row["probability_1"]) for row in rows], probabilities.max(-1)[::-1], atol=1e-6)


def test_pictures_of_another_size_are_classified_and_it_is_said_once(capsys, finished_run, tmp_path):
    """Digits four times as large, then with dark and bright exchanged as a photograph of ink on paper has them."""
    test = load_dataset(DatasetOptions()).splits["test"]
    for name, images in (("large", test.images[:8]), ("ink", 255 - test.images[:8])):
        (tmp_path / name).mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image[..., 0]).resize((128, 128)).save(tmp_path / name / f"{index}.png")
    code, out, err = run(capsys, "predict", "--workdir", finished_run.workdir, tmp_path / "large")
    expected = finished_run.predict(test.images[:8]).argmax(-1)
    assert code == 0 and [int(line.split("  ")[1].split()[0]) for line in out] == expected.tolist()
    resized = "8 of 8 images (the first: {}): resized to 32x32 by the shorter side and the central crop"
    assert err == ["cnnjax: " + resized.format(tmp_path / "large" / "0.png")]
    code, _, err = run(capsys, "predict", "--workdir", finished_run.workdir, tmp_path / "ink")
    assert (
        code == 0
        and len(err) == 2
        and "brighter than every training image (their means are 56 to 108 of 255)" in err[1]
    )


def test_names_are_neither_obeyed_by_a_terminal_nor_run_by_a_spreadsheet(capsys, finished_run, pictures, tmp_path):
    folder, table = tmp_path / "pictures" / "c", tmp_path / "table.csv"
    folder.mkdir()
    for path, name in zip(pictures, ("\x1b]0;mine\x07.png", "two\nlines.png", "\x9b31m.png"), strict=True):
        path.rename(folder / name)
    code, out, _ = run(capsys, "predict", "--workdir", finished_run.workdir, folder)
    assert code == 0 and len(out) == 3
    assert {line.split("  ")[0].rpartition("/")[2] for line in out} == {
        r"\x1b]0;mine\x07.png", r"two\nlines.png", r"\x9b31m.png"
    }  # fmt: skip
    (folder / "two\nlines.png").rename(tmp_path / "=cmd.png")
    with contextlib.chdir(tmp_path):
        assert run(capsys, "predict", "--workdir", finished_run.workdir, "=cmd.png", "--csv", table)[0] == 0
    assert table.read_text().splitlines()[1].startswith("'=cmd.png,")


def test_a_csv_that_cannot_be_written_is_refused_before_anything_is_computed(
    capsys, finished_run, pictures, tmp_path, monkeypatch
):
    def computed(*_):
        raise AssertionError("computed for nothing")

    monkeypatch.setattr(cnnjax.runs.Run, "predict_prepared", computed)
    arguments = ["predict", "--workdir", finished_run.workdir, pictures[0]]
    code, _, err = run(capsys, *arguments, "--csv", tmp_path / "nowhere" / "table.csv")
    assert code == 1 and len(err) == 1 and "there is no folder" in err[0]
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.png"))
    pictures[1].rename(odd)
    code, _, err = run(capsys, *arguments, odd, "--csv", tmp_path / "table.csv")
    assert code == 1 and len(err) == 1 and r"odd\xff.png' is not UTF-8: rename it" in err[0]
    assert not (tmp_path / "table.csv").exists()
    monkeypatch.undo()
    code, out, _ = run(capsys, *arguments, odd)
    assert code == 0 and r"odd\xff.png  " in out[1]


def test_files_that_cannot_be_classified_are_named_and_counted(capsys, finished_run, pictures, tmp_path):
    (tmp_path / "pictures" / "notes.txt").write_text("hello")
    Image.fromarray(np.zeros((20, 10), np.uint8)).save(tmp_path / "pictures" / "small.png")
    bad = [tmp_path / "pictures" / "notes.txt", tmp_path / "pictures" / "small.png"]
    table = tmp_path / "table.csv"
    arguments = ["predict", "--workdir", finished_run.workdir, *pictures, *bad, "--csv", table, "--resize", "refuse"]
    code, out, err = run(capsys, *arguments)
    assert code == 1 and not out and len(err) == 1 and not table.exists()
    assert "2 of 5 files cannot be used" in err[0] and "notes.txt: not an image" in err[0]
    assert "small.png: the image is 20x10, the network takes 32x32" in err[0]
    code, out, err = run(capsys, *arguments, "--skip-unreadable")
    assert code == 0 and len(table.read_text().splitlines()) == 4 and "2 of 5 files" in err[0]
