"""Figures: their texts are where they can be read."""

import itertools

import numpy as np

from cnnjax.analysis import pictures
from cnnjax.analysis.curves import plot_histories

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
