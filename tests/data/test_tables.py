import hashlib
import subprocess
import sys

import jax
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import cnnjax
from cnnjax.data import tables
from cnnjax.report import write_report
from tests.data.files import save_picture

KINDS = ("dog", "cat", "owl")


@pytest.fixture
def photos(cache):
    """Forty pictures in two folders beside where a table will be, each of its number's pixels."""
    return {
        f"{'near' if index % 2 else 'far/away'}/{index}.png": save_picture(
            cache / ("near" if index % 2 else "far/away") / f"{index}.png", seed=index
        )
        for index in range(40)
    }


def written(folder, columns, name="labels.csv", between=","):
    """A table of some columns as a CSV or Parquet file."""
    path = folder / name
    if path.suffix == ".parquet":
        parquet.write_table(pa.table(columns), path)
    else:
        rows = zip(*columns.values(), strict=True)
        path.write_text("\n".join(between.join(map(str, row)) for row in [columns, *rows]) + "\n", encoding="utf-8")
    return path


def pixels_and_labels(data):
    """Every split's images and labels as they are: picture's digest -> label."""
    return {
        name: {
            hashlib.sha256(np.ascontiguousarray(image)).hexdigest(): np.asarray(label).tolist()
            for image, label in zip(split.images[:], split.labels, strict=True)
        }
        for name, split in data.splits.items()
    }


def expected(photos, rows):
    return {hashlib.sha256(photos[path]).hexdigest(): label for path, label in rows}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv", "labels.parquet", "semicolons.csv"])
