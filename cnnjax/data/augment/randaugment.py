"""RandAugment: a sequence of random geometric and colour operations (Cubuk et al., 2020)."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from cnnjax.data.augment import colour
from cnnjax.data.augment.geometry import resample

Image = Float[Array, "height width channel"]


def randaugment(image: Image, key: Key[Array, ""], operations: int, magnitude: float) -> Image:
    """Applies a number of operations, each drawn from the paper's 14, with one magnitude of 0 to 30.

    The ranges at magnitude 30 are those of torchvision's RandAugment: a rotation of 30 degrees, a shear of 0.3, a shift of 150/331
    of the side, colour factors of 1 ± 0.9, 4 bits, and a threshold of 0.
    """
    level = magnitude / 30

    def warped(linear: Array, offset: Array) -> Callable[[Image], Image]:
        return lambda image: resample(image, jnp.concatenate([linear, offset[:, None]], 1), None, "zero")

    def apply(image: Image, key: Key[Array, ""]) -> tuple[Image, None]:
        choose, sign_key = jax.random.split(key)
        sign = jnp.where(jax.random.bernoulli(sign_key), 1.0, -1.0)
        eye, zero = jnp.eye(2), jnp.zeros(2)
        angle = sign * level * math.radians(30)
        turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
        shear, shift = sign * level * 0.3, sign * level * 150 / 331 * jnp.array(image.shape[:2])
        factor = 1 + sign * level * 0.9
        coloured = (lambda image: colour.saturation(image, factor)) if image.shape[-1] == 3 else (lambda image: image)
        branches: list[Callable[[Image], Image]] = [
            lambda image: image,
            warped(turn, zero),
            warped(eye.at[0, 1].set(shear), zero),
            warped(eye.at[1, 0].set(shear), zero),
            warped(eye, shift * jnp.array([1.0, 0.0])),
            warped(eye, shift * jnp.array([0.0, 1.0])),
            lambda image: colour.brightness(image, factor),
            lambda image: colour.contrast(image, factor),
            coloured,
            lambda image: colour.sharpness(image, factor),
            lambda image: colour.posterize(image, 8 - round(4 * level)),
            lambda image: colour.solarize(image, 256 * (1 - level)),
            colour.autocontrast,
            colour.equalize,
        ]
        return jax.lax.switch(jax.random.randint(choose, (), 0, len(branches)), branches, image), None

    return jax.lax.scan(apply, image, jax.random.split(key, operations))[0]
