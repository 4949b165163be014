"""What is found in a data set: against planted duplicates, counts by hand, and NumPy."""

import io

import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax.data.datasets import Dataset, DatasetOptions, Split
from cnnjax.report import exploration, exploration_page
from tests.commands.shell import run


def noise(count, seed, size=24):
    """Smooth pictures, each like no other."""
    generator = np.random.RandomState(seed)
    coarse = generator.randint(20, 236, (count, 6, 6)).astype(np.uint8)
    grey = np.stack([np.asarray(Image.fromarray(picture).resize((size, size), Image.BICUBIC)) for picture in coarse])
    return (grey[..., None] * np.array([1, 0.9, 0.7])).round().astype(np.uint8)


def as_dataset(**splits):
    return Dataset("made", ("cat", "dog", "newt"), {name: Split(*part) for name, part in splits.items()}, None, "")


@pytest.fixture(scope="module")
def planted():
    """Of the test images 1 is train's 4; 2 is train's 7, compressed; 3 valid's 0, darker; train's 9 is its 8, relabelled."""
    train, valid, test = noise(12, 0), noise(4, 1), noise(5, 2)
    train[9] = train[8]
    test[1] = train[4]
    buffer = io.BytesIO()
    Image.fromarray(train[7]).save(buffer, "jpeg", quality=60)
    test[2] = np.asarray(Image.open(buffer))
    test[3] = valid[0] * 0.8
    train[10], valid[3], test[4] = 7, 8, 9  # each of one colour
    labels = np.array([0] * 6 + [1] * 3 + [2] * 3)
    return as_dataset(
        train=(train, labels.copy()), valid=(valid, np.array([0, 1, 2, 0])), test=(test, np.array([0, 1, 0, 0, 0]))
    )


def test_planted_duplicates_are_found_and_nothing_else(planted):
    found = exploration.explore(planted)
    pairs = [
        (pair.split, pair.position, pair.other_split, pair.other_position, pair.equal) for pair in found.duplicates
    ]
    assert pairs[0] == ("test", 1, "train", 4, True)
    assert sorted(pairs[1:]) == [("test", 2, "train", 7, False), ("test", 3, "valid", 0, False)]
    assert found.splits["train"].copies == 1 and found.splits["train"].contradictions == 1
    assert found.splits["test"].copies == 0


def test_the_correlation_is_that_of_the_averaged_grey_images():
    """48 pixels a side: each cell of the grid is the mean of 3x3 pixels, up to what antialiasing smooths beyond."""
    coarse = np.random.RandomState(3).randint(0, 256, (2, 16, 16, 1))
    coarse[1] = 0.9 * coarse[0] + 0.1 * coarse[1]
    images = coarse.repeat(3, 1).repeat(3, 2).astype(np.uint8)
    small = coarse[:, :, :, 0].astype(np.uint8).reshape(2, -1)
    found = exploration.explore(
        as_dataset(train=(images[:1], np.array([0])), test=(images[1:], np.array([0]))), threshold=0.9
    )
    (pair,) = found.duplicates
    assert pair.correlation == pytest.approx(np.corrcoef(small)[0, 1], abs=3e-3)


