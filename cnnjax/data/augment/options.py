"""The options of augmentation: the config's `augment` section, the operations behind them, and what these need of the images.

A new operation is a function (image, key, strength) -> image in `colour` or `occlusion`, and a field of `AugmentOptions` that
names it by an `Operation`. Operations are applied in the order of their fields.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Array, Float, Key

from cnnjax.core.options import between, fraction
from cnnjax.data.augment import colour, occlusion
from cnnjax.data.augment.randaugment import randaugment

Image = Float[Array, "*spatial channel"]


@dataclasses.dataclass(frozen=True)
class Operation:
    """Marks an option as the strength of a random operation that leaves pixels in their places.

    Attributes:
      apply: (image, key, the option's value) -> image, of values from 0 to 255.
      unlimited: the same of values without limits, of which 255 is the unit; None refuses types that have no range.
      of_levels: whether values are taken for one of 256, so that no type but uint8 will do.
      of_colours: whether images must have three channels.
    """

    apply: Callable[[Image, Key[Array, ""], Any], Image]
    unlimited: Callable[[Image, Key[Array, ""], Any], Image] | None = None
    of_levels: bool = False
    of_colours: bool = False


def _of_any_range(change: Callable[..., Image], of_colours: bool = False) -> Operation:
    """An operation that takes the limits that values have."""
    return Operation(change, functools.partial(change, limits=None), of_colours=of_colours)


def _area(area: tuple[float, float]) -> str | None:
    return None if 0 < area[0] <= area[1] <= 1 else "two shares between 0 and 1, the smaller first"


_probability = between(0, 1)
# No picture here is larger, and float32 tells a pixel's parts apart up to there.
_pixels = between(0, 2**14)
# Of brightness, contrast and the like: beyond 255 any image is black and white.
_strength = between(0, 255)


def _share_of_circle(share: float) -> str | None:
    return None if 0 <= share <= 0.5 else "a share of 0 to 0.5"


def _size(size: tuple[int, ...]) -> str | None:
    good = 1 <= len(size) <= 3 and min(size) > 0 and not any(map(_pixels, size))
    return None if good else "a length for each spatial axis, as a height and a width, of 1 to 16,384"


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
        tuple[int, ...] | None,
        "height and width (a signal's length, a volume's three sides) of a random crop in training, and of the central one in "
        "evaluation; None is the image's",
        _size,
    ] = None
    resized_crop: Annotated[
        tuple[float, float] | None,
        "least and greatest share of the area of a random part, of aspect 3/4 to 4/3, resized to `crop` or the image's size",
        _area,
    ] = None
    rotation: Annotated[
        float,
        "the greatest angle in degrees, either way; a volume turns in the plane of its last two axes",
        between(0, 180),
    ] = 0.0
    tilt: Annotated[
        float,
        "of volumes: the greatest angle in degrees, either way, in each plane of the depth and another axis",
        between(0, 180),
    ] = 0.0
    shift: Annotated[float, "the greatest distance in pixels along each axis", _pixels] = 0.0
    stretch: Annotated[float, "each axis by a factor of 1 - s to 1 + s", fraction] = 0.0
    shear: Annotated[float, "the greatest angle in degrees, either way", between(0, 89)] = 0.0
    elastic: Annotated[float, "strength of elastic deformation in pixels (Simard et al., 2003)", _pixels] = 0.0
    elastic_smoothness: Annotated[float, "standard deviation of its smoothing in pixels", _pixels] = 4.0
    fill: Annotated[Literal["zero", "edge", "reflect"], "what lies outside the image"] = "zero"
    flip_horizontal: Annotated[
        bool, "left and right (the last spatial axis), half of the time (not for digits and signs)"
    ] = False
    flip_vertical: Annotated[bool, "above and below (the last spatial axis but one), half of the time"] = False
    flip_depth: Annotated[bool, "of volumes: front and back (the first axis), half of the time"] = False
    randaugment: Annotated[
        tuple[int, float] | None,
        Operation(lambda image, key, value: randaugment(image, key, *value), of_levels=True),
        "(operations, magnitude 0 to 30) of RandAugment (Cubuk et al., 2020), such as (2, 9)",
        _operations,
    ] = None
    brightness: Annotated[float, _of_any_range(colour.random_brightness), "multiply by 1 - b to 1 + b", _strength] = 0.0
    contrast: Annotated[
        float, _of_any_range(colour.random_contrast), "distance from the mean grey, times 1 - c to 1 + c", _strength
    ] = 0.0
    saturation: Annotated[
        float,
        _of_any_range(colour.random_saturation, of_colours=True),
        "distance from the pixel's own grey, times 1 - s to 1 + s",
        _strength,
    ] = 0.0
    hue: Annotated[
        float,
        Operation(colour.random_hue, colour.random_hue, of_colours=True),
        "turn the colour circle by at most this share",
        _share_of_circle,
    ] = 0.0
    greyscale: Annotated[
        float, _of_any_range(colour.random_grey, of_colours=True), "probability of losing colour", _probability
    ] = 0.0
    lighting: Annotated[
        float,
        Operation(colour.random_lighting, of_colours=True),
        "AlexNet's PCA of colours: standard deviation along each axis",
        _strength,
    ] = 0.0
    noise: Annotated[
        float,
        _of_any_range(colour.random_noise),
        "standard deviation of Gaussian noise, of the greatest value of 8 or 16 bits (255, 65,535, 32,767); of int32 and floats as "
        "it is",
        _strength,
    ] = 0.0
    cutout: Annotated[
        int,
        Operation(occlusion.cutout, occlusion.cutout),
        "side of a square (an interval, a cube) set to the mean grey, in pixels (DeVries and Taylor, 2017)",
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


# The numbers of spatial axes that images must have, for what is not done to signals, images and volumes alike.
_AXES: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("resized_crop", "shear", "elastic", "randaugment"), (2,)),
    **dict.fromkeys(("rotation", "flip_vertical"), (2, 3)),
    **dict.fromkeys(("tilt", "flip_depth"), (3,)),
}
# Types whose values, cut to 0 and the greatest, are as good as bytes'.
_WITH_RANGE = ("uint8", "uint16")


def value_unit(dtype: Any) -> float:
    """What stored values are multiplied by for the operations: the greatest of 8 or 16 bits becomes 255, and 1 of other types.

    >>> value_unit("uint8"), value_unit("uint16") * 65535, value_unit("float32")
    (1.0, 255.0, 255.0)
    """
    dtype = np.dtype(dtype)
    return 255 / int(np.iinfo(dtype).max) if dtype.kind in "iu" and dtype.itemsize < 4 else 255.0


def operations_on(dtype: Any) -> dict[str, Callable[[Image, Key[Array, ""], Any], Image]]:
    """The operations, by option and in order, for images that are stored in a type (see `value_unit`)."""
    limited = np.dtype(dtype).name in _WITH_RANGE
    chosen = {name: one.apply if limited else one.unlimited for name, one in OPERATIONS.items()}
    return {name: apply for name, apply in chosen.items() if apply is not None}


def check_images(options: AugmentOptions, shape: tuple[int, ...], dtype: Any = np.uint8) -> None:
    """Refuses changes that images do not take.

    Args:
      options: what is to be done.
      shape: the shape of an image, channels last.
      dtype: the type in which images are stored.

    Raises:
      ValueError: a change needs another number of spatial axes, three channels, 256 levels, or a type with a range; the message names it.
    """
    axes, kind = len(shape) - 1, np.dtype(dtype)
    for name, possible in _AXES.items():
        if getattr(options, name) and axes not in possible:
            raise ValueError(
                f"config: augment.{name} needs images of {' or '.join(map(str, possible))} spatial axes; these have {axes}: leave it out"
            )
    own = "leave it out, or write the change as augment.extra"
    for name, operation in OPERATIONS.items():
        if not getattr(options, name):
            continue
        if operation.of_colours and shape[-1] != 3:
            raise ValueError(f"config: augment.{name} needs 3 channels; the images have {shape[-1]}: {own}")
        if operation.of_levels and kind != np.uint8:
            raise ValueError(f"config: augment.{name} works on 256 levels, uint8; the images are {kind}: {own}")
        if name not in operations_on(kind):
            raise ValueError(
                f"config: augment.{name} needs values that have a range ({', '.join(_WITH_RANGE)}); the images are {kind}: {own}"
            )


def check_maps(options: AugmentOptions) -> None:
    """Raises ValueError for changes that maps of class numbers cannot follow: those that mix images, or move what is in them."""
    for name in ("randaugment", "mixup", "cutmix"):
        if getattr(options, name):
            raise ValueError(
                f"config: augment.{name} is not for labels that are maps of class numbers, which cannot follow it: leave it out "
                "(rotation, shift, stretch, shear, elastic, crops and flips move image and map alike)"
            )


def output_shape(image_shape: tuple[int, ...], options: AugmentOptions) -> tuple[int, ...]:
    """The shape of images as the network takes them.

    Raises:
      ValueError: the crop is larger than the image or of other axes, or what is done to it reaches beyond it.
    """
    *sides, channels = image_shape
    written = "x".join(map(str, sides))
    for name in ("pad", "shift", "elastic", "cutout"):
        if getattr(options, name) > max(sides):
            raise ValueError(
                f"config: augment.{name}={getattr(options, name):g}: expected no more than the images' size, {written} pixels"
            )
    if options.crop and len(options.crop) != len(sides):
        raise ValueError(
            f"config: augment.crop={options.crop}: expected {len(sides)} length(s), one for each spatial axis of the images, {written}"
        )
    if options.crop and any(part > whole + 2 * options.pad for part, whole in zip(options.crop, sides, strict=True)):
        raise ValueError(
            f"config: augment.crop={options.crop} is larger than the images, {written} with {options.pad} pixels around"
        )
    return (*(options.crop or sides), channels)
