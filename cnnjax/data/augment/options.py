"""The options of augmentation: the config's `augment` section, the operations behind its fields, and the images that each accepts.

A new operation is a function (image, key, strength) -> image in `colour` or `occlusion`, and a field of `AugmentOptions` that
names it by an `Operation`. Operations are applied in the order of their fields.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Array, Float

from cnnjax.core.options import TrainedAlone, between, fraction
from cnnjax.data.augment import colour, occlusion, policies
from cnnjax.data.augment.randaugment import randaugment

Image = Float[Array, "*spatial channel"]


@dataclasses.dataclass(frozen=True)
class Operation:
    """Marks an option as the strength of a random operation that leaves pixels in their places.

    Attributes:
      apply: (image, key, the option's value) -> image, of values from 0 to 255.
      unlimited: the same for values without limits, whose unit is 255; None refuses types without a range.
      of_levels: whether the operation works on 256 levels, so that only uint8 is accepted.
      of_colours: whether images must have three channels.
      settings: the names of further options, which `apply` takes as keyword arguments.
    """

    apply: Callable[..., Image]
    unlimited: Callable[..., Image] | None = None
    of_levels: bool = False
    of_colours: bool = False
    settings: tuple[str, ...] = ()


def _of_any_range(change: Callable[..., Image], of_colours: bool = False) -> Operation:
    """An operation that takes the limits of the values as an argument."""
    return Operation(change, functools.partial(change, limits=None), of_colours=of_colours)


def _area(area: tuple[float, float]) -> str | None:
    return None if 0 < area[0] <= area[1] <= 1 else "two fractions between 0 and 1, the smaller first"


_probability = between(0, 1)
# No image here is larger, and up to this size float32 resolves fractions of a pixel.
_pixels = between(0, 2**14)
# The strengths of brightness, contrast and similar operations: beyond 255 any image is black and white.
_strength = between(0, 255)


def _share_of_circle(share: float) -> str | None:
    return None if 0 <= share <= 0.5 else "a fraction of 0 to 0.5"


def _size(size: tuple[int, ...]) -> str | None:
    good = 1 <= len(size) <= 3 and min(size) > 0 and not any(map(_pixels, size))
    return None if good else "a length for each spatial axis, such as a height and a width, of 1 to 16,384"


def _operations(value: tuple[int, float]) -> str | None:
    good = between(1, 100)(value[0]) is None and between(0, 30)(value[1]) is None
    return None if good else "1 to 100 operations, and a magnitude of 0 to 30"


def _random_operations(value: tuple[int, float, float]) -> str | None:
    good = not any(
        check(part) for check, part in zip((between(1, 100), between(0, 10), between(0, 10)), value, strict=True)
    )
    return None if good else "1 to 100 operations, a magnitude of 0 to 10, and a standard deviation of 0 to 10"


def _values(value: tuple[float, ...]) -> str | None:
    return (
        None if value and not any(map(_strength, value)) else "values of 0 to 255, one for all channels or one for each"
    )


def _stages(value: tuple[tuple[float, tuple[int, ...]], ...]) -> str | None:
    epochs = [epoch for epoch, _ in value]
    if epochs != sorted(set(epochs)) or any(map(between(0, 1_000_000), epochs)):
        return "epochs from 0 on, each above the one before"
    return next(filter(None, (_size(size) for _, size in value)), None)


def _sides(sides: tuple[float, float]) -> str | None:
    return None if 0 < sides[0] <= sides[1] <= 1 else "two fractions of a side between 0 and 1, the smaller first"


def _alpha(value: float) -> str | None:
    return None if value == 0 or between(1e-3, 1e3)(value) is None else "0 (off), or 0.001 to 1,000"


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """The config's `augment` section: the random changes of training images, all off by default."""

    pad: Annotated[int, "the number of pixels that are added around the image before the crop", _pixels] = 0
    crop: Annotated[
        tuple[int, ...] | None,
        "height and width (length of a signal, three sides of a volume) of a random crop in training, and of the central crop in "
        "evaluation; None is the size of the image",
        _size,
    ] = None
    resized_crop: Annotated[
        tuple[float, float] | None,
        "smallest and largest fraction of the area of a random crop, of aspect 3/4 to 4/3, which is resized to `crop` or the image's size",
        _area,
    ] = None
    rotation: Annotated[
        float,
        "the largest rotation in degrees, in either direction; a volume is rotated in the plane of its last two axes",
        between(0, 180),
    ] = 0.0
    tilt: Annotated[
        float,
        "for volumes: the largest rotation in degrees, in either direction, in each plane of the depth and another axis",
        between(0, 180),
    ] = 0.0
    shift: Annotated[float, "the largest shift in pixels along each axis", _pixels] = 0.0
    stretch: Annotated[float, "s: each axis is stretched by a random factor of 1 - s to 1 + s", fraction] = 0.0
    shear: Annotated[float, "the largest shear angle in degrees, in either direction", between(0, 89)] = 0.0
    elastic: Annotated[float, "the strength of elastic deformation in pixels (Simard et al., 2003)", _pixels] = 0.0
    elastic_smoothness: Annotated[
        float, "the standard deviation in pixels of the Gaussian that smooths elastic deformation", _pixels
    ] = 4.0
    zoom_out: Annotated[
        float,
        "with probability 1/2 the image is placed at random on a canvas of 1 to this many times its sides, which is resized to the image's "
        "size (SSD: Liu et al., 2016); 1 is off",
        between(1, 16),
    ] = 1.0
    iou_crop: Annotated[
        tuple[float, float] | None,
        "for boxes of objects: smallest and largest fraction of the height and width of SSD's random crop, such as (0.3, 1.0), which has an "
        "aspect of 1/2 to 2 and an IoU of at least 0, 0.1, 0.3, 0.5, 0.7 or 0.9 with an object and is resized to the image's size; objects "
        "whose centre is outside are dropped",
        _sides,
    ] = None
    fill: Annotated[
        Literal["zero", "edge", "reflect", "constant"], "the values outside the image; constant takes `fill_values`"
    ] = "zero"
    fill_values: Annotated[
        tuple[float, ...], "with fill=constant, the value of each channel outside the image, 0 to 255", _values
    ] = (0.0,)
    flip_horizontal: Annotated[
        bool, "flip left and right (the last spatial axis) with probability 1/2 (not for digits and signs)"
    ] = False
    flip_vertical: Annotated[bool, "flip top and bottom (the second to last spatial axis) with probability 1/2"] = False
    flip_depth: Annotated[bool, "for volumes: flip front and back (the first axis) with probability 1/2"] = False
    randaugment: Annotated[
        tuple[int, float] | None,
        Operation(lambda image, key, value: randaugment(image, key, *value), of_levels=True),
        "the number of operations and the magnitude (0 to 30) of RandAugment (Cubuk et al., 2020), such as (2, 9)",
        _operations,
    ] = None
    trivialaugment: Annotated[
        bool,
        Operation(policies.trivialaugment, of_levels=True),
        "TrivialAugment (Müller and Hutter, 2021): one random operation of the wide list with a random strength",
    ] = False
    randaugment_increasing: Annotated[
        tuple[int, float, float] | None,
        Operation(lambda image, key, value: policies.randaugment_increasing(image, key, *value), of_levels=True),
        "the number of operations, the magnitude (0 to 10) and its standard deviation of timm's RandAugment, such as (2, 9, 0.5) for "
        "its rand-m9-mstd0.5-inc1",
        _random_operations,
    ] = None
    photometric: Annotated[
        float,
        Operation(policies.photometric_distortion, of_colours=True),
        "the probability of each part of SSD's photometric distortion: brightness, contrast, saturation, hue, an exchange of channels "
        "(Liu et al., 2016); 0.5 in torchvision's recipe",
        _probability,
    ] = 0.0
    brightness: Annotated[
        float, _of_any_range(colour.random_brightness), "b: multiply by a random factor of 1 - b to 1 + b", _strength
    ] = 0.0
    contrast: Annotated[
        float,
        _of_any_range(colour.random_contrast),
        "c: multiply the distance from the mean grey by a random factor of 1 - c to 1 + c",
        _strength,
    ] = 0.0
    saturation: Annotated[
        float,
        _of_any_range(colour.random_saturation, of_colours=True),
        "s: multiply the distance from each pixel's grey by a random factor of 1 - s to 1 + s",
        _strength,
    ] = 0.0
    hue: Annotated[
        float,
        Operation(colour.random_hue, colour.random_hue, of_colours=True),
        "the largest rotation of the colour circle, as a fraction of the circle",
        _share_of_circle,
    ] = 0.0
    greyscale: Annotated[
        float,
        _of_any_range(colour.random_grey, of_colours=True),
        "the probability of conversion to greyscale",
        _probability,
    ] = 0.0
    lighting: Annotated[
        float,
        Operation(colour.random_lighting, of_colours=True),
        "the standard deviation along each axis of AlexNet's PCA colour augmentation",
        _strength,
    ] = 0.0
    noise: Annotated[
        float,
        _of_any_range(colour.random_noise),
        "the standard deviation of Gaussian noise, as a fraction of the largest value of 8 or 16 bits (255, 65,535, 32,767), or in the "
        "stored unit for int32 and floats",
        _strength,
    ] = 0.0
    cutout: Annotated[
        int,
        Operation(occlusion.cutout, occlusion.cutout),
        "the side in pixels of a square (an interval, a cube) that is set to the mean grey (DeVries and Taylor, 2017)",
        _pixels,
    ] = 0
    erasing: Annotated[
        float,
        Operation(occlusion.random_erasing, settings=("erasing_mean", "erasing_std")),
        "the probability of random erasing, which fills 2 to 33 % of the area with noise (Zhong et al., 2020)",
        _probability,
    ] = 0.0
    erasing_mean: Annotated[
        tuple[float, ...] | None,
        "the mean value of each channel of erased boxes, 0 to 255; None fills them with uniform noise",
        _values,
    ] = None
    erasing_std: Annotated[
        tuple[float, ...],
        "with `erasing_mean`, the standard deviation of each channel of erased boxes, 0 to 255",
        _values,
    ] = (0.0,)
    extra: Annotated[
        str | None,
        "an operation of your own: a function (key, {'image', 'label'}) -> the same, as package.module:name or ./file.py:name",
    ] = None
    repeats: Annotated[
        int,
        TrainedAlone,
        "how often each drawn training image occurs in succession, augmented anew each time; an epoch has as many examples as before, of "
        "fewer images (repeated augmentation, Hoffer et al., 2020)",
        between(1, 1000),
    ] = 1
    sizes: Annotated[
        tuple[tuple[float, tuple[int, ...]], ...],
        TrainedAlone,
        "progressive resizing: (epoch, size) from which on the augmented training images are resized to a height and width, such as "
        "((0, (128, 128)), (10, (160, 160))); evaluation keeps its size",
        _stages,
    ] = ()
    mixup: Annotated[float, "the parameter alpha of mixup (Zhang et al., 2018)", _alpha] = 0.0
    cutmix: Annotated[
        float, "the parameter alpha of cutmix (Yun et al., 2019); with mixup, each batch draws one of the two", _alpha
    ] = 0.0
    mosaic: Annotated[
        float,
        "for boxes of objects: the probability that an image becomes a mosaic of itself and the next three of its batch (Bochkovskiy et "
        "al., 2020)",
        _probability,
    ] = 0.0


def _operations_of(options: type[AugmentOptions]) -> dict[str, Operation]:
    hints = typing.get_type_hints(options, include_extras=True)
    notes = ((name, note) for name, hint in hints.items() for note in getattr(hint, "__metadata__", ()))
    return {name: note for name, note in notes if isinstance(note, Operation)}


# The operations by option, in the order in which they are applied, after the geometric ones (`geometry.place_image`).
OPERATIONS: Mapping[str, Operation] = _operations_of(AugmentOptions)


# The numbers of spatial axes that images must have, for operations that are not defined for signals, images and volumes alike.
_AXES: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(
        (
            *("resized_crop", "iou_crop", "shear", "elastic", "mosaic"),
            *("randaugment", "trivialaugment", "randaugment_increasing"),
        ),
        (2,),
    ),
    **dict.fromkeys(("rotation", "flip_vertical"), (2, 3)),
    **dict.fromkeys(("tilt", "flip_depth"), (3,)),
}
# Types whose values have a range, 0 to the largest, to which results can be clipped.
_WITH_RANGE = ("uint8", "uint16")


