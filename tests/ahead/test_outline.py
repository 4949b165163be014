"""Outlines of data sets against the data sets themselves."""

import numpy as np
import pytest

from cnnjax.ahead.outline import outline
from cnnjax.config import load_config
from cnnjax.data.datasets import load_dataset


def test_it_is_that_of_the_data_set():
    config = load_config("quickstart")
    ahead, loaded = outline(config), load_dataset(config.dataset)
    assert (ahead.image_shape, ahead.image_dtype) == (loaded.image_shape, loaded.image_dtype)
    assert len(ahead.label_names) == len(loaded.label_names)
    train = loaded.splits["train"].labels
    assert (
        ahead.splits["train"].labels[:1].shape == train[:1].shape and ahead.splits["train"].labels.dtype == train.dtype
    )


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("mnist_lenet5", (32, 32, 1), 10),
        ("imagenet_resnet50", (256, 256, 3), 1000),
        ("cifar10_resnet20", (32, 32, 3), 10),
    ],
)
def test_images_are_prepared_as_the_config_says(name, shape, classes):
    ahead = outline(load_config(name))
    assert ahead.image_shape == shape and len(ahead.label_names) == classes
    assert np.shares_memory(ahead.splits["train"].images[0], ahead.splits["train"].images[1])  # it holds one value


def test_maps_of_classes_have_the_size_of_their_images():
    ahead = outline(load_config("digit_scenes_unet"))
    assert ahead.splits["train"].labels.shape[1:] == ahead.image_shape[:-1]


def test_what_is_not_in_the_catalogue_is_given():
    config = load_config({"dataset": {"name": "./photographs"}})
    with pytest.raises(ValueError, match="give --input H,W,C and --classes N"):
        outline(config)
    ahead = outline(config, (64, 48, 3), 5)
    assert ahead.image_shape == (64, 48, 3) and len(ahead.label_names) == 5
    with pytest.raises(ValueError, match="set dataset.resize, or give --input"):
        outline(load_config({"dataset": {"name": "imagenet2012", "resize": None}}))
