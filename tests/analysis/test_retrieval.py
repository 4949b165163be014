"""The nearest images: against distances worked out one by one, and what cannot be searched."""

import dataclasses
import json
import logging
import shutil

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import cnnjax
from cnnjax import analysis
from cnnjax.analysis import retrieval
from cnnjax.data.datasets import DatasetOptions
from experiments import retrieval as study
from tests.commands.shell import run


@pytest.fixture(scope="module")
def digits():
    return cnnjax.load_dataset(DatasetOptions()).splits["test"]


@pytest.fixture(scope="module")
def index(finished_run):
    return analysis.build_index(finished_run, "test")


@pytest.fixture
def folder(tmp_path, digits):
    """Six test digits as files: three in folders of their class, three elsewhere."""
    for position, where in enumerate(
        [str(digits.labels[0]), str(digits.labels[1]), str(digits.labels[2]), "other", "other", "."]
    ):
        path = tmp_path / "pictures" / where / f"{position}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[position, ..., 0]).save(path)
    return tmp_path / "pictures"


def one_by_one(queries, features, metric):
    a, b = queries[:, None].astype(np.float64), features[None].astype(np.float64)
    if metric == "euclidean":
        return np.sqrt(((a - b) ** 2).sum(-1))
    return 1 - (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(["cosine", "euclidean"]), st.sampled_from([8, 16, 8192]), st.booleans())
def test_the_nearest_are_those_of_all_distances(seed, metric, block, among_themselves):
    generator = np.random.RandomState(seed)
    features = generator.normal(3, 1, (37, 5)).astype(np.float32)
    queries = features if among_themselves else generator.normal(3, 1, (11, 5)).astype(np.float32)
    own = np.arange(37) if among_themselves else None
    distances, positions = analysis.nearest(queries, features, 9, metric, own, block)
    expected = one_by_one(queries, features, metric)
    if among_themselves:
        np.fill_diagonal(expected, np.inf)
    np.testing.assert_allclose(distances, np.sort(expected, 1)[:, :9], rtol=1e-3, atol=2e-6)
    np.testing.assert_allclose(distances, np.take_along_axis(expected, positions, 1), rtol=1e-3, atol=2e-6)
    assert all(len(set(row)) == 9 for row in positions.tolist())


def test_equal_distances_zeros_and_far_offsets():
    distances, positions = analysis.nearest(
        np.ones((1, 2), np.float32), np.array([[2, 2], [1, 0], [0, 0], [0, 1], [3, 3]], np.float32), 5, "cosine"
    )
    assert positions[0].tolist() == [0, 4, 1, 3, 2]
    np.testing.assert_allclose(distances[0], [0, 0, 1 - np.sqrt(0.5), 1 - np.sqrt(0.5), 1], atol=1e-6)
    # Far from the origin |q|^2 - 2 q.p + |p|^2 alone would lose all digits.
    far = np.float32(30_000) + np.arange(6, dtype=np.float32)[:, None] * np.ones((1, 8), np.float32)
    distances, positions = analysis.nearest(far[2:3], far, 3, "euclidean")
    assert positions[0].tolist() == [2, 1, 3]
    np.testing.assert_allclose(distances[0], [0, np.sqrt(8), np.sqrt(8)], rtol=1e-6)


def test_precision_worked_out_by_hand():
    features, labels = np.array([[0.0], [1.0], [1.5], [9.0]], np.float32), np.array([0, 0, 1, 1])
    # nearest two of the others: {1, 2} {2, 0} {1, 0} {2, 1}; right: 1, 1, 0, 1 of two
    assert analysis.precision_at_k(features, labels, 2, "euclidean") == 3 / 8
    assert analysis.precision_at_k(features, labels, 1, "euclidean") == 2 / 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k=0: 4 images can be found: choose 1 to 4"),
        ({"k": 4, "leave_out": np.arange(4)}, "k=4: 3 images can be found"),
        ({"k": 1, "metric": "cosin"}, "unknown metric 'cosin': did you mean 'cosine'"),
    ],
)
def test_a_search_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        analysis.nearest(np.eye(4), np.eye(4), **settings)
    with pytest.raises(ValueError, match="queries have 3 features, images 4"):
        analysis.nearest(np.eye(3), np.eye(4), 1)


