import json

import numpy as np
import pytest
from PIL import Image

from experiments.benchmarks import measurement, photographs, readers, streaming
from experiments.benchmarks.measurement import Measured, ProcessError, Turn
from tests.experiments.benchmarks.test_measurement import job, signals

__all__ = ["signals"]  # a fixture


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory):
    """66 JPEGs cut from noise, which stands for scikit-image's photographs."""
    generator, context = np.random.RandomState(0), pytest.MonkeyPatch()
    noise = [Image.fromarray(generator.randint(0, 256, (400, 600, 3)).astype(np.uint8)) for _ in range(2)]
    with context.context() as patch:
        patch.setattr(photographs, "photographs", lambda: [("a", noise[0]), ("b", noise[1])])
        made = [photographs.folder_of_jpegs(tmp_path_factory.mktemp(name) / "made", 66) for name in ("one", "two")]
        assert photographs.folder_of_jpegs(made[0], 7) == made[0]
    files = [sorted(path for path in root.rglob("*.jpg")) for root in made]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    return made[0]


def test_the_jpegs_are_of_the_sizes_said_in_a_folder_for_each_photograph(jpegs):
    for split, count in {"train": 66, "validation": 2, "test": 2}.items():
        files = sorted((jpegs / split).rglob("*.jpg"))
        assert len(files) == count and {path.parent.name for path in files} == {"a", "b"}
        assert {photographs.size_of(path) for path in files} <= photographs.SIZES.keys()


@pytest.mark.parametrize("name", ["ours", "tfds", "grain", "bare"])
def test_every_reader_makes_an_epoch_of_whole_batches(name, jpegs, tmp_path):
    given = {"prepared": str(tmp_path)} if name == "tfds" else {}
    subject = getattr(readers, name)(str(jpegs), workers=2, **given)
    assert subject.parameters == 64
    subject.tasks["epoch"](2)


def test_random_boxes_lie_within_and_have_the_area_and_aspect_said():
    generator = np.random.default_rng(0)
    boxes = np.array([readers.random_box((500, 375), generator) for _ in range(500)])
    extents = boxes[:, 2:] - boxes[:, :2]
    assert (boxes >= 0).all() and (boxes[:, 2:] <= [500, 375]).all()
    shares = extents.prod(1) / (500 * 375)
    assert 0.05 < shares.min() < 0.12 and 0.75 < shares.max() <= 1
    assert 1.25 < (extents[:, 0] / extents[:, 1]).max() < 4 / 3 + 1e-9


def test_memory_is_of_the_process_and_its_children():
    with measurement.Worker("counter", job()) as worker:
        worker.run = lambda task, times, untimed: None
        assert streaming.peak_bytes(worker) > 1e6


def test_the_table_has_shares_of_the_limit_and_ratios_to_data_loader():
    seconds = {streaming.OURS: 2.0, streaming.LOADER: 4.0, streaming.LIMIT: 1.6}
    measured = {(name, 1): Measured([Turn(one, 0.0)]) for name, one in seconds.items()}
    table = streaming.table(measured, dict.fromkeys(measured, 2**20), 1000, ["A note."])
    assert list(table.rows[0]) == [streaming.OURS, "500 (500 to 500)", "0.80", "2.00", "failed", "", "", "1 / "]


def test_photographs_that_are_not_installed_are_one_line(monkeypatch):
    monkeypatch.setattr(photographs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"scikit-image's: pip install scikit-image"):
        photographs.photographs()


def test_competitors_that_read_differing_numbers_are_not_compared():
    subjects = {("one", 1): job(), ("two", 1): measurement.Job("tests.experiments.benchmarks.subjects:other", {})}
    with pytest.raises(ProcessError, match=r"differing numbers of images: \[7, 8\]"):
        streaming.compare(subjects, 1)


@pytest.mark.slow
def test_the_comparison_from_end_to_end(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    monkeypatch.setattr(measurement, "FOREIGN_LIMIT", 1.0)
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path))
    with pytest.raises(SystemExit, match="0"):
        streaming.main(["--images=64", "--rounds=1", "--torch-python=/nowhere", f"--json={tmp_path / 'out.json'}"])
    written = json.loads((tmp_path / "out.json").read_text())
    assert len(written["results"]) == 8 and not written["failures"]
    assert all(result["images_per_second"] > 0 and result["peak_bytes"] > 1e6 for result in written["results"])


def test_where_nothing_starts_it_is_said_why():
    with pytest.raises(ProcessError, match="no_such"):
        streaming.compare({("reader", 1): measurement.Job("tests.experiments.benchmarks.subjects:no_such", {})}, 1)
