"""Augmentation policies: operations drawn at random from a list, as published for the recipes of ImageNet and COCO.

    trivialaugment          Müller and Hutter, ICCV 2021: one operation of 14 with a strength drawn from 31 (the "wide" list)
    randaugment_increasing  Wightman, Touvron and Jégou, "ResNet strikes back", 2021: timm's RandAugment with the "increasing" list of 15
    photometric_distortion  Liu et al., "SSD", ECCV 2016, with torchvision's ranges: changes of colours, each with a probability

An operation is a warp, which is bilinear interpolation by a matrix, or a change of values. Under `vmap` every example computes all
branches of a switch, so that warps share one interpolation, whose matrix depends on the operation.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cnnjax.data.augment import colour
from cnnjax.data.augment.geometry import resample

Image = Float[Array, "height width channel"]
Number = Float[Array, ""]

# The orders of the operations: identity or automatic ones, then warps, then changes of values.
WIDE = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate",
    "brightness", "saturation", "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
INCREASING = (
    "autocontrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize_add", "saturation", "contrast", "brightness",
    "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip
_WARPS = ("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate")
# The colour outside an image in timm: the mean of ImageNet, rounded.
_MEAN_COLOUR = (124.0, 116.0, 104.0)


def trivialaugment(image: Image, key: Key[Array, ""], enabled: bool = True) -> Image:
    """Applies one operation of `WIDE`, drawn with a strength from 31 and a sign; nothing if not `enabled`."""
    if not enabled:
        return image
    which, level, sign = jax.random.split(key, 3)
    level = jax.random.randint(level, (), 0, 31) / 30
    return wide_operation(image, jax.random.randint(which, (), 0, len(WIDE)), level, _sign(sign))


def wide_operation(image: Image, which: Int[Array, ""], level: Number, sign: Number) -> Image:
    """Applies an operation of `WIDE`, by number, with a strength of 0 to 1 and a direction of 1 or -1.

    At strength 1: a shear of 0.99, a shift of 32 pixels, a rotation of 135 degrees, colour factors of 1 ± 0.99, 2 bits, a threshold of
    0. Shifts are whole pixels. The outside is black.
    """
    factor = 1 + sign * 0.99 * level
    shift = sign * jnp.floor(32 * level)
    # torchvision rounds 6 / 30 of the strength's number, a half to the even number, as does JAX.
    values = {
        "posterize": lambda image: colour.posterize(image, 8 - jnp.round(6 * level)),
        "solarize": lambda image: colour.solarize(image, 255 * (1 - level)),
        **_enhancing(factor),
    }
    matrices = _matrices(image.shape, sign * 0.99 * level, shift, shift, sign * math.radians(135) * level)
    return _operated(image, which, WIDE, matrices, values, (0.0,))


def randaugment_increasing(
    image: Image, key: Key[Array, ""], operations: int, magnitude: float, deviation: float
) -> Image:
    """Applies operations of `INCREASING`, each drawn with replacement and then left out with probability 1/2.

    Args:
      image: the image, of values from 0 to 255.
      key: the key of the example and operation.
      operations: the number of operations.
      magnitude: the mean strength, 0 to 10.
      deviation: the standard deviation of the strength, which is cut to 0 to 10.
    """

    def apply(image: Image, key: Key[Array, ""]) -> tuple[Image, None]:
        happens, which, level, sign = jax.random.split(key, 4)
        level = jnp.clip(magnitude + deviation * jax.random.normal(level), 0, 10) / 10
        changed = increasing_operation(image, jax.random.randint(which, (), 0, len(INCREASING)), level, _sign(sign))
        return jnp.where(jax.random.bernoulli(happens), changed, image), None

    return jax.lax.scan(apply, image, jax.random.split(key, operations))[0]


def increasing_operation(image: Image, which: Int[Array, ""], level: Number, sign: Number) -> Image:
    """Applies an operation of `INCREASING`, by number, with a strength of 0 to 1 and a direction of 1 or -1.

    At strength 1: a rotation of 30 degrees, no bits, a threshold of 0, 110 added to values below 128, colour factors of 1 ± 0.9, a shear
    of 0.3, a shift of 0.45 of the side. The outside has ImageNet's mean colour. timm interpolates bilinearly or bicubically, at random.
    """
    height, width = image.shape[:2]
    shift, added = sign * 0.45 * level, jnp.floor(110 * level)
    values = {
        "posterize": lambda image: colour.posterize(image, 4 - jnp.floor(4 * level)),
        "solarize": lambda image: colour.solarize(image, 256 - jnp.floor(256 * level)),
        "solarize_add": lambda image: jnp.where(image < 128, jnp.minimum(image + added, 255), image),
        **_enhancing(jnp.maximum(1 + sign * 0.9 * level, 0.1)),
    }
    # timm's shift is that of the place that is read, and so the opposite of the image's.
    matrices = _matrices(
        image.shape, sign * 0.3 * level, -shift * width, -shift * height, sign * math.radians(30) * level
    )
    outside = _MEAN_COLOUR if image.shape[-1] == 3 else (float(np.mean(_MEAN_COLOUR)),)
    return _operated(image, which, INCREASING, matrices, values, outside)


def photometric_distortion(image: Image, key: Key[Array, ""], probability: float) -> Image:
    """SSD's distortion of colours: each part happens with a probability.

    The brightness is multiplied by 0.875 to 1.125; the contrast by 0.5 to 1.5, before or after the others; the saturation by 0.5 to 1.5; the
    hue is rotated by up to 0.05 of the colour circle, in either direction; and the channels are permuted.
    """
    happening, drawing, early, permuting = jax.random.split(key, 4)
    happens = jax.random.bernoulli(happening, probability, (5,))
    low, high = np.array([(0.875, 1.125), (0.5, 1.5), (0.5, 1.5), (-0.05, 0.05)], np.float32).T
    drawn = low + (high - low) * jax.random.uniform(drawing, (4,))
    brighter, contrast, saturation, hue = jnp.where(happens[:4], drawn, np.array([1, 1, 1, 0], np.float32))
    before = jax.random.bernoulli(early)
    image = colour.brightness(image, brighter)
    image = colour.contrast(image, jnp.where(before, contrast, 1))
    image = colour.turn_hue(colour.saturation(image, saturation), hue)
    image = colour.contrast(image, jnp.where(before, 1, contrast))
    return image[..., jnp.where(happens[4], jax.random.permutation(permuting, 3), jnp.arange(3))]


def _sign(key: Key[Array, ""]) -> Number:
    return jnp.where(jax.random.bernoulli(key), 1.0, -1.0)


def _enhancing(factor: Number) -> dict[str, Callable[[Image], Image]]:
    """Pillow's enhancements by a factor, and the changes without a strength."""
    return {
        "brightness": lambda image: colour.brightness(image, factor),
        "saturation": lambda image: colour.saturation(image, factor) if image.shape[-1] == 3 else image,
        "contrast": lambda image: colour.contrast(image, factor),
        "sharpness": lambda image: colour.sharpness(image, factor),
        "autocontrast": colour.autocontrast,
        "equalize": colour.equalize,
        "invert": lambda image: 255 - image,
    }


