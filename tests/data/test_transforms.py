import io
import math
import struct
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnnjax.data import transforms
from cnnjax.data.transforms import Statistics, TransformOptions


def picture(height, width, channels=3, seed=0):
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, channels)).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_message_has_the_images_name_once():
    for message in ("an empty image", "photo.png: an empty image"):
        with pytest.raises(ValueError, match=r"^photo\.png: an empty image$"), transforms.naming("photo.png"):
            raise ValueError(message)
    with pytest.raises(KeyError), transforms.naming("photo.png"):
        raise KeyError("other errors stay")


def test_without_options_the_pixels_are_the_pictures_own():
    for channels in (1, 3):
        image = picture(5, 7, channels)
        prepared = transforms.prepare(image, TransformOptions(), channels)
        assert prepared.shape == (5, 7, channels) and prepared.dtype == np.uint8
        np.testing.assert_array_equal(prepared.squeeze(), np.asarray(image))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1", "LA", "PA", "YCbCr"])
def test_any_mode_of_picture_becomes_the_channels_asked_for(mode):
    image = picture(6, 6).convert("P" if mode == "PA" else mode).convert(mode)
    for channels in (1, 3):
        assert transforms.prepare(image, TransformOptions(), channels).shape == (6, 6, channels)


def test_a_fully_opaque_alpha_channel_is_left_out_and_nothing_else_changes():
    image = picture(6, 7)
    for opaque in (image.convert("RGBA"), transforms.decode(png(image.convert("RGBA")), "opaque.png")):
        np.testing.assert_array_equal(transforms.prepare(opaque, TransformOptions(), 3), np.asarray(image))
    palette = picture(6, 7).quantize(16)
    palette.info["transparency"] = bytes([255] * 16)  # of which Pillow warns when it is left out
    expected = np.asarray(palette.convert("RGBA"))[..., :3]
    np.testing.assert_array_equal(transforms.prepare(palette, TransformOptions(), 3), expected)
    assert "transparency" in palette.info


