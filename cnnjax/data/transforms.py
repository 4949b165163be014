"""Deterministic image transforms: what is done to every image of every split, and again when predicting.

Two stages. `prepare` turns one decoded picture into an array of a fixed shape and type, on the host, once: its result is
cached. `normalize` turns a batch of them into float32, on the device, inside the compiled step.

A decoded image is a Pillow picture of 8 bits a value, or an array (*spatial, channel) of anything else: more bits, other
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
from cnnjax.data import array_files

# An image as it is decoded, and what an image file holds or stands for before it is.
Decoded = Image.Image | Shaped[np.ndarray, "*spatial channel"]
Content = bytes | Image.Image | np.ndarray
ColorSpace = Literal["grey", "rgb", "ycbcr", "hsv", "rgba"]
_PILLOW_MODES = {"grey": "L", "rgb": "RGB", "ycbcr": "YCbCr", "hsv": "HSV", "rgba": "RGBA"}
# The colour space of a picture, by its number of channels.
_OF_CHANNELS: Mapping[int, ColorSpace] = {1: "grey", 3: "rgb", 4: "rgba"}
# Pillow's modes of 8 bits a value. CMYK is a colour in four inks, converted and not cut.
_EIGHT_BITS = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LA", "PA", "RGBA"}
# The types of `dataset.depth`.
_DEPTHS = {8: "uint8", 16: "uint16", 32: "float32"}
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
# The brands by which a HEIF file says that it holds HEVC images (ISO/IEC 23008-12), as telephones write them, under the name .jpg too.
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# What Pillow raises of damaged files.
_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, struct.error)
# The values that are measured, hashed or checked at a time: some 128 MiB of them in float64.
BLOCK_VALUES = 2**24
# Of red, green and blue in grey (ITU-R BT.601), as Pillow weighs them.
_LUMA = np.array([0.299, 0.587, 0.114])
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
        "grey, rgb, ycbcr, hsv, or rgba, whose fourth channel is the opacity; None keeps the data set's, which of files is the "
        "first training file's: every channel, but an alpha channel of 8 bits that is fully opaque",
    ] = None
    depth: Annotated[
        Literal[8, 16, 32] | None,
        "bits of a stored value: 8 (uint8) and 16 (uint16) scale unsigned integers by 257, 32 (float32) keeps values; None keeps "
        "the data set's, which of files is the first training file's",
    ] = None
    spatial_axes: Annotated[
        Literal[1, 2, 3] | None,
        "of the arrays in .npy files, the axes before the channels', which may be absent: 1 of signals, 2 of images, 3 of volumes; "
        "None takes (length), (height, width), (height, width, channel) and (depth, height, width, channel)",
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


def decode(content: Content, name: str, spatial_axes: int | None = None) -> Decoded:
    """Decodes an image file, and turns the picture upright where its EXIF data say how the camera was held.

    Args:
      content: the file's bytes; or a Pillow picture or an array, which are decoded already.
      name: the image's name in messages.
      spatial_axes: the axes of an array before its channels, as in `dataset.spatial_axes`.

    Returns:
      A Pillow picture where that holds all of the file, which is of 8 bits a value; or else an array.

    Raises:
      ValueError: the file is no image, or a damaged one, or one that cannot be read without losing some of it.
    """
    if isinstance(content, np.ndarray):
        return array_files.with_channels(array_files.as_image(content, name), name, spatial_axes)
    if isinstance(content, Image.Image):
        return _kept(content, name)
    if content.startswith(array_files.NPY):
        return array_files.with_channels(array_files.read_npy(content, name), name, spatial_axes)
    if content[:4] == b"MM\0+":  # BigTIFF with the high byte first, which Pillow takes for a damaged file
        return array_files.read_tiff(content, name)
    try:
        picture = Image.open(io.BytesIO(content))
        turned = (
            picture.tag_v2.get(_ORIENTATION) if picture.format == "TIFF" else None
        )  # Pillow turns those as it loads
        cut, levels = _cut_by_pillow(picture), _levels(picture)
        if cut is None:
            picture.load()
    except Image.DecompressionBombError:
        raise ValueError(f"{name}: too large an image (over {2 * Image.MAX_IMAGE_PIXELS:,} pixels)") from None
    except UnidentifiedImageError:
        if content[:4] in (b"II*\0", b"MM\0*", b"II+\0"):
            return array_files.read_tiff(content, name)
        if content[4:8] == b"ftyp" and content[8:12] in _HEIF:
            raise ValueError(f"{name}: a HEIC image, which is not read: convert it to JPEG") from None
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
    """Puts an image's name before the message of a ValueError that has none."""
    try:
        yield
    except ValueError as error:
        raise error if str(error).startswith(name) else ValueError(f"{name}: {error}") from None


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 is upright, or not said, or not readable."""
    try:
        return picture.getexif().get(_ORIENTATION, 1)
    except _DAMAGED:
        return 1


def _cut_by_pillow(picture: Image.Image) -> str | None:
    """What Pillow would cut, without a word, as it loads a file: the format that another reader knows, or a sentence."""
    if picture.format == "TIFF":
        bits, samples, kind = (max(np.atleast_1d(picture.tag_v2.get(tag, (1,)))) for tag in (258, 277, 339))
        if picture.n_frames > 1:
            size = picture.size
            picture.seek(1)
            page = picture.size == size and not picture.tag_v2.get(254, 0)  # no smaller copy, and no mask
            count = picture.n_frames
            picture.seek(0)
            if page:
                return f"a TIFF of {count} pages, of which one would be read: save it as one page with {count} bands, or as .npy"
        exact = {"I;16": (16, 1), "I;16B": (16, 1), "I": (32, 2), "F": (32, 3)}.get(picture.mode)
        if picture.mode in _EIGHT_BITS:
            read = len(picture.getbands()) - (picture.mode == "RGBX")  # whose fourth is taken for padding
            return "TIFF" if bits > 8 or samples > read else None
        return "TIFF" if exact and (*exact, 1) != (bits, kind, samples) else None
    if picture.format == "PNG" and picture.tile and ";16" in str(picture.tile[0][3]):
        return None if picture.mode.startswith("I") and "transparency" not in picture.info else "PNG"
    if picture.format == "PPM" and picture.tile and picture.mode == "RGB" and picture.tile[0][0].startswith("ppm"):
        return "PPM" if int(picture.tile[0][3][1]) > 255 else None  # the greatest value
    return None


def _levels(picture: Image.Image) -> int:
    """The greatest value that a picture of more than 8 bits can have, where Pillow stretches it to 65,535 as it loads."""
    stretched = picture.format == "PPM" and picture.mode == "I" and picture.tile and picture.tile[0][0] == "ppm"
    return int(picture.tile[0][3][1]) if stretched else 65535


def _kept(picture: Image.Image, name: str, levels: int = 65535) -> Decoded:
    """A picture whose pixels have 8 bits as it is, and of another its values as an array."""
    if picture.mode in _EIGHT_BITS:
        return picture
    if picture.mode != "F" and not picture.mode.startswith("I"):
        raise ValueError(f"{name}: pixels of Pillow's mode {picture.mode}: save it as grey, RGB or RGBA")
    values = np.asarray(picture)[..., None]
    if picture.format in ("PNG", "PPM") and picture.mode == "I":  # 16 bits without sign, in 32 with one
        values = np.rint(values * (levels / 65535)).astype(np.uint16)
    return array_files.as_image(values, name)


def kind(decoded: Decoded) -> tuple[int, str]:
    """The channels and the type that a data set has whose first image is this one.

    Pictures of 8 bits are colour, since those that are grey may stand among others in colour; they have a fourth channel, of
    opacity, if a pixel is not opaque. Arrays are what they are.
    """
    if isinstance(decoded, Image.Image):
        low, _ = _opacity(decoded)
        return (3 if low == 255 else 4), "uint8"
    return decoded.shape[-1], decoded.dtype.name


def as_picture(
    array: Shaped[np.ndarray, "height width channel"],
) -> Image.Image | Shaped[np.ndarray, "height width channel"]:
    """Values of 8 bits in 1, 3 or 4 channels as a picture, grey, RGB or RGBA; other arrays as they are."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in _OF_CHANNELS:
        return array
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def was_turned(decoded: Decoded) -> bool:
    """Whether `decode` turned a picture upright; of arrays it does not say."""
    return isinstance(decoded, Image.Image) and TURNED in decoded.info