def test_every_row_has_its_picture_label_and_split(cache, photos, name, streaming):
    given = [("train", "VAL", "test ", "valid")[min(index // 10, 3)] for index in range(40)]
    columns = {"id": [*range(40)], "file": [*photos], "kind": [KINDS[index % 3] for index in range(40)], "part": given}
    between = {"labels.tsv": "\t", "semicolons.csv": ";"}.get(name, ",")
    path = written(cache, columns, name, between)
    data = cnnjax.from_csv(path, image="file", label="kind", split="part", streaming=streaming)
    assert data.label_names == ("cat", "dog", "owl")
    number = [data.label_names.index(kind) for kind in columns["kind"]]
    rows = list(zip(photos, number, strict=True))
    found = pixels_and_labels(data)
    assert found["train"] == expected(photos, rows[:10]) and found["test"] == expected(photos, rows[20:30])
    assert found["valid"] == expected(photos, rows[10:20] + rows[30:])
    section = {"name": str(path), "image_column": "file", "label_column": "kind", "split_column": "part"}
    again = cnnjax.load_dataset({**section, "streaming": streaming}, pytest.fail)
    assert again.fingerprint == data.fingerprint


def test_a_drawn_tenth_of_every_class_validates_and_another_tests(cache, photos):
    path = written(cache, {"path": [*photos], "label": [index % 2 for index in range(40)]})
    data = cnnjax.from_csv(path)
    counts = {name: np.bincount(split.labels).tolist() for name, split in data.splits.items()}
    assert counts == {"train": [16, 16], "valid": [2, 2], "test": [2, 2]}
    parts = pixels_and_labels(data)
    assert {**parts["train"], **parts["valid"], **parts["test"]} == expected(
        photos, zip(photos, [index % 2 for index in range(40)], strict=True)
    )
    assert cnnjax.from_csv(path, split_seed=1).fingerprint != data.fingerprint == cnnjax.from_csv(path).fingerprint
    # As arrays with the same labels are drawn.
    positions = np.arange(40)[:, None, None, None].astype(np.float32)
    drawn = cnnjax.from_arrays((positions, np.arange(40) % 2)).splits["valid"].images.ravel().astype(int)
    assert parts["valid"] == expected(photos, [([*photos][position], int(position) % 2) for position in drawn])


@pytest.mark.parametrize(
    ("cells", "names", "labels"),
    [
        (["10", "9", "-1", "9"], ("-1", "9", "10"), [2, 1, 0, 1]),
        (["b ", " a", "B", "a"], ("B", "a", "b"), [2, 1, 0, 1]),
        (["1", "x", "2", "x"], ("1", "2", "x"), [0, 2, 1, 2]),
        (["True", "False", "False", "True"], ("False", "True"), [1, 0, 0, 1]),
        (["1.5", "-2", "3e2", ".5"], (), np.float32([1.5, -2, 300, 0.5])),
        (["1.0", "0.0", "1.0", "0.0"], (), np.float32([1, 0, 1, 0])),
    ],
)
def test_one_column_is_classes_or_numbers(cache, photos, cells, names, labels):
    path = written(cache, {"path": [*photos][:4], "label": cells})
    table = tables.read_table(*read(path))
    np.testing.assert_array_equal(table.labels, labels)
    assert table.label_names == names and table.labels.dtype == (np.int32 if names else np.float32)


def read(path, *label, split="split", skip=False):
    """The arguments of `read_table` for a table whose every row is given a split in its own column."""
    lines = path.read_text(encoding="utf-8").splitlines()
    splits = ["split", "train", "val", "test", *["train"] * len(lines)]
    if "split" not in lines[0]:
        path.write_text(
            "\n".join(f"{line},{part}" for line, part in zip(lines, splits, strict=False)), encoding="utf-8"
        )
    return path, tables.Columns("path", label or "label", split), 0, skip


@pytest.mark.parametrize(
    ("columns", "labels"),
    [
        ({"sun": [1, 0, 1, 0], "rain": [0, 0, 1, 1]}, np.uint8([[1, 0], [0, 0], [1, 1], [0, 1]])),
        ({"sun": [True, False, True, False]}, np.uint8([[1], [0], [1], [0]])),
        ({"age": [3, 5, 4, 90]}, np.float32([[3], [5], [4], [90]])),
        ({"x": [0.25, 1, 0, 0], "y": [1, 2, 3, 4]}, np.float32([[0.25, 1], [1, 2], [0, 3], [0, 4]])),
    ],
)
def test_several_columns_are_rows_of_numbers_or_of_zeros_and_ones(cache, photos, columns, labels):
    path = written(cache, {"path": [*photos][:4], **columns})
    table = tables.read_table(*read(path, *columns))
    np.testing.assert_array_equal(table.labels, labels)
    assert table.labels.dtype == labels.dtype and table.label_names == tuple(columns)
    path = written(cache, {"path": [*photos][:4], "split": ["train", "val", "test", "train"], **columns}, "t.parquet")
    np.testing.assert_array_equal(
        tables.read_table(path, tables.Columns("path", tuple(columns), "split"), 0, False).labels, labels
    )


BAD = {
    "an empty label": (lambda rows: rows[2].update(label=" "), r"column 'label' is empty in row 4 \(the header is row 1\)"),
    "empty files": (
        lambda rows: [row.update(path="") for row in rows[:5]],
        r"column 'path' is empty in 5 rows \(2, 3, 4, ...; the header is row 1\): fill the cells",
    ),
    "a slip among numbers": (
        lambda rows: [row.update(label=index / 4) for index, row in enumerate(rows)] + [rows[7].update(label="2,.5 ")],
        "cannot be read|column 'label' does not hold a number in row 9",
    ),
    "a text among numbers": (
        lambda rows: [row.update(label=index / 4) for index, row in enumerate(rows)] + [rows[7].update(label="n/a")],
        r"column 'label' does not hold a number in row 9 \(the header is row 1\): 'n/a'",
    ),
    "no finite number": (
        lambda rows: [row.update(label=index / 4) for index, row in enumerate(rows)] + [rows[1].update(label="nan")],
        r"column 'label' does not hold a finite number in row 3 \(the header is row 1\): 'nan'",
    ),
    "one class": (lambda rows: [row.update(label="cat") for row in rows], "column 'label' holds one class"),
    "an unknown split": (
        lambda rows: rows[4].update(split="holdout"),
        r"column 'split' is 'holdout' in row 6 \(the header is row 1\): expected train, valid or test",
    ),
    "no training row": (lambda rows: [row.update(split="test") for row in rows], "none of the 40 rows is in the split train"),
}  # fmt: skip


@pytest.mark.parametrize("change", BAD)
def test_bad_cells_are_named_by_row(cache, photos, change):
    rows = [{"path": path, "label": KINDS[index % 3], "split": "train"} for index, path in enumerate(photos)]
    BAD[change][0](rows)
    path = written(cache, {name: [row[name] for row in rows] for name in rows[0]})
    with pytest.raises(ValueError, match=BAD[change][1]) as caught:
        cnnjax.from_csv(path, split="split")
    assert "\n" not in str(caught.value) and "labels.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "labels.csv is empty"),
        ("path,label\n", "has no rows"),
        ("path,labels\na.png,1\n", "unknown column 'label': did you mean 'labels'"),
        ("path,label,label\na.png,1,2\n", "column 'label' is named twice"),
        ("path,label\na.png\n", "cannot be read: CSV parse error: .*Expected 2 columns, got 1: a.png"),
        ("path,label\na.png,1\nb.png,2\n", "2 of 2 files do not exist in the table's folder, .*: a.png, b.png"),
    ],
)
def test_bad_files_are_one_line(cache, text, line):
    path = cache / "labels.csv"
    path.write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=line) as caught:
        cnnjax.from_csv(path)
    assert "\n" not in str(caught.value)
    for content in ("path,label\nä.png,1\n", "path,label,ä\na.png,1,1\n"):
        path.write_bytes(content.encode("latin-1"))
        with pytest.raises(ValueError, match="cannot be read: it is not UTF-8"):
            cnnjax.from_csv(path)
    with pytest.raises(FileNotFoundError, match=r"table .*other.csv does not exist"):
        cnnjax.from_csv(cache / "other.csv")
    with pytest.raises(ValueError, match=r"image_column, label_column and split_column are for tables \(.csv"):
        cnnjax.load_dataset({"name": "digits", "label_column": "kind"})


