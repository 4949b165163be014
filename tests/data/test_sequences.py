import subprocess
import sys
import types

import grain
import jax
import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax.data import sequences, transforms
from cnnjax.data.streaming import StreamedImages
from cnnjax.report import write_report
from tests.data.files import save_picture

generator = np.random.RandomState(0)
PIXELS = generator.randint(0, 256, (40, 8, 6, 3)).astype(np.uint8)
NUMBERS = np.arange(40) % 3
CONFIG = {
    "devices": 1,
    "log": {"progress": "off", "tensorboard": False},
    "model": {"name": "mlp", "features": (8,)},
    "schedule": {"name": "constant"},
    "train": {"batch_size": 8, "epochs": 2},
}


@pytest.fixture(autouse=True)
def _own_cache(cache):
    """What is remembered of sequences is remembered in a folder of the test."""


class Examples:
    """A sequence of what a function makes of each position."""

    def __init__(self, example, count=40, **attributes):
        self.example, self.count = example, count
        self.__dict__.update(attributes)

    def __len__(self):
        return self.count

    def __getitem__(self, position):
        return self.example(position)


def hugging_face(example=lambda position: {"img": Image.fromarray(PIXELS[position]), "label": int(NUMBERS[position])}):
    """What a Hugging Face data set of images looks like: mappings, and the names of classes among its features."""
    return Examples(example, features={"label": types.SimpleNamespace(names=["ant", "bee", "cat"])})


def whole(data):
    """The images and labels of all splits, by the images' content."""
    return {
        np.ascontiguousarray(image).tobytes(): np.asarray(label).tolist()
        for split in data.splits.values()
        for image, label in zip(split.images[:], split.labels, strict=True)
    }


def expected(images, labels):
    return {np.ascontiguousarray(image).tobytes(): label for image, label in zip(images, labels.tolist(), strict=True)}


def torch_examples(*, dtype="float32", label=lambda position: int(NUMBERS[position])):
    torch = pytest.importorskip("torch")

    class Set(torch.utils.data.Dataset):
        classes = ("ant", "bee", "cat")

        def __len__(self):
            return 40

        def __getitem__(self, position):
            image = torch.from_numpy(PIXELS[position]).permute(2, 0, 1)
            return image.to(getattr(torch, dtype)) / (255 if dtype == "float32" else 1), label(position)

    return Set()


def test_a_torch_data_set_has_its_channels_last_and_its_floats_as_they_are():
    data = cnnjax.from_sequence(torch_examples())
    assert (
        data.image_shape == (8, 6, 3) and data.image_dtype == np.float32 and data.label_names == ("ant", "bee", "cat")
    )
    assert whole(data) == expected(PIXELS.astype(np.float32) / np.float32(255), NUMBERS)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 32, "valid": 4, "test": 4}
    arrays = cnnjax.from_arrays((PIXELS.astype(np.float32) / np.float32(255), NUMBERS))  # draws the same examples
    for name, split in arrays.splits.items():
        np.testing.assert_array_equal(data.splits[name].images, split.images)
        np.testing.assert_array_equal(data.splits[name].labels, split.labels)
    assert data.statistics == arrays.statistics


def test_a_subset_has_the_names_of_its_whole():
    torch = pytest.importorskip("torch")
    train, valid = torch.utils.data.random_split(torch_examples(), [30, 10])
    data = cnnjax.from_sequence(train, valid, valid)
    assert data.label_names == ("ant", "bee", "cat") and len(data.splits["train"]) == 30


