"""Lossless reading of .npy files and of image files whose values Pillow would truncate.

Pillow reads up to four channels of 8 bits, and one channel of more bits. PNG with 16 bits in colour, and TIFF with any
number of bits and bands, are read by imagecodecs and tifffile, the extra `[images]`.
"""

import io
import warnings
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Shaped

# The first bytes of a .npy file.
NPY = b"\x93NUMPY"
# The types of stored images, on the host and on the devices.
STORED = ("uint8", "uint16", "int16", "int32", "float16", "float32")
# The number of axes of an array, the last of which may be channels -> the default number of spatial axes.
SPATIAL_AXES: Mapping[int, int] = {1: 1, 2: 2, 3: 2, 4: 3}
# EXIF orientation -> the function that turns an array (height, width, channel) upright (Exif 2.32, section 4.6.5, tag 274).
_UPRIGHT: Mapping[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, 1),
}
_EXTRA = "needs tifffile and imagecodecs: pip install 'cnnjax[images]'"


def read_png(content: bytes, name: str) -> Shaped[np.ndarray, "height width channel"]:
    """The values of a PNG with 16 bits: grey, grey with alpha, RGB, or RGBA.

    Raises:
      ValueError: the file is damaged.
      ImportError: imagecodecs is not installed.
    """
    try:
        import imagecodecs
    except ImportError:
        raise ImportError(f"{name}: a PNG of 16 bits in more than one channel {_EXTRA}") from None
    try:
        pixels = imagecodecs.png_decode(content)
    except (imagecodecs.PngError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: a damaged image ({error})") from None
    return as_image(pixels[..., None] if pixels.ndim == 2 else pixels, name)


def read_ppm(
    content: bytes, size: tuple[int, int], start: int, plain: bool, name: str
) -> Shaped[np.ndarray, "height width channel"]:
    """The unscaled values of a PPM: red, green and blue with 9 to 16 bits (netpbm.sourceforge.net/doc/ppm.html).

    Args:
      content: the bytes of the file.
      size: width and height.
      start: the position of the first value, after the header.
      plain: whether the values are decimal numbers instead of two bytes each, the high byte first.
      name: the name of the file in messages.

    Raises:
      ValueError: the file is damaged.
    """
    (width, height), found = size, content[start:]
    try:
        values = np.array(found.split(), np.uint16) if plain else np.frombuffer(found[: 6 * width * height], ">u2")
        return values.reshape(height, width, 3).astype(np.uint16)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name}: a damaged image ({error})") from None


def read_tiff(content: bytes, name: str) -> Shaped[np.ndarray, "height width channel"]:
    """The bands of a TIFF of any layout, turned upright according to its orientation tag.

    Raises:
      ValueError: the file is damaged, or it has several pages or planes.
      ImportError: tifffile is not installed.
    """
    try:
        import tifffile
    except ImportError:
        raise ImportError(f"{name}: a TIFF of more than 8 bits or 3 channels {_EXTRA}") from None
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages.first
            pages = sum(not other.is_reduced and not other.is_mask for other in file.pages if other.shape == page.shape)
            axes, bands = page.axes, page.asarray()
            orientation = page.tags.valueof(274, default=1)
    except Exception as error:  # each codec raises its own exceptions for damaged files
        reason = str(error).splitlines() or [type(error).__name__]
        raise ValueError(f"{name}: a damaged TIFF, or one that tifffile cannot read ({reason[0]})") from None
    if pages > 1:
        raise ValueError(f"{name}: a TIFF with {pages} pages: save it as one page with {pages} bands, or as .npy")
    if axes == "SYX":
        bands = np.moveaxis(bands, 0, -1)
    elif axes == "YX":
        bands = bands[..., None]
    elif axes != "YXS":
        raise ValueError(
            f"{name}: a TIFF with axes {axes}: expected height, width and bands; for volumes use .npy files"
        )
    return as_image(upright(bands, int(orientation)), name)


