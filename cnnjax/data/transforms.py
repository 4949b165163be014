"""Deterministic image transforms, applied to every image of every split and in prediction.

There are two stages. `prepare` converts one decoded picture to an array of a fixed shape and type, once, on the host; the result is
cached. `normalize` converts a batch of these arrays to float32, on the device, inside the compiled step.

A decoded image is a Pillow picture with 8 bits per value, or an array (*spatial, channel) for anything else: more bits, other
channels, other axes.
"""

import contextlib
import dataclasses
import io
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped
from PIL import Image, UnidentifiedImageError

from cnnjax.core.options import between
from cnnjax.core.terminal import count_of
from cnnjax.data import array_files

# A decoded image, and the content of an image before decoding.
Decoded = Image.Image | Shaped[np.ndarray, "*spatial channel"]
Content = bytes | Image.Image | np.ndarray
ColorSpace = Literal["grey", "rgb", "ycbcr", "hsv", "rgba"]
ResizeMode = Literal["crop", "fit", "stretch"]
_PILLOW_MODES = {"grey": "L", "rgb": "RGB", "ycbcr": "YCbCr", "hsv": "HSV", "rgba": "RGBA"}
# The colour space of a picture, by its number of channels.
_OF_CHANNELS: Mapping[int, ColorSpace] = {1: "grey", 3: "rgb", 4: "rgba"}
# Pillow's modes with 8 bits per value. CMYK is a colour in four inks, which is converted and not truncated.
_EIGHT_BITS = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LA", "PA", "RGBA"}
# The types of `dataset.depth`.
_DEPTHS = {8: "uint8", 16: "uint16", 32: "float32"}
# EXIF orientation -> the operation that turns the picture upright (Exif 2.32, section 4.6.5, tag 274).
ORIENTATION = 274
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The brands of HEIF files with HEVC images (ISO/IEC 23008-12), which telephones write, sometimes with the extension .jpg.
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# The exceptions that Pillow raises for damaged files.
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, struct.error)
# The number of values that are measured, hashed or checked at a time: some 128 MiB in float64.
BLOCK_VALUES = 2**24
# The weights of red, green and blue in grey (ITU-R BT.601), as in Pillow.
_LUMA = np.array([0.299, 0.587, 0.114])
# The key in the `info` of a picture that `decode` has turned.
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
    """The transforms, applied in the order of the fields."""

    color_space: Annotated[
        ColorSpace | None,
        "grey, rgb, ycbcr, hsv, or rgba, whose fourth channel is the opacity; None keeps the data set's (for files, that of the first "
        "training file, without an 8-bit alpha channel that is fully opaque)",
    ] = None
    depth: Annotated[
        Literal[8, 16, 32] | None,
        "the bits of a stored value: 8 (uint8) and 16 (uint16) scale unsigned integers by 257, 32 (float32) keeps values; None keeps "
        "the data set's (for files, that of the first training file)",
    ] = None
    spatial_axes: Annotated[
        Literal[1, 2, 3] | None,
        "for .npy files, the number of axes before the axis of channels, which may be absent: 1 for signals, 2 for images, 3 for "
        "volumes; None takes (length), (height, width), (height, width, channel) and (depth, height, width, channel)",
    ] = None
    resize: Annotated[tuple[int, int] | None, "the height and width to resize to; None keeps the size", _size] = None
    resize_mode: Annotated[
        ResizeMode,
        "crop keeps the aspect ratio (resize to cover, then crop the centre), fit too (resize to fit inside, then pad with zeros "
        "around it); stretch does not",
    ] = "crop"
    crop: Annotated[tuple[int, int] | None, "the height and width of a crop of the centre, after resizing", _size] = (
        None
    )
    pad: Annotated[tuple[int, int] | None, "the height and width to pad to with zeros around the image", _size] = None
    scale: Annotated[
        Literal["unit", "signed", "none"],
        "unit divides unsigned values by the largest of their type (255, 65535), to 0..1; signed scales them to -1..1; none keeps them",
    ] = "unit"
    local_contrast: Annotated[int, "the window of local contrast normalisation in pixels; 0 is off", _odd] = 0
    normalize: Annotated[
        Literal["none", "dataset", "image", "channel", "fixed"],
        "subtract a mean and divide by a standard deviation: the training split's by channel (dataset), each "
        "image's own (image), each image's own by channel (channel), or `mean` and `std` (fixed)",
    ] = "dataset"
    mean: Annotated[
        tuple[float, ...] | None, "the mean of each channel, after scaling, for normalize = fixed", _means
    ] = None
    std: Annotated[
        tuple[float, ...] | None,
        "the standard deviation of each channel, after scaling, for normalize = fixed",
        _deviations,
    ] = None

    def __post_init__(self) -> None:
        fixed = self.normalize == "fixed"
        if fixed and (not self.mean or not self.std or len(self.mean) != len(self.std)):
            raise ValueError(
                "config: dataset.normalize = 'fixed' needs dataset.mean and dataset.std, one value per channel"
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
    """The statistics of a split's stored values (0..255 for uint8), by channel.

    Attributes:
      mean: the mean over all pixels of all images.
      std: the standard deviation over all pixels of all images.
      darkest: the lowest mean of an image; None for a run that was trained before this was recorded.
      brightest: the highest mean of an image.
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
      ValueError: fixed statistics for another number of channels, local contrast for signals or volumes, or a scale for values
        without a range.
    """
    if options.mean is not None and len(options.mean) != shape[-1]:
        raise ValueError(
            f"config: dataset.mean and dataset.std have {len(options.mean)} value(s), the images {shape[-1]} channel(s)"
        )
    if options.local_contrast and len(shape) != 3:
        raise ValueError(
            f"config: dataset.local_contrast is for images with two spatial axes, but these have {len(shape) - 1}: set it to 0"
        )
    if np.dtype(dtype) == np.uint8 or options.normalize == "dataset":
        return
    if options.normalize in ("none", "fixed") or options.local_contrast:
        _factor_and_offset(options.scale, dtype)


def decode(content: Content, name: str, spatial_axes: int | None = None) -> Decoded:
    """Decodes an image file, and turns the picture upright if it has an EXIF orientation.

    Args:
      content: the bytes of the file; or a Pillow picture or an array, which are already decoded.
      name: the image's name in messages.
      spatial_axes: the axes of an array before its channels, as in `dataset.spatial_axes`.

    Returns:
      A Pillow picture if it represents the file without loss (8 bits per value), otherwise an array.

    Raises:
      ValueError: the file is not an image, is damaged, or cannot be read without loss.
    """
    if isinstance(content, np.ndarray):
        return array_files.with_channels(array_files.as_image(content, name), name, spatial_axes)
    if isinstance(content, Image.Image):
        return _kept(content, name)
    if content.startswith(array_files.NPY):
        return array_files.with_channels(array_files.read_npy(content, name), name, spatial_axes)
    if content[:4] == b"MM\0+":  # big-endian BigTIFF, which Pillow reports as damaged
        return array_files.read_tiff(content, name)
    try:
        picture = Image.open(io.BytesIO(content))
        turned = (
            picture.tag_v2.get(ORIENTATION) if picture.format == "TIFF" else None
        )  # Pillow turns TIFF when it loads them
        cut, levels = _cut_by_pillow(picture), _levels(picture)
        if cut is None:
            picture.load()
    except Image.DecompressionBombError:
        raise ValueError(f"{name}: too large an image (over {2 * Image.MAX_IMAGE_PIXELS:,} pixels)") from None
    except UnidentifiedImageError:
        if content[:4] in (b"II*\0", b"MM\0*", b"II+\0"):
            return array_files.read_tiff(content, name)
        if content[4:8] == b"ftyp" and content[8:12] in _HEIF:
            raise ValueError(f"{name}: a HEIC image, which cannot be read: convert it to JPEG") from None
        raise ValueError(f"{name}: not an image") from None
    except _DAMAGED as error:
        raise ValueError(f"{name}: a damaged image ({error})") from None
    if cut == "TIFF":
        return array_files.read_tiff(content, name)
    if cut == "PPM":
        decoder, _, start, _ = picture.tile[0]
        return array_files.read_ppm(content, picture.size, start, decoder == "ppm_plain", name)
    if cut == "PNG":
        return array_files.upright(array_files.read_png(content, name), _orientation(picture))
    if cut is not None:
        raise ValueError(f"{name}: {cut}")
    if turned is None and (turned := _orientation(picture)) in _UPRIGHT:
        picture = picture.transpose(_UPRIGHT[turned])
        picture.info.pop("exif", None)  # which still says how the camera was held
    if turned in _UPRIGHT:
        picture.info[TURNED] = turned
    return _kept(picture, name, levels)


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Adds an image's name to the message of a ValueError that does not begin with it."""
    try:
        yield
    except ValueError as error:
        raise error if str(error).startswith(name) else ValueError(f"{name}: {error}") from None


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 is upright, absent or not readable."""
    try:
        return picture.getexif().get(ORIENTATION, 1)
    except _DAMAGED:
        return 1


def _cut_by_pillow(picture: Image.Image) -> str | None:
    """The format of a file that Pillow would silently truncate and another reader reads; or a sentence if no reader does."""
    if picture.format == "TIFF":
        bits, samples, kind = (max(np.atleast_1d(picture.tag_v2.get(tag, (1,)))) for tag in (258, 277, 339))
        if picture.n_frames > 1:
            size = picture.size
            picture.seek(1)
            page = picture.size == size and not picture.tag_v2.get(254, 0)  # neither a smaller copy nor a mask
            count = picture.n_frames
            picture.seek(0)
            if page:
                return f"a TIFF with {count} pages, of which one would be read: save it as one page with {count} bands, or as .npy"
        exact = {"I;16": (16, 1), "I;16B": (16, 1), "I": (32, 2), "F": (32, 3)}.get(picture.mode)
        if picture.mode in _EIGHT_BITS:
            read = len(picture.getbands()) - (picture.mode == "RGBX")  # whose fourth band Pillow reads as padding
            return "TIFF" if bits > 8 or samples > read else None
        return "TIFF" if exact and (*exact, 1) != (bits, kind, samples) else None
    if picture.format == "PNG" and picture.tile and ";16" in str(picture.tile[0][3]):
        return None if picture.mode.startswith("I") and "transparency" not in picture.info else "PNG"
    if picture.format == "PPM" and picture.tile and picture.mode == "RGB" and picture.tile[0][0].startswith("ppm"):
        return "PPM" if int(picture.tile[0][3][1]) > 255 else None  # the greatest value
    return None


def _levels(picture: Image.Image) -> int:
    """The largest possible value of a picture with more than 8 bits, which Pillow stretches to 65,535 when it loads."""
    stretched = picture.format == "PPM" and picture.mode == "I" and picture.tile and picture.tile[0][0] == "ppm"
    return int(picture.tile[0][3][1]) if stretched else 65535


def _kept(picture: Image.Image, name: str, levels: int = 65535) -> Decoded:
    """A picture with 8 bits unchanged; the values of any other picture as an array."""
    if picture.mode in _EIGHT_BITS:
        return picture
    if picture.mode != "F" and not picture.mode.startswith("I"):
        raise ValueError(f"{name}: pixels in Pillow's mode {picture.mode}: save it as grey, RGB or RGBA")
    values = np.asarray(picture)[..., None]
    if picture.format in ("PNG", "PPM") and picture.mode == "I":  # 16 bits without sign, in 32 with one
        values = np.rint(values * (levels / 65535)).astype(np.uint16)
    return array_files.as_image(values, name)


def kind(decoded: Decoded) -> tuple[int, str]:
    """The channels and the type of a data set whose first image is this one.

    8-bit pictures count as colour, since grey ones may be mixed with others in colour; they have a fourth channel for opacity
    if any pixel is not opaque. Arrays keep their channels and type.
    """
    if isinstance(decoded, Image.Image):
        low, _ = _opacity(decoded)
        return (3 if low == 255 else 4), "uint8"
    return decoded.shape[-1], decoded.dtype.name


def as_picture(
    array: Shaped[np.ndarray, "height width channel"],
) -> Image.Image | Shaped[np.ndarray, "height width channel"]:
    """An 8-bit array with 1, 3 or 4 channels as a picture (grey, RGB or RGBA); other arrays unchanged."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in _OF_CHANNELS:
        return array
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def was_turned(decoded: Decoded) -> bool:
    """Whether `decode` turned a picture upright; False for arrays."""
    return isinstance(decoded, Image.Image) and TURNED in decoded.info


def differing_sizes(name: str, shape: tuple[int, ...], other_name: str, other_shape: tuple[int, ...]) -> str:
    """The message that two prepared images differ in size, with advice."""
    size, other = ("x".join(map(str, one[:-1])) for one in (shape, other_shape))
    flat = len(shape) == len(other_shape) == 3
    advice = "set dataset.resize to one size, such as (64, 64)" if flat else "give them the same size"
    return f"{name} is {size} and {other_name} {other}: {advice}"


def stored_kind(options: TransformOptions, channels: int, dtype: str) -> tuple[int, str]:
    """The channels and the type of prepared images, from those of the data set's files."""
    wanted = {"grey": 1, "rgba": 4, None: channels}.get(options.color_space, 3)
    return wanted, _DEPTHS.get(options.depth, dtype)


def _opacity(picture: Image.Image) -> tuple[int, int]:
    """The smallest and largest opacity of a picture's pixels, 0 to 255."""
    if not picture.has_transparency_data:
        return 255, 255
    return picture.convert("RGBA").getchannel("A").getextrema()


def holds(decoded: Decoded) -> str:
    """A description of an image: its type and channels, and its spatial axes if they are not two."""
    if isinstance(decoded, Image.Image):
        return f"uint8, {picture_channels(decoded)}"
    axes = {2: "1 spatial axis, ", 3: "", 4: "3 spatial axes, "}[decoded.ndim]
    return f"{decoded.dtype}, {axes}{count_of(decoded.shape[-1], 'channel')}"


def picture_channels(picture: Image.Image) -> str:
    """The channels of a picture, in words."""
    return {
        "1": "grey",
        "L": "grey",
        "LA": "grey with alpha",
        "P": "RGB by a palette",
        "PA": "RGB by a palette, with alpha",
    }.get(picture.mode, picture.mode)


def check_kind(decoded: Decoded, options: TransformOptions, channels: int, dtype: str = "uint8") -> None:
    """Refuses an image of another type or number of channels than the data set's, so that nothing changes silently.

    Args:
      decoded: the image.
      options: the transforms; `color_space` and `depth` convert where that is possible.
      channels: the channels of the data set's files.
      dtype: the type of the values in the data set's files.

    Raises:
      ValueError: the image is of another kind; the message describes it and says what to set.
    """
    found = decoded.dtype.name if isinstance(decoded, np.ndarray) else "uint8"
    if options.depth is None and found != dtype:
        raise ValueError(
            f"it holds {holds(decoded)}, but the data set's images are {dtype}: set dataset.depth to 8, 16 or 32 bits for all"
        )
    if options.depth in (8, 16) and found not in ("uint8", "uint16"):
        raise ValueError(
            f"it holds {holds(decoded)}, which has no range that can be scaled to {options.depth} bits: set dataset.depth to 32"
        )
    if isinstance(decoded, Image.Image):
        _check_channels_of_picture(decoded, options, channels)
    else:
        _check_channels_of_array(decoded, options, channels)


def _check_channels_of_picture(picture: Image.Image, options: TransformOptions, channels: int) -> None:
    color_space = options.color_space or _OF_CHANNELS.get(channels)
    if color_space is None:
        raise ValueError(
            f"it holds {holds(picture)}, but the data set's images have {channels} channels: give all files the same channels, or "
            "set dataset.color_space"
        )
    if color_space == "rgba":
        return
    low, high = _opacity(picture)
    if low < 255:
        raise ValueError(
            f"an alpha channel that is not opaque ({low} to {high}), which {color_space} does not have: set dataset.color_space to "
            "'rgba', or save the image flattened onto one colour"
        )


def _check_channels_of_array(
    array: Shaped[np.ndarray, "*spatial channel"], options: TransformOptions, channels: int
) -> None:
    found, color_space = array.shape[-1], options.color_space
    if color_space is None:
        if found != channels:
            raise ValueError(
                f"it holds {holds(array)}, but the data set's images have {channels}: give all files the same channels"
                + (", or set dataset.color_space" if {found, channels} <= set(_OF_CHANNELS) else "")
            )
        return
    if array.ndim != 3 or found not in _OF_CHANNELS:
        raise ValueError(
            f"it holds {holds(array)}, which is not a colour image: leave dataset.color_space={color_space!r} out, or give images with "
            "1, 3 or 4 channels"
        )
    if color_space in ("ycbcr", "hsv") and array.dtype != np.uint8:
        raise ValueError(
            f"it holds {holds(array)}, but {color_space} has 8 bits: set dataset.depth to 8, or another color_space"
        )
    if color_space == "rgba" and found != 4 and array.dtype.kind != "u":
        raise ValueError(
            f"it holds {holds(array)}, where no value means opaque: give 4 channels, or leave dataset.color_space out"
        )
    if color_space != "rgba" and found == 4:
        low, high = array[..., 3].min(), array[..., 3].max()
        if array.dtype.kind != "u" or low < np.iinfo(array.dtype).max:
            raise ValueError(
                f"it holds {holds(array)}, the fourth from {low:g} to {high:g}, which {color_space} does not have: set "
                "dataset.color_space to 'rgba', or save the image flattened onto one colour"
            )


def read_image(path: Path, spatial_axes: int | None = None) -> Decoded:
    """Reads an image file; see `decode` for what is raised."""
    return decode(path.read_bytes(), str(path), spatial_axes)


def prepare(
    decoded: Decoded, options: TransformOptions, channels: int, dtype: str = "uint8"
) -> Shaped[np.ndarray, "*spatial channel"]:
    """Converts (colour space, depth), resizes, crops and pads one image.

    Args:
      decoded: a picture in any mode, or an array.
      options: the transforms.
      channels: the channels of the data set's files; used if `options.color_space` is None.
      dtype: the type of the data set's files; used if `options.depth` is None.

    Raises:
      ValueError: the image is empty, smaller than the crop, larger than the padded size, or of another kind (`check_kind`).
    """
    image = _converted(decoded, options, channels, dtype)
    if options.resize or options.crop or options.pad:
        height_and_width(image)
    if options.resize:
        image = resize(image, options.resize, options.resize_mode)
    if options.crop:
        image = center_crop(image, options.crop)
    pixels = _pixels(image)
    return pad(pixels, options.pad) if options.pad else pixels


def height_and_width(image: Decoded) -> tuple[int, int]:
    """The height and width of an image.

    Raises:
      ValueError: it has one spatial axis, or three.
    """
    if len(size_of(image)) != 2:
        raise ValueError(
            f"it holds {holds(image)}, but resizing, cropping and padding need two spatial axes: leave dataset.resize, dataset.crop, "
            "dataset.pad and augment.resized_crop out"
        )
    return size_of(image)


def prepared_size(size: tuple[int, int], options: TransformOptions) -> tuple[int, int] | None:
    """The height and width after `prepare` of a picture with the given height and width; None if `prepare` refuses it."""
    size = options.resize or size
    if options.crop:
        if options.crop[0] > size[0] or options.crop[1] > size[1]:
            return None
        size = options.crop
    if options.pad and (options.pad[0] < size[0] or options.pad[1] < size[1]):
        return None
    return options.pad or size


def resized_part(
    decoded: Decoded,
    part: tuple[float, float, float, float],
    size: tuple[int, int],
    options: TransformOptions,
    channels: int,
    dtype: str = "uint8",
) -> Shaped[np.ndarray, "height width channel"]:
    """A part of the image, (left, top, right, bottom), resized to a height and width, in the options' colour space and depth."""
    image = _converted(decoded, options, channels, dtype)
    return _pixels(_scaled(image, size[1], size[0], part))


def as_pixels(image: Decoded) -> Shaped[np.ndarray, "*spatial channel"]:
    """A decoded image as an array: a picture in grey or RGB with its opacity, an array as it is."""
    if isinstance(image, Image.Image) and image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB")
    return _pixels(image)


def _pixels(image: Decoded) -> Shaped[np.ndarray, "*spatial channel"]:
    pixels = np.ascontiguousarray(image) if isinstance(image, np.ndarray) else np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 and isinstance(image, Image.Image) else pixels


def _converted(decoded: Decoded, options: TransformOptions, channels: int, dtype: str) -> Decoded:
    """The image in the data set's channels and type; a picture if the type has 8 bits, otherwise an array."""
    if isinstance(decoded, Image.Image):
        decoded = _kept(decoded, "the image")
    if 0 in (decoded.size if isinstance(decoded, Image.Image) else decoded.shape):
        raise ValueError(f"an empty image, {'x'.join(map(str, size_of(decoded)))}")
    check_kind(decoded, options, channels, dtype)
    wanted = _DEPTHS.get(options.depth, dtype)
    if isinstance(decoded, Image.Image):
        picture = _in_color_space(decoded, options.color_space or _OF_CHANNELS[channels])
        return picture if wanted == "uint8" else _in_type(_pixels(picture), wanted)
    return _in_type(_array_in_color_space(decoded, options.color_space), wanted)


def _in_color_space(picture: Image.Image, color_space: ColorSpace) -> Image.Image:
    mode = _PILLOW_MODES[color_space]
    if "transparency" in picture.info and mode != "RGBA":  # all opaque; Pillow warns if it drops transparency
        picture = picture.copy()
        del picture.info["transparency"]
    if picture.mode != mode:
        if mode in ("YCbCr", "HSV") or (mode == "RGBA" and picture.mode in ("CMYK", "YCbCr", "HSV", "RGBX")):
            picture = picture.convert("RGB")
        picture = picture.convert(mode)
    return picture


def _array_in_color_space(
    array: Shaped[np.ndarray, "*spatial channel"], color_space: ColorSpace | None
) -> Shaped[np.ndarray, "*spatial channel"]:
    if color_space is None or _OF_CHANNELS.get(array.shape[-1]) == color_space:
        return array
    if array.dtype == np.uint8:
        return _pixels(_in_color_space(as_picture(array), color_space))
    if color_space == "grey":
        grey = array[..., :3].astype(np.float64) @ _LUMA
        return (np.rint(grey) if array.dtype.kind in "iu" else grey).astype(array.dtype)[..., None]
    colour = np.repeat(array, 3, -1) if array.shape[-1] == 1 else array[..., :3]
    if color_space == "rgb":
        return colour
    opaque = np.full((*array.shape[:-1], 1), np.iinfo(array.dtype).max, array.dtype)
    return np.concatenate([colour, opaque], -1)


def _in_type(array: Shaped[np.ndarray, "*spatial channel"], dtype: str) -> Shaped[np.ndarray, "*spatial channel"]:
    """Values in another type; the largest of unsigned 8 bits becomes the largest of 16 bits, and vice versa."""
    if array.dtype.name == "uint8" and dtype == "uint16":
        return array.astype(np.uint16) * np.uint16(257)
    if array.dtype.name == "uint16" and dtype == "uint8":
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)  # the nearest
    return array.astype(dtype, copy=False)


