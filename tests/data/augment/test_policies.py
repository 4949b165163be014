"""The operations of TrivialAugment and timm's RandAugment are Pillow's."""

import colorsys
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from cnnjax.data.augment import policies
from tests.data.augment.examples import SMOOTH

WIDE = jax.jit(policies.wide_operation)
INCREASING = jax.jit(policies.increasing_operation)
PICTURE = Image.fromarray(SMOOTH.astype(np.uint8)).crop((0, 0, 48, 40))
PIXELS = np.asarray(PICTURE, np.float32)


def warped(*matrix, fill=0):
    """The picture read at (a x + b y + c, d x + e y + f), as in torchvision and timm."""
    return PICTURE.transform(PICTURE.size, Image.AFFINE, matrix, Image.BILINEAR, fillcolor=fill)


def enhanced(kind, factor):
    return kind(PICTURE).enhance(factor)


ENHANCED = {
    "brightness": ImageEnhance.Brightness, "saturation": ImageEnhance.Color, "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}  # fmt: skip
ALWAYS = {
    "identity": lambda image: image,
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "invert": ImageOps.invert,
}


def pillows_wide(name, level, sign):
    """An operation of torchvision's `TrivialAugmentWide`, from its table of 31 strengths."""
    if name in ALWAYS:
        return ALWAYS[name](PICTURE)
    if name in ENHANCED:
        return enhanced(ENHANCED[name], 1 + sign * np.linspace(0, 0.99, 31)[level])
    shear, shift = sign * np.linspace(0, 0.99, 31)[level], sign * int(np.linspace(0, 32, 31)[level])
    return {
        "shear_x": lambda: warped(1, shear, 0, 0, 1, 0),
        "shear_y": lambda: warped(1, 0, 0, shear, 1, 0),
        "translate_x": lambda: warped(1, 0, -shift, 0, 1, 0),
        "translate_y": lambda: warped(1, 0, 0, 0, 1, -shift),
        "rotate": lambda: PICTURE.rotate(sign * np.linspace(0, 135, 31)[level], Image.BILINEAR),
        "posterize": lambda: ImageOps.posterize(PICTURE, int(8 - np.round(level / (30 / 6)))),
        "solarize": lambda: ImageOps.solarize(PICTURE, np.linspace(255, 0, 31)[level]),
    }[name]()


def pillows_increasing(name, magnitude, sign):
    """An operation of timm's "increasing" list at a magnitude of 0 to 10."""
    if name in ALWAYS:
        return ALWAYS[name](PICTURE)
    if name in ENHANCED:
        return enhanced(ENHANCED[name], max(0.1, 1 + sign * magnitude / 10 * 0.9))
    level, mean = sign * magnitude / 10, (124, 116, 104)
    return {
        "shear_x": lambda: warped(1, 0.3 * level, 0, 0, 1, 0, fill=mean),
        "shear_y": lambda: warped(1, 0, 0, 0.3 * level, 1, 0, fill=mean),
        "translate_x": lambda: warped(1, 0, 0.45 * level * 48, 0, 1, 0, fill=mean),
        "translate_y": lambda: warped(1, 0, 0, 0, 1, 0.45 * level * 40, fill=mean),
        "rotate": lambda: PICTURE.rotate(30 * level, Image.BILINEAR, fillcolor=mean),
        "posterize": lambda: ImageOps.posterize(PICTURE, 4 - int(magnitude / 10 * 4)),
        "solarize": lambda: ImageOps.solarize(PICTURE, 256 - int(magnitude / 10 * 256)),
        "solarize_add": lambda: PICTURE.point(
            3 * [min(255, value + int(magnitude / 10 * 110)) if value < 128 else value for value in range(256)]
        ),
    }[name]()


def alike(ours, theirs, name):
    """Equal up to Pillow's rounding; it blends the border's pixels with the outside differently, which few pixels show."""
    far = np.abs(np.asarray(ours) - np.asarray(theirs, np.float32)).max(-1) > 2
    assert far.mean() <= (0.045 if name in policies._WARPS else 0), name
    if name != "rotate":
        return
    near = np.hypot(*np.meshgrid(np.arange(48) - 23.5, np.arange(40) - 19.5)) < 18
    assert not far[near].any()


@pytest.mark.parametrize("name", policies.WIDE)
def test_the_wide_operations_are_pillows(name):
    for level in (0, 7, 21, 30):
        for sign in (1, -1):
            ours = WIDE(PIXELS, policies.WIDE.index(name), np.float32(level / 30), np.float32(sign))
            alike(ours, pillows_wide(name, level, sign), name)


@pytest.mark.parametrize("name", policies.INCREASING)
def test_the_increasing_operations_are_pillows(name):
    for magnitude in (0, 6, 7.5, 9.9):  # at 10 no bit is left, which Pillow refuses
        for sign in (1, -1):
            ours = INCREASING(PIXELS, policies.INCREASING.index(name), np.float32(magnitude / 10), np.float32(sign))
            alike(ours, pillows_increasing(name, magnitude, sign), name)


def test_each_example_has_an_operation_of_its_own():
    keys = jax.random.split(jax.random.key(0), 60)
    changed = jax.jit(jax.vmap(lambda key: policies.trivialaugment(jnp.array(SMOOTH), key)))(keys)
    assert len(np.unique(np.asarray(changed).reshape(60, -1), axis=0)) > 25
    # Half of the operations are left out: both of two with probability 1/4, a binomial count of 15 of 60 with deviation 3.4.
    policy = jax.jit(jax.vmap(lambda key: policies.randaugment_increasing(jnp.array(SMOOTH), key, 2, 5.0, 0.5)))
    same = (np.asarray(policy(keys)) == SMOOTH).all((1, 2, 3)).sum()
    assert abs(same - 15) < 4 * math.sqrt(60 * 3 / 16)


@pytest.mark.parametrize("early", [True, False])
def test_photometric_distortion_is_pillows(early, monkeypatch):
    """With draws that are given: factors of 1.075, 0.7 and 1.4, a hue of -0.02 of the circle, and the contrast before or after."""
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.array([0.8, 0.2, 0.9, 0.3]))
    monkeypatch.setattr(jax.random, "permutation", lambda key, count: jnp.array([2, 0, 1]))
    monkeypatch.setattr(jax.random, "bernoulli", lambda key, p=0.5, shape=(): jnp.full(shape, bool(shape) or early))
    ours = np.asarray(jax.jit(lambda image: policies.photometric_distortion(image, jax.random.key(0), 0.5))(PIXELS))
    contrasted = lambda picture: ImageEnhance.Contrast(picture).enhance(0.7)  # noqa: E731
    picture = ImageEnhance.Brightness(PICTURE).enhance(1.075)
    picture = ImageEnhance.Color(contrasted(picture) if early else picture).enhance(1.4)
    turned = []
    for pixel in np.asarray(picture).reshape(-1, 3) / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        turned.append(colorsys.hsv_to_rgb((hue - 0.02) % 1, saturation, value))
    turned = np.rint(np.reshape(turned, PIXELS.shape) * 255).astype(np.uint8)
    theirs = np.asarray(turned if early else contrasted(Image.fromarray(turned)), np.float32)[..., [2, 0, 1]]
    np.testing.assert_allclose(ours, theirs, atol=6)  # Pillow cuts fractions off after each operation
    assert np.abs(ours - theirs).mean() < 2


def test_photometric_distortion_happens_in_parts():
    """A uniform grey shows its brightness alone: of 400 images half are unchanged, the others within an eighth."""
    change = jax.jit(jax.vmap(lambda key: policies.photometric_distortion(jnp.full((2, 2, 3), 100.0), key, 0.5)))
    found = np.asarray(change(jax.random.split(jax.random.key(0), 400)))
    np.testing.assert_allclose(found, found[:, :1, :1, :1] * np.ones((1, 2, 2, 3)), rtol=1e-5)
    factors = found[:, 0, 0, 0] / 100
    assert 150 < np.isclose(factors, 1, atol=1e-5).sum() < 250
    assert 0.875 <= factors.min() < 0.89 and 1.11 < factors.max() <= 1.125 + 1e-6
