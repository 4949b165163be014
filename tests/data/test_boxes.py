"""Boxes are prepared as their images are."""

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import transforms
from cnnjax.data.boxes import CLASS, IGNORED, STATUS, BoxContent, are_boxes, as_rows, padded, prepare_boxes, present
from cnnjax.data.transforms import TransformOptions

ROWS, COLUMNS = 60, 100


def prepared(boxes, options, size=(ROWS, COLUMNS)):
    rows = as_rows(boxes, range(len(boxes)))
    return prepare_boxes(BoxContent(rows, "boxes.json", (ROWS, COLUMNS), 3), Image.new("L", size[::-1]), options)


@pytest.mark.parametrize(
    "options",
    [
        {"resize": (90, 200), "resize_mode": "stretch"},
        {"resize": (40, 40)},
        {"resize": (90, 90), "resize_mode": "fit"},
        {"resize": (60, 150), "resize_mode": "fit"},
        {"resize": (31, 90), "resize_mode": "fit", "pad": (40, 96)},
        {"resize": (120, 150), "crop": (100, 90), "pad": (111, 120)},
        {"crop": (50, 71), "pad": (64, 96)},
        {"pad": (64, 111)},
    ],
)
def test_boxes_are_placed_as_bright_rectangles_are(options):
    box = [40, 20, 64, 44]
    pixels = np.zeros((ROWS, COLUMNS, 1), np.uint8)
    pixels[20:44, 40:64] = 255
    options = TransformOptions(**options)
    seen = transforms.prepare(Image.fromarray(pixels[..., 0]), options, 1)[..., 0] > 127
    y, x = np.nonzero(seen)
    found = prepared([box], options)
    np.testing.assert_allclose(found[0, :4], [x.min(), y.min(), x.max() + 1, y.max() + 1], atol=0.51)
    assert found[:, CLASS].tolist() == [0, -1, -1] and found.dtype == np.float32


def test_what_a_crop_leaves_out_is_dropped_and_what_it_leaves_little_of_is_ignored():
    found = prepared([[0, 0, 30, 60], [0, 10, 60, 50], [10, 0, 32, 60]], TransformOptions(crop=(60, 40)))
    assert found[:, CLASS].tolist() == [1, 2, -1]  # columns 30 to 70 are left
    assert found[0].tolist() == [0, 10, 30, 50, 1, 0] and found[1].tolist() == [0, 0, 2, 60, 2, IGNORED]


def test_boxes_of_another_image_are_refused():
    with pytest.raises(ValueError, match=r"boxes\.json: the boxes are for an image of 60x100 and its image is 100x60"):
        prepared([[0, 0, 5, 5]], TransformOptions(), (COLUMNS, ROWS))


def test_of_more_objects_than_there_is_room_for_the_largest_are_kept_in_their_order():
    side = np.arange(1, 501)
    rows = as_rows(np.stack([side * 0, side * 0, side, side], 1), np.random.RandomState(0).permutation(500))
    shuffled = rows[np.random.RandomState(1).permutation(500)]
    kept = padded(shuffled, 100)
    assert kept.shape == (100, 6) and kept[:, 2].min() == 401 and present(kept).all()
    assert kept[:, CLASS].tolist() == [row[CLASS] for row in shuffled if row[2] > 400]


def test_rows_without_an_area_or_a_class_hold_no_object():
    rows = as_rows([[0, 0, 2, 2], [1, 1, 1, 4], [3, 3, 5, 2], [0, 0, 2, 2]], [0, 1, 2, -1])
    assert present(rows).tolist() == [True, False, False, False] and not rows[:, STATUS].any()
    assert are_boxes(rows[None]) and not are_boxes(rows) and not are_boxes(rows[None].astype(int))
