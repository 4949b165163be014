"""Occlusion: replacement of parts of an image."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from cnnjax.data.augment.geometry import box_mask

Image = Float[Array, "*spatial channel"]


def cutout(image: Image, key: Key[Array, ""], side: int) -> Image:
    """Fills a square (an interval, a cube) around a random pixel with the mean grey; it may extend beyond the border."""
    sides = image.shape[:-1]
    centre = jax.random.randint(key, (len(sides),), 0, jnp.array(sides))
    box = box_mask(image.shape, [place - side // 2 for place in centre], [side] * len(sides))
    return jnp.where(box, image.mean(range(len(sides))), image)


def random_erasing(
    image: Image,
    key: Key[Array, ""],
    probability: float,
    erasing_mean: Sequence[float] | None = None,
    erasing_std: Sequence[float] = (0.0,),
) -> Image:
    """Fills a box of 2 to 33 % of the area with noise, with a probability.

    The noise is uniform from 0 to 255, or normal with a mean and a standard deviation for each channel, which is not clipped. The
    aspect of the box is 0.3 to 3.3 for an image; for a signal or a volume it takes the same fraction of each axis.
    """
    keys = jax.random.split(key, 5)
    sides = image.shape[:-1]
    share = jax.random.uniform(keys[0], minval=0.02, maxval=1 / 3)
    if len(sides) == 2:
        area = share * sides[0] * sides[1]
        aspect = jnp.exp(jax.random.uniform(keys[1], minval=math.log(0.3), maxval=-math.log(0.3)))
        extent = [jnp.sqrt(area * aspect), jnp.sqrt(area / aspect)]
    else:
        extent = [share ** (1 / len(sides)) * side for side in sides]
    extent = [jnp.clip(jnp.round(length), 1, side) for length, side in zip(extent, sides, strict=True)]
    room = jnp.array([side - length + 1 for side, length in zip(sides, extent, strict=True)])
    places = jnp.floor(jax.random.uniform(keys[2], (len(sides),)) * room)
    if erasing_mean is None:
        noise = jax.random.uniform(keys[3], image.shape, maxval=255)
    else:
        noise = jnp.array(erasing_mean) + jnp.array(erasing_std) * jax.random.normal(keys[3], image.shape)
    return jnp.where(box_mask(image.shape, places, extent) & jax.random.bernoulli(keys[4], probability), noise, image)
