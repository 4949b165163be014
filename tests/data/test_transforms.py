import io
import math

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


def test_without_options_the_pixels_are_the_pictures_own():
    for channels in (1, 3):
        image = picture(5, 7, channels)
        prepared = transforms.prepare(image, TransformOptions(), channels)
        assert prepared.shape == (5, 7, channels) and prepared.dtype == np.uint8
        np.testing.assert_array_equal(prepared.squeeze(), np.asarray(image))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1", "I;16", "LA"])
def test_any_mode_of_picture_becomes_the_channels_asked_for(mode):
    image = picture(6, 6).convert(mode) if mode != "I;16" else Image.fromarray(np.full((6, 6), 0xAB12, np.uint16))
    for channels in (1, 3):
        assert transforms.prepare(image, TransformOptions(), channels).shape == (6, 6, channels)


def test_16_bit_pictures_keep_their_upper_bits():
    image = Image.fromarray(np.array([[0, 0xAB12], [0xFFFF, 0x0100]], np.uint16))
    np.testing.assert_array_equal(transforms.prepare(image, TransformOptions(), 1)[..., 0], [[0, 0xAB], [0xFF, 0x01]])


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
    with pytest.raises(ValueError, match=r"cut.png: a damaged image"):
        transforms.decode(png(picture(50, 50))[:-200], "cut.png")


def test_statistics_equal_numpys():
    images = np.random.RandomState(0).randint(0, 256, (9, 5, 4, 3)).astype(np.uint8)
    statistics = transforms.measure(images)
    np.testing.assert_allclose(statistics.mean, images.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, images.std((0, 1, 2)), rtol=1e-12)


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
        ({"normalize": "fixed", "mean": (1.0,), "std": (1.0, 2.0)}, "one value a channel"),
        ({"mean": (1.0,)}, "used with dataset.normalize = 'fixed' only"),
        ({"local_contrast": 9}, "already centres and scales"),
    ],
)
def test_options_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TransformOptions(**fields)