def test_missing_files_are_named_or_left_out_and_unreadable_ones_too(cache, photos):
    paths = [*photos, "near/99.png", "nowhere/1.png", "near"]
    path = written(cache, {"path": paths, "label": [index % 2 for index in range(43)]})
    line = r"3 of 43 files do not exist in the table's folder, .*: near/99.png, nowhere/1.png, near"
    with pytest.raises(FileNotFoundError, match=line):
        cnnjax.from_csv(path)
    (cache / "near" / "1.png").write_text("hello")
    said = []
    data = cnnjax.from_csv(path, unreadable="skip", report=said.append)
    assert sum(len(split) for split in data.splits.values()) == 39
    assert any("3 of 43 files do not exist" in text and text.endswith("left out") for text in said)
    assert any("skipped 1 of" in text and "near/1.png: not an image" in text for text in said)


def test_repeated_rows_are_counted_and_said_and_a_file_is_drawn_into_one_split(cache, photos):
    rows = [(path, index % 2, "train" if index < 30 else "test") for index, path in enumerate(photos)]
    rows += [rows[0], rows[0], (rows[3][0], 0, "train"), (rows[4][0], 0, "test")]
    path = written(cache, dict(zip(("path", "label", "split"), zip(*rows, strict=True), strict=True)))
    said = []
    cnnjax.from_csv(path, split="split", report=said.append)
    first = rows[0][0], rows[3][0], rows[4][0]
    assert said[:3] == [
        f"table labels.csv: 2 of 44 rows are repeated, the first {first[0]}",
        f"table labels.csv: 1 of 44 rows give a file another label than an earlier row, the first {first[1]}",
        f"table labels.csv: 1 of 44 rows have a file of another split: figures of that split are not measured on unseen images, the first {first[2]}",
    ]
    drawn = cnnjax.from_csv(path, report=said.append)
    assert "table labels.csv: the column 'split' is not used: to use it, set dataset.split_column='split'" in said
    places = [set(part) for part in pixels_and_labels(drawn).values()]
    assert sum(map(len, places)) == len(set.union(*places)) == 40


def test_classes_without_training_examples_are_said(cache, photos):
    rows = [
        (path, "owl" if index > 37 else index % 2, "test" if index > 30 else "train")
        for index, path in enumerate(photos)
    ]
    path = written(cache, dict(zip(("path", "label", "split"), zip(*rows, strict=True), strict=True)))
    said = []
    cnnjax.from_csv(path, split="split", report=said.append)
    assert "table labels.csv: 1 of 3 classes have no training example: owl" in said