def value_unit(dtype: Any) -> float:
    """The factor from stored values to those of the operations: the largest of 8 or 16 bits becomes 255, as does 1 of other types.

    >>> value_unit("uint8"), value_unit("uint16") * 65535, value_unit("float32")
    (1.0, 255.0, 255.0)
    """
    dtype = np.dtype(dtype)
    return 255 / int(np.iinfo(dtype).max) if dtype.kind in "iu" and dtype.itemsize < 4 else 255.0


def operations_on(dtype: Any) -> dict[str, Callable[..., Image]]:
    """The operations, by option and in order, for images that are stored in a type (see `value_unit`)."""
    limited = np.dtype(dtype).name in _WITH_RANGE
    chosen = {name: one.apply if limited else one.unlimited for name, one in OPERATIONS.items()}
    return {name: apply for name, apply in chosen.items() if apply is not None}


def check_images(options: AugmentOptions, shape: tuple[int, ...], dtype: Any = np.uint8) -> None:
    """Refuses operations that are not defined for the images.

    Args:
      options: the config's `augment` section.
      shape: the shape of an image, channels last.
      dtype: the type of the stored images.

    Raises:
      ValueError: an operation needs another number of spatial axes, three channels, 256 levels, or a type with a range; the message
        names it.
    """
    axes, kind = len(shape) - 1, np.dtype(dtype)
    for name, possible in _AXES.items():
        if getattr(options, name) and axes not in possible:
            raise ValueError(
                f"config: augment.{name} needs images with {' or '.join(map(str, possible))} spatial axes; these have {axes}: leave it out"
            )
    for name in ("fill_values", "erasing_mean", "erasing_std"):
        if len(values := getattr(options, name) or (0.0,)) not in (1, shape[-1]):
            raise ValueError(
                f"config: augment.{name}={values}: expected one value, or one for each of the {shape[-1]} channels of the images"
            )
    for epoch, size in options.sizes:
        if len(size) != axes:
            raise ValueError(
                f"config: augment.sizes={options.sizes}: epoch {epoch:g} has {len(size)} length(s); the images have {axes} spatial axes"
            )
    own = "leave it out, or write the operation as augment.extra"
    for name, operation in OPERATIONS.items():
        if not getattr(options, name):
            continue
        if operation.of_colours and shape[-1] != 3:
            raise ValueError(f"config: augment.{name} needs 3 channels; the images have {shape[-1]}: {own}")
        if operation.of_levels and kind != np.uint8:
            raise ValueError(f"config: augment.{name} works on 256 levels, uint8; the images are {kind}: {own}")
        if name not in operations_on(kind):
            raise ValueError(
                f"config: augment.{name} needs values with a range ({', '.join(_WITH_RANGE)}); the images are {kind}: {own}"
            )


