"""Geometry: where the pixels of an augmented image come from.

One `Placement`, drawn for an example, moves all that lies in its plane: `place_image` the image by bilinear interpolation.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from cnnjax.core.randomness import stream_key

if TYPE_CHECKING:  # the options name operations that use this file
    from cnnjax.data.augment.options import AugmentOptions

Image = Float[Array, "height width channel"]
Matrix = Float[Array, "2 3"]
Displacement = Float[Array, "2 height width"]
Box = Bool[Array, "height width 1"]


class Placement(NamedTuple):
    """The random choices by which an example's plane is moved, in the order of application; None for what is off.

    Attributes:
      corner: the top and left of a window, in the plane with `pad` pixels around it.
      warp: a matrix, as `warp_matrix` gives it.
      displacement: what is added to the places that the warp gives, in pixels.
      flip_horizontal: whether left and right are exchanged.
      flip_vertical: whether above and below are exchanged.
    """

    corner: Int[Array, "2"] | None
    warp: Matrix | None
    displacement: Displacement | None
    flip_horizontal: Bool[Array, ""] | None
    flip_vertical: Bool[Array, ""] | None


def window_size(shape: tuple[int, ...], options: "AugmentOptions") -> tuple[int, int] | None:
    """The height and width that are cut before the warp; None where nothing is."""
    if options.resized_crop:  # it has its size and place already
        return shape[:2] if options.pad else None
    return (options.crop or shape[:2]) if options.pad or options.crop else None


def draw_placement(key: Key[Array, ""], shape: tuple[int, ...], options: "AugmentOptions") -> Placement:
    """The placement of an example, each of its parts drawn with the stream of its option's name.

    Args:
      key: the example's key.
      shape: the image's height, width and channels.
      options: what is done, and how strongly.
    """
    size, window = options.crop or shape[:2], window_size(shape, options)
    return Placement(
        draw_corner(stream_key(key, "crop"), shape, options.pad, window) if window else None,
        warp_matrix(key, options, window or shape, size),
        elastic_field(stream_key(key, "elastic"), size, options) if options.elastic else None,
        jax.random.bernoulli(stream_key(key, "flip_horizontal")) if options.flip_horizontal else None,
        jax.random.bernoulli(stream_key(key, "flip_vertical")) if options.flip_vertical else None,
    )


def place_image(image: Image, placement: Placement, options: "AugmentOptions") -> Float[Array, "h w channel"]:
    """An image moved by a placement: cut, resampled once, flipped."""
    size = options.crop or image.shape[:2]
    if placement.corner is not None:
        image = cut_window(image, placement.corner, options.pad, window_size(image.shape, options), options.fill)
    if placement.warp is not None or placement.displacement is not None:
        image = resample(image, placement.warp, placement.displacement, options.fill, size)
    if placement.flip_horizontal is not None:
        image = jnp.where(placement.flip_horizontal, image[:, ::-1], image)
    if placement.flip_vertical is not None:
        image = jnp.where(placement.flip_vertical, image[::-1], image)
    return image


def draw_corner(key: Key[Array, ""], shape: tuple[int, ...], pad: int, size: tuple[int, int]) -> Int[Array, "2"]:
    """The top and left of a window of a size, anywhere in an image with `pad` pixels around it."""
    room = jnp.array([shape[0] + 2 * pad - size[0], shape[1] + 2 * pad - size[1]])
    return jax.random.randint(key, (2,), 0, room + 1)


def cut_window(image: Image, corner: Int[Array, "2"], pad: int, size: tuple[int, int], fill: str) -> Image:
    """A window of an image with `pad` pixels around it."""
    mode = {"zero": "constant", "edge": "edge", "reflect": "reflect"}[fill]
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
    top, left = corner
    return jax.lax.dynamic_slice(padded, (top, left, 0), (*size, image.shape[-1]))


def warp_matrix(
    key: Key[Array, ""], options: "AugmentOptions", shape: tuple[int, ...], size: tuple[int, int]
) -> Matrix | None:
    """Where each output pixel comes from: source (y, x) = A (y, x, 1), each from its image's centre; None for nowhere else.

    Args:
      key: the example's key.
      options: what is done, and how strongly.
      shape: the shape of the source.
      size: the height and width of the result, which differ from the source's where a crop is resized.
    """
    if not any((options.rotation, options.shift, options.stretch, options.shear, options.resized_crop)):
        return None

    def within(stream: str, bound: float, *size: int) -> Array:
        if not bound:
            return jnp.zeros(size)
        return jax.random.uniform(stream_key(key, stream), size, minval=-bound, maxval=bound)

    angle = within("rotation", math.radians(options.rotation))
    shear = jnp.tan(within("shear", math.radians(options.shear)))
    scale = 1 + within("stretch", options.stretch, 2)
    turned = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    sheared = jnp.array([[1.0, 0.0], [0.0, 1.0]]).at[1, 0].set(shear)
    linear = turned @ sheared @ jnp.diag(1 / scale)
    offset = -within("shift", options.shift, 2)
    if options.resized_crop:
        extent, centre = _crop_box(stream_key(key, "resized_crop"), shape[:2], options.resized_crop)
        # From the middle of the crop's first pixel to that of its last: never beyond the border.
        shrink = jnp.maximum(extent - 1, 0) / np.maximum(np.subtract(size, 1), 1)
        middle = np.subtract(shape[:2], 1) / 2
        linear, offset = linear @ jnp.diag(shrink), offset + linear @ (centre - middle)
    return jnp.concatenate([linear, offset[:, None]], axis=1)


def _crop_box(key: Key[Array, ""], size: tuple[int, ...], area: tuple[float, float]) -> tuple[Array, Array]:
    """Height and width, and centre, of a random part of the image; cut down where its aspect would not fit."""
    keys = jax.random.split(key, 3)
    height, width = size
    share = jax.random.uniform(keys[0], minval=area[0], maxval=area[1])
    aspect = jnp.exp(jax.random.uniform(keys[1], minval=math.log(3 / 4), maxval=math.log(4 / 3)))
    extent = jnp.sqrt(share * height * width) * jnp.array([jnp.sqrt(1 / aspect), jnp.sqrt(aspect)])
    extent = jnp.minimum(extent, jnp.array([height, width], jnp.float32))
    room = jnp.array([height, width]) - extent
    start = jax.random.uniform(keys[2], (2,)) * room
    return extent, start + (extent - 1) / 2


def elastic_field(
    key: Key[Array, ""], shape: tuple[int, ...], options: "AugmentOptions"
) -> Float[Array, "2 height width"]:
    """Displacements in pixels: uniform noise of -1..1 smoothed by a Gaussian, times the strength (Simard et al., 2003).

    The smoothed noise is scaled to a standard deviation of 1/4 a component, so that the strength is about the largest
    displacement whatever the smoothness.
    """
    height, width = shape[:2]
    noise = jax.random.uniform(key, (2, height, width), minval=-1, maxval=1)
    smooth = [_gaussian_matrix(length, options.elastic_smoothness) for length in (height, width)]
    field = jnp.einsum("ij,cjk,lk->cil", smooth[0], noise, smooth[1])
    # Its deviation, were the image endless: each smoothing divides the variance by the sum of squared weights.
    deviation = math.sqrt(1 / 3) * math.prod(float(np.sqrt((matrix**2).sum(1).mean())) for matrix in smooth)
    return options.elastic * field / (4 * deviation)


def _gaussian_matrix(length: int, deviation: float) -> np.ndarray:
    """Smoothing along an axis as a product: every row has the Gaussian's weights, scaled to sum 1 inside the image."""
    if not deviation:
        return np.eye(length, dtype=np.float32)
    distance = np.arange(length)[:, None] - np.arange(length)[None]
    weights = np.exp(-0.5 * (distance / deviation) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def resample(
    image: Image,
    warp: Matrix | None,
    displacement: Float[Array, "2 h w"] | None,
    fill: str,
    size: tuple[int, int] | None = None,
) -> Float[Array, "h w channel"]:
    """Bilinear interpolation at the places that a warp and a displacement give.

    Args:
      image: any.
      warp: as from `warp_matrix`; None is the identity.
      displacement: added to the places, in pixels; None is 0.
      fill: zero, edge or reflect: what lies outside.
      size: height and width of the result; None is the image's.
    """
    height, width = image.shape[:2]
    rows, columns = size or (height, width)
    places = jnp.stack(jnp.meshgrid(jnp.arange(rows), jnp.arange(columns), indexing="ij")).astype(jnp.float32)
    if warp is not None:
        there, here = (np.subtract(sides, 1)[:, None, None] / 2 for sides in ((height, width), (rows, columns)))
        places = jnp.einsum("ij,jhw->ihw", warp[:, :2], places - here) + warp[:, 2, None, None] + there
    if displacement is not None:
        places = places + displacement
    floor = jnp.floor(places)
    part = places - floor
    corners = []
    for down in (0, 1):
        for right in (0, 1):
            y, x = floor[0].astype(jnp.int32) + down, floor[1].astype(jnp.int32) + right
            weight = (part[0] if down else 1 - part[0]) * (part[1] if right else 1 - part[1])
            if fill == "reflect":
                y, x = _reflect(y, height), _reflect(x, width)
            elif fill == "zero":
                inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
                weight = weight * inside
            corners.append(weight[..., None] * image[jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)])
    return sum(corners)


def _reflect(position: Int[Array, "..."], length: int) -> Int[Array, "..."]:
    """Mirrored at the outermost pixels, which are not repeated: -1 is 1."""
    period = max(2 * (length - 1), 1)
    position = jnp.abs(position) % period
    return jnp.minimum(position, period - position)


def box_mask(shape: tuple[int, ...], top: Array, left: Array, height: Array, width: Array) -> Box:
    """True within a box, (height, width, 1)."""
    y, x = jnp.arange(shape[0])[:, None, None], jnp.arange(shape[1])[None, :, None]
    return (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