def sixteen_bit_png(channels, values):
    """Written by hand (RFC 2083), since Pillow writes 16 bits of grey alone."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = np.asarray(values, ">u2").reshape(len(values), -1)
    header = struct.pack(
        ">IIBBBBB", rows.shape[1] // channels, len(rows), 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0
    )
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(pixels, kind=1, extra=()):
    """Written by hand (TIFF 6.0): (height, width, channel), one strip; `kind` is 1 for whole numbers and 3 for floats."""
    height, width, channels = pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    arrays, entries, at = b"", [], 8 + len(data)
    fields = [(256, [width]), (257, [height]), (258, [8 * pixels.itemsize] * channels), (259, [1]),
              (262, [2 if channels > 2 else 1]), (273, [8]), (277, [channels]), (278, [height]), (279, [len(data)]),
              *([(338, list(extra))] if extra else []), (339, [kind] * channels)]  # fmt: skip
    for tag, values in fields:
        packed = np.array(values, "<u4").tobytes()
        if len(values) > 1:
            packed, arrays = struct.pack("<I", at + len(arrays)), arrays + packed
        entries.append(struct.pack("<HHI", tag, 4, len(values)) + packed)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", at + len(arrays)) + data + arrays + directory


def saved(image, file_format):
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return buffer.getvalue()


DEEP = np.array([[0, 600], [300, 7]], np.uint16)
COLOURS = np.arange(24, dtype=np.uint16).reshape(2, 3, 4) * 2500
READ = {
    "a 16-bit grey PNG": (png(Image.fromarray(DEEP)), DEEP[..., None]),
    "a 16-bit colour PNG": (sixteen_bit_png(3, COLOURS[..., :3]), COLOURS[..., :3]),
    "a 16-bit PNG of grey and alpha": (sixteen_bit_png(2, COLOURS[..., :2]), COLOURS[..., :2]),
    "a 16-bit PNG of colour and alpha": (sixteen_bit_png(4, COLOURS), COLOURS),
    "a 16-bit TIFF": (saved(Image.fromarray(DEEP), "TIFF"), DEEP[..., None]),
    "a signed 16-bit TIFF": (tiff(DEEP[..., None].astype(np.int16) - 300, 2), DEEP[..., None].astype(np.int16) - 300),
    "an unsigned 32-bit TIFF": (tiff(DEEP[..., None].astype(np.uint32)), DEEP[..., None].astype(np.int32)),
    "a 32-bit TIFF": (saved(Image.fromarray(DEEP.astype(np.int32)), "TIFF"), DEEP[..., None].astype(np.int32)),
    "a float TIFF": (saved(Image.fromarray((DEEP / 600).astype(np.float32)), "TIFF"), (DEEP / 600).astype("f4")[..., None]),
    "a double TIFF": (tiff(DEEP[..., None] / 600, 3), (DEEP / 600).astype(np.float32)[..., None]),
    "a 16-bit colour TIFF": (tiff(COLOURS[..., :3]), COLOURS[..., :3]),
    "a float colour TIFF": (tiff(COLOURS[..., :3].astype(np.float32), 3), COLOURS[..., :3].astype(np.float32)),
    "a TIFF of four bands": (tiff(COLOURS.astype(np.uint8), extra=(0,)), COLOURS.astype(np.uint8)),
    "a PGM of 1000 levels": (b"P5 2 1 1000\n" + np.array([7, 1000], ">u2").tobytes(), np.array([[[7], [1000]]], np.uint16)),
    "a PGM of 65535 levels": (b"P5 2 1 65535\n" + np.array([7, 600], ">u2").tobytes(), np.array([[[7], [600]]], np.uint16)),
    "a PPM of 1000 levels": (b"P6 2 1\n# by hand\n1000\n" + COLOURS[:1, :2, :3].astype(">u2").tobytes(), COLOURS[:1, :2, :3]),
    "a plain PPM of 1000 levels": (b"P3 2 1 1000\n1 2 300\n7 1000 0\n", np.array([[[1, 2, 300], [7, 1000, 0]]], np.uint16)),
}  # fmt: skip
LOST = {
    "a PPM that ends early": (b"P6 2 1 1000\n" + bytes(11), "a damaged image"),
    "a plain PPM that ends early": (b"P3 2 1 1000\n1 2 3 4", "a damaged image"),
    "LAB": (saved(Image.new("LAB", (2, 2)), "TIFF"), "mode LAB: save it as grey, RGB or RGBA"),
}


@pytest.mark.parametrize("name", READ)
def test_values_of_more_than_8_bits_and_more_channels_are_read_as_they_are(name):
    content, values = READ[name]
    decoded = transforms.decode(content, "deep.file")
    assert decoded.dtype == values.dtype
    np.testing.assert_array_equal(decoded, values)
    channels, dtype = transforms.kind(decoded)
    prepared = transforms.prepare(decoded, TransformOptions(), channels, dtype)
    np.testing.assert_array_equal(prepared, values)
    assert prepared.dtype == values.dtype


@pytest.mark.parametrize("name", LOST)
def test_what_would_be_lost_is_refused(name):
    content, message = LOST[name]
    with pytest.raises(ValueError, match=rf"^lost\.file: .*{message}"):
        transforms.decode(content, "lost.file")


def test_the_tiffs_of_this_file_are_read_where_they_hold_8_bits():
    pixels = np.asarray(picture(4, 5))
    np.testing.assert_array_equal(np.asarray(transforms.decode(tiff(pixels), "a.tif")), pixels)
    opaque = np.concatenate([pixels, np.full((4, 5, 1), 255, np.uint8)], -1)
    prepared = transforms.prepare(transforms.decode(tiff(opaque, extra=(2,)), "a.tif"), TransformOptions(), 3)
    np.testing.assert_array_equal(prepared, pixels)


def test_a_palette_with_a_transparent_colour_has_four_channels_where_it_is_used():
    image = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8)).convert("P")
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0)
    decoded = transforms.decode(buffer.getvalue(), "a.png")
    assert transforms.kind(decoded) == (4, "uint8")
    prepared = transforms.prepare(decoded, TransformOptions(), 4)
    np.testing.assert_array_equal(prepared[..., 3], [[0, 255], [255, 255]])
    with pytest.raises(
        ValueError, match=r"not opaque \(0 to 255\), which rgb does not have: set dataset.color_space to 'rgba'"
    ):
        transforms.prepare(decoded, TransformOptions(), 3)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=5)
    assert transforms.prepare(transforms.decode(buffer.getvalue(), "a.png"), TransformOptions(), 3).shape == (2, 2, 3)


RGBA = np.random.RandomState(0).randint(0, 256, (6, 5, 4)).astype(np.uint8)


def test_an_alpha_channel_is_kept_and_opaque_where_a_picture_has_none():
    decoded = transforms.decode(png(Image.fromarray(RGBA)), "a.png")
    assert transforms.kind(decoded) == (4, "uint8")
    np.testing.assert_array_equal(transforms.prepare(decoded, TransformOptions(), 4), RGBA)
    np.testing.assert_array_equal(transforms.prepare(decoded, TransformOptions(color_space="rgba"), 3), RGBA)
    opaque = picture(6, 5)
    assert transforms.kind(opaque.convert("RGBA")) == (3, "uint8")
    for mode in ("RGB", "L", "CMYK", "HSV", "P", "LA"):
        prepared = transforms.prepare(
            opaque.convert("L" if mode == "LA" else mode).convert(mode), TransformOptions(), 4
        )
        expected = np.asarray(opaque.convert("L" if mode == "LA" else mode).convert("RGB"))
        np.testing.assert_array_equal(prepared[..., :3], expected, mode)
        assert (prepared[..., 3] == 255).all()


def test_depths_are_converted_where_that_is_asked_for():
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    eight = transforms.prepare(deep, TransformOptions(depth=8), 1, "uint16")
    np.testing.assert_array_equal(eight, np.rint(deep / 257).astype(np.uint8))
    shallow = picture(6, 7)
    sixteen = transforms.prepare(shallow, TransformOptions(depth=16), 3, "uint8")
    np.testing.assert_array_equal(sixteen, np.asarray(shallow).astype(np.uint16) * 257)
    np.testing.assert_array_equal(
        transforms.prepare(sixteen, TransformOptions(depth=8), 3, "uint8"), np.asarray(shallow)
    )
    for image in (shallow, np.asarray(shallow), np.asarray(shallow).astype(np.int16)):
        floats = transforms.prepare(image, TransformOptions(depth=32), 3, "uint8")
        assert floats.dtype == np.float32
        np.testing.assert_array_equal(floats, np.asarray(shallow))


GREY = np.random.RandomState(1).randint(0, 65536, (4, 5, 1)).astype(np.uint16)


def test_arrays_change_their_colour_space_where_that_is_asked_for():
    rgb = transforms.prepare(GREY, TransformOptions(color_space="rgb"), 1, "uint16")
    np.testing.assert_array_equal(rgb, np.repeat(GREY, 3, -1))
    np.testing.assert_array_equal(transforms.prepare(rgb, TransformOptions(color_space="grey"), 3, "uint16"), GREY)
    rgba = transforms.prepare(rgb, TransformOptions(color_space="rgba"), 3, "uint16")
    np.testing.assert_array_equal(rgba, np.concatenate([rgb, np.full((4, 5, 1), 65535)], -1))
    np.testing.assert_array_equal(transforms.prepare(rgba, TransformOptions(color_space="rgb"), 3, "uint16"), rgb)
    colours = np.asarray(picture(4, 5))
    for space in ("grey", "rgb", "ycbcr", "hsv", "rgba"):
        by_picture = transforms.prepare(picture(4, 5), TransformOptions(color_space=space), 3)
        np.testing.assert_array_equal(transforms.prepare(colours, TransformOptions(color_space=space), 3), by_picture)
    red = np.array([[[1000, 0, 0]]], np.int32)
    assert transforms.prepare(red, TransformOptions(color_space="grey"), 3, "int32").item() == 299


MIXED = {
    "deep among 8 bits": (DEEP[..., None], {}, (3, "uint8"), "it holds uint16, 1 channel, but .* images are uint8: set dataset.depth"),
    "8 bits among deep": (picture(2, 2), {}, (3, "uint16"), "it holds uint8, RGB, but .* images are uint16: set dataset.depth"),
    "floats to 8 bits": (DEEP[..., None] / np.float32(7), {"depth": 8}, (1, "float32"), "no range that can be scaled to 8 bits"),
    "colour among grey": (COLOURS[..., :3], {}, (1, "uint16"), "3 channels, but the data set's images have 1: .*dataset.color_space"),
    "six among four": (np.zeros((2, 2, 6), np.uint16), {}, (4, "uint16"), "6 channels, but .* have 4: give all files the same channels$"),
    "a picture among six": (picture(2, 2), {}, (6, "uint8"), "RGB, but the data set's images have 6 channels"),
    "six bands in colour": (np.zeros((2, 2, 6), np.uint16), {"color_space": "rgb"}, (6, "uint16"), "which is not a colour image: leave"),
    "a signal in colour": (np.zeros((2, 3), np.uint16), {"color_space": "rgb"}, (3, "uint16"), "1 spatial axis, .*not a colour image"),
    "deep hsv": (COLOURS[..., :3], {"color_space": "hsv"}, (3, "uint16"), "but hsv has 8 bits: set dataset.depth to 8"),
    "alpha left out": (COLOURS, {"color_space": "rgb"}, (4, "uint16"), "the fourth from 7500 to 57500, which rgb does not have"),
    "opacity of floats": (GREY / np.float32(3), {"color_space": "rgba"}, (1, "float32"), "where no value means opaque"),
    "a signal resized": (np.zeros((9, 3), np.uint16), {"resize": (2, 2)}, (3, "uint16"), "need two spatial axes: leave"),
    "a volume padded": (np.zeros((2, 2, 2, 1), "f4"), {"pad": (2, 2)}, (1, "float32"), "3 spatial axes, 1 channel, but resizing"),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_images_of_another_kind_than_the_data_sets_are_refused(name):
    image, options, kind, message = MIXED[name]
    with pytest.raises(ValueError, match=message):
        transforms.prepare(image, TransformOptions(**options), *kind)


def test_arrays_are_resized_cropped_and_padded_as_pictures_are():
    colours = picture(31, 47)
    for options in (
        {"resize": (16, 20)},
        {"resize": (16, 20), "resize_mode": "stretch"},
        {"resize": (16, 20), "resize_mode": "fit"},
        {"crop": (9, 20)},
        {"pad": (40, 51)},
    ):
        expected = transforms.prepare(colours, TransformOptions(**options), 3).astype(int)
        for factor, dtype in ((1, np.uint8), (257, np.uint16), (1, np.float32), (-100, np.int32)):
            array = (np.asarray(colours).astype(np.int32) * factor).astype(dtype)
            found = transforms.prepare(array, TransformOptions(**options), 3, array.dtype.name)
            assert found.dtype == dtype
            assert np.abs(found / factor - expected).max() <= 1.01


def test_pictures_that_do_not_come_from_files_are_read_or_refused_too():
    np.testing.assert_array_equal(
        transforms.prepare(Image.fromarray(DEEP), TransformOptions(), 1, "uint16")[..., 0], DEEP
    )
    for image, advice in ((Image.fromarray(DEEP), "dataset.depth"), (Image.new("RGBA", (3, 3)), "dataset.color_space")):
        with pytest.raises(ValueError, match=advice):
            transforms.prepare(image, TransformOptions(), 3)
        with pytest.raises(ValueError, match=advice):
            transforms.resized_part(image, (0, 0, 1, 1), (2, 2), TransformOptions(), 3)


# What a viewer does with stored pixels (Exif 2.32, tag 274: where row 0 and column 0 of the stored picture are).
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_pictures_are_turned_upright_as_their_exif_data_say(file_format, orientation):
    image, buffer, exif = picture(4, 7), io.BytesIO(), Image.Exif()
    exif[274] = orientation
    image.save(buffer, file_format, exif=exif, **({"lossless": True} if file_format == "WEBP" else {}))
    decoded = transforms.decode(buffer.getvalue(), "held.png")
    np.testing.assert_array_equal(np.asarray(decoded), UPRIGHT[orientation](np.asarray(image)))
    assert (transforms.TURNED in decoded.info) == (orientation != 1)


def test_an_orientation_that_cannot_be_read_is_none():
    image, buffer = picture(4, 7), io.BytesIO()
    image.save(buffer, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09")
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):  # Pillow's own
        decoded = transforms.decode(buffer.getvalue(), "a.png")
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(image))


def test_grey_follows_the_itu_r_601_luma():
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 50]]], np.uint8)
    grey = transforms.prepare(Image.fromarray(rgb), TransformOptions(color_space="grey"), 3)
    np.testing.assert_allclose(grey[0, :, 0], rgb[0] @ [0.299, 0.587, 0.114], atol=1)


def test_ycbcr_follows_jfif():
    rgb = np.random.RandomState(1).randint(0, 256, (4, 4, 3)).astype(np.uint8)
    result = transforms.prepare(Image.fromarray(rgb), TransformOptions(color_space="ycbcr"), 3)
    matrix = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    np.testing.assert_allclose(result, rgb @ matrix.T + [0, 128, 128], atol=1.01)


def test_hsv_agrees_with_the_standard_library():
    import colorsys

    rgb = np.random.RandomState(2).randint(0, 256, (3, 3, 3)).astype(np.uint8)
    result = transforms.prepare(Image.fromarray(rgb), TransformOptions(color_space="hsv"), 3)
    expected = [[np.multiply(colorsys.rgb_to_hsv(*(pixel / 255)), 255) for pixel in row] for row in rgb]
    np.testing.assert_allclose(result, expected, atol=1.01)


def test_crop_keeps_the_aspect_and_the_centre():
    # left third red, middle green, right third blue: a square crop of a 3:1 picture sees green alone
    pixels = np.zeros((10, 30, 3), np.uint8)
    for third in range(3):
        pixels[:, 10 * third : 10 * third + 10, third] = 255
    cropped = transforms.prepare(Image.fromarray(pixels), TransformOptions(resize=(10, 10)), 3)
    np.testing.assert_array_equal(cropped, np.broadcast_to([0, 255, 0], (10, 10, 3)))
    stretched = transforms.prepare(Image.fromarray(pixels), TransformOptions(resize=(10, 10), resize_mode="stretch"), 3)
    assert stretched[5, 0, 0] == 255 and stretched[5, 5, 1] == 255 and stretched[5, 9, 2] == 255


def test_fit_keeps_the_aspect_and_the_whole_picture():
    colours = picture(31, 47)
    for size, inner in (((40, 24), (16, 24)), ((62, 100), (62, 94)), ((1, 47), (1, 2)), ((31, 48), (31, 47))):
        found = transforms.prepare(colours, TransformOptions(resize=size, resize_mode="fit"), 3)
        expected = np.asarray(colours.resize(inner[::-1], Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(found, transforms.pad(expected, size))
    thin = transforms.prepare(Image.new("L", (500, 1), 9), TransformOptions(resize=(10, 20), resize_mode="fit"), 1)
    assert thin.sum() == 20 * 9 and thin[4].all()  # at least one pixel high


@pytest.mark.parametrize("size", [(300, 421), (421, 300), (256, 256), (90, 301), (257, 256)])
def test_resize_and_crop_are_torchvisions(size):
    """Resize(256) and CenterCrop(224): the shorter side to 256, the other rounded down, the centre of the whole picture."""
    image = picture(*size)
    height, width = size
    short = min(size)
    resized = image.resize((256 * width // short, 256 * height // short), Image.Resampling.BILINEAR)
    top, left = round((resized.height - 224) / 2), round((resized.width - 224) / 2)
    expected = np.asarray(resized)[top : top + 224, left : left + 224]
    result = transforms.prepare(image, TransformOptions(resize=(256, 256), crop=(224, 224)), 3)
    np.testing.assert_array_equal(result, expected)


def test_a_very_long_image_is_resized_without_growing_to_gigabytes():
    line = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (1, 401, 3)))
    result = transforms.prepare(line, TransformOptions(resize=(224, 224)), 3)
    assert result.shape == (224, 224, 3)
    middle = line.width // 2
    np.testing.assert_allclose(
        result[:, 112].astype(int), np.broadcast_to(np.asarray(line)[0, middle], (224, 3)), atol=2
    )


def test_cropping_a_smaller_image_is_refused():
    with pytest.raises(ValueError, match="8x9 cannot be cropped to 8x10: set dataset.resize"):
        transforms.prepare(picture(8, 9), TransformOptions(crop=(8, 10)), 3)


def test_resizing_to_the_same_size_changes_nothing():
    image = picture(8, 9)
    np.testing.assert_array_equal(transforms.prepare(image, TransformOptions(resize=(8, 9)), 3), np.asarray(image))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 5), st.integers(0, 5))
def test_padding_puts_the_image_in_the_middle_of_zeros(height, width, more, wider):
    image = np.ones((height, width, 1), np.uint8)
    padded = transforms.pad(image, (height + more, width + wider))
    assert padded.shape == (height + more, width + wider, 1) and padded.sum() == height * width
    assert padded[more // 2, wider // 2, 0] == 1


def test_padding_to_less_than_the_image_is_refused():
    with pytest.raises(ValueError, match="an image of 28x28 cannot be padded to 20x32"):
        transforms.pad(np.zeros((28, 28, 1), np.uint8), (20, 32))


def test_what_is_not_an_image_is_named():
    with pytest.raises(ValueError, match=r"notes.txt: not an image"):
        transforms.decode(b"hello", "notes.txt")
    with pytest.raises(ValueError, match=r"IMG_1.jpg: a HEIC image, which cannot be read: convert it to JPEG"):
        transforms.decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "IMG_1.jpg")
    with pytest.raises(ValueError, match=r"cut.png: a damaged image"):
        transforms.decode(png(picture(50, 50))[:-200], "cut.png")
    pixels = np.zeros((2, 3, 3), np.uint8)
    floating = tiff(pixels).replace(
        struct.pack("<HHI", 273, 4, 1), struct.pack("<HHI", 273, 11, 1)
    )  # where the pixels are
    with pytest.raises(ValueError, match=r"strip.tif: a damaged"):
        transforms.decode(floating, "strip.tif")


def test_statistics_equal_numpys():
    images = np.random.RandomState(0).randint(0, 256, (9, 5, 4, 3)).astype(np.uint8)
    statistics = transforms.measure(images)
    np.testing.assert_allclose(statistics.mean, images.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, images.std((0, 1, 2)), rtol=1e-12)
    np.testing.assert_array_equal(statistics.darkest, images.mean((1, 2)).min(0))
    np.testing.assert_array_equal(statistics.brightest, images.mean((1, 2)).max(0))


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    resize=st.none() | st.tuples(st.integers(1, 12), st.integers(1, 12)),
    crop=st.none() | st.tuples(st.integers(1, 12), st.integers(1, 12)),
    pad=st.none() | st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_the_prepared_size_is_that_of_the_prepared_picture(size, resize, crop, pad):
    options = TransformOptions(resize=resize, crop=crop, pad=pad)
    try:
        expected = transforms.prepare(picture(*size), options, 3).shape[:2]
    except ValueError:
        expected = None
    assert transforms.prepared_size(size, options) == expected


IMAGES = np.random.RandomState(3).randint(0, 256, (4, 6, 5, 3)).astype(np.uint8)


@pytest.mark.parametrize("scale", ["unit", "signed", "none"])
def test_the_training_split_has_mean_0_and_deviation_1_whatever_the_scale(scale):
    x = np.asarray(transforms.normalize(jnp.array(IMAGES), TransformOptions(scale=scale), transforms.measure(IMAGES)))
    np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((0, 1, 2)), 1, atol=1e-5)


def test_scales():
    for scale, low, high in (("unit", 0, 1), ("signed", -1, 1), ("none", 0, 255)):
        x = transforms.normalize(
            jnp.array([[[[0], [255]]]], jnp.uint8), TransformOptions(scale=scale, normalize="none"), None
        )
        np.testing.assert_allclose(x.ravel(), [low, high], atol=1e-6)


def test_each_image_and_each_channel_can_be_normalised_by_itself():
    x = transforms.normalize(jnp.array(IMAGES), TransformOptions(normalize="image"), None)
    scaled = IMAGES / 255
    expected = (scaled - scaled.mean((1, 2, 3), keepdims=True)) / scaled.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(x, expected, atol=1e-5)
    x = transforms.normalize(jnp.array(IMAGES), TransformOptions(normalize="channel"), None)
    expected = (scaled - scaled.mean((1, 2), keepdims=True)) / scaled.std((1, 2), keepdims=True)
    np.testing.assert_allclose(x, expected, atol=1e-5)


def test_fixed_constants():
    options = TransformOptions(normalize="fixed", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    x = transforms.normalize(jnp.array(IMAGES), options, None)
    np.testing.assert_allclose(x, (IMAGES / 255 - options.mean) / options.std, atol=1e-5)


@pytest.mark.parametrize("normalize", ["image", "channel"])
def test_the_gradient_of_a_constant_image_is_that_of_its_difference_from_the_mean(normalize):
    image, weights = jnp.full((1, 4, 4, 1), 127.5), np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    options = TransformOptions(normalize=normalize, scale="none")
    gradient = jax.grad(lambda x: (weights * transforms.normalize(x, options, None)).sum())(image)
    np.testing.assert_allclose(gradient, 4 * (weights - weights.mean()), rtol=1e-5)  # over 1 / sqrt(16)


def test_a_constant_image_or_channel_stays_finite():
    constant = jnp.full((2, 4, 4, 1), 7, jnp.uint8)
    for options in (TransformOptions(normalize="image"), TransformOptions(normalize="channel"), TransformOptions()):
        x = transforms.normalize(constant, options, Statistics((7.0,), (0.0,)))
        np.testing.assert_allclose(x, 0, atol=1e-5)


def test_local_contrast_normalisation_against_scipy():
    images = np.random.RandomState(0).rand(1, 20, 20, 1).astype(np.float32)
    window, sigma = 9, 9 / 4

    def blur(x):
        return scipy.ndimage.gaussian_filter(x, sigma, mode="constant", radius=window // 2)

    x = images[0, ..., 0].astype(np.float64)
    inside = blur(np.ones_like(x))
    centred = x - blur(x) / inside
    deviation = np.sqrt(blur(centred**2) / inside)
    expected = centred / np.maximum(deviation, deviation.mean())
    result = np.asarray(transforms.local_contrast_normalize(jnp.array(images), window))[0, ..., 0]
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_local_contrast_normalisation_ignores_brightness_and_contrast():
    image = jnp.array(np.random.RandomState(0).rand(1, 12, 12, 3), jnp.float32)
    plain = transforms.local_contrast_normalize(image, 5)
    changed = transforms.local_contrast_normalize(3 * image + 1, 5)
    np.testing.assert_allclose(plain, changed, atol=1e-4)
    assert math.isfinite(float(transforms.local_contrast_normalize(jnp.zeros((1, 8, 8, 1)), 5).sum()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"normalize": "fixed"}, "needs dataset.mean and dataset.std"),
        ({"normalize": "fixed", "mean": (1.0,), "std": (1.0, 2.0)}, "one value per channel"),
        ({"mean": (1.0,)}, "used with dataset.normalize = 'fixed' only"),
        ({"local_contrast": 9}, "already centres and scales"),
    ],
)
def test_options_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TransformOptions(**fields)
