import dataclasses

import pytest

from cnnjax.data import augment
from cnnjax.data.augment import AugmentOptions
from tests.data.augment.examples import EVERYTHING


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"augment.hue changes colours, and the images have 1 channel"):
        augment.check_channels(AugmentOptions(hue=0.1), 1)
    with pytest.raises(
        ValueError, match=r"augment.crop=\(40, 8\) is larger than the images, 32x32 with 2 pixels around"
    ):
        augment.output_shape((32, 32, 3), AugmentOptions(pad=2, crop=(40, 8)))
    assert augment.output_shape((32, 32, 3), AugmentOptions(pad=4, crop=(36, 32))) == (36, 32, 3)
    assert {field.name for field in dataclasses.fields(AugmentOptions)} >= {*EVERYTHING, "mixup", "cutmix"}