def test_vectors_are_what_the_last_layer_takes_in(finished_run, digits):
    vectors = finished_run.vectors(digits.images[:50])
    hidden = finished_run.features(digits.images[:50], "hidden1")
    np.testing.assert_array_equal(vectors, np.maximum(hidden, 0))
    np.testing.assert_array_equal(finished_run.vectors(digits.images[:50], "hidden1"), hidden)


def test_maps_are_averaged_over_their_positions(finished_run, digits):
    model = cnnjax.create_model("lenet5", 10)
    variables = model.init(jax.random.key(0), np.zeros((1, 32, 32, 1)))
    state = finished_run.selected.replace(params=variables["params"], batch_stats={})
    network = dataclasses.replace(finished_run, model=model, selected=state)
    maps = network.features(digits.images[:5], "c3")
    assert maps.shape == (5, 10, 10, 16)
    np.testing.assert_allclose(network.vectors(digits.images[:5], "c3"), maps.mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_an_image_of_the_index_finds_itself(index, finished_run, digits):
    assert len(index) == 355 and index.features.shape == (355, 32)
    for position in (0, 17):
        first, *others = analysis.similar(index, digits.images[position], 5, finished_run)
        assert (first.position, first.name) == (position, f"test[{position}]")
        assert first.label == str(digits.labels[position]) and first.distance < 1e-6
        distances = [neighbour.distance for neighbour in others]
        assert distances == sorted(distances) and distances[0] > 0


def test_a_folder_of_images(finished_run, folder, index, tmp_path):
    found = analysis.build_index(finished_run.workdir, folder, metric="euclidean")
    assert len(found) == 6
    by_name = dict(zip(found.names, zip(found.labels, found.features, strict=True), strict=True))
    for name, (label, features) in by_name.items():
        position = int(name.split("/")[-1].removesuffix(".png"))
        np.testing.assert_allclose(features, index.features[position], rtol=1e-5, atol=1e-6)
        assert label == (index.labels[position] if position < 3 else "")
    figure = analysis.plot_similar(found, folder / "5.png", analysis.similar(found, folder / "5.png", 3), finished_run)
    assert [axis.get_xlabel().split("\n")[0] for axis in figure.axes[:2]] == ["query", "5.png"]
    assert len(analysis.similar(found, folder / "5.png", run=finished_run)) == 6  # all of an index of fewer than ten
    (folder / "5.png").rename(folder / "6.png")
    with pytest.raises(FileNotFoundError, match="5.png has been moved since the index was built"):
        analysis.plot_similar(found, folder / "6.png", analysis.similar(found, folder / "6.png", 3), finished_run)


def test_files_that_cannot_be_indexed_are_named(finished_run, folder, caplog):
    (folder / "other" / "bad.png").write_bytes(b"nothing")
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(folder / "small.png")
    with pytest.raises(ValueError, match="1 of 8 files cannot be indexed: .*bad.png: not an image"):
        analysis.build_index(finished_run, folder)
    with caplog.at_level(logging.WARNING):
        assert len(analysis.build_index(finished_run, folder, skip_unreadable=True)) == 7
    resized, dark = [record.message for record in caplog.records][-2:]
    assert resized.startswith("1 of 7 images (the first: ") and "small.png): resized to 32x32" in resized
    assert "darker than every training image" in dark


def test_an_index_that_was_saved_is_the_index(index, tmp_path):
    analysis.save_index(index, tmp_path / "index.npz")
    read = analysis.load_index(tmp_path / "index.npz", trusted=True)
    for field in dataclasses.fields(index):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(index, field.name))


