"""Label maps: read as numbers whatever their palette shows, and prepared to the pixel as their images are."""

import io

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import transforms
from cnnjax.data.map_files import MapContent, prepare_map

NUMBERS = np.random.RandomState(0).randint(0, 5, (6, 9)).astype(np.uint8)
PLAIN = transforms.TransformOptions()


def as_file(picture, form="PNG"):
    buffer = io.BytesIO()
    picture.save(buffer, form)
    return buffer.getvalue()


def with_palette(numbers):
    picture = Image.fromarray(numbers, "P")
    picture.putpalette([(37 * value + channel) % 256 for value in range(256) for channel in range(3)])
    return as_file(picture)


def prepared(content, options=PLAIN, values=None, image=None):
    image = Image.new("RGB", (9, 6)) if image is None else image
    return prepare_map(MapContent(content, "m.png", values), image, options)


@pytest.mark.parametrize(
    "content",
    [
        with_palette(NUMBERS),
        as_file(Image.fromarray(NUMBERS)),
        as_file(Image.fromarray(NUMBERS), "TIFF"),
        NUMBERS,
        NUMBERS[..., None],
    ],
    ids=["palette", "grey", "tiff", "array", "channel"],
)
def test_a_mask_is_read_as_numbers(content):
    found = prepared(content)
    np.testing.assert_array_equal(found, NUMBERS)
    assert found.dtype == np.uint8


def test_masks_of_more_bits_of_one_bit_and_of_numpy():
    wide = NUMBERS.astype(np.uint16) * 1000
    found = prepared(as_file(Image.fromarray(wide)))
    np.testing.assert_array_equal(found, wide)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(prepared(as_file(Image.fromarray(NUMBERS > 2))), NUMBERS > 2)
    buffer = io.BytesIO()
    np.save(buffer, NUMBERS > 2)
    np.testing.assert_array_equal(prepared(buffer.getvalue()), NUMBERS > 2)


def test_values_and_colours_are_numbered_and_others_ignored():
    np.testing.assert_array_equal(prepared(NUMBERS, values=(2, 1)), np.array([255, 1, 0, 255, 255])[NUMBERS])
    colours = ((64, 128, 64), (0, 128, 192), (192, 0, 128))
    shown = np.array([*colours, (0, 0, 0), (1, 2, 3)], np.uint8)[NUMBERS]
    found = prepared(as_file(Image.fromarray(shown)), values=colours)
    np.testing.assert_array_equal(found, np.array([0, 1, 2, 255, 255])[NUMBERS])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (as_file(Image.fromarray(NUMBERS), "JPEG"), "m.png: a JPEG, whose compression changes class numbers"),
        (as_file(Image.new("RGB", (9, 6))), "m.png: pixels of RGB: expected one class number per pixel"),
        (as_file(Image.new("RGBA", (9, 6))), "m.png: pixels of RGBA"),
        (as_file(Image.new("LA", (9, 6))), "m.png: pixels of grey with alpha"),
        (b"text", "m.png: not an image"),
        (with_palette(NUMBERS)[:60], "m.png: a damaged image"),
        (NUMBERS.astype(np.float32), "m.png: an array float32 of .6, 9.: expected integers"),
        (NUMBERS[:5], "m.png: the mask is 5x9 and its image 6x9: give them the same size"),
    ],
)
def test_files_that_are_not_maps_of_the_image_are_refused_in_a_line(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        prepared(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"resize": (12, 12)},
        {"resize": (12, 12), "resize_mode": "stretch"},
        {"resize": (12, 12), "resize_mode": "fit"},
        {"resize": (3, 4)},
        {"crop": (4, 5)},
        {"pad": (9, 12)},
        {"resize": (10, 10), "crop": (8, 6), "pad": (9, 9)},
    ],
)
def test_a_mask_lies_on_its_image_whatever_is_done_to_both(fields):
    """Blocks of one grey value stay in place: the image's value at a pixel is near the mask's, but at the blocks' borders."""
    blocks = np.kron(np.random.RandomState(1).randint(0, 4, (3, 3)), np.ones((20, 24), int)).astype(np.uint8)
    image = Image.fromarray(blocks * 60)
    fields = {
        name: tuple(8 * side for side in value) if name != "resize_mode" else value for name, value in fields.items()
    }
    options = transforms.TransformOptions(color_space="grey", **fields)
    pixels = transforms.prepare(image, options, 1)[..., 0]
    mask = prepared(blocks, options, image=image)
    assert mask.shape == pixels.shape
    inside = mask != 255
    if "pad" in fields or fields.get("resize_mode") == "fit":
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        assert not pixels[~inside].any() and inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    else:
        assert inside.all()
    near = np.abs(pixels[inside].astype(int) - 60 * mask[inside].astype(int)) <= 30
    assert near.mean() > (0.97 if options.resize is None or min(options.resize) > 60 else 0.85)


def test_a_crop_and_padding_are_exact():
    found = prepared(NUMBERS, transforms.TransformOptions(crop=(4, 5), pad=(6, 8)))
    np.testing.assert_array_equal(found, np.pad(NUMBERS[1:5, 2:7], ((1, 1), (1, 2)), constant_values=255))
