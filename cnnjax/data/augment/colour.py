"""Colour operations, which change the values of pixels and not their positions. Images are floats of 0 to 255;
if `limits` is None they have any range and are not clipped.

The random operations at the end are those of the options (`options.AugmentOptions`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cnnjax.data.augment.geometry import box_mask

Image = Float[Array, "*spatial channel"]
Limits = tuple[float, float] | None

BYTES = (0.0, 255.0)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in Pillow and torchvision


def _grey(image: Image) -> Float[Array, "*spatial 1"]:
    return (image @ _GREY)[..., None] if image.shape[-1] == 3 else image.mean(-1, keepdims=True)


def _blend(image: Image, other: Array, factor: Array | float, limits: Limits = BYTES) -> Image:
    return _cut(other + factor * (image - other), limits)


def _cut(image: Image, limits: Limits) -> Image:
    return image if limits is None else jnp.clip(image, *limits)


def brightness(image: Image, factor: Array | float, limits: Limits = BYTES) -> Image:
    """Multiplies the values by a factor."""
    return _blend(image, jnp.zeros(()), factor, limits)


def contrast(image: Image, factor: Array | float, limits: Limits = BYTES) -> Image:
    """Multiplies the distance from the image's mean grey by a factor."""
    return _blend(image, _grey(image).mean(), factor, limits)


def saturation(image: Image, factor: Array | float, limits: Limits = BYTES) -> Image:
    """Multiplies the distance from each pixel's grey by a factor; 0 gives a grey image."""
    return _blend(image, _grey(image), factor, limits)


def turn_hue(image: Image, share: Array | float) -> Image:
    """Rotates every colour by a fraction of the colour circle; value and saturation (of HSV) are unchanged."""
    high, low = image.max(-1), image.min(-1)
    spread = jnp.where(high > low, high - low, 1)
    r, g, b = (image[..., channel] for channel in range(3))
    # Which channel is highest is asked of the channels: XLA may compute a value twice with different roundings, and one that `high` no
    # longer equals would get the hue of another channel. Where two channels are equal, both cases give the same hue.
    otherwise = jnp.where(g >= b, (b - r) / spread + 2, (r - g) / spread + 4)
    sixth = jnp.where((r >= g) & (r >= b), (g - b) / spread % 6, otherwise)
    sixth = jnp.where(high > low, sixth, 0.0) + 6 * share
    # A channel is highest within one sixth of its own colour and lowest beyond two; 5, 3 and 1 are the turning points.
    ramps = [(start + sixth) % 6 for start in (5, 3, 1)]
    return jnp.stack([high - (high - low) * jnp.clip(jnp.minimum(k, 4 - k), 0, 1) for k in ramps], axis=-1)


# The covariance of ImageNet's colours, for values of 0 to 1: the roots of its eigenvalues, and its eigenvectors. The figures are
# those of Facebook's ResNet training code of 2016, which repeated AlexNet's PCA.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)
_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)


def lighting(image: Image, strength: Float[Array, "3"]) -> Image:
    """AlexNet's colour augmentation: adds [p1 p2 p3] [a1 l1, a2 l2, a3 l3]^T to every pixel (2012, section 4.1)."""
    return jnp.clip(image + 255 * (_EIGENVECTORS @ (strength * _EIGENVALUES)), 0, 255)


def posterize(image: Image, bits: Array | int) -> Image:
    """Keeps only the upper bits of each value."""
    step = 2.0 ** (8 - bits)
    return jnp.floor(image / step) * step


def solarize(image: Image, threshold: Array | float) -> Image:
    """Inverts values at or above a threshold."""
    return jnp.where(image >= threshold, 255 - image, image)


def autocontrast(image: Image) -> Image:
    """Stretches the values of each channel to 0..255."""
    low, high = image.min((0, 1)), image.max((0, 1))
    return jnp.where(high > low, (image - low) * 255 / jnp.where(high > low, high - low, 1), image)


def equalize(image: Image) -> Image:
    """Equalises the histogram of each channel, as Pillow's ImageOps.equalize."""

    def channel(values: Float[Array, "height width"]) -> Float[Array, "height width"]:
        levels = jnp.round(values).astype(jnp.int32)
        histogram = jnp.zeros(256, jnp.int32).at[levels.ravel()].add(1)
        last = jnp.where(histogram > 0, jnp.arange(256), 0).max()
        step = (histogram.sum() - histogram[last]) // 255
        before = jnp.cumsum(histogram) - histogram
        table = jnp.clip((before + step // 2) // jnp.maximum(step, 1), 0, 255)
        return jnp.where(step > 0, table[levels].astype(jnp.float32), values)

    return jax.vmap(channel, in_axes=-1, out_axes=-1)(image)


def sharpness(image: Image, factor: Array | float) -> Image:
    """Blends the image with a smoothed copy (weights 1, centre 5, of 13); a factor above 1 sharpens. The border is unchanged."""
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = image.shape[:2]
    around = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))
    smooth = (around + 4 * image) / 13
    inner = box_mask(image.shape, (jnp.array(1), jnp.array(1)), (jnp.array(height - 2), jnp.array(width - 2)))
    return jnp.where(inner, _blend(image, smooth, factor), image)


# --- random operations: (image, key, strength) -> image ----------------------------------------------------------------


def random_brightness(image: Image, key: Key[Array, ""], strength: float, limits: Limits = BYTES) -> Image:
    """Multiplies the brightness by a random factor of 1 - strength (at least 0) to 1 + strength."""
    return brightness(image, _factor(key, strength), limits)


def random_contrast(image: Image, key: Key[Array, ""], strength: float, limits: Limits = BYTES) -> Image:
    """Multiplies the contrast by a random factor of 1 - strength (at least 0) to 1 + strength."""
    return contrast(image, _factor(key, strength), limits)


def random_saturation(image: Image, key: Key[Array, ""], strength: float, limits: Limits = BYTES) -> Image:
    """Multiplies the saturation by a random factor of 1 - strength (at least 0) to 1 + strength."""
    return saturation(image, _factor(key, strength), limits)


def random_hue(image: Image, key: Key[Array, ""], share: float) -> Image:
    """Rotates every colour by at most a fraction of the colour circle, in either direction."""
    return turn_hue(image, jax.random.uniform(key, minval=-share, maxval=share))


def random_grey(image: Image, key: Key[Array, ""], probability: float, limits: Limits = BYTES) -> Image:
    """Converts the image to grey with a probability."""
    return jnp.where(jax.random.bernoulli(key, probability), saturation(image, 0.0, limits), image)


def random_lighting(image: Image, key: Key[Array, ""], deviation: float) -> Image:
    """AlexNet's colour augmentation with normally distributed strengths."""
    return lighting(image, deviation * jax.random.normal(key, (3,)))


def random_noise(image: Image, key: Key[Array, ""], deviation: float, limits: Limits = BYTES) -> Image:
    """Adds Gaussian noise to every value; its standard deviation is a fraction of 255."""
    return _cut(image + 255 * deviation * jax.random.normal(key, image.shape), limits)


def _factor(key: Key[Array, ""], strength: float) -> Float[Array, ""]:
    return jax.random.uniform(key, minval=max(0.0, 1 - strength), maxval=1 + strength)
