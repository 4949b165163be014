"""Pictures of a page: a photograph is JPEG where that halves it, all else keeps its pixels."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cnnjax.core.html import picture_uri


def photograph(side):
    """Soft blobs in three colours with a little noise."""
    generator = np.random.default_rng(0)
    small = Image.fromarray(generator.integers(0, 256, (6, 6, 3), np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    return (np.asarray(small, int) + generator.integers(-4, 5, (side, side, 3))).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "kind"),
    [
        (photograph(96), "jpeg"),
        (photograph(24), "png"),  # small
        (photograph(96)[..., :1], "png"),  # grey
        (np.zeros((96, 96, 3), np.uint8), "png"),  # of one colour
    ],
)
def test_a_picture_can_be_read_again(pixels, kind):
    head, _, content = picture_uri(pixels).partition(",")
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).reshape(pixels.shape)
    assert head == f"data:image/{kind};base64"
    assert np.abs(found.astype(int) - pixels).mean() < (4 if kind == "jpeg" else 1e-9)
