"""Turning digits as volumes, with time as an axis of the kernels, as channels, or left out.

python -m experiments.turning_digits [--scale smoke|small|laptop|full]

A volume shows an embedded digit in 12 frames of 16x16 pixels. The digit starts at a random angle, turns by 10 degrees in each of three
frames from a random time on, and then stops. The task is to tell which way it turns, which no single frame shows and which only a part
of the frames contains.
"""

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy import ndimage

import cnnjax
from cnnjax.data.datasets import Dataset
from experiments.study import COMMON, Scale, Study, main

FRAMES, TURNS, DEGREES = 12, 3, 10.0
WAYS = ("left", "right")
Volumes = UInt8[np.ndarray, "example frame height width 1"]


def volumes() -> Dataset:
    """Volumes (12, 16, 16, 1), whose spatial axes are frame, height and width."""
    return _dataset("turning digits", lambda frames: frames)


def frames_as_channels() -> Dataset:
    """Images (16, 16, 12), whose channels are the frames."""
    return _dataset("turning digits, frames as channels", lambda frames: np.moveaxis(frames[..., 0], 1, -1))


def one_frame() -> Dataset:
    """Images (16, 16, 1) of the first frame only."""
    return _dataset("turning digits, one frame", lambda frames: frames[:, 0])


def turned(
    image: UInt8[np.ndarray, "height width"], angles: Float[np.ndarray, "frame"]
) -> UInt8[np.ndarray, "frame height width 1"]:
    """An image at half its size, rotated by each of several angles in degrees."""
    small = image.reshape(16, 2, 16, 2).mean((1, 3))
    frames = [ndimage.rotate(small, angle, reshape=False, order=1) for angle in angles]
    return np.round(np.clip(frames, 0, 255)).astype(np.uint8)[..., None]


def _turning(split: str, images: UInt8[np.ndarray, "example 32 32 1"]) -> tuple[Volumes, Int[np.ndarray, "example"]]:
    """A volume for each image and its direction: half of the images turn each way, from a random angle and time."""
    generator = np.random.RandomState(["train", "valid", "test"].index(split))
    ways = generator.permutation(np.arange(len(images)) % 2)
    starts = generator.uniform(0, 360, (len(images), 1))
    begins = generator.randint(0, FRAMES - TURNS, (len(images), 1))
    turns = DEGREES * np.clip(np.arange(FRAMES) - begins, 0, TURNS)
    angles = starts + np.where(ways[:, None] == 0, turns, -turns)
    return np.stack([turned(image[..., 0], own) for image, own in zip(images, angles, strict=True)]), ways


def _dataset(name: str, seen) -> Dataset:
    splits = {}
    for split, part in cnnjax.load_dataset("digits").splits.items():
        frames, ways = _turning(split, part.images)
        splits[split] = seen(frames), ways
    return cnnjax.from_arrays(**splits, label_names=WAYS, name=name)


STUDY = Study(
    name="turning_digits",
    title="Which way does the digit turn?",
    question="Which way does the digit turn?",
    answer=(
        "With twelve frames as channels the network tells in 99.8 % of cases; kernels along the frames learn it "
        "in three of five seeds (91 to 99 %); a single frame is at chance."
    ),
    exercise="Reverse the order of the frames in the test set. What should the accuracy be, and is it?",
    config={
        **COMMON,
        "model": {"name": "pattern", "plan": "conv 8 pool | conv 16 pool | fc 32", "norm": "batch"},
        "optimizer": {"learning_rate": 0.02},
    },
    axes={
        "kernels over frame, height, width": {"dataset.name": "experiments.turning_digits:volumes"},
        "frames as channels": {"dataset.name": "experiments.turning_digits:frames_as_channels"},
        "one frame": {"dataset.name": "experiments.turning_digits:one_frame"},
    },
    scales={
        "smoke": Scale(
            "digits, 8 each way", {"dataset.examples_per_class": 8, "train.batch_size": 8, "train.epochs": 1}, 1
        ),
        "small": Scale(
            "digits, 100 each way",
            {"dataset.examples_per_class": 100, "train.batch_size": 16, "train.epochs": 20, "evaluate.every": 20},
            5,
        ),
        "laptop": Scale(
            "digits, 100 each way",
            {"dataset.examples_per_class": 100, "train.batch_size": 16, "train.epochs": 40, "evaluate.every": 40},
            12,
        ),
        "full": Scale("digits", {"train.batch_size": 32, "train.epochs": 60}, 20),
    },
    smallest=0.02,
    published={},
    seed_fields=("seed", "dataset.split_seed"),
    findings="""
With frames as channels the network reaches 99.8 % from 200 volumes, with 10,354 parameters. Kernels that also move along the frames
need 28,394 parameters and reach 79.8 %: three of the five seeds reach 91 to 99 %, the two others are still near chance after 20 epochs
(60 and 54 %; 64 and 51 % of the training volumes). Their standard deviation is therefore 21.3 points, and the interval of the
difference contains zero. The ensemble of the five reaches 99.2 %.

A single frame is at chance, 49.8 %, and memorises 86 % of its training images, since no frame tells which way the digit turns. A
convolution over channels compares all frames with each other at once, which is feasible for 12 frames. The advantage of kernels along
time, the same weights at every time, does not show at this length.
""",
)

if __name__ == "__main__":
    main(STUDY)