def test_tensors_of_two_and_four_axes_and_tensors_as_labels():
    torch = pytest.importorskip("torch")
    values = generator.standard_normal((12, 2, 5, 4, 3)).astype(np.float32)
    volumes = Examples(lambda position: (torch.tensor(values[position]), torch.tensor([1.5, position])), 12)
    data = cnnjax.from_sequence(volumes)
    assert data.image_shape == (5, 4, 3, 2) and data.splits["train"].labels.dtype == np.float32
    assert whole(data) == expected(np.moveaxis(values, 1, -1), np.float32([[1.5, position] for position in range(12)]))
    flat = Examples(lambda position: (torch.tensor(values[position, 0, :, :, 0]), torch.tensor(position % 2)), 12)
    assert cnnjax.from_sequence(flat).image_shape == (5, 4, 1)
    assert cnnjax.from_sequence(flat, spatial_axes=1).image_shape == (4, 5)
    last = Examples(lambda position: (torch.tensor(PIXELS[position]), position % 2), 12)
    with pytest.raises(ValueError, match=r"sequence, train\[0\]: a tensor of shape \(8, 6, 3\) would have 8 channels"):
        cnnjax.from_sequence(last)
    assert cnnjax.from_sequence(last, channels_first=False).image_shape == (8, 6, 3)
    with pytest.raises(ValueError, match=r"NumPy has no torch.bfloat16: give value.float\(\)"):
        cnnjax.from_sequence(Examples(lambda position: (torch.ones(1, 4, 4, dtype=torch.bfloat16), 0)))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_data_set_as_hugging_face_has_them(streaming):
    data = cnnjax.from_sequence(hugging_face(), hugging_face(), image="img", streaming=streaming)
    assert data.label_names == ("ant", "bee", "cat") and data.class_counts == [12, 12, 12]
    assert isinstance(data.splits["train"].images, StreamedImages) == streaming
    np.testing.assert_array_equal(data.splits["valid"].images[:], PIXELS)
    np.testing.assert_array_equal(data.splits["valid"].labels, NUMBERS)
    assert data.fingerprint == cnnjax.from_sequence(hugging_face(), hugging_face(), image="img").fingerprint
    with pytest.raises(ValueError, match=r"sequence, train\[0\]: unknown key 'image': did you mean 'img'\?"):
        cnnjax.from_sequence(hugging_face())


def test_images_that_do_not_fit_are_read_as_they_are_needed(monkeypatch):
    monkeypatch.setattr(sequences, "RESIDENT_BYTES", 40 * 8 * 6 * 3 - 1)
    seen = []
    examples = Examples(lambda position: seen.append(position) or (PIXELS[position], int(NUMBERS[position])))
    data = cnnjax.from_sequence(examples, resize=(4, 3))  # which fits
    assert not isinstance(data.splits["train"].images, StreamedImages) and sorted(seen) == sorted([0, 0, *range(40)])
    data = cnnjax.from_sequence(examples)
    train = data.splits["train"].images
    assert isinstance(train, StreamedImages) and train.dtype == np.uint8 and whole(data) == expected(PIXELS, NUMBERS)


def test_streamed_images_are_read_for_statistics_only_where_these_are_used_and_once_for_the_chosen(cache, monkeypatch):
    counted = []
    monkeypatch.setattr(transforms, "measure", lambda images, own=transforms.measure: counted.append(1) or own(images))
    given = {"streaming": True, "folds": 2, "version": "1"}
    plain = cnnjax.from_sequence(hugging_face(), image="img", normalize="none", **given)
    assert plain.statistics is None and not counted
    both = [cnnjax.from_sequence(hugging_face(), image="img", **given) for _ in range(2)]
    assert len(counted) == 1 and both[0].fingerprint == both[1].fingerprint == plain.fingerprint
    assert both[0].statistics == both[1].statistics == transforms.measure(plain.splits["train"].images[:])


def test_a_version_spares_reading_images_that_do_not_stay_in_memory(cache):
    seen = []
    examples = Examples(lambda position: seen.append(position) or (PIXELS[position], int(NUMBERS[position])))
    first = cnnjax.from_sequence(examples, streaming=True, version="1")
    assert 40 + 32 < len(seen) < 40 + 32 + 8  # all, train for the statistics, and firsts of splits for their shapes
    seen.clear()
    again = cnnjax.from_sequence(examples, streaming=True, version="1")
    assert len(seen) < 8
    assert (again.fingerprint, again.statistics, whole(again)) == (first.fingerprint, first.statistics, whole(first))
    for change in ({"version": "2"}, {"resize": (4, 4)}, {"version": None}):
        seen.clear()
        cnnjax.from_sequence(examples, **{"streaming": True, "version": "1", **change})
        assert set(seen) == {*range(40)}
    for path in (cache / "cache" / "sequences").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    assert cnnjax.from_sequence(examples, streaming=True, version="1").fingerprint == first.fingerprint


def test_a_hugging_face_data_sets_own_fingerprint_is_its_version(cache):
    seen = []
    examples = Examples(lambda position: seen.append(position) or (PIXELS[position], int(NUMBERS[position])))
    examples._fingerprint = "a3f0"
    cnnjax.from_sequence(examples, streaming=True, normalize="none")
    for fingerprint, read in (("a3f0", False), ("b4", True)):
        examples._fingerprint = fingerprint
        seen.clear()
        cnnjax.from_sequence(examples, streaming=True, normalize="none")
        assert ({*seen} == {*range(40)}) == read


