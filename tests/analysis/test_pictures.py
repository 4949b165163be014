"""Figures: their texts are where they can be read."""

import itertools

import numpy as np

from cnnjax.analysis import pictures
from cnnjax.analysis.curves import plot_histories
from cnnjax.data.transforms import Statistics

SIZES = [(32, 32), (20, 60), (60, 20), (32, 32), (32, 32), (8, 8), (32, 32), (40, 32)]


def test_captions_lie_beneath_their_images_and_beside_each_other():
    images = [np.full((*size, 1), 128, np.uint8) for size in SIZES]
    captions = [f"the shop's counterfeit {number}, taken for\nanother one, 9{number}.3 %" for number in range(8)]
    figure = pictures.plot_gallery(images, captions)
    figure.draw_without_rendering()
    shown = [axis.images[0].get_window_extent() for axis in figure.axes[:8]]
    texts = [axis.xaxis.label.get_window_extent() for axis in figure.axes[:8]]
    said = [" ".join(axis.get_xlabel().split()) for axis in figure.axes[:8]]
    assert said == [" ".join(caption.split()) for caption in captions]
    for text, image in itertools.product(texts, shown):
        assert not text.overlaps(image)
    for first, second in itertools.combinations(texts, 2):
        assert not first.overlaps(second)
    assert all(text.y0 >= 0 and text.x0 >= 0 and text.x1 <= figure.bbox.x1 for text in texts)


def test_epochs_are_whole_numbers_and_one_epochs_rate_is_seen():
    line = {name: 0.5 for name in ("train/loss", "valid/loss", "train/accuracy", "valid/accuracy", "learning_rate")}
    for epochs in (1, 3):
        figure = plot_histories({"run": [line | {"epoch": epoch + 1} for epoch in range(epochs)]})
        figure.draw_without_rendering()
        for axis in figure.axes:
            low, high = axis.get_xlim()
            marks = [place for place in axis.get_xticks() if low <= place <= high]
            assert marks == [*range(1, epochs + 1)]
            assert all((one.get_marker() == "o") == (epochs == 1) for one in axis.lines)


def test_pictures_of_8_bits_are_displayed_as_they_are():
    for channels in (1, 3):
        images = np.random.RandomState(0).randint(0, 256, (2, 4, 5, channels)).astype(np.uint8)
        np.testing.assert_array_equal(pictures.displayed(images), images)


def test_deep_images_are_stretched_about_their_mean():
    images = np.random.RandomState(0).normal(30000, 100, (3, 20, 20, 1)).round().astype(np.uint16)
    shown = pictures.displayed(images)
    assert shown.dtype == np.uint8 and abs(shown.mean() - 127.5) < 2
    np.testing.assert_allclose(shown.std(), 255 / (2 * pictures.STRETCH), rtol=0.05)
    stored = images.astype(np.int64)
    share = (stored - stored.mean()) / (2 * pictures.STRETCH * stored.std()) + 0.5
    np.testing.assert_array_equal(shown, (255 * share.clip(0, 1)).round())
    statistics = Statistics((30000.0,), (1e4,))
    assert np.ptp(pictures.displayed(images, statistics)) < 10  # on the scale of others


def test_colours_share_a_range_and_bands_have_each_their_own():
    red = np.stack([np.arange(100.0), np.zeros(100), np.zeros(100)], -1).reshape(1, 10, 10, 3).astype(np.float32)
    shown = pictures.displayed(red)
    assert (shown[..., 1] == shown[0, 0, 0, 1]).all() and shown[..., 0].max() > shown[..., 1].max()
    bands = np.random.RandomState(0).uniform(0, 1, (2, 6, 6, 6)).astype(np.float32) * 10.0 ** np.arange(
        6, dtype=np.float32
    )
    shown = pictures.displayed(bands)
    assert shown.shape == (2, 6, 6, 3) and (shown.std((0, 1, 2)) > 40).all()
    assert pictures.displayed(bands[..., :2]).shape == (2, 6, 6, 3)


def test_what_is_transparent_is_displayed_over_grey():
    images = np.zeros((1, 2, 2, 4), np.uint8)
    images[..., 0] = 200
    images[0, 0, :, 3] = 255
    shown = pictures.displayed(images)
    assert shown[0, 0, 0].tolist() == [200, 0, 0] and shown[0, 1, 0].tolist() == [pictures.BACKGROUND] * 3


def test_volumes_and_signals_are_displayed_as_pictures():
    volume = np.random.RandomState(0).randint(0, 256, (2, 5, 8, 9, 1)).astype(np.uint8)
    np.testing.assert_array_equal(pictures.displayed(volume), volume[:, 2])
    signal = np.random.RandomState(0).randint(0, 256, (2, 30, 4)).astype(np.uint8)
    shown = pictures.displayed(signal)
    assert shown.shape == (2, 32, 30, 1)
    np.testing.assert_array_equal(shown[:, ::8, :, 0], signal.transpose(0, 2, 1))


def test_a_constant_is_displayed_as_middle_grey():
    assert np.unique(pictures.displayed(np.full((1, 3, 3, 1), 7.5, np.float32))).tolist() == [128]
