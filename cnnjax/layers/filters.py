"""The classic fixed filters of image processing as convolution kernels."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from cnnjax.core.options import unknown
from cnnjax.ops.convolution import convolution

FILTERS: dict[str, Float[np.ndarray, "height width"]] = {
    name: np.array(rows, np.float32) * factor
    for name, factor, rows in (
        ("identity", 1, [[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
        ("edges_diagonal", 1, [[1, 0, -1], [0, 0, 0], [-1, 0, 1]]),
        ("edges_4", 1, [[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        ("edges_8", 1, [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
        ("sharpen", 1, [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
        ("box_blur", 1 / 9, [[1, 1, 1], [1, 1, 1], [1, 1, 1]]),
        ("gaussian_blur", 1 / 16, [[1, 2, 1], [2, 4, 2], [1, 2, 1]]),
        ("sobel_horizontal", 1, [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
        ("sobel_vertical", 1, [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
        ("cross", 1, [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]),
    )
}


def apply_filter(
    images: Num[Array, "batch height width channel"], name: str, padding: int = 1
) -> Float[Array, "batch height width channel"]:
    """Correlates every channel of the images with a classic filter, with zero padding.

    Args:
      images: the images; integers are converted to float32.
      name: the filter's name, one of `FILTERS`.
      padding: the number of zeros on each side; 1 keeps the size, 0 uses complete windows only.

    Raises:
      ValueError: there is no such filter, or the images have other axes.
    """
    if name not in FILTERS:
        raise ValueError(unknown("filter", name, FILTERS))
    if images.ndim != 4:
        raise ValueError(f"images of shape {images.shape}: expected batch, height, width, channels")
    images = jnp.asarray(images, None if jnp.issubdtype(images.dtype, jnp.floating) else jnp.float32)
    channels = images.shape[-1]
    kernel = jnp.repeat(jnp.asarray(FILTERS[name], images.dtype)[:, :, None, None], channels, -1)
    return convolution(images, kernel, (1, 1), ((padding, padding),) * 2, (1, 1), groups=channels)