def differing_sizes(name: str, shape: tuple[int, ...], other_name: str, other_shape: tuple[int, ...]) -> str:
    """That two prepared images differ in size, in words, and what to do."""
    size, other = ("x".join(map(str, one[:-1])) for one in (shape, other_shape))
    flat = len(shape) == len(other_shape) == 3
    advice = "set dataset.resize to one size, such as (64, 64)" if flat else "make them one size"
    return f"{name} is {size} and {other_name} {other}: {advice}"


def stored_kind(options: TransformOptions, channels: int, dtype: str) -> tuple[int, str]:
    """The channels and the type that prepared images have, of a data set whose files have these."""
    wanted = {"grey": 1, "rgba": 4, None: channels}.get(options.color_space, 3)
    return wanted, _DEPTHS.get(options.depth, dtype)


def _opacity(picture: Image.Image) -> tuple[int, int]:
    """The least and the greatest opacity of a picture's pixels, 0 to 255."""
    if not picture.has_transparency_data:
        return 255, 255
    return picture.convert("RGBA").getchannel("A").getextrema()


def holds(decoded: Decoded) -> str:
    """What an image holds, in words: its type and channels, and its spatial axes if they are not two."""
    if isinstance(decoded, Image.Image):
        return f"uint8, {picture_channels(decoded)}"
    axes = {2: "1 spatial axis, ", 3: "", 4: "3 spatial axes, "}[decoded.ndim]
    return f"{decoded.dtype}, {axes}{decoded.shape[-1]} channel{'s' if decoded.shape[-1] > 1 else ''}"


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
    """Refuses an image that would be cut, scaled or mixed with another kind, so that nothing changes in silence.

    Args:
      decoded: the image.
      options: which transforms; `color_space` and `depth` convert where that is possible.
      channels: the channels of the data set's files.
      dtype: the type of their values.

    Raises:
      ValueError: the message says what the image holds, and what to set.
    """
    found = decoded.dtype.name if isinstance(decoded, np.ndarray) else "uint8"
    if options.depth is None and found != dtype:
        raise ValueError(
            f"it holds {holds(decoded)}, and the data set's images are {dtype}: set dataset.depth to 8, 16 or 32 bits for all"
        )
    if options.depth in (8, 16) and found not in ("uint8", "uint16"):
        raise ValueError(
            f"it holds {holds(decoded)}, which have no range to scale to {options.depth} bits from: set dataset.depth to 32"
        )
    if isinstance(decoded, Image.Image):
        _check_channels_of_picture(decoded, options, channels)
    else:
        _check_channels_of_array(decoded, options, channels)


