"""Digits as images and as signals: the accuracy that a network loses if it convolves along only one axis.

python -m experiments.digit_signals [--scale smoke|small|laptop|full]

The signals are made from the embedded digits at 32x32: one position per column, with the column's 32 pixels as channels; or all 1,024
pixels in reading order with one channel; or these pixels in a random order, the same for every image (as in permuted MNIST, which Le
et al., 2015, used for recurrent networks).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

import cnnjax
from cnnjax.data.datasets import Dataset
from experiments.study import COMMON, Scale, Study, main

Images = UInt8[np.ndarray, "example height width 1"]


def columns() -> Dataset:
    """Signals of 32 positions, the columns from left to right; the pixels of a column are its channels."""
    return _signals("columns", lambda images: images[..., 0].swapaxes(1, 2))


def pixels() -> Dataset:
    """Signals of 1,024 positions and one channel: the pixels in reading order."""
    return _signals("pixels", lambda images: images.reshape(len(images), -1, 1))


def permuted_pixels() -> Dataset:
    """The signals of `pixels` with their positions in a random order."""
    order = np.random.RandomState(0).permutation(1024)
    return _signals("permuted pixels", lambda images: images.reshape(len(images), -1, 1)[:, order])


def _signals(name: str, signals: Callable[[Images], UInt8[np.ndarray, "example length channel"]]) -> Dataset:
    digits = cnnjax.load_dataset("digits")
    splits = {split: (signals(part.images), part.labels) for split, part in digits.splits.items()}
    return cnnjax.from_arrays(**splits, label_names=digits.label_names, name=name)


WIDE = {"model.kernel_size": 9, "model.strides": 2}
STUDY = Study(
    name="digit_signals",
    title="Digits as images and as signals",
    question="What does a digit lose as a signal?",
    answer=(
        "1.1 points [0.7, 1.6] of 98.3 % in reading order with the same number of parameters, 2.2 [1.3, 3.1] with "
        "columns as channels; permuted pixels are within the spread over seeds of the reading order."
    ),
    exercise=(
        "Read the digits column by column instead of row by row. Do you expect a difference, and what does the "
        "permuted variant say about it?"
    ),
    config={
        **COMMON,
        "model": {"name": "pattern", "plan": "conv 8 pool | conv 16 pool | conv 32 pool | fc 32"},
        "optimizer": {"learning_rate": 0.01},
    },
    axes={
        "images": {"dataset.name": "digits"},
        "columns as channels": {"dataset.name": "experiments.digit_signals:columns"},
        "pixels in reading order": {"dataset.name": "experiments.digit_signals:pixels"},
        "pixels in reading order, kernels of 9, stride 2": {"dataset.name": "experiments.digit_signals:pixels", **WIDE},
        "pixels permuted, kernels of 9, stride 2": {
            "dataset.name": "experiments.digit_signals:permuted_pixels",
            **WIDE,
        },
    },
    scales={
        "smoke": Scale(
            "digits, 8 per class", {"dataset.examples_per_class": 8, "train.batch_size": 16, "train.epochs": 1}, 1
        ),
        "small": Scale("digits", {"train.batch_size": 32, "train.epochs": 20, "evaluate.every": 20}, 5),
        "laptop": Scale("digits", {"train.batch_size": 32, "train.epochs": 20, "evaluate.every": 20}, 15),
        "full": Scale("digits", {"train.batch_size": 32, "train.epochs": 60}, 20),
    },
    smallest=0.005,
    published={},
    findings="""
Images, whose pixels keep their neighbours in both directions, are best: 98.3 %. With the same 22,634 parameters, kernels of 9 with
stride 2 on the 1,024 pixels in reading order lose 1.1 points (0.7 to 1.6 in the paired interval): the pixel below is 32 positions away,
and a value of the second convolution sees 43 positions. Columns as channels lose 2.2 points (1.3 to 3.1) with a third of the
parameters. Kernels of 3 with stride 1 leave 128 positions to the dense layer, which means six times the parameters, and vary most over
seeds (6.7 points of standard deviation); their difference from images, 5.1 points, has an interval that contains zero.

With the pixels in a random order, in which neighbours carry little information, the same network reaches 96.7 %, 0.4 points below the
reading order and within the spread over seeds. 1,298 enlarged digits of 8x8 pixels are an easy task, which the dense layers solve
without locality; they do not show the value of locality for photographs.
""",
)

if __name__ == "__main__":
    main(STUDY)
