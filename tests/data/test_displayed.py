"""Stored images as a screen shows them, and a data set as a person sees it."""

import base64
import io
import re

import numpy as np
from PIL import Image

import cnnjax
from cnnjax.data.displayed import BACKGROUND, STRETCH, displayed
from cnnjax.data.transforms import Statistics


def test_pictures_of_8_bits_are_displayed_as_they_are():
    for channels in (1, 3):
        images = np.random.RandomState(0).randint(0, 256, (2, 4, 5, channels)).astype(np.uint8)
        np.testing.assert_array_equal(displayed(images), images)


def test_deep_images_are_stretched_about_their_mean():
    images = np.random.RandomState(0).normal(30000, 100, (3, 20, 20, 1)).round().astype(np.uint16)
    shown = displayed(images)
    assert shown.dtype == np.uint8 and abs(shown.mean() - 127.5) < 2
    np.testing.assert_allclose(shown.std(), 255 / (2 * STRETCH), rtol=0.05)
    stored = images.astype(np.int64)
    share = (stored - stored.mean()) / (2 * STRETCH * stored.std()) + 0.5
    np.testing.assert_array_equal(shown, (255 * share.clip(0, 1)).round())
    statistics = Statistics((30000.0,), (1e4,))
    assert np.ptp(displayed(images, statistics)) < 10  # on the scale of others


def test_colours_share_a_range_and_bands_have_each_their_own():
    red = np.stack([np.arange(100.0), np.zeros(100), np.zeros(100)], -1).reshape(1, 10, 10, 3).astype(np.float32)
    shown = displayed(red)
    assert (shown[..., 1] == shown[0, 0, 0, 1]).all() and shown[..., 0].max() > shown[..., 1].max()
    bands = np.random.RandomState(0).uniform(0, 1, (2, 6, 6, 6)).astype(np.float32) * 10.0 ** np.arange(
        6, dtype=np.float32
    )
    shown = displayed(bands)
    assert shown.shape == (2, 6, 6, 3) and (shown.std((0, 1, 2)) > 40).all()
    assert displayed(bands[..., :2]).shape == (2, 6, 6, 3)


def test_what_is_transparent_is_displayed_over_grey():
    images = np.zeros((1, 2, 2, 4), np.uint8)
    images[..., 0] = 200
    images[0, 0, :, 3] = 255
    shown = displayed(images)
    assert shown[0, 0, 0].tolist() == [200, 0, 0] and shown[0, 1, 0].tolist() == [BACKGROUND] * 3


def test_volumes_and_signals_are_displayed_as_pictures():
    volume = np.random.RandomState(0).randint(0, 256, (2, 5, 8, 9, 1)).astype(np.uint8)
    np.testing.assert_array_equal(displayed(volume), volume[:, 2])
    signal = np.random.RandomState(0).randint(0, 256, (2, 30, 4)).astype(np.uint8)
    shown = displayed(signal)
    assert shown.shape == (2, 32, 30, 1)
    np.testing.assert_array_equal(shown[:, ::8, :, 0], signal.transpose(0, 2, 1))


def test_a_constant_is_displayed_as_middle_grey():
    assert np.unique(displayed(np.full((1, 3, 3, 1), 7.5, np.float32))).tolist() == [128]


def test_a_data_set_is_a_line_and_a_card():
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (30, 8, 9, 3)).astype(np.uint8)
    labels = np.arange(30) % 3
    data = cnnjax.from_arrays(
        train=(images, labels),
        valid=(images[:6], labels[:6]),
        test=(images[6:9], labels[6:9]),
        label_names=["a<b", "b", "c"],
    )
    assert repr(data) == "Dataset('arrays': 30 train, 6 valid, 3 test, 3 classes, images 8x9x3 uint8)"
    assert repr(data.splits["test"]) == "Split(3 examples, images 8x9x3 uint8)"
    card = data._repr_html_()
    assert "3 classes: a&lt;b, b, c" in card and "10 to 10 training examples per class" in card
    pictures = [base64.b64decode(code) for code in re.findall(r"base64,([^\"]+)", card)]
    shown = [np.asarray(Image.open(io.BytesIO(picture))) for picture in pictures]
    np.testing.assert_array_equal(shown, images[:10])  # the first of each class, then the others in order


def test_the_card_of_numbers_masks_and_several_labels():
    rng = np.random.RandomState(0)
    signals = rng.normal(size=(20, 30, 2)).astype(np.float32)
    for targets, text in (
        (rng.normal(size=(20, 2)).astype(np.float32), "float32 2"),
        (rng.randint(0, 2, (20, 3)), "3 classes"),
        (rng.normal(size=(20, 4, 4)).astype(np.float32), "float32 4x4"),
    ):
        names = {"label_names": ["x", "y", "z"]} if targets.dtype.kind == "i" else {}
        data = cnnjax.from_arrays(train=(signals, targets), valid=(signals, targets), test=(signals, targets), **names)
        assert text in data._repr_html_() and repr(data).endswith("images 30x2 float32)")