def _check_channels_of_picture(picture: Image.Image, options: TransformOptions, channels: int) -> None:
    color_space = options.color_space or _OF_CHANNELS.get(channels)
    if color_space is None:
        raise ValueError(
            f"it holds {holds(picture)}, and the data set's images have {channels} channels: give all files the same channels, or "
            "set dataset.color_space"
        )
    if color_space == "rgba":
        return
    low, high = _opacity(picture)  # which converts the picture, for each image that is read
    if low < 255:
        raise ValueError(
            f"an alpha channel that is not opaque ({low} to {high}), which {color_space} has not: set dataset.color_space to "
            "'rgba', or save it flattened onto one colour"
        )


def _check_channels_of_array(
    array: Shaped[np.ndarray, "*spatial channel"], options: TransformOptions, channels: int
) -> None:
    found, color_space = array.shape[-1], options.color_space
    if color_space is None:
        if found != channels:
            raise ValueError(
                f"it holds {holds(array)}, and the data set's images have {channels}: give all files the same channels"
                + (", or set dataset.color_space" if {found, channels} <= set(_OF_CHANNELS) else "")
            )
        return
    if array.ndim != 3 or found not in _OF_CHANNELS:
        raise ValueError(
            f"it holds {holds(array)}, which are no colour: leave dataset.color_space={color_space!r} out, or give images of 1, 3 "
            "or 4 channels"
        )
    if color_space in ("ycbcr", "hsv") and array.dtype != np.uint8:
        raise ValueError(
            f"it holds {holds(array)}, and {color_space} is of 8 bits: set dataset.depth to 8, or another color_space"
        )
    if color_space == "rgba" and found != 4 and array.dtype.kind != "u":
        raise ValueError(
            f"it holds {holds(array)}, of which no value means opaque: give 4 channels, or leave dataset.color_space out"
        )
    if color_space != "rgba" and found == 4:
        low, high = array[..., 3].min(), array[..., 3].max()
        if array.dtype.kind != "u" or low < np.iinfo(array.dtype).max:
            raise ValueError(
                f"it holds {holds(array)}, the fourth of {low:g} to {high:g}, which {color_space} has not: set dataset.color_space to "
                "'rgba', or save it flattened onto one colour"
            )


def read_image(path: Path, spatial_axes: int | None = None) -> Decoded:
    """Reads an image file; see `decode` for what is raised."""
    return decode(path.read_bytes(), str(path), spatial_axes)


