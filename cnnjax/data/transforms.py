"""Deterministic image transforms: what is done to every image of every split, and again when predicting.

Two stages. `prepare` turns one decoded picture into uint8 of a fixed shape, on the host, once: its result is
cached. `normalize` turns a batch of them into float32, on the device, inside the compiled step.
"""

import dataclasses
import io
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt8
from PIL import Image, UnidentifiedImageError

from cnnjax.core.options import between

ColorSpace = Literal["grey", "rgb", "ycbcr", "hsv"]
_PILLOW_MODES = {"grey": "L", "rgb": "RGB", "ycbcr": "YCbCr", "hsv": "HSV"}
# Pillow's modes of 8 bits a value and at most three channels. CMYK is a colour in four inks, converted and not cut.
_READ_MODES = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"}
_READ_WITH_ALPHA = {"LA", "PA", "RGBA"}
_EIGHT_BITS = "and 8 (0 to 255) are read: convert it, scaled to the range that matters"
_THREE_CHANNELS = "and grey or RGB is read: save it with the channels that matter, or flattened onto one colour"
# EXIF's orientation -> what brings the picture upright (Exif 2.32, section 4.6.5, tag 274).
_ORIENTATION = 274
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow raises of damaged files.
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, struct.error)
# The values that are measured, hashed or checked at a time: some 128 MiB of them in float64.
BLOCK_VALUES = 2**24
# A picture's `info` has this where `decode` has turned it.
TURNED = "turned from EXIF orientation"


def _size(value: tuple[int, ...]) -> str | None:
    return None if all(0 < side <= 2**14 for side in value) else "a height and a width of 1 to 16,384"


def _odd(value: int) -> str | None:
    return (
        None if value == 0 or (3 <= value <= 999 and value % 2 == 1) else "0 (off) or an odd window of 3 to 999 pixels"
    )


def _means(values: tuple[float, ...]) -> str | None:
    return None if not any(map(between(-1e9, 1e9), values)) else "numbers of -1e9 to 1e9"


def _deviations(values: tuple[float, ...]) -> str | None:
    return None if not any(map(between(1e-9, 1e9), values)) else "numbers above 0, of 1e-9 to 1e9"


@dataclasses.dataclass(frozen=True)
class TransformOptions:
    """Which transforms are applied, in the order of the fields."""

    color_space: Annotated[
        ColorSpace | None,
        "grey, rgb, ycbcr or hsv; None keeps the data set's. Images have 8 bits a value and 1 or 3 channels; an alpha channel "
        "is left out where it is fully opaque, and refused otherwise, as are more channels and more bits",
    ] = None
    resize: Annotated[tuple[int, int] | None, "height and width to resize to; None keeps the size", _size] = None
    resize_mode: Annotated[
        Literal["crop", "stretch"], "crop keeps the aspect: resize to cover, then cut the centre; stretch does not"
    ] = "crop"
    crop: Annotated[tuple[int, int] | None, "height and width to cut from the centre, after resizing", _size] = None
    pad: Annotated[tuple[int, int] | None, "height and width to pad to with zeros, image centred", _size] = None
    scale: Annotated[
        Literal["unit", "signed", "none"],
        "unsigned values, by the greatest that their type has (255, 65535), to 0..1, to -1..1, or left as they are",
    ] = "unit"
    local_contrast: Annotated[int, "window of local contrast normalisation in pixels; 0 is off", _odd] = 0
    normalize: Annotated[
        Literal["none", "dataset", "image", "channel", "fixed"],
        "subtract a mean and divide by a standard deviation: the training split's by channel (dataset), each "
        "image's own (image), each image's own by channel (channel), or `mean` and `std` (fixed)",
    ] = "dataset"
    mean: Annotated[tuple[float, ...] | None, "by channel, after scaling, for normalize = fixed", _means] = None
    std: Annotated[
        tuple[float, ...] | None,
        "by channel, after scaling, for normalize = fixed",
        _deviations,
    ] = None

    def __post_init__(self) -> None:
        fixed = self.normalize == "fixed"
        if fixed and (not self.mean or not self.std or len(self.mean) != len(self.std)):
            raise ValueError(
                "config: dataset.normalize = 'fixed' needs dataset.mean and dataset.std, one value a channel"
            )
        if self.local_contrast and self.normalize == "dataset":
            raise ValueError(
                "config: dataset.local_contrast already centres and scales, by the image and not by the training split: "
                "set dataset.normalize to 'none', 'image', 'channel' or 'fixed'"
            )
        if not fixed and (self.mean is not None or self.std is not None):
            raise ValueError("config: dataset.mean and dataset.std are used with dataset.normalize = 'fixed' only")


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of a split's stored values, by channel: 0..255 where they are uint8.

    Attributes:
      mean: over all pixels of all images.
      std: their standard deviation.
      darkest: the lowest of the images' own means; None of a run that was trained before this was recorded.
      brightest: the highest.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    darkest: tuple[float, ...] | None = None
    brightest: tuple[float, ...] | None = None


