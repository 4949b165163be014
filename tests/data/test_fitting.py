"""Pictures of any size, colour and brightness, made what a network takes."""

import io

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import fitting, transforms
from cnnjax.data.builders import digits
from cnnjax.data.catalogue import sample_image
from cnnjax.data.datasets import DatasetOptions, load_dataset
from cnnjax.data.transforms import Statistics

PHOTO = Image.fromarray(np.random.RandomState(0).randint(0, 256, (90, 120, 3)).astype(np.uint8))
RESIZED = "resized to {} by the shorter side and the central crop"
GREY = "converted from colour to grey (luminance)"


def fit(picture, shape, policy="auto", statistics=None, **options):
    return fitting.fit(picture, "photo.png", DatasetOptions(**options), shape, statistics, policy)


@pytest.mark.parametrize(
    ("options", "shape", "remarks"),
    [
        ({"name": "digits"}, (32, 32, 1), (GREY, RESIZED.format("32x32"))),
        ({"name": "cifar10"}, (32, 32, 3), (RESIZED.format("32x32"),)),
        # Fashion-MNIST's images are 28x28 before they are padded: so is the picture, and its border is black.
        ({"name": "fashion_mnist", "pad": (32, 32)}, (32, 32, 1), (GREY, RESIZED.format("28x28"))),
        ({"name": "mnist", "crop": (24, 24)}, (24, 24, 1), (GREY, RESIZED.format("28x28"))),
        # What the training does with every image needs no remark.
        ({"name": "./photos", "resize": (48, 64)}, (48, 64, 3), ()),
        ({"name": "./photos", "resize": (48, 64), "color_space": "grey"}, (48, 64, 1), ()),
        ({"name": "./photos", "crop": (60, 60)}, (60, 60, 3), ()),
        ({"name": "./photos", "crop": (100, 100)}, (100, 100, 3), (RESIZED.format("100x100"),)),
        ({"name": "./photos"}, (64, 64, 3), (RESIZED.format("64x64"),)),
    ],
)
def test_a_photo_fits_any_network(options, shape, remarks):
    fitted = fit(PHOTO, shape, **options)
    assert fitted.pixels.shape == shape and fitted.pixels.dtype == np.uint8 and fitted.remarks == remarks
    if any(remark.startswith("resized") for remark in remarks):
        with pytest.raises(
            ValueError, match=r"photo.png: the image is 90x120, the network takes \d+x\d+: resize it, or"
        ):
            fit(PHOTO, shape, "refuse", **options)
    else:
        np.testing.assert_array_equal(fit(PHOTO, shape, "refuse", **options).pixels, fitted.pixels)


def test_a_picture_that_was_turned_upright_is_remarked():
    stored, buffer, exif = PHOTO.crop((0, 0, 60, 40)), io.BytesIO(), Image.Exif()
    exif[274] = 8
    stored.save(buffer, "PNG", exif=exif)
    fitted = fit(transforms.decode(buffer.getvalue(), "photo.png"), (60, 40, 3), name="./photos")
    assert fitted.remarks == ("turned upright, as its EXIF orientation says",)
    np.testing.assert_array_equal(fitted.pixels, np.rot90(np.asarray(stored)))


def test_resizing_is_pillows_of_the_centre():
    """A photo 1.5 times as wide as high: its central square, by Pillow alone."""
    photo = PHOTO.resize((150, 100))
    expected = np.asarray(photo.resize((48, 32), Image.Resampling.BILINEAR).crop((8, 0, 40, 32)))
    np.testing.assert_array_equal(fit(photo, (32, 32, 3), name="cifar10").pixels, expected)
    padded = fit(photo, (32, 32, 1), name="fashion_mnist", pad=(32, 32)).pixels
    assert not padded[:2].any() and not padded[:, -2:].any() and padded[2:-2, 2:-2].any(-1).mean() > 0.9


def test_pictures_of_the_trainings_own_size_and_prepared_ones_are_left_alone():
    image = np.random.RandomState(1).randint(0, 256, (28, 28)).astype(np.uint8)
    options = {"name": "fashion_mnist", "pad": (32, 32)}
    raw = fit(Image.fromarray(image), (32, 32, 1), **options)
    np.testing.assert_array_equal(raw.pixels[..., 0], np.pad(image, 2))
    again = fit(Image.fromarray(raw.pixels[..., 0]), (32, 32, 1), **options)
    np.testing.assert_array_equal(again.pixels, raw.pixels)
    assert raw.remarks == again.remarks == ()
    as_colour = fit(Image.fromarray(np.repeat(raw.pixels, 3, -1)), (32, 32, 1), **options)
    np.testing.assert_array_equal(as_colour.pixels, raw.pixels)
    assert as_colour.remarks == ()


def test_brightness_that_no_training_image_has_is_remarked():
    statistics = Statistics((100.0,) * 3, (50.0,) * 3, (20.0, 20.0, 20.0), (200.0, 200.0, 90.5))
    image = np.full((32, 32, 3), 90, np.uint8)
    assert fit(Image.fromarray(image), (32, 32, 3), statistics=statistics, name="cifar10").remarks == ()
    image[..., 2] = 91
    (remark,) = fit(Image.fromarray(image), (32, 32, 3), statistics=statistics, name="cifar10").remarks
    assert remark.startswith("brighter than every training image in a channel (their means are 20 to 90 of 255)")
    (remark,) = fit(Image.fromarray(image // 9), (32, 32, 3), statistics=statistics, name="cifar10").remarks
    assert remark.startswith("darker than every")
    old = Statistics((100.0,) * 3, (50.0,) * 3)  # of a run that was trained before the range was recorded
    assert fit(Image.fromarray(image // 9), (32, 32, 3), statistics=old, name="cifar10").remarks == ()


def test_hardly_an_ordinary_digit_is_remarked_on_and_every_inverted_one_is():
    """2 / 1,299 of 355 are expected, half an image."""
    dataset = load_dataset(DatasetOptions())
    for images, expected in ((dataset.splits["test"].images, 1), (255 - dataset.splits["test"].images, 355)):
        remarks = [
            fit(Image.fromarray(image[..., 0]), (32, 32, 1), statistics=dataset.statistics).remarks for image in images
        ]
        assert sum(map(bool, remarks)) == expected
        assert len(fitting.summarize([("", own) for own in remarks])) == (expected > 1)  # one of 355 is left unsaid


def test_an_empty_picture_is_refused_by_name():
    with pytest.raises(ValueError, match="photo.png: an empty image, 0x5"):
        fit(Image.new("L", (5, 0)), (32, 32, 1))


def test_the_sample_is_a_test_digit_enlarged():
    images, labels = digits.read_digits()
    test = digits.is_test(labels)
    with Image.open(sample_image("digits")) as sample:
        assert sample.size == (128, 128) and test[33] and labels[33] == 5
        grey = Image.fromarray(np.round(images[33] * (255 / 16)).astype(np.uint8))
        np.testing.assert_array_equal(
            np.asarray(sample), np.asarray(grey.resize((128, 128), Image.Resampling.BILINEAR))
        )
        small = transforms.resize(sample, (32, 32), "crop")
    test = load_dataset(DatasetOptions()).splits["test"]
    likeness = [np.corrcoef(np.asarray(small).ravel(), image.ravel())[0, 1] for image in test.images.astype(float)]
    assert max(likeness) > 0.98 and test.labels[np.argmax(likeness)] == 5
    assert sample_image("mnist") is None and sample_image("./photos") is None