def read_npy(content: bytes, name: str) -> Shaped[np.ndarray, "..."]:
    """The array of a .npy file.

    Raises:
      ValueError: the file is damaged, or does not hold numbers.
    """
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, MemoryError) as error:
        reason = "objects instead of numbers" if "allow_pickle" in str(error) else f"a damaged .npy file ({error})"
        raise ValueError(f"{name}: {reason}") from None
    return as_image(array, name)


def read_wav(content: bytes, name: str) -> Shaped[np.ndarray, "length channel"]:
    """The samples of a WAV file in their stored type; 24-bit samples are the upper bits of 32.

    Raises:
      ValueError: the file is damaged, or has no samples.
    """
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # about chunks that are not samples
            _, samples = wavfile.read(io.BytesIO(content))
    except Exception as error:  # SciPy's reader raises many kinds of exceptions for damaged files
        reason = str(error).splitlines() or [type(error).__name__]
        raise ValueError(
            f"{name}: a damaged WAV file, or one with a coding that SciPy cannot read ({reason[0]})"
        ) from None
    if not samples.size:
        raise ValueError(f"{name}: a WAV file without samples")
    return as_image(with_channels(samples, name, 1), name)


def upright(
    pixels: Shaped[np.ndarray, "height width channel"], orientation: int
) -> Shaped[np.ndarray, "upright_height upright_width channel"]:
    """An array turned according to EXIF's orientation, 1 to 8; with another number, unchanged."""
    return np.ascontiguousarray(_UPRIGHT.get(orientation, lambda x: x)(pixels))


def with_channels(
    array: Shaped[np.ndarray, "..."], name: str, spatial_axes: int | None
) -> Shaped[np.ndarray, "*spatial channel"]:
    """An array with a last axis of channels, which is added if it has none.

    Args:
      array: the array.
      name: the name of the file in messages.
      spatial_axes: the number of axes before the channels; None takes (length), (height, width), (height, width, channel) and
        (depth, height, width, channel).

    Raises:
      ValueError: the array has another number of axes, or is empty.
    """
    spatial = spatial_axes or SPATIAL_AXES.get(array.ndim, 0)
    if not spatial or array.ndim not in (spatial, spatial + 1):
        expected = f"{spatial} or {spatial + 1}" if spatial else "1 to 4"
        raise ValueError(
            f"{name}: an array with {array.ndim} axes, {array.shape}: expected {expected}, the last for channels (dataset.spatial_axes "
            "sets the number of axes before it)"
        )
    if 0 in array.shape:
        raise ValueError(f"{name}: an empty array, {array.shape}")
    return array[..., None] if array.ndim == spatial else array


def as_stored(values: Shaped[np.ndarray, "..."], where: str) -> Shaped[np.ndarray, "..."]:
    """Converts numbers to a type of stored images without change, except that float64 loses the digits beyond float32.

    Args:
      values: the numbers; float64 beyond the range of float32 becomes infinite.
      where: the name of the values in messages.

    Raises:
      ValueError: no stored type holds them.
    """
    kind, dtype = values.dtype.kind, values.dtype
    if kind == "b":
        return values.view(np.uint8)
    if dtype.name in STORED:
        return values if dtype.isnative else values.astype(dtype.newbyteorder("="))
    if dtype.name == "int8":
        return values.astype(np.int16)
    if kind in "iu":
        limits = np.iinfo(np.int32)
        if values.size and not limits.min <= values.min() <= values.max() <= limits.max:
            raise ValueError(
                f"{where}: {dtype} values of {values.min()} to {values.max()} do not fit int32: give float32, or smaller numbers"
            )
        return values.astype(np.int32)
    if kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    raise ValueError(f"{where}: expected integers or real numbers, got {dtype}: images.astype(np.float32)")


def as_image(values: Shaped[np.ndarray, "..."], where: str) -> Shaped[np.ndarray, "..."]:
    """The values of one image, converted to a type of stored images.

    Raises:
      ValueError: no stored type holds them, or some are not finite in it.
    """
    stored = as_stored(values, where)
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        raise ValueError(f"{where}: values that are not finite in {stored.dtype} (NaN, infinite or too large)")
    return stored