def prepare(
    decoded: Decoded, options: TransformOptions, channels: int, dtype: str = "uint8"
) -> Shaped[np.ndarray, "*spatial channel"]:
    """Colour space, depth, resizing, cropping and padding of one image.

    Args:
      decoded: a picture of any mode, or an array.
      options: which transforms.
      channels: of the data set's files; used where `options.color_space` is None.
      dtype: of the data set's files; used where `options.depth` is None.

    Raises:
      ValueError: it is empty, smaller than the crop, larger than what it is padded to, or of another kind (`check_kind`).
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
            f"it holds {holds(image)}, and resizing, cropping and padding are for images of two spatial axes: leave dataset.resize, "
            "dataset.crop, dataset.pad and augment.resized_crop out"
        )
    return size_of(image)


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


def _pixels(image: Decoded) -> Shaped[np.ndarray, "*spatial channel"]:
    pixels = np.ascontiguousarray(image) if isinstance(image, np.ndarray) else np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 and isinstance(image, Image.Image) else pixels


def _converted(decoded: Decoded, options: TransformOptions, channels: int, dtype: str) -> Decoded:
    """The image in the data set's channels and type; a picture where those are 8 bits, or else an array."""
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
    if "transparency" in picture.info and mode != "RGBA":  # all opaque; Pillow warns where it is left out
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
    """Values in another type: between 8 and 16 bits without sign the greatest value stays the greatest."""
    if array.dtype.name == "uint8" and dtype == "uint16":
        return array.astype(np.uint16) * np.uint16(257)
    if array.dtype.name == "uint16" and dtype == "uint8":
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)  # the nearest
    return array.astype(dtype, copy=False)


def size_of(image: Decoded) -> tuple[int, ...]:
    """The lengths of an image's spatial axes: height and width of a picture."""
    return image.shape[:-1] if isinstance(image, np.ndarray) else (image.height, image.width)


def resize(
    image: Decoded,
    size: tuple[int, int],
    mode: Literal["crop", "stretch"],
    sampling: Image.Resampling = Image.Resampling.BILINEAR,
) -> Decoded:
    """An image of a height and width: bilinear, with antialiasing, or as `sampling` says. "crop" is torchvision's Resize (the other side's length rounded down) and CenterCrop.

    Values of an array are interpolated in float32, and whole numbers rounded.
    """
    (height, width), (rows, columns) = size, size_of(image)
    if mode == "stretch":
        covering = width, height
    elif columns * height >= rows * width:
        covering = max(width, height * columns // rows), height
    else:
        covering = width, max(height, width * rows // columns)
    if covering == (columns, rows):
        return center_crop(image, size)
    if covering[0] * covering[1] <= 16 * width * height:
        return center_crop(_scaled(image, *covering, sampling=sampling), size)
    # An image 1 pixel high and 100,000 wide would grow to gigabytes: only what the crop keeps is computed, which differs
    # by a level here and there.
    left, top, right, bottom = _center_box(covering, size)
    x, y = columns / covering[0], rows / covering[1]
    return _scaled(image, width, height, (left * x, top * y, right * x, bottom * y), sampling)


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
    """Real numbers in a type, rounded to whole numbers within its range where that has no others."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.rint(values.astype(np.float64)).clip(limits.min, limits.max).astype(dtype)


def center_crop(image: Decoded, size: tuple[int, int]) -> Decoded:
    """The centre of an image, of a height and width; raises ValueError if the image is smaller."""
    (height, width), (rows, columns) = size, size_of(image)
    if height > rows or width > columns:
        raise ValueError(f"an image of {rows}x{columns} cannot be cropped to {height}x{width}: set dataset.resize")
    left, top, right, bottom = box = _center_box((columns, rows), size)
    if isinstance(image, np.ndarray):
        return image[top:bottom, left:right]
    return image if image.size == (width, height) else image.crop(box)


def _center_box(whole: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the centre; half a pixel goes to the even side, as in torchvision."""
    left, top = round((whole[0] - size[1]) / 2), round((whole[1] - size[0]) / 2)
    return left, top, left + size[1], top + size[0]


def pad(
    image: Shaped[np.ndarray, "height width channel"], size: tuple[int, int], value: int = 0
) -> Shaped[np.ndarray, "h w channel"]:
    """Zeros, or another value, around the image up to `size`, the image in the middle (an odd pixel goes below and right).

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
        # As TensorFlow's per_image_standardization: an image of one colour is not blown up.
        floor = 1 / np.sqrt(np.prod([x.shape[axis] for axis in axes]))
        return (x - x.mean(axes, keepdims=True)) / jnp.maximum(_deviation(x, axes), floor)
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
    std = _deviation(x, axes)
    return (x - x.mean(axes, keepdims=True)) / jnp.where(std > np.finfo(np.float32).tiny, std, 1.0)


def _deviation(x: Float[Array, "batch *spatial channel"], axes: tuple[int, ...]) -> Float[Array, "batch *ones channel"]:
    """The standard deviation over some axes, which are kept; its gradient is 0, not NaN, where nothing varies."""
    variance = x.var(axes, keepdims=True)
    varies = variance > 0
    return jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 0)


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