def size_of(image: Decoded) -> tuple[int, ...]:
    """The lengths of an image's spatial axes, such as a picture's height and width."""
    return image.shape[:-1] if isinstance(image, np.ndarray) else (image.height, image.width)


def resize(
    image: Decoded,
    size: tuple[int, int],
    mode: ResizeMode,
    sampling: Image.Resampling = Image.Resampling.BILINEAR,
    fill: int = 0,
) -> Decoded:
    """Resizes an image: bilinear with antialiasing, or by another `sampling`.

    "crop" is torchvision's Resize (the other side's length rounded down) and CenterCrop; "fit" pads with the value `fill` where the
    image does not reach. The values of an array are interpolated in float32, and rounded for integers.
    """
    (height, width), (rows, columns) = size, size_of(image)
    covering = _scaled_size((rows, columns), size, mode)
    if mode == "fit":
        whole = image if covering == (columns, rows) else _scaled(image, *covering, sampling=sampling)
        return pad(_pixels(whole), size, fill)
    if covering == (columns, rows):
        return center_crop(image, size)
    if covering[0] * covering[1] <= 16 * width * height:
        return center_crop(_scaled(image, *covering, sampling=sampling), size)
    # An image 1 pixel high and 100,000 wide would grow to gigabytes, so only the crop is computed, which changes some values by
    # one level.
    left, top, right, bottom = _center_box(covering, size)
    x, y = columns / covering[0], rows / covering[1]
    return _scaled(image, width, height, (left * x, top * y, right * x, bottom * y), sampling)