def check_images(options: TransformOptions, shape: tuple[int, ...], dtype: Any) -> None:
    """Refuses transforms that do not fit the images.

    Args:
      options: the transforms.
      shape: the shape of an image, the channels last.
      dtype: the type of the stored images.

    Raises:
      ValueError: fixed statistics for another number of channels, local contrast of signals or volumes, or a scale of values that
        have no range.
    """
    if options.mean is not None and len(options.mean) != shape[-1]:
        raise ValueError(
            f"config: dataset.mean and dataset.std have {len(options.mean)} value(s), the images {shape[-1]} channel(s)"
        )
    if options.local_contrast and len(shape) != 3:
        raise ValueError(
            f"config: dataset.local_contrast is for images of two spatial axes, and these have {len(shape) - 1}: set it to 0"
        )
    if np.dtype(dtype) == np.uint8 or options.normalize == "dataset":
        return
    if options.normalize in ("none", "fixed") or options.local_contrast:
        _factor_and_offset(options.scale, dtype)


def decode(content: bytes, name: str) -> Image.Image:
    """Decodes an image file's bytes, and turns the picture upright where its EXIF data say how the camera was held.

    Raises:
      ValueError: they are not an image, a damaged one, or one of more than 8 bits or 3 channels, which would be cut; the
        message has `name`.
    """
    try:
        picture = Image.open(io.BytesIO(content))
        cut = _cut_by_pillow(picture)
        turned = (
            picture.tag_v2.get(_ORIENTATION) if picture.format == "TIFF" else None
        )  # Pillow turns those as it loads
        picture.load()
    except Image.DecompressionBombError:
        raise ValueError(f"{name}: too large an image (over {2 * Image.MAX_IMAGE_PIXELS:,} pixels)") from None
    except _DAMAGED as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else f"a damaged image ({error})"
        if reason == "not an image" and content[:4] in (b"II*\0", b"MM\0*"):
            reason = "a damaged TIFF, or one whose bits or channels Pillow does not know: save it as 8-bit grey or RGB"
        raise ValueError(f"{name}: {reason}") from None
    if cut:
        raise ValueError(f"{name}: {cut}")
    check_pixels(picture, name)
    if turned is None and (turned := _orientation(picture)) in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[turned])
        picture.info.pop("exif", None)  # which still says how the camera was held
    if turned in _UPRIGHT:
        picture.info[TURNED] = turned
    return picture


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 is upright, or not said, or not readable."""
    try:
        return picture.getexif().get(_ORIENTATION, 1)
    except _DAMAGED:
        return 1


def _cut_by_pillow(picture: Image.Image) -> str | None:
    """What Pillow cuts, without a word, while it loads a file that it has opened; None if nothing."""
    bits, channels = 8, len(picture.getbands())
    if picture.format == "TIFF":
        bits, channels = max(picture.tag_v2.get(258, (1,))), picture.tag_v2.get(277, 1)
    elif picture.format == "PNG" and picture.tile and ";16" in str(picture.tile[0][3]):
        bits = 16
    elif picture.format == "PPM" and picture.tile and picture.tile[0][0].startswith("ppm"):
        bits = int(picture.tile[0][3][1]).bit_length()  # of the greatest value
    if bits > 8 and picture.mode in _READ_MODES | _READ_WITH_ALPHA:  # the other modes keep them
        return f"{bits} bits a value, {_EIGHT_BITS}"
    return f"{channels} channels, {_THREE_CHANNELS}" if channels > len(picture.getbands()) else None


def check_pixels(picture: Image.Image, name: str = "the image") -> None:
    """Refuses a picture that holds more than 8 bits a value, or more than a colour, so that nothing is cut in silence.

    Raises:
      ValueError: the message has `name`, what the picture holds, and what to do.
    """
    if picture.mode == "F" or picture.mode.startswith("I"):
        values = np.asarray(picture)
        kind = "floating-point values" if picture.mode == "F" else "values of more than 8 bits"
        raise ValueError(f"{name}: {kind} ({values.min():g} to {values.max():g}), {_EIGHT_BITS}")
    if picture.mode not in _READ_MODES | _READ_WITH_ALPHA:
        raise ValueError(f"{name}: pixels of Pillow's mode {picture.mode}, {_THREE_CHANNELS}")
    if picture.has_transparency_data:
        low, high = picture.convert("RGBA").getchannel("A").getextrema()
        if low < 255:
            raise ValueError(f"{name}: an alpha channel that is not opaque ({low} to {high}), {_THREE_CHANNELS}")


def read_image(path: Path) -> Image.Image:
    """Reads an image file; see `decode` for what is raised."""
    return decode(path.read_bytes(), str(path))


def prepare(
    picture: Image.Image, options: TransformOptions, channels: int
) -> UInt8[np.ndarray, "height width channel"]:
    """Colour space, resizing, cropping and padding of one picture.

    Args:
      picture: a decoded picture of any mode.
      options: which transforms.
      channels: 1 or 3; used where `options.color_space` is None.

    Raises:
      ValueError: it is empty, smaller than the crop, larger than what it is padded to, or would be cut (`check_pixels`).
    """
    picture = _in_color_space(picture, options, channels)
    if options.resize:
        picture = resize(picture, options.resize, options.resize_mode)
    if options.crop:
        picture = _center_crop(picture, options.crop)
    pixels = _pixels(picture)
    return pad(pixels, options.pad) if options.pad else pixels


def prepared_size(size: tuple[int, int], options: TransformOptions) -> tuple[int, int] | None:
    """The height and width that `prepare` gives a picture of some height and width; None where it refuses it."""
    size = options.resize or size
    if options.crop:
        if options.crop[0] > size[0] or options.crop[1] > size[1]:
            return None
        size = options.crop
    if options.pad and (options.pad[0] < size[0] or options.pad[1] < size[1]):
        return None
    return options.pad or size


def resized_part(
    picture: Image.Image,
    part: tuple[float, float, float, float],
    size: tuple[int, int],
    options: TransformOptions,
    channels: int,
) -> UInt8[np.ndarray, "height width channel"]:
    """A part of the picture, (left, top, right, bottom), resized to a height and width, in the options' colour space."""
    picture = _in_color_space(picture, options, channels)
    return _pixels(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=part))


