import numpy as np
import pytest

import cnnjax
from cnnjax.data import roads


def test_the_label_is_the_curvature_of_the_arc_to_the_lane_ahead():
    """A circle through the car, along its axis there, and through the aimed place: its centre is at (r, 0)."""
    for offset, angle, curvature in ((0.0, 0.0, 0.01), (0.8, -0.05, -0.015), (-0.3, 0.1, 0.0)):
        aim = offset + 15 * angle + curvature * 112.5
        radius = 100 / roads.steering(offset, angle, curvature)
        np.testing.assert_allclose(np.hypot(aim - radius, 15), abs(radius))
    assert roads.steering(0.0, 0.0, 0.0) == 0
    assert roads.steering(0.5, 0.0, 0.0) > 0 > roads.steering(0.0, 0.0, -0.01)


def test_the_lines_are_where_the_camera_sees_them(monkeypatch):
    """Bright pixels of a plain picture, projected to the ground by the pinhole equations, lie on the lines and nowhere else."""

    class Plain(np.random.RandomState):
        def uniform(self, low=0.0, high=1.0, size=None):
            return np.add(low, high) / 2

        def randint(self, *_):
            return 0

        def normal(self, mean, deviation, size):
            return np.zeros(size)

    offset, angle, curvature = 0.4, 0.03, 0.008
    image = roads.picture(offset, angle, curvature, Plain(0)).astype(float)
    rows, columns = np.nonzero((image.min(-1) > 120) & (np.arange(66)[:, None] > 24))
    ahead = 0.6 * 200 * 1.3 / (rows + 0.5 - 66 * 0.25)
    side = (columns + 0.5 - 100) * ahead / 120
    lateral = side - (offset + angle * ahead + curvature * ahead**2 / 2)
    nearest = np.abs(lateral[:, None] - [-5.25, -1.75, 1.75]).min(-1)
    assert len(rows) > 100 and (nearest < 0.09 + ahead / 120).all()  # half a line, and a pixel
    for line in (-1.75, 1.75):
        assert (np.abs(lateral - line) < 0.3).sum() > 20


def test_roads_are_a_function_of_split_and_number():
    first, label = roads.draw_road("train", 3)
    again, same = roads.draw_road("train", 3)
    np.testing.assert_array_equal(first, again)
    assert label == same and first.shape == (66, 200, 3) and first.dtype == np.uint8
    assert label not in (roads.draw_road("test", 3)[1], roads.draw_road("train", 4)[1])


def test_roads_by_name(monkeypatch, tmp_path):
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(roads, "EXAMPLES", {"train": 6, "validation": 2, "test": 3})
    data = cnnjax.load_dataset("roads")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 6, "valid": 2, "test": 3}
    image, label = roads.draw_road("test", 1)
    np.testing.assert_array_equal(data.splits["test"].images[1], image)
    np.testing.assert_allclose(data.splits["test"].labels[1], [label], rtol=1e-6)
    with pytest.raises(ValueError, match="dataset.labels is for scenes and folders"):
        cnnjax.load_dataset({"name": "roads", "labels": "maps"})
    streamed = cnnjax.load_dataset({"name": "roads", "streaming": True}).splits["test"]
    np.testing.assert_array_equal(streamed.images[1], image)