def test_an_index_from_a_stranger_reads_only_below_its_own_folder(finished_run, folder, tmp_path):
    def stranger(index):
        """As it was packed: beside its own files, and naming whatever it likes."""
        path = tmp_path / "theirs" / "index.npz"
        path.parent.mkdir(exist_ok=True)
        analysis.save_index(index, path)
        return path

    own = analysis.build_index(finished_run, folder)
    path = stranger(own)
    query = folder / "5.png"
    with pytest.raises(
        ValueError, match="refers to .*finished, outside its own folder .*theirs.*--workdir, or .*--trusted"
    ):
        analysis.similar(analysis.load_index(path), query, 2)
    found = analysis.similar(analysis.load_index(path), query, 2, finished_run)
    with pytest.raises(ValueError, match="refers to .*5.png, outside its own folder .*theirs"):
        analysis.plot_similar(analysis.load_index(path), query, found, finished_run)
    analysis.plot_similar(analysis.load_index(path, trusted=True), query, found, finished_run)
    # Within its folder by its words alone: through a parent, or a link.
    (tmp_path / "theirs" / "link").symlink_to(folder)
    for names in (("../pictures/5.png",), ("link/5.png",)):
        packed = dataclasses.replace(
            own, features=own.features[:1], names=names, labels=("",), folder=tmp_path / "theirs"
        )
        index = analysis.load_index(stranger(packed))
        with pytest.raises(ValueError, match="5.png, outside its own folder"):
            analysis.plot_similar(index, query, analysis.similar(index, query, 1, finished_run), finished_run)
    shutil.copy(folder / "5.png", tmp_path / "theirs")
    index = analysis.load_index(stranger(dataclasses.replace(packed, names=("5.png",))))
    analysis.plot_similar(index, query, analysis.similar(index, query, 1, finished_run), finished_run)


def test_a_file_that_is_not_an_index_is_named(index, tmp_path):
    path = tmp_path / "index.npz"
    with pytest.raises(FileNotFoundError, match="this index does not exist"):
        analysis.load_index(path)
    with pytest.raises(ValueError, match="expected a name that ends in .npz"):
        analysis.save_index(index, tmp_path / "index.bin")
    analysis.save_index(index, path)
    whole = path.read_bytes()
    arrays = dict(np.load(path))
    contents = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"not an archive",
        "flipped": whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:],
    }
    for content in contents.values():
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not an index, or is damaged .*make it again with `cnnjax index`"):
            analysis.load_index(path)
    np.savez(path, features=arrays["features"][1:], about=arrays["about"])
    with pytest.raises(ValueError, match="its parts are of different lengths"):
        analysis.load_index(path)
    about = json.loads(arrays["about"].tobytes()) | {"version": 99}
    np.savez(path, features=arrays["features"], about=np.frombuffer(json.dumps(about).encode(), np.uint8))
    with pytest.raises(ValueError, match="an index of version 99, expected 1"):
        analysis.load_index(path)


def test_a_run_that_was_moved_or_trained_anew_is_noticed(index, finished_run, digits):
    image = digits.images[0]
    gone = dataclasses.replace(index, run=index.run / "elsewhere")
    with pytest.raises(FileNotFoundError, match="no longer in .*elsewhere"):
        analysis.similar(gone, image)
    assert analysis.similar(gone, image, 1, finished_run)[0].position == 0
    params = jax.tree.map(np.array, finished_run.selected.params)
    params["output"]["bias"][3] = np.nextafter(params["output"]["bias"][3], np.float32(9))
    other = dataclasses.replace(finished_run, selected=finished_run.selected.replace(params=params))
    with pytest.raises(ValueError, match="are not those with which the index was built"):
        analysis.similar(index, image, run=other)


def test_an_approximate_index_finds_most_of_the_nearest(finished_run, digits, tmp_path):
    faiss = pytest.importorskip("faiss")
    generator = np.random.RandomState(0)
    features = np.maximum(generator.normal(size=(4000, 8)) @ generator.normal(size=(8, 64)), 0).astype(np.float32)
    for metric in ("cosine", "euclidean"):
        graph = faiss.deserialize_index(retrieval.build_graph(features, metric))
        exact = analysis.nearest(features[:300], features, 10, metric)
        distances, positions = retrieval.nearest_in_graph(features[:300], graph, 10, metric)
        recall = np.mean([len({*a} & {*b}) / 10 for a, b in zip(exact[1].tolist(), positions.tolist(), strict=True)])
        assert recall > 0.97
        np.testing.assert_allclose(distances[:, 0], 0, atol=1e-3)
    approximate = analysis.build_index(finished_run, "test", approximate=True)
    analysis.save_index(approximate, tmp_path / "index.npz")
    found = analysis.similar(analysis.load_index(tmp_path / "index.npz"), digits.images[3], 4, finished_run)
    assert found[0].position == 3 and len(found) == 4


