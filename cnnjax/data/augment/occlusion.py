"""Occlusion: parts of an image left out."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from cnnjax.data.augment.geometry import box_mask

Image = Float[Array, "height width channel"]


def cutout(image: Image, key: Key[Array, ""], side: int) -> Image:
    """A square of mean grey about a random pixel; it may reach beyond the border."""
    y, x = jax.random.randint(key, (2,), 0, jnp.array(image.shape[:2]))
    box = box_mask(image.shape, y - side // 2, x - side // 2, side, side)
    return jnp.where(box, image.mean((0, 1)), image)


def random_erasing(image: Image, key: Key[Array, ""], probability: float) -> Image:
    """With some probability, a box of 2 to 33 % of the area and of aspect 0.3 to 3.3 is filled with noise."""
    keys = jax.random.split(key, 5)
    height, width = image.shape[:2]
    area = jax.random.uniform(keys[0], minval=0.02, maxval=1 / 3) * height * width
    aspect = jnp.exp(jax.random.uniform(keys[1], minval=math.log(0.3), maxval=-math.log(0.3)))
    box_height = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, height)
    box_width = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, width)
    places = jnp.floor(jax.random.uniform(keys[2], (2,)) * jnp.array([height - box_height + 1, width - box_width + 1]))
    box = box_mask(image.shape, places[0], places[1], box_height, box_width)
    noise = jax.random.uniform(keys[3], image.shape, maxval=255)
    return jnp.where(box & jax.random.bernoulli(keys[4], probability), noise, image)
