"""The classic fixed filters of image processing, as convolution kernels for pictures."""

import numpy as np
from jaxtyping import Array, Float

from cnnjax.ops.convolution import convolution
from cnnjax.options import unknown

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
    images: Float[Array, "batch height width channel"], name: str, padding: int = 1
) -> Float[Array, "batch height width channel"]:
    """Every channel of the pictures correlated with a classic filter, zeros around them.

    Args:
      images: float pictures.
      name: one of `FILTERS`.
      padding: zeros on each side; 1 keeps the size, 0 uses whole windows alone.

    Raises:
      ValueError: there is no such filter.
    """
    if name not in FILTERS:
        raise ValueError(unknown("filter", name, FILTERS))
    channels = images.shape[-1]
    kernel = np.repeat(FILTERS[name][:, :, None, None], channels, -1)
    return convolution(images, kernel, (1, 1), ((padding, padding),) * 2, (1, 1), groups=channels)
