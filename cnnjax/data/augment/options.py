"""The options of augmentation: the config's `augment` section, the operations behind them, and what these need of the images.

A new operation is a function (image, key, strength) -> image in `colour` or `occlusion`, and a field of `AugmentOptions` that
names it by an `Operation`. Operations are applied in the order of their fields.
"""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Array, Float, Key

from cnnjax.core.options import between, fraction
from cnnjax.data.augment import colour, occlusion
from cnnjax.data.augment.randaugment import randaugment

Image = Float[Array, "height width channel"]


@dataclasses.dataclass(frozen=True)
class Operation:
    """Marks an option as the strength of a random operation that leaves pixels in their places.

    Attributes:
      apply: (image, key, the option's value) -> image.
      of_bytes: whether strength and limits are those of values from 0 to 255.
      of_colours: whether images must have three channels.
    """

    apply: Callable[[Image, Key[Array, ""], Any], Image]
    of_bytes: bool = True
    of_colours: bool = False


def _area(area: tuple[float, float]) -> str | None:
    return None if 0 < area[0] <= area[1] <= 1 else "two shares between 0 and 1, the smaller first"


_probability = between(0, 1)
# No picture here is larger, and float32 tells a pixel's parts apart up to there.
_pixels = between(0, 2**14)
# Of brightness, contrast and the like: beyond 255 any image is black and white.
_strength = between(0, 255)


def _share_of_circle(share: float) -> str | None:
    return None if 0 <= share <= 0.5 else "a share of 0 to 0.5"


def _size(size: tuple[int, int]) -> str | None:
    return None if min(size) > 0 and not any(map(_pixels, size)) else "a height and a width of 1 to 16,384"


def _operations(value: tuple[int, float]) -> str | None:
    good = between(1, 100)(value[0]) is None and between(0, 30)(value[1]) is None
    return None if good else "1 to 100 operations, a magnitude of 0 to 30"


def _alpha(value: float) -> str | None:
    return None if value == 0 or between(1e-3, 1e3)(value) is None else "0 (off), or 0.001 to 1,000"


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """The config's `augment` section: what is done to training images; everything is off by default."""

    pad: Annotated[int, "pixels put around the image before the crop", _pixels] = 0
    crop: Annotated[
        tuple[int, int] | None,
        "height and width of a random crop in training, and of the central one in evaluation; None is the image's",
        _size,
    ] = None
    resized_crop: Annotated[
        tuple[float, float] | None,
        "least and greatest share of the area of a random part, of aspect 3/4 to 4/3, resized to `crop` or the image's size",
        _area,
    ] = None
    rotation: Annotated[float, "the greatest angle in degrees, either way", between(0, 180)] = 0.0
    shift: Annotated[float, "the greatest distance in pixels along each axis", _pixels] = 0.0
    stretch: Annotated[float, "each axis by a factor of 1 - s to 1 + s", fraction] = 0.0
    shear: Annotated[float, "the greatest angle in degrees, either way", between(0, 89)] = 0.0
    elastic: Annotated[float, "strength of elastic deformation in pixels (Simard et al., 2003)", _pixels] = 0.0
    elastic_smoothness: Annotated[float, "standard deviation of its smoothing in pixels", _pixels] = 4.0
    fill: Annotated[Literal["zero", "edge", "reflect"], "what lies outside the image"] = "zero"
    flip_horizontal: Annotated[bool, "left and right, half of the time (not for digits and signs)"] = False
    flip_vertical: Annotated[bool, "above and below, half of the time"] = False
    randaugment: Annotated[
        tuple[int, float] | None,
        Operation(lambda image, key, value: randaugment(image, key, *value)),
        "(operations, magnitude 0 to 30) of RandAugment (Cubuk et al., 2020), such as (2, 9)",
        _operations,
    ] = None
    brightness: Annotated[float, Operation(colour.random_brightness), "multiply by 1 - b to 1 + b", _strength] = 0.0
    contrast: Annotated[
        float, Operation(colour.random_contrast), "distance from the mean grey, times 1 - c to 1 + c", _strength
    ] = 0.0
    saturation: Annotated[
        float,
        Operation(colour.random_saturation, of_colours=True),
        "distance from the pixel's own grey, times 1 - s to 1 + s",
        _strength,
    ] = 0.0
    hue: Annotated[
        float,
        Operation(colour.random_hue, of_colours=True),
        "turn the colour circle by at most this share",
        _share_of_circle,
    ] = 0.0
    greyscale: Annotated[
        float, Operation(colour.random_grey, of_colours=True), "probability of losing colour", _probability
    ] = 0.0
    lighting: Annotated[
        float,
        Operation(colour.random_lighting, of_colours=True),
        "AlexNet's PCA of colours: standard deviation along each axis",
        _strength,
    ] = 0.0
    noise: Annotated[
        float, Operation(colour.random_noise), "standard deviation of Gaussian noise, of 255", _strength
    ] = 0.0
    cutout: Annotated[
        int,
        Operation(occlusion.cutout, of_bytes=False),
        "side of a square set to the mean grey, in pixels (DeVries and Taylor, 2017)",
        _pixels,
    ] = 0
    erasing: Annotated[
        float,
        Operation(occlusion.random_erasing),
        "probability of random erasing: 2 to 33 % of the area filled with noise (Zhong et al., 2020)",
        _probability,
    ] = 0.0
    extra: Annotated[
        str | None,
        "one more, of your own: a function (key, {'image', 'label'}) -> the same, as package.module:name or ./file.py:name",
    ] = None
    mixup: Annotated[float, "alpha of mixup (Zhang et al., 2018)", _alpha] = 0.0
    cutmix: Annotated[float, "alpha of cutmix (Yun et al., 2019); with mixup, either by chance", _alpha] = 0.0