def _matrices(
    shape: tuple[int, ...], shear: Number, shift_x: Number, shift_y: Number, angle: Number
) -> dict[str, Float[Array, "2 3"]]:
    """The matrices of the warps, from output to source, (y, x) about the centre (see `geometry.warp_matrix`).

    A shear leaves the corner of the first pixel in its place, as in Pillow and torchvision; a positive angle turns the image to the left.
    """
    height, width = shape[:2]
    one, zero, cos, sin = jnp.ones(()), jnp.zeros(()), jnp.cos(angle), jnp.sin(angle)
    rows = {
        "identity": [[one, zero, zero], [zero, one, zero]],
        "shear_x": [[one, zero, zero], [shear, one, shear * height / 2]],
        "shear_y": [[one, shear, shear * width / 2], [zero, one, zero]],
        "translate_x": [[one, zero, zero], [zero, one, -shift_x]],
        "translate_y": [[one, zero, -shift_y], [zero, one, zero]],
        "rotate": [[cos, sin, zero], [-sin, cos, zero]],
    }
    return {name: jnp.array(matrix) for name, matrix in rows.items()}


def _operated(
    image: Image,
    which: Int[Array, ""],
    names: Sequence[str],
    matrices: dict[str, Float[Array, "2 3"]],
    values: dict[str, Callable[[Image], Image]],
    outside: Sequence[float],
) -> Image:
    """Applies the operation with a number: a warp, outside of which is a colour, or a change of values."""
    matrix = jnp.stack([matrices[name if name in _WARPS else "identity"] for name in names])[which]
    image = resample(image - np.array(outside, np.float32), matrix, None, "zero") + np.array(outside, np.float32)
    changes = [name for name in names if name not in _WARPS]
    place = np.array([changes.index(name) + 1 if name in changes else 0 for name in names])
    return jax.lax.switch(jnp.asarray(place)[which], [lambda image: image, *(values[name] for name in changes)], image)
