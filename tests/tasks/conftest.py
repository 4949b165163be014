"""Digits with other targets than their class: three labels each, and two numbers; a small run of each."""

import numpy as np
import pytest

import cnnjax
from cnnjax.data.datasets import DatasetOptions, load_dataset

LABELS = ("large", "even", "prime")
NUMBERS = ("ink", "digit")
# Sizes that neither the batches nor the devices divide.
SIZES = {"train": 410, "valid": 101, "test": 103}


def three_labels(digits):
    """Whether a digit is at least 5, even, prime."""
    return np.stack([digits >= 5, digits % 2 == 0, np.isin(digits, (2, 3, 5, 7))], -1).astype(np.float32)


def two_numbers(images, digits):
    """The share of a digit's pixels that are ink, and the digit, in tenths."""
    return np.stack([(images > 64).mean((1, 2, 3)), digits / 10], -1).astype(np.float32)


def digits_with(targets, label_names):
    """The first digits of each split as a data set of arrays, with targets of images and classes."""
    splits = load_dataset(DatasetOptions()).splits
    parts = {name: (splits[name].images[:size], splits[name].labels[:size]) for name, size in SIZES.items()}
    return cnnjax.from_arrays(**{n: (x, targets(x, y)) for n, (x, y) in parts.items()}, label_names=label_names)


@pytest.fixture(scope="session")
def labelled_digits():
    return digits_with(lambda images, digits: three_labels(digits), LABELS)


@pytest.fixture(scope="session")
def numbered_digits():
    return digits_with(two_numbers, NUMBERS)


@pytest.fixture(scope="session")
def task_config():
    """Task -> a small network on it: 2 epochs of 41 steps, saved every 30."""

    def config(task):
        return {
            "task": {"name": task},
            "devices": 1,
            "log": {"progress": "off", "tensorboard": False},
            "checkpoint": {"every_steps": 30},
            "model": {"name": "mlp", "features": (24,), "dropout_rate": 0.1},
            "optimizer": {"learning_rate": 0.02},
            "train": {"batch_size": 10, "epochs": 2},
            "evaluate": {"batch_size": 52},  # one program for both splits
        }

    return config


@pytest.fixture(scope="session")
def multilabel_run(labelled_digits, task_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("tasks") / "multilabel"
    return cnnjax.train(task_config("multilabel"), workdir, dataset=labelled_digits)


@pytest.fixture(scope="session")
def regression_run(numbered_digits, task_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("tasks") / "regression"
    return cnnjax.train(task_config("regression"), workdir, dataset=numbered_digits)


@pytest.fixture
def digit_files(tmp_path):
    """Five test digits as files of a folder, and their pixels."""
    from PIL import Image

    images = load_dataset(DatasetOptions()).splits["test"].images[:5]
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[..., 0]).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures", images