def _pixels(picture: Image.Image) -> UInt8[np.ndarray, "height width channel"]:
    pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _in_color_space(picture: Image.Image, options: TransformOptions, channels: int) -> Image.Image:
    if not picture.width or not picture.height:
        raise ValueError(f"an empty image, {picture.height}x{picture.width}")
    color_space = options.color_space or ("grey" if channels == 1 else "rgb")
    check_pixels(picture)
    if "transparency" in picture.info:  # all opaque; Pillow warns where it is left out
        picture = picture.copy()
        del picture.info["transparency"]
    mode = _PILLOW_MODES[color_space]
    if picture.mode != mode:
        if mode in ("YCbCr", "HSV"):
            picture = picture.convert("RGB")
        picture = picture.convert(mode)
    return picture


def resize(picture: Image.Image, size: tuple[int, int], mode: Literal["crop", "stretch"]) -> Image.Image:
    """A picture of a height and width: bilinear, with antialiasing. "crop" is torchvision's Resize (the other side's length rounded down) and CenterCrop."""
    height, width = size
    if mode == "stretch":
        covering = width, height
    elif picture.width * height >= picture.height * width:
        covering = max(width, height * picture.width // picture.height), height
    else:
        covering = width, max(height, width * picture.height // picture.width)
    if covering == picture.size:
        return _center_crop(picture, size)
    if covering[0] * covering[1] <= 16 * width * height:
        return _center_crop(picture.resize(covering, Image.Resampling.BILINEAR), size)
    # An image 1 pixel high and 100,000 wide would grow to gigabytes: only what the crop keeps is computed, which differs
    # by a level here and there.
    left, top, right, bottom = _center_box(covering, size)
    x, y = picture.width / covering[0], picture.height / covering[1]
    return picture.resize((width, height), Image.Resampling.BILINEAR, box=(left * x, top * y, right * x, bottom * y))


def _center_crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    if height > picture.height or width > picture.width:
        raise ValueError(
            f"an image of {picture.height}x{picture.width} cannot be cropped to {height}x{width}: set dataset.resize"
        )
    return picture if picture.size == (width, height) else picture.crop(_center_box(picture.size, size))


def _center_box(whole: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the centre; half a pixel goes to the even side, as in torchvision."""
    left, top = round((whole[0] - size[1]) / 2), round((whole[1] - size[0]) / 2)
    return left, top, left + size[1], top + size[0]


def pad(image: UInt8[np.ndarray, "height width channel"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w channel"]:
    """Zeros around the image up to `size`, the image in the middle (an odd pixel goes below and right).

    Raises:
      ValueError: the image is larger than `size`.
    """
    rows, columns = size[0] - image.shape[0], size[1] - image.shape[1]
    if rows < 0 or columns < 0:
        raise ValueError(
            f"an image of {image.shape[0]}x{image.shape[1]} cannot be padded to {size[0]}x{size[1]}: set dataset.resize"
        )
    above, left = rows // 2, columns // 2
    return np.pad(image, ((above, rows - above), (left, columns - left), (0, 0)))


def measure(images: Shaped[np.ndarray, "example *spatial channel"]) -> Statistics:
    """Measures a split by channel: integers of 8 and 16 bits exactly, from their histograms; others in float64."""
    exact = images.dtype.kind in "iu" and images.dtype.itemsize <= 2
    return _measure_levels(images) if exact else _measure_values(images)


def in_blocks(images: Any) -> Iterator[tuple[int, np.ndarray]]:
    """(position, the examples from there on), some millions of values at a time: the images may be larger than memory, or streamed."""
    examples = min(max(BLOCK_VALUES // max(math.prod(images.shape[1:]), 1), 1), 1024)
    for start in range(0, len(images), examples):
        yield start, images[start : start + examples]


def _measure_levels(images: Int[np.ndarray, "example *spatial channel"]) -> Statistics:
    least, levels, channels = int(np.iinfo(images.dtype).min), 2 ** (8 * images.dtype.itemsize), images.shape[-1]
    values = np.arange(least, least + levels, dtype=np.float64)
    counts = np.zeros((channels, levels), np.int64)
    darkest, brightest = np.full(channels, np.inf), np.full(channels, -np.inf)
    for _, block in in_blocks(images):
        for channel in range(channels):
            own = block[..., channel].ravel()
            counts[channel] += np.bincount(own if not least else own.astype(np.int32) - least, minlength=levels)
        own = block.mean(tuple(range(1, block.ndim - 1)))
        darkest, brightest = np.minimum(darkest, own.min(0)), np.maximum(brightest, own.max(0))
    means, stds = [], []
    for histogram in counts:
        mean = (histogram * values).sum() / histogram.sum()
        means.append(float(mean))
        stds.append(float(np.sqrt((histogram * (values - mean) ** 2).sum() / histogram.sum())))
    return Statistics(tuple(means), tuple(stds), tuple(darkest.tolist()), tuple(brightest.tolist()))


def _measure_values(images: Shaped[np.ndarray, "example *spatial channel"]) -> Statistics:
    """The mean, then the deviation from it; both of the distance from the first value, so that a constant's deviation is 0."""
    spatial = tuple(range(1, images.ndim - 1))
    first = np.asarray(images[:1], np.float64)[(0, *(0 for _ in spatial))]
    own = np.concatenate([(np.asarray(block, np.float64) - first).mean(spatial) for _, block in in_blocks(images)])
    mean = own.mean(0)
    squares = sum(
        np.square(np.asarray(block, np.float64) - first - mean).mean(spatial).sum(0) for _, block in in_blocks(images)
    )
    std = np.sqrt(squares / len(images))
    own += first
    return Statistics(*(tuple(values.tolist()) for values in (mean + first, std, own.min(0), own.max(0))))


def normalize(
    images: Shaped[Array, "batch *spatial channel"],
    options: TransformOptions,
    statistics: Statistics | None,
    dtype: Any = None,
) -> Float[Array, "batch *spatial channel"]:
    """Scaling, local contrast normalisation and normalisation, as float32.

    x = (images * scale + offset), then x = (x - mean) / std.

    Images that are not uint8 are normalised by their own or the training split's statistics in the stored unit, whatever the
    scale, which makes no difference there; the mean is subtracted without loss of digits, however far it is from 0.

    Args:
      images: the images as they are stored, or as augmentation made floats of them.
      options: which transforms.
      statistics: of the training split; needed for `normalize = "dataset"` alone.
      dtype: the type of the stored images; None is that of `images`, and uint8 of floats.

    Raises:
      ValueError: the images have no range to scale by, or not the axes of local contrast normalisation.
    """
    if dtype is None:
        dtype = np.uint8 if jnp.issubdtype(images.dtype, jnp.floating) else images.dtype
    wide, axes = np.dtype(dtype) != np.uint8, tuple(range(1, images.ndim))
    if wide and options.normalize == "dataset":
        return _standardized(images, statistics)
    if wide and options.normalize in ("image", "channel") and not options.local_contrast:
        return _standardized_each(images, axes if options.normalize == "image" else axes[:-1])
    factor, offset = _factor_and_offset(options.scale, dtype)
    x = images.astype(jnp.float32) * factor + offset
    if options.local_contrast:
        x = local_contrast_normalize(x, options.local_contrast)
    if options.normalize == "dataset":
        # A channel that never changes carries nothing; dividing by its zero deviation would make it NaN.
        std = np.array([value if value > 0 else 1 / factor for value in statistics.std])
        mean = np.array(statistics.mean) * factor + offset
        return (x - mean.astype(np.float32)) / (std * factor).astype(np.float32)
    if options.normalize == "fixed":
        return (x - np.asarray(options.mean, np.float32)) / np.asarray(options.std, np.float32)
    if options.normalize in ("image", "channel"):
        axes = axes if options.normalize == "image" else axes[:-1]
        mean, std = x.mean(axes, keepdims=True), x.std(axes, keepdims=True)
        # As TensorFlow's per_image_standardization: an image of one colour is not blown up.
        floor = 1 / np.sqrt(np.prod([x.shape[axis] for axis in axes]))
        return (x - mean) / jnp.maximum(std, floor)
    return x


def _factor_and_offset(scale: str, dtype: Any) -> tuple[float, float]:
    """What stored values are multiplied by, and what is added then."""
    if scale == "none":
        return 1.0, 0.0
    if np.dtype(dtype).kind != "u":
        raise ValueError(
            f"config: dataset.scale={scale!r} divides by the greatest value that the stored type has, and {np.dtype(dtype)} has "
            "no range that images fill: set dataset.scale to 'none', or dataset.normalize to 'dataset', 'image' or 'channel', "
            "which any scale leaves the same"
        )
    greatest = int(np.iinfo(dtype).max)
    return {"unit": (1 / greatest, 0.0), "signed": (2 / greatest, -1.0)}[scale]


def _standardized(images: Shaped[Array, "batch *spatial channel"], statistics: Statistics) -> Array:
    """Less the training split's mean, over its deviation: the mean in two parts, each of float32's 24 bits."""
    mean = np.array(statistics.mean)
    whole = jnp.issubdtype(images.dtype, jnp.integer)
    origin = np.rint(mean).astype(images.dtype) if whole else mean.astype(np.float32)
    # A channel that never changes carries nothing; nor does one whose deviation float32 takes for 0.
    std = np.array([value if value > np.finfo(np.float32).tiny else 1.0 for value in statistics.std])
    rest = (mean - origin.astype(np.float64)).astype(np.float32)
    return (_difference(images, origin) - rest) / std.astype(np.float32)


def _standardized_each(images: Shaped[Array, "batch *spatial channel"], axes: tuple[int, ...]) -> Array:
    """Each image less its mean over some axes, over its deviation; where nothing varies, 0."""
    origin = images[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(images.ndim))]
    x = _difference(images, origin)
    mean, std = x.mean(axes, keepdims=True), x.std(axes, keepdims=True)
    return (x - mean) / jnp.where(std > np.finfo(np.float32).tiny, std, 1.0)


def _difference(
    images: Shaped[Array, "batch *spatial channel"], origin: Shaped[Array | np.ndarray, "*#origin"]
) -> Float[Array, "batch *spatial channel"]:
    """images - origin as the nearest float32, of integers with more bits than float32 has too: their halves each fit."""
    if images.dtype == jnp.int32:
        upper = ((images >> 16) - (origin >> 16)).astype(jnp.float32)
        return upper * 2**16 + ((images & 0xFFFF) - (origin & 0xFFFF)).astype(jnp.float32)
    return images.astype(jnp.float32) - origin.astype(jnp.float32)


def local_contrast_normalize(
    images: Float[Array, "batch height width channel"], window: int, epsilon: float = 1e-4
) -> Float[Array, "batch height width channel"]:
    """Subtractive and divisive normalisation in a Gaussian window over all channels (Jarrett et al., ICCV 2009).

    v = x - sum_{pq} w_pq x,   y = v / max(mean(sigma), sigma),   sigma^2 = sum_{pq} w_pq v^2,

    with w a Gaussian of sum 1 over the window and the channels, and mean(sigma) over the image. At the border
    the weights that fall inside are scaled to sum 1.

    Args:
      images: any float images.
      window: its width in pixels, odd; the Gaussian's standard deviation is a quarter of it.
      epsilon: the least divisor.

    Raises:
      ValueError: the window is no odd number, so that no pixel is in its middle; or there are not two spatial axes.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"local_contrast_normalize: window={window}: expected an odd number of pixels")
    if images.ndim != 4:
        raise ValueError(
            f"local_contrast_normalize: expected images (batch, height, width, channel), got {images.shape}: set "
            "dataset.local_contrast to 0"
        )
    offsets = np.arange(window) - window // 2
    line = np.exp(-0.5 * (offsets / (window / 4)) ** 2)
    line = (line / line.sum()).astype(np.float32)

    def blur(x: Float[Array, "batch height width 1"]) -> Float[Array, "batch height width 1"]:
        for kernel in (line[:, None], line[None, :]):
            x = jax.lax.conv_general_dilated(
                x, kernel[..., None, None], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return x

    inside = blur(jnp.ones((1, *images.shape[1:3], 1), images.dtype))
    centred = images - blur(images.mean(-1, keepdims=True)) / inside
    sigma = jnp.sqrt(jnp.maximum(blur((centred**2).mean(-1, keepdims=True)) / inside, 0))
    return centred / jnp.maximum(jnp.maximum(sigma, sigma.mean((1, 2, 3), keepdims=True)), epsilon)