def _scaled_size(whole: tuple[int, int], size: tuple[int, int], mode: ResizeMode) -> tuple[int, int]:
    """The width and height to which an image of some height and width is scaled, before it is cropped or padded to `size`."""
    (rows, columns), (height, width) = whole, size
    if mode == "stretch":
        return width, height
    if mode == "fit":
        scale = min(width / columns, height / rows)
        return min(width, max(1, round(columns * scale))), min(height, max(1, round(rows * scale)))
    if columns * height >= rows * width:
        return max(width, height * columns // rows), height
    return width, max(height, width * rows // columns)


def placement(
    whole: tuple[int, int], options: TransformOptions
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """The place of a whole image in what `prepare` makes of it, which may cut it: left, top, width scale and height scale.

    Args:
      whole: the height and width of the image.
      options: the transforms.

    Returns:
      The place in pixels, and the height and width of the prepared image.
    """
    (rows, columns), across, down, left, top = whole, 1.0, 1.0, 0, 0
    if options.resize:
        width, height = _scaled_size(whole, options.resize, options.resize_mode)
        across, down = width / columns, height / rows
        if options.resize_mode == "fit":
            left, top = (options.resize[1] - width) // 2, (options.resize[0] - height) // 2
        else:
            from_left, from_top, _, _ = _center_box((width, height), options.resize)
            left, top = -from_left, -from_top
        rows, columns = options.resize
    if options.crop:
        from_left, from_top, _, _ = _center_box((columns, rows), options.crop)
        left, top, (rows, columns) = left - from_left, top - from_top, options.crop
    if options.pad:
        left, top = left + (options.pad[1] - columns) // 2, top + (options.pad[0] - rows) // 2
        rows, columns = options.pad
    return (left, top, across, down), (rows, columns)


def _scaled(
    image: Decoded,
    width: int,
    height: int,
    box: tuple[float, float, float, float] | None = None,
    sampling: Image.Resampling = Image.Resampling.BILINEAR,
) -> Decoded:
    """The image, or a part of it, at another width and height."""
    if isinstance(image, Image.Image):
        return image.resize((width, height), sampling, box=box)
    planes = [
        Image.fromarray(plane).resize((width, height), sampling, box=box)
        for plane in np.moveaxis(image, -1, 0).astype(np.float32)
    ]
    return as_type(np.stack([np.asarray(plane) for plane in planes], -1), image.dtype)


def as_type(values: Float[np.ndarray, "..."], dtype: np.dtype) -> Shaped[np.ndarray, "..."]:
    """Real numbers in another type; rounded and clipped to its range if it is an integer type."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.rint(values.astype(np.float64)).clip(limits.min, limits.max).astype(dtype)


def center_crop(image: Decoded, size: tuple[int, int]) -> Decoded:
    """Crops the centre of an image to a height and width; raises ValueError if the image is smaller."""
    (height, width), (rows, columns) = size, size_of(image)
    if height > rows or width > columns:
        raise ValueError(f"an image of {rows}x{columns} cannot be cropped to {height}x{width}: set dataset.resize")
    left, top, right, bottom = box = _center_box((columns, rows), size)
    if isinstance(image, np.ndarray):
        return image[top:bottom, left:right]
    return image if image.size == (width, height) else image.crop(box)


def _center_box(whole: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of the centre; half a pixel is rounded to even, as in torchvision."""
    left, top = round((whole[0] - size[1]) / 2), round((whole[1] - size[0]) / 2)
    return left, top, left + size[1], top + size[0]


def pad(
    image: Shaped[np.ndarray, "height width channel"], size: tuple[int, int], value: int = 0
) -> Shaped[np.ndarray, "h w channel"]:
    """Pads an image to `size` with zeros or another value, on all sides equally (an odd pixel goes to the bottom and right).

    Raises:
      ValueError: the image is larger than `size`.
    """
    rows, columns = size[0] - image.shape[0], size[1] - image.shape[1]
    if rows < 0 or columns < 0:
        raise ValueError(
            f"an image of {image.shape[0]}x{image.shape[1]} cannot be padded to {size[0]}x{size[1]}: set dataset.resize"
        )
    above, left = rows // 2, columns // 2
    return np.pad(image, ((above, rows - above), (left, columns - left), (0, 0)), constant_values=value)


def measure(images: Shaped[np.ndarray, "example *spatial channel"]) -> Statistics:
    """Measures a split by channel: integers of 8 and 16 bits exactly, from their histograms; others in float64."""
    exact = images.dtype.kind in "iu" and images.dtype.itemsize <= 2
    return _measure_levels(images) if exact else _measure_values(images)


def in_blocks(images: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (position, examples from there on) with some millions of values at a time, for images larger than memory or streamed."""
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
    """The mean, then the standard deviation; both of the differences from the first value, so that it is 0 for a constant."""
    spatial = tuple(range(1, len(images.shape) - 1))
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
    """Scales and normalises images (optionally with local contrast normalisation) in float32.

    x = (images * scale + offset), then x = (x - mean) / std.

    Images that are not uint8 are normalised by their own or the training split's statistics in the stored unit, where the
    scale cancels; the mean is subtracted without loss of digits, however far it is from 0.

    Args:
      images: the stored images, or floats after augmentation.
      options: the transforms.
      statistics: the statistics of the training split; needed only for `normalize = "dataset"`.
      dtype: the type of the stored images; None is that of `images`, and uint8 for floats.

    Raises:
      ValueError: the images have no range to scale by, or not the two axes of local contrast normalisation.
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
        # A constant channel carries no information; dividing by its deviation of zero would make it NaN.
        std = np.array([value if value > 0 else 1 / factor for value in statistics.std])
        mean = np.array(statistics.mean) * factor + offset
        return (x - mean.astype(np.float32)) / (std * factor).astype(np.float32)
    if options.normalize == "fixed":
        return (x - np.asarray(options.mean, np.float32)) / np.asarray(options.std, np.float32)
    if options.normalize in ("image", "channel"):
        axes = axes if options.normalize == "image" else axes[:-1]
        # As TensorFlow's per_image_standardization: the noise of a nearly constant image is not amplified.
        floor = 1 / np.sqrt(np.prod([x.shape[axis] for axis in axes]))
        return (x - x.mean(axes, keepdims=True)) / jnp.maximum(_deviation(x, axes), floor)
    return x


def _factor_and_offset(scale: str, dtype: Any) -> tuple[float, float]:
    """The factor by which stored values are multiplied, and the offset that is added."""
    if scale == "none":
        return 1.0, 0.0
    if np.dtype(dtype).kind != "u":
        raise ValueError(
            f"config: dataset.scale={scale!r} divides by the largest value of the stored type, but {np.dtype(dtype)} has "
            "no range that images fill: set dataset.scale to 'none', or dataset.normalize to 'dataset', 'image' or 'channel', "
            "whose result does not depend on the scale"
        )
    greatest = int(np.iinfo(dtype).max)
    return {"unit": (1 / greatest, 0.0), "signed": (2 / greatest, -1.0)}[scale]


def _standardized(images: Shaped[Array, "batch *spatial channel"], statistics: Statistics) -> Array:
    """(images - mean) / std with the training split's statistics; the mean is subtracted in two parts of 24 bits each."""
    mean = np.array(statistics.mean)
    whole = jnp.issubdtype(images.dtype, jnp.integer)
    origin = np.rint(mean).astype(images.dtype) if whole else mean.astype(np.float32)
    # A constant channel, or one whose deviation is 0 in float32, carries no information.
    std = np.array([value if value > np.finfo(np.float32).tiny else 1.0 for value in statistics.std])
    rest = (mean - origin.astype(np.float64)).astype(np.float32)
    return (_difference(images, origin) - rest) / std.astype(np.float32)


def _standardized_each(images: Shaped[Array, "batch *spatial channel"], axes: tuple[int, ...]) -> Array:
    """(image - mean) / std of each image over some axes; 0 where an image is constant."""
    origin = images[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(images.ndim))]
    x = _difference(images, origin)
    std = _deviation(x, axes)
    return (x - x.mean(axes, keepdims=True)) / jnp.where(std > np.finfo(np.float32).tiny, std, 1.0)


def _deviation(x: Float[Array, "batch *spatial channel"], axes: tuple[int, ...]) -> Float[Array, "batch *ones channel"]:
    """The standard deviation over some axes, which are kept; its gradient is 0, not NaN, for constant values."""
    variance = x.var(axes, keepdims=True)
    varies = variance > 0
    return jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 0)


def _difference(
    images: Shaped[Array, "batch *spatial channel"], origin: Shaped[Array | np.ndarray, "*#origin"]
) -> Float[Array, "batch *spatial channel"]:
    """images - origin in float32, correctly rounded also for int32, whose upper and lower halves are subtracted separately."""
    if images.dtype == jnp.int32:
        upper = ((images >> 16) - (origin >> 16)).astype(jnp.float32)
        return upper * 2**16 + ((images & 0xFFFF) - (origin & 0xFFFF)).astype(jnp.float32)
    return images.astype(jnp.float32) - origin.astype(jnp.float32)


def local_contrast_normalize(
    images: Float[Array, "batch height width channel"], window: int, epsilon: float = 1e-4
) -> Float[Array, "batch height width channel"]:
    """Subtractive and divisive normalisation in a Gaussian window over all channels (Jarrett et al., ICCV 2009).

    v = x - sum_{pq} w_pq x,   y = v / max(mean(sigma), sigma),   sigma^2 = sum_{pq} w_pq v^2,

    where w is a Gaussian with sum 1 over the window and the channels, and mean(sigma) is over the image. At the border
    the weights inside the image are rescaled to sum 1.

    Args:
      images: the float images.
      window: the width of the window in pixels, odd; the Gaussian's standard deviation is a quarter of it.
      epsilon: the smallest divisor.

    Raises:
      ValueError: the window is even, so that it has no central pixel; or the images do not have two spatial axes.
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
