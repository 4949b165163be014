"""Files that Pillow would cut, and .npy files, against what was written into them."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from cnnjax.data import array_files, transforms
from tests.data.test_transforms import UPRIGHT, sixteen_bit_png

BANDS = np.random.RandomState(0).randint(0, 65536, (6, 9, 7)).astype(np.uint16)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def tif(array, **settings):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric="minisblack", **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd"])
@pytest.mark.parametrize("layout", ["planar", "interleaved", "tiled", "big"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_six_bands_are_read_however_they_are_laid_out(layout, compression, dtype):
    bands = BANDS.astype(dtype)
    interleaved = np.moveaxis(bands, 0, -1)
    content = {
        "planar": lambda: tif(bands, planarconfig="separate", compression=compression),
        "interleaved": lambda: tif(
            interleaved, planarconfig="contig", compression=compression, predictor=bool(compression)
        ),
        "tiled": lambda: tif(interleaved, planarconfig="contig", compression=compression, tile=(16, 16)),
        "big": lambda: tif(interleaved, planarconfig="contig", compression=compression, bigtiff=True, byteorder=">"),
    }[layout]()
    decoded = transforms.decode(content, "bands.tif")
    assert decoded.dtype == dtype and decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, interleaved)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("channels", [1, 6])
def test_deep_tiffs_are_turned_upright_as_they_say(channels, orientation):
    stored = np.moveaxis(BANDS, 0, -1)[..., :channels]
    content = tif(
        stored if channels > 1 else stored[..., 0], planarconfig="contig", extratags=[(274, "H", 1, orientation, True)]
    )
    np.testing.assert_array_equal(transforms.decode(content, "held.tif"), UPRIGHT[orientation](stored))


def test_deep_colour_pngs_are_turned_upright_as_they_say():
    stored = BANDS[:4].transpose(1, 2, 0)
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[274] = 6
    Image.new("L", (1, 1)).save(buffer, "PNG", exif=exif)
    chunk = buffer.getvalue()[33 : buffer.getvalue().index(b"IDAT") - 4]
    content = sixteen_bit_png(4, stored)
    content = content[:33] + chunk + content[33:]
    np.testing.assert_array_equal(transforms.decode(content, "held.png"), UPRIGHT[6](stored))


def test_pages_are_not_dropped():
    with pytest.raises(
        ValueError, match=r"^stack.tif: a TIFF with 6 pages.*: save it as one page with 6 bands, or as .npy"
    ):
        transforms.decode(tif(BANDS), "stack.tif")
    with pytest.raises(ValueError, match="6 pages"):
        transforms.decode(tif(BANDS.astype(np.float64)), "stack.tif")
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(BANDS[0])
        writer.write(BANDS[0, ::2, ::2], subfiletype=1)  # a smaller copy
    np.testing.assert_array_equal(transforms.decode(buffer.getvalue(), "a.tif")[..., 0], BANDS[0])


def test_transparency_of_a_deep_png_of_grey_is_kept():
    content = sixteen_bit_png(1, BANDS[0])
    image = Image.open(io.BytesIO(content))
    image.load()
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=int(BANDS[0, 0, 0]))
    decoded = transforms.decode(buffer.getvalue(), "clear.png")
    np.testing.assert_array_equal(decoded[..., 0], BANDS[0])
    np.testing.assert_array_equal(decoded[..., 1] == 0, BANDS[0] == BANDS[0, 0, 0])


@pytest.mark.parametrize(
    ("shape", "spatial_axes", "expected"),
    [
        ((5,), None, (5, 1)),
        ((5, 6), None, (5, 6, 1)),
        ((5, 6, 3), None, (5, 6, 3)),
        ((5, 6, 7, 2), None, (5, 6, 7, 2)),
        ((5, 6), 1, (5, 6)),
        ((5,), 1, (5, 1)),
        ((5, 6, 7), 3, (5, 6, 7, 1)),
        ((5, 6), 2, (5, 6, 1)),
    ],
)
def test_the_axes_of_arrays_are_spatial_ones_and_channels(shape, spatial_axes, expected):
    values = np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
    decoded = transforms.decode(npy(values), "a.npy", spatial_axes)
    assert decoded.shape == expected and decoded.dtype == np.int16
    np.testing.assert_array_equal(decoded.ravel(), values.ravel())
    np.testing.assert_array_equal(transforms.decode(values, "a", spatial_axes), decoded)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (np.array([[True, False]]), np.uint8),
        (np.array([[1, -2]], np.int8), np.int16),
        (np.array([[1, -2]], np.int64), np.int32),
        (np.array([[1, 70000]], np.uint64), np.int32),
        (np.array([[1, 2]], ">u2"), np.uint16),
        (np.array([[1.5, 2]]), np.float32),
        (np.array([[1.5, 2]], np.float16), np.float16),
    ],
)
def test_numbers_are_stored_in_a_type_that_holds_them(given, stored):
    decoded = transforms.decode(npy(given), "a.npy")
    assert decoded.dtype == stored and decoded.dtype.isnative
    np.testing.assert_array_equal(decoded[..., 0], given)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(BANDS)[:200], "a damaged .npy file"),
        (array_files.NPY, "a damaged .npy file"),
        (npy(np.array([[1, np.nan]])), "values that are not finite"),
        (npy(np.array([[1e300]])), "values that are not finite"),
        (npy(np.array([[1j]])), "expected integers or real numbers, got complex128"),
        (
            npy(np.array([[2**40]])),
            r"int64 values of 1099511627776 to 1099511627776 do not fit int32: give float32",
        ),
        (npy(np.array(3)), r"an array with 0 axes, \(\): expected 1 to 4"),
        (npy(np.zeros((1, 2, 2, 2, 1))), "an array with 5 axes.*dataset.spatial_axes"),
        (npy(np.zeros((0, 2))), r"an empty array, \(0, 2\)"),
        (tif(np.moveaxis(BANDS, 0, -1), planarconfig="contig")[:300], "a damaged TIFF"),
        (sixteen_bit_png(3, BANDS[0, :, :6])[:60], "a damaged image"),
    ],
)
def test_what_cannot_be_read_is_named(content, message):
    with pytest.raises(ValueError, match=rf"^bad\.file: .*{message}"):
        transforms.decode(content, "bad.file")


def test_objects_are_not_unpickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"bad.npy: objects instead of numbers"):
        transforms.decode(buffer.getvalue(), "bad.npy")


@pytest.mark.parametrize(
    ("module", "content"),
    [
        ("imagecodecs", sixteen_bit_png(3, BANDS[0, :, :6])),
        ("tifffile", tif(np.moveaxis(BANDS, 0, -1), planarconfig="contig")),
    ],
)
def test_without_the_extra_it_is_named(monkeypatch, module, content):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=r"deep.file: a (PNG|TIFF) of .* pip install 'cnnjax\[images\]'"):
        transforms.decode(content, "deep.file")