def test_a_change_of_a_file_or_a_row_is_noticed(cache, photos):
    path = written(cache, {"path": [*photos], "label": [index % 2 for index in range(40)], "note": [0] * 40})
    first = cnnjax.from_csv(path).fingerprint
    written(cache, {"path": [*photos], "label": [index % 2 for index in range(40)], "note": [1] * 40})
    assert cnnjax.from_csv(path).fingerprint == first
    written(cache, {"path": [*photos], "label": [index % 3 for index in range(40)]})
    assert cnnjax.from_csv(path).fingerprint != first
    written(cache, {"path": [*photos], "label": [index % 2 for index in range(40)]})
    save_picture(cache / next(iter(photos)), seed=99)
    assert cnnjax.from_csv(path).fingerprint != first


@pytest.mark.slow
def test_a_million_rows_take_little_memory_and_time(cache):
    """A million rows of a thousand folders, whose files are made as empty ones: at most 1 GiB above what is imported."""
    code = """
import resource, sys, time
from pathlib import Path
from cnnjax.data import tables
import pyarrow.compute, pyarrow.csv
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table = tables.read_table(Path(sys.argv[1]), tables.Columns(), 0, True)
print(len(table.files), len(table.label_names), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""
    path = cache / "labels.csv"
    (cache / "photos").mkdir()
    for index in range(1000):
        (cache / "photos" / f"{index}.png").touch()
    with open(path, "w") as file:
        file.write("path,label\n")
        file.writelines(f"photos/{index}.png,kind {index % 500}\n" for index in range(1_000_000))
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    files, classes, gibibytes = map(float, done.stdout.split())
    assert (files, classes) == (1_000_000, 500) and gibibytes < 1


@pytest.mark.slow
def test_tiffs_of_16_bits_with_three_numbers_train_resume_and_predict_in_another_process(cache):
    generator = np.random.RandomState(0)
    images = generator.randint(0, 601, (40, 8, 6)).astype(np.uint16)
    for index, image in enumerate(images):
        Image.fromarray(image).save(cache / f"{index}.tif")
    numbers = np.stack([images.mean((1, 2)) / 100, images[:, 0].mean(1) / 100, np.arange(40) / 4], 1).round(3)
    columns = {"path": [f"{index}.tif" for index in range(40)], **dict(zip("xyz", numbers.T, strict=True))}
    path = written(cache, columns)
    config = {
        "dataset": {"name": str(path), "label_column": ("x", "y", "z")},
        "devices": 1,
        "log": {"progress": "off", "tensorboard": False},
        "model": {"name": "mlp", "features": (8,)},
        "schedule": {"name": "constant"},
        "task": {"name": "regression"},
        "train": {"batch_size": 8, "epochs": 2},
    }
    run = cnnjax.train(config, cache / "whole")
    assert run.described["image_dtype"] == "uint16" and run.label_names == ("x", "y", "z")
    data = cnnjax.load_dataset(run.config.dataset)
    found = {
        image.tobytes(): label
        for split in data.splits.values()
        for image, label in zip(split.images, split.labels, strict=True)
    }
    assert len(found) == 40
    for image, label in zip(images, numbers, strict=True):
        np.testing.assert_allclose(found[image[..., None].tobytes()], label, rtol=1e-6)
    kept = np.asarray(data.splits["train"].images, np.float64)
    normalised = (kept - kept.mean((0, 1, 2))) / kept.std((0, 1, 2))
    np.testing.assert_allclose(run.inputs(kept.astype(np.uint16)), normalised, atol=1e-5)
    cnnjax.train({**config, "train": {"batch_size": 8, "epochs": 1}}, cache / "part")
    jax.tree.map(np.testing.assert_array_equal, cnnjax.train(config, cache / "part").state, run.state)
    code = (
        "import cnnjax, numpy, sys; run = cnnjax.load_run(sys.argv[1])\n"
        "numpy.savez(sys.argv[2], split=cnnjax.runs.predict_split([run], 'train')[0], image=run.predict(numpy.load(sys.argv[3])))"
    )
    np.save(cache / "images.npy", data.splits["train"].images)
    command = [sys.executable, "-c", code, cache / "whole", cache / "out.npz", cache / "images.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for predicted in np.load(cache / "out.npz").values():
        np.testing.assert_allclose(predicted, cnnjax.runs.predict_split([run], "train")[0], rtol=1e-5)
    assert not write_report(run.workdir).missing