def test_grain_sources_lists_files_and_bytes(tmp_path):
    source = grain.MapDataset.source([(PIXELS[position], int(NUMBERS[position])) for position in range(40)])
    assert whole(cnnjax.from_sequence(source)) == expected(PIXELS, NUMBERS)
    for position in range(40):
        save_picture(tmp_path / f"{position}.png", seed=position)
    paths = [{"image": tmp_path / f"{position}.png", "label": "ab"[position % 2]} for position in range(40)]
    data = cnnjax.from_sequence(paths)
    assert data.image_shape == (8, 8, 3) and data.label_names == ("a", "b") and data.class_counts == [16, 16]
    encoded = [
        {"image": {"path": "no.png", "bytes": row["image"].read_bytes()}, "label": position % 2}
        for position, row in enumerate(paths)
    ]
    assert whole(cnnjax.from_sequence(encoded)) == whole(data)


def test_several_labels_places_and_maps_are_taken_by_name():
    rows = [
        {"x": PIXELS[position], "a": position / 2, "b": position, "map": PIXELS[position, ..., 0]}
        for position in range(20)
    ]
    data = cnnjax.from_sequence(rows, image="x", label=("a", "b"))
    assert whole(data) == expected(PIXELS[:20], np.stack([np.arange(20) / 2, np.arange(20)], 1))
    assert data.label_names == ("a", "b")
    assert cnnjax.from_sequence(rows, image="x", label="map").splits["train"].labels.shape == (16, 8, 6)
    triples = [(position, PIXELS[position], "ab"[position % 2]) for position in range(20)]
    assert whole(cnnjax.from_sequence(triples, image=1, label=2)) == expected(PIXELS[:20], np.arange(20) % 2)
    with pytest.raises(
        ValueError, match=r"train\[0\]: expected a pair \(image, label\), got 3 items: give the positions"
    ):
        cnnjax.from_sequence(triples)