def test_measurements_are_numpys(planted):
    facts = exploration.explore(planted).splits["train"]
    images = planted.splits["train"].images.astype(np.float64)
    np.testing.assert_allclose(facts.mean, images.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(facts.std, images.std((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(facts.brightness, images.mean((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(facts.contrast, images.std((1, 2, 3)), rtol=1e-3, atol=0.1)
    np.testing.assert_array_equal(facts.class_counts, [6, 3, 3])
    assert facts.imbalance == 2 and facts.examples == 12
    assert np.abs(facts.mean_images[0] - images[:6].mean(0)).max() <= 0.51
    assert exploration.explore(planted).splits["test"].imbalance == float("inf")


def test_more_images_than_a_block(planted, monkeypatch):
    whole = exploration.explore(planted)
    monkeypatch.setattr(exploration, "_BLOCK", 5)
    parts = exploration.explore(planted)
    assert parts.duplicates == whole.duplicates
    for split, facts in whole.splits.items():
        np.testing.assert_allclose(parts.splits[split].brightness, facts.brightness, rtol=1e-6)
        np.testing.assert_array_equal(parts.splits[split].mean_images, facts.mean_images)


@pytest.fixture
def folder(tmp_path):
    """Photographs of differing sizes, one of them damaged, one in two splits, and notes."""
    for split, seed in (("train", 0), ("test", 1)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / "animals" / split / name).mkdir(parents=True)
            for number, picture in enumerate(noise(4, 10 * seed + label, 40)):
                path = tmp_path / "animals" / split / name / f"{number}.png"
                Image.fromarray(picture[: 30 + number]).save(path)
    train, test = (tmp_path / "animals" / split / "cat" for split in ("train", "test"))
    Image.open(train / "2.png").resize((400, 320)).save(test / "large.jpg", quality=90)
    whole = (train / "3.png").read_bytes()
    (train / "3.png").write_bytes(whole[: len(whole) // 2])
    (train / "notes.txt").write_text("hello")
    return tmp_path / "animals"


def test_a_folder_of_files(folder):
    found = exploration.explore_source(str(folder))
    (damaged,) = found.originals.damaged
    assert str(folder / "train" / "cat" / "3.png") in damaged and "damaged image" in damaged
    assert found.originals.ignored == ("train/cat/notes.txt",) and found.originals.modes == {"RGB": 16}
    assert found.splits["train"].class_counts.tolist() == [3, 4]
    assert sorted(map(tuple, found.originals.sizes.tolist()))[-1] == (320, 400)
    assert found.dataset.image_shape == (64, 64, 3)
    (pair,) = found.duplicates
    assert found.name(pair.split, pair.position) == "test/cat/large.jpg"
    assert found.name(pair.other_split, pair.other_position) == "train/cat/2.png"
    assert "3.png" in exploration_page.as_page(found)


def test_a_folder_explored_by_a_config_names_its_damaged_files_too(folder, tmp_path, capsys):
    held, exif = noise(1, 7, 40)[0], Image.Exif()
    exif[274] = 3
    Image.fromarray(held).save(folder / "train" / "dog" / "held.png", exif=exif)
    Image.fromarray(np.full((40, 40), 600, np.uint16)).save(folder / "test" / "dog" / "deep.png")
    for streaming in (False, True):
        given = {"dataset.resize": (20, 30), "dataset.streaming": streaming, "dataset.unreadable": "refuse"}
        found = exploration.explore_source(str(folder), given, lambda line: None)
        deep, cut = sorted(found.originals.damaged)
        assert "deep.png: it holds uint16, 1 channel, but" in deep and "3.png: a damaged image" in cut
        counts = sum(found.splits[split].class_counts for split in ("train", "valid"))
        assert counts.tolist() == [3, 5] and found.originals.turned == 1
    code, out, _ = run(capsys, "explore", folder, "--config.dataset.resize=(20,30)", "--out", tmp_path / "found")
    assert code == 0 and any("2 files that cannot be read (dataset.unreadable" in line for line in out)


def test_a_config_is_explored_as_it_prepares_its_data(folder):
    found = exploration.explore_source("quickstart", {"dataset.pad": (36, 36)})
    assert found.dataset.image_shape == (36, 36, 1) and found.originals is None
    (folder / "train" / "cat" / "3.png").unlink()
    resized = exploration.explore_source(str(folder), {"dataset.resize": (20, 30)})
    assert resized.dataset.image_shape == (20, 30, 3) and len(resized.originals.sizes) == 16
    assert exploration.explore(cnnjax.load_dataset(DatasetOptions())).splits["test"].examples == 355


def test_from_the_shell(capsys, tmp_path):
    code, out, _ = run(capsys, "explore", "digits", "--out", tmp_path / "found")
    assert code == 0 and out[0] == "# digits: 10 classes, images of 32x32x1"
    assert out[2].split("\t")[:3] == ["train", "1,298", "4 136"]
    assert out[-1] == f"page: {tmp_path / 'found' / 'index.html'}"
    assert (tmp_path / "found" / "index.html").stat().st_size < 500_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explore", "digit"], "no data set with this name: did you mean 'digits'"),
        (["explore", "./nowhere"], "nowhere does not exist"),
        (["explore", "nowhere.py"], "unknown config file 'nowhere.py'"),
        (["explore", "empty"], "expected a folder of images for each of two or more classes, found 0"),
        (["explore", "broken"], "none of its 6 images can be read: "),
        (["explore", "digits", "--out", "file"], "--out file is a file: expected a folder"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("a", "b"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "broken" / name / f"{number}.png").write_bytes(b"nothing")
    code, _, err = run(capsys, *arguments)
    assert code == 1 and len(err) == 1, err
    assert err[0].startswith("cnnjax: ") and message in err[0]
    assert not (tmp_path / "exploration").exists()


def test_what_dataset_name_takes_is_explored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n\ndef scans():\n    return np.arange(40 * 16, dtype=np.int32).reshape(40, 4, 4, 1), np.arange(40) % 2\n"
    )
    np.savez(tmp_path / "scans.npz", images=noise(20, 7), labels=np.arange(20) % 2)
    for source, examples in (("./mine.py:scans", 32), ("./scans.npz", 16)):
        assert exploration.explore_source(source, report=print).splits["train"].class_counts.sum() == examples


def test_targets_that_are_no_classes_are_counted_by_label_or_measured_as_numbers():
    images, generator = noise(20, 5), np.random.RandomState(6)
    images[1] = images[0]
    marks, numbers = generator.randint(0, 2, (20, 2)), np.round(generator.standard_normal((20, 2)), 3)
    whole = {"train": (images, marks), "valid": (images[:4], marks[:4]), "test": (images[4:8], marks[4:8])}
    found = exploration.explore(cnnjax.from_arrays(**whole, label_names=("sun", "rain")))
    np.testing.assert_array_equal(found.splits["train"].class_counts, marks.sum(0))
    sunny = images[marks[:, 0] == 1].astype(np.float64).mean(0)
    np.testing.assert_allclose(found.splits["train"].mean_images[0], sunny, atol=0.51)
    assert found.splits["train"].contradictions == int(any(marks[0] != marks[1]))
    tables = exploration_page.tables(found)
    assert tables["splits"].title.startswith("arrays: 2 labels of 0 or 1")
    assert tables["classes"].table.rows[0][:2] == ("sun", str(marks[:, 0].sum()))
    assert "sun" in exploration_page.as_page(found)

    whole = {"train": (images, numbers), "valid": (images[:4], numbers[:4]), "test": (images[4:8], numbers[4:8])}
    found = exploration.explore(cnnjax.from_arrays(**whole, label_names=("age", "weight")))
    tables = exploration_page.tables(found)
    assert tables["splits"].title.startswith("arrays: 2 numbers per image")
    assert f"age {numbers[:, 0].mean():.4g}  weight {numbers[:, 1].mean():.4g}" in tables["splits"].table.rows[0]
    assert found.splits["train"].examples == 20 and tables["pairs"].table.rows[0][1].count("  ") == 1
    assert "all images" in exploration_page.as_page(found)

    maps = np.zeros((20, 24, 24), np.int32)
    whole = {"train": (images, maps), "valid": (images[:4], maps[:4]), "test": (images[4:8], maps[4:8])}
    found = exploration.explore(cnnjax.from_arrays(**whole))
    assert "targets of 24x24" in exploration_page.as_page(found)