def check_no_boxes(options: AugmentOptions) -> None:
    """Raises ValueError for operations that need boxes of objects."""
    for name in ("iou_crop", "mosaic"):
        if getattr(options, name):
            raise ValueError(
                f"config: augment.{name} needs boxes of objects: leave it out, or set task.name to 'detection'"
            )


def check_maps(options: AugmentOptions) -> None:
    """Raises ValueError for operations that cannot be applied to maps of class numbers: mixing, and policies, which move pixels."""
    check_no_boxes(options)
    for name in ("randaugment", "trivialaugment", "randaugment_increasing", "sizes", "mixup", "cutmix"):
        if getattr(options, name):
            raise ValueError(
                f"config: augment.{name} cannot be applied to labels that are maps of class numbers: leave it out "
                "(rotation, shift, stretch, shear, elastic, zoom_out, crops and flips change image and map alike)"
            )


def check_boxes(options: AugmentOptions) -> None:
    """Raises ValueError for operations that cannot be applied to boxes of objects."""
    moved = (
        "flips, rotation, shift, stretch, shear, resized_crop, zoom_out, iou_crop and pad move image and boxes alike"
    )
    for name in ("randaugment", "trivialaugment", "randaugment_increasing", "sizes", "mixup", "cutmix", "elastic"):
        if getattr(options, name):
            raise ValueError(f"config: augment.{name} cannot be applied to boxes of objects: leave it out ({moved})")
    if options.crop:
        raise ValueError(
            f"config: augment.crop={options.crop} would cut objects in evaluation too: leave it out ({moved}), or resize with "
            "dataset.resize"
        )
    if options.fill == "reflect":
        raise ValueError(
            "config: augment.fill='reflect' mirrors objects at the border, which have no boxes: set it to 'zero' or 'edge'"
        )