def _operations_of(options: type[AugmentOptions]) -> dict[str, Operation]:
    hints = typing.get_type_hints(options, include_extras=True)
    notes = ((name, note) for name, hint in hints.items() for note in getattr(hint, "__metadata__", ()))
    return {name: note for name, note in notes if isinstance(note, Operation)}


# The operations by their options, in the order in which they are applied, after the image was moved (`geometry.place_image`).
OPERATIONS: Mapping[str, Operation] = _operations_of(AugmentOptions)


def check_channels(options: AugmentOptions, channels: int, dtype: Any = np.uint8) -> None:
    """Refuses changes that images do not take.

    Args:
      options: what is to be done.
      channels: the channels of the images.
      dtype: the type of the images' values as they are stored.

    Raises:
      ValueError: colours are to be changed in images that have none, or values of 0 to 255 in images of floats.
    """
    used = {name: operation for name, operation in OPERATIONS.items() if getattr(options, name)}
    for name, operation in used.items():
        if operation.of_bytes and dtype != np.uint8:
            raise ValueError(
                f"config: augment.{name} changes values of 0 to 255, and the images are {np.dtype(dtype)}: give them as uint8, "
                "or write the change as augment.extra"
            )
    for name, operation in used.items():
        if operation.of_colours and channels != 3:
            raise ValueError(f"config: augment.{name} changes colours, and the images have {channels} channel(s)")


def output_shape(image_shape: tuple[int, int, int], options: AugmentOptions) -> tuple[int, int, int]:
    """The shape of images as the network takes them.

    Raises:
      ValueError: the crop is larger than the image, or what is done to it reaches beyond it.
    """
    height, width, channels = image_shape
    for name in ("pad", "shift", "elastic", "cutout"):
        if getattr(options, name) > max(height, width):
            raise ValueError(
                f"config: augment.{name}={getattr(options, name):g}: expected no more than the images' size, {height}x{width} pixels"
            )
    if options.crop and (options.crop[0] > height + 2 * options.pad or options.crop[1] > width + 2 * options.pad):
        raise ValueError(
            f"config: augment.crop={options.crop} is larger than the images, {height}x{width} with {options.pad} pixels around"
        )
    return (*(options.crop or (height, width)), channels)