BAD = {
    "no sequence": (
        lambda: iter([]),
        r"sequence, train: expected a data set of cnnjax.from_arrays, a sequence .* got list_iterator",
    ),
    "no index": (
        lambda: Examples(lambda position: {}[position]),
        r"train\[0\]: expected a sequence, .* Examples raises KeyError",
    ),
    "empty": (list, "sequence, train: the sequence is empty"),
    "no pairs": (lambda: [PIXELS[0]] * 9, r"train\[0\]: expected a mapping or a pair \(image, label\), got ndarray"),
    "random": (
        lambda: Examples(lambda position: (np.random.randint(0, 9, (4, 4, 1)), 0)),
        r"train\[0\] differs when it is read again: leave the sequence's random transforms out",
    ),
    "two sizes": (
        lambda: [(PIXELS[0][: 8 - position // 7], position % 2) for position in range(20)],
        r"train\[7\] is 7x6 and the first image 8x6: set dataset.resize",
    ),
    "two types": (
        lambda: [(PIXELS[0].astype(np.uint8 if position < 9 else np.float32), position % 2) for position in range(20)],
        r"train: 11 of 20 images cannot be read: sequence, train\[9\]: it holds float32",
    ),
    "colour among grey": (
        lambda: [
            (Image.fromarray(PIXELS[0] if position == 5 else PIXELS[0, ..., 0]), position % 2) for position in range(20)
        ],
        r"train\[5\]: it holds uint8, RGB, but the first image is grey: set dataset.color_space to 'grey' or 'rgb'",
    ),
    "not finite": (
        lambda: [(np.full((4, 4, 1), np.nan if position == 3 else 0.5), position % 2) for position in range(20)],
        r"train\[3\]: values that are not finite",
    ),
    "two kinds of label": (
        lambda: [(PIXELS[position], position if position < 9 else 0.5) for position in range(20)],
        r"train\[9\]: the label is float64 of shape \(\), the first int64 of \(\): give all labels one type",
    ),
    "objects": (
        lambda: [(PIXELS[0], {"boxes": 1})] * 9,
        r"train\[0\]: expected numbers or one text as label, got object",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_examples_are_named_by_position(case):
    make, line = BAD[case]
    with pytest.raises(ValueError, match=line) as caught:
        cnnjax.from_sequence(make())
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_left_out_if_asked():
    said = []
    examples = [(b"hello" if position == 3 else PIXELS[position], position % 2) for position in range(20)]
    data = cnnjax.from_sequence(examples, unreadable="skip", report=said.append)
    assert said[1] == "skipped 1 of 20 images of sequence, train that cannot be read: sequence, train[3]: not an image"
    assert whole(data) == expected(np.delete(PIXELS[:20], 3, 0), np.delete(np.arange(20) % 2, 3))


def same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, one.state, other.state)


def grain_examples(label=lambda position: int(NUMBERS[position])):
    return grain.MapDataset.range(40).map(lambda position: (PIXELS[position].astype(np.float32) / 9, label(position)))


def hugging_face_examples(label=lambda position: int(NUMBERS[position])):
    return hugging_face(lambda position: {"image": Image.fromarray(PIXELS[position]), "label": label(position)})


@pytest.mark.parametrize(
    ("make", "streaming"),
    [(torch_examples, False), (torch_examples, True), (hugging_face_examples, False), (grain_examples, False)],
)
def test_a_sequence_trains_resumes_to_the_same_bits_and_is_evaluated(tmp_path, make, streaming):
    config = {**CONFIG, "dataset": {"resize": (4, 4), "streaming": streaming, "examples_per_class": 8}}
    run = cnnjax.train(config, tmp_path / "whole", dataset=make())
    assert run.described["image_shape"] == [4, 4, 3] and run.described["class_counts"] == [8, 8, 8]
    short = {**config, "train": {**config["train"], "epochs": 1}}
    cnnjax.train(short, tmp_path / "part", dataset=make())
    same_bits(cnnjax.train(config, tmp_path / "part", dataset=make()), run)
    assert cnnjax.evaluate([run], dataset=make())["accuracy"] == run.metrics["test/accuracy"]
    if streaming:
        assert not write_report(run.workdir, dataset=make()).missing
    with pytest.raises(ValueError, match="has changed since the run began"):
        cnnjax.evaluate([run], dataset=make(label=lambda position: position % 2))


BUILDERS = """
import numpy as np

PIXELS = np.random.RandomState(0).randint(0, 256, (40, 8, 6, 3)).astype(np.uint8)

class Scans:
    def __init__(self, *, split_seed, unknown=3):
        self.turn = split_seed
    def __len__(self):
        return 40
    def __getitem__(self, position):
        return {"image": np.roll(PIXELS[position], self.turn, 0).astype(np.float32), "label": ["low", "high"][position % 2]}

def pair():
    return PIXELS, np.arange(40) % 2

def splits():
    return {"train": Scans(split_seed=0), "validation": Scans(split_seed=1)}

def three():
    return (Scans(split_seed=0), Scans(split_seed=1), Scans(split_seed=2))

def wrong():
    return {"train": Scans(split_seed=0), "other": Scans(split_seed=1)}
"""


@pytest.mark.parametrize(
    ("name", "counts"),
    [("Scans", (32, 4, 4)), ("pair", (32, 4, 4)), ("splits", (36, 40, 4)), ("three", (40, 40, 40))],
)
def test_a_function_by_reference_returns_any_of_them(tmp_path, name, counts):
    (tmp_path / "mine.py").write_text(BUILDERS)
    data = cnnjax.load_dataset({"name": "./mine.py:" + name, "split_seed": 2}, folder=tmp_path)
    assert tuple(len(split) for split in data.splits.values()) == counts and data.image_shape == (8, 6, 3)
    if name == "Scans":
        turned = np.roll(PIXELS, 2, 1).astype(np.float32)
        assert data.label_names == ("high", "low") and whole(data) == expected(turned, 1 - np.arange(40) % 2)
    with pytest.raises(ValueError, match="expected train, valid and test, got train, other"):
        cnnjax.load_dataset({"name": "./mine.py:wrong"}, folder=tmp_path)


@pytest.mark.slow
def test_a_sequence_by_reference_trains_resumes_and_predicts_in_another_process(tmp_path):
    (tmp_path / "mine.py").write_text(BUILDERS)
    config = {**CONFIG, "dataset": {"name": "./mine.py:Scans", "pad": (8, 8)}, "folder": str(tmp_path)}
    run = cnnjax.train(config, tmp_path / "whole")
    cnnjax.train({**config, "train": {**config["train"], "epochs": 1}}, tmp_path / "part")
    same_bits(cnnjax.train(config, tmp_path / "part"), run)
    images = cnnjax.load_dataset(run.config.dataset, folder=tmp_path).splits["test"].images
    np.save(tmp_path / "images.npy", images)
    code = (
        "import cnnjax, numpy, sys; from pathlib import Path\n"
        "folder = Path(sys.argv[1]); run = cnnjax.load_run(folder / 'whole')\n"
        "numpy.save(folder / 'found.npy', run.predict(list(numpy.load(folder / 'images.npy'))))\n"
        "print(cnnjax.evaluate([run])['accuracy'])"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == run.metrics["test/accuracy"]
    assert not write_report(run.workdir).missing
    np.testing.assert_allclose(
        np.load(tmp_path / "found.npy"), run.predict(list(images)), rtol=1e-6
    )  # one device, eight