def test_from_the_shell(capsys, finished_run, folder, tmp_path):
    path = tmp_path / "index.npz"
    code, out, _ = run(capsys, "index", finished_run.workdir, "test", "--out", path)
    assert code == 0 and out == [f"355 images with 32 features each: {path}", f"next: cnnjax similar {path} IMAGE"]
    refused = run(capsys, "similar", path, folder / "5.png")
    assert refused[0] == 1 and "outside its own folder" in refused[2][0]
    code, out, _ = run(
        capsys, "similar", path, folder / "5.png", "--topk", 3, "--out", tmp_path / "found.png", "--trusted"
    )
    assert code == 0 and out[0].split("\t") == ["", "cosine distance", "class", "image"]
    assert out[1].split("\t")[::3] == ["1", "test[5]"] and len(out) == 5
    with Image.open(tmp_path / "found.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_from_the_shell_what_was_skipped_is_said_and_nothing_that_a_terminal_obeys(
    capsys, finished_run, folder, tmp_path
):
    (folder / "\x1b]0;mine\x07.png").write_bytes(b"nothing")
    (folder / "5.png").rename(folder / "\x1b[31m\n5.png")
    path = folder.parent / "index.npz"
    code, out, err = run(capsys, "index", finished_run.workdir, folder, "--skip-unreadable", "--out", path)
    assert code == 0 and len(out) == 2 and len(err) == 1
    assert err[0].startswith("cnnjax: 1 of 7 files cannot be indexed: ") and r"\x1b]0;mine\x07.png" in err[0]
    code, out, _ = run(
        capsys, "similar", path, folder / "other" / "3.png", "--workdir", finished_run.workdir, "--topk", 6
    )
    assert code == 0 and r"\x1b[31m\n5.png" in {line.split("\t")[3] for line in out}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index", "RUN", "tset"], "tset: expected a folder of images, or a split: train, valid or test"),
        (["index", "RUN", "EMPTY"], "has no images"),
        (["index", "RUN", "test", "--layer", "hiden1"], "unknown layer 'hiden1': did you mean 'hidden1'"),
        (["index", "nowhere", "test"], "nowhere holds no run"),
        (["index", "RUN", "test", "--out", "nowhere/index.npz"], "there is no folder nowhere"),
        (["similar", "nothing.npz", "x.png"], "nothing.npz: this index does not exist"),
        (["similar", "INDEX", "SMALL"], "outside its own folder"),
        (["similar", "INDEX", "nothing.png", "--trusted"], "nothing.png does not exist"),
        (["similar", "INDEX", "SMALL", "--topk", "356", "--trusted"], "topk=356: the index has 355 images"),
        (["similar", "INDEX", "SMALL", "--out", "x.jpg"], "expected a name that ends in .png"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, tmp_path, monkeypatch, finished_run, index, arguments, message):
    (tmp_path / "empty").mkdir()
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "small.png")
    analysis.save_index(index, tmp_path / "saved.npz")
    monkeypatch.chdir(tmp_path)
    places = {"RUN": finished_run.workdir, "EMPTY": "empty", "INDEX": "saved.npz", "SMALL": "small.png"}
    code, _, err = run(capsys, *(places.get(argument, argument) for argument in arguments))
    assert code == 1 and len(err) == 1, err
    assert err[0].startswith("cnnjax: ") and message in err[0]
    assert not (tmp_path / "index.npz").exists()


def test_the_study_compares_the_run_as_it_was_drawn(finished_run, digits):
    drawn = study.as_drawn(finished_run)
    assert retrieval.fingerprint(drawn) == retrieval.fingerprint(study.as_drawn(finished_run))
    assert retrieval.fingerprint(drawn) != retrieval.fingerprint(finished_run)
    found = study.precisions(finished_run, digits)
    assert found["trained"]["cosine"] > found["untrained"]["cosine"]
    assert study.markdown(found).splitlines()[2].startswith("| trained | 0.")
