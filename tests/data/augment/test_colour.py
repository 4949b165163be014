import colorsys

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from cnnjax.data.augment import colour
from tests.data.augment.examples import IMAGE, SMOOTH


def test_colours_are_pillows():
    image = Image.fromarray(IMAGE.astype(np.uint8))
    for enhance, change in (
        (ImageEnhance.Brightness, colour.brightness),
        (ImageEnhance.Contrast, colour.contrast),
        (ImageEnhance.Color, colour.saturation),
        (ImageEnhance.Sharpness, colour.sharpness),
    ):
        for factor in (0.4, 1.7):
            expected = np.asarray(enhance(image).enhance(factor), np.float32)
            np.testing.assert_allclose(jax.jit(change)(IMAGE, factor), expected, atol=2.01, err_msg=enhance.__name__)
    np.testing.assert_array_equal(jax.jit(colour.posterize)(IMAGE, 3), np.asarray(ImageOps.posterize(image, 3)))
    np.testing.assert_array_equal(jax.jit(colour.solarize)(IMAGE, 100.0), np.asarray(ImageOps.solarize(image, 100)))
    np.testing.assert_allclose(jax.jit(colour.autocontrast)(IMAGE), np.asarray(ImageOps.autocontrast(image)), atol=1.01)
    wide = Image.fromarray(SMOOTH.astype(np.uint8))
    np.testing.assert_allclose(jax.jit(colour.equalize)(SMOOTH), np.asarray(ImageOps.equalize(wide)), atol=1.01)


turn_hue = jax.jit(colour.turn_hue)


@settings(max_examples=30)
@given(st.tuples(*[st.integers(0, 255)] * 3), st.floats(-0.5, 0.5))
def test_hue_is_the_standard_librarys(color, share):
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    expected = np.multiply(colorsys.hsv_to_rgb((hue + share) % 1, saturation, value), 255)
    result = np.asarray(turn_hue(np.array([[color]], np.float32), share))
    np.testing.assert_allclose(result[0, 0], expected, atol=0.1)


def test_lighting_moves_all_pixels_along_the_principal_axes():
    grey = np.full((4, 4, 3), 100, np.float32)
    moved = np.asarray(jax.jit(colour.lighting)(grey, np.array([0.1, 0, 0], np.float32))) - grey
    np.testing.assert_allclose(moved[0, 0], 255 * 0.1 * 0.2175 * np.array([-0.5675, -0.5808, -0.5836]), rtol=1e-3)
    np.testing.assert_allclose(colour._EIGENVECTORS.T @ colour._EIGENVECTORS, np.eye(3), atol=1e-3)