def training_size(options: AugmentOptions, epoch: float) -> tuple[int, ...] | None:
    """The size to which `sizes` resizes the training images of an epoch; None if their size is kept.

    >>> training_size(AugmentOptions(sizes=((0, (16, 16)), (4, (24, 24)))), 5)
    (24, 24)
    """
    begun = [size for start, size in options.sizes if start <= epoch]
    return begun[-1] if begun else None


def output_shape(image_shape: tuple[int, ...], options: AugmentOptions) -> tuple[int, ...]:
    """The shape of the network's input images.

    Raises:
      ValueError: the crop is larger than the image or has another number of axes, or an operation's size exceeds the image.
    """
    *sides, channels = image_shape
    written = "x".join(map(str, sides))
    for name in ("pad", "shift", "elastic", "cutout"):
        if getattr(options, name) > max(sides):
            raise ValueError(
                f"config: augment.{name}={getattr(options, name):g}: expected at most the images' size, {written} pixels"
            )
    if options.crop and len(options.crop) != len(sides):
        raise ValueError(
            f"config: augment.crop={options.crop}: expected {len(sides)} length(s), one for each spatial axis of the images, {written}"
        )
    if options.crop and any(part > whole + 2 * options.pad for part, whole in zip(options.crop, sides, strict=True)):
        raise ValueError(
            f"config: augment.crop={options.crop} is larger than the images, {written} with {options.pad} pixels of padding"
        )
    return (*(options.crop or sides), channels)
