"""Geometric augmentation.

One `Placement`, drawn for an example, transforms everything in its plane: `place_image` the image by linear interpolation,
`place_map` a map of class numbers by the nearest pixel, at the same places (`source_places`), and `place_boxes` the boxes of objects.
Signals (one spatial axis) and volumes (three) can be cropped, shifted, stretched and flipped, and volumes rotated; shear and elastic
deformation need two axes.
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from cnnjax.core.randomness import stream_key
from cnnjax.data.boxes import CLASS, COUNTED, PADDING, STATUS, present
from cnnjax.detection.boxes import intersection_over_union

if TYPE_CHECKING:  # the options name operations that use this file
    from cnnjax.data.augment.options import AugmentOptions

Image = Float[Array, "*spatial channel"]
Matrix = Float[Array, "axes axes+1"]
Displacement = Float[Array, "axes *spatial"]
Places = Float[Array, "axes *size"]
Box = Bool[Array, "*spatial 1"]
Rows = Float[Array, "object 6"]

# SSD's crops: the least IoU with an object, one of these; the draws of each; and the least and greatest ratio of width to height.
OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
TRIALS = 40
ASPECTS = (0.5, 2.0)


class Placement(NamedTuple):
    """The random geometric transform of an example, in the order of application; None for parts that are off.

    Attributes:
      corner: the start of the crop window along each axis (its top and left), in the image with `pad` pixels of padding.
      warp: the matrix of `warp_matrix`.
      displacement: the displacement in pixels that is added to the places of the warp.
      flip_horizontal: whether left and right are exchanged (the last spatial axis is reversed).
      flip_vertical: whether top and bottom are exchanged (the second to last spatial axis).
      flip_depth: whether front and back of a volume are exchanged (the first of its three axes).
    """

    corner: Int[Array, "axes"] | None
    warp: Matrix | None
    displacement: Displacement | None
    flip_horizontal: Bool[Array, ""] | None
    flip_vertical: Bool[Array, ""] | None
    flip_depth: Bool[Array, ""] | None


def window_size(shape: tuple[int, ...], options: "AugmentOptions") -> tuple[int, ...] | None:
    """The size along each axis of the crop before the warp; None if nothing is cropped."""
    if options.resized_crop:  # which has its own size and position
        return shape[:-1] if options.pad else None
    return (options.crop or shape[:-1]) if options.pad or options.crop else None


def draw_placement(
    key: Key[Array, ""], shape: tuple[int, ...], options: "AugmentOptions", rows: Rows | None = None
) -> Placement:
    """Draws the placement of an example; each part uses the random stream with its option's name.

    Args:
      key: the key of the example.
      shape: the shape of the image, channels last.
      options: the config's `augment` section.
      rows: the objects of the example, as `data.boxes` stores them, which `iou_crop` needs; None if there are none.
    """
    size, window = options.crop or shape[:-1], window_size(shape, options)

    def flip(option: str) -> Bool[Array, ""] | None:
        return jax.random.bernoulli(stream_key(key, option)) if getattr(options, option) else None

    placement = Placement(
        draw_corner(stream_key(key, "crop"), shape, options.pad, window) if window else None,
        warp_matrix(key, options, window or shape[:-1], size),
        elastic_field(stream_key(key, "elastic"), size, options) if options.elastic else None,
        flip("flip_horizontal"),
        flip("flip_vertical"),
        flip("flip_depth"),
    )
    if not options.iou_crop:
        return placement
    unflipped = placement._replace(flip_horizontal=None, flip_vertical=None)
    rows = place_boxes(rows, unflipped, shape, options, 0.0)
    start, extent = iou_crop(stream_key(key, "iou_crop"), rows, size, options.iou_crop)
    return placement._replace(warp=cut(placement.warp, start, extent, size))


def place_image(image: Image, placement: Placement, options: "AugmentOptions") -> Float[Array, "*size channel"]:
    """Transforms an image by a placement: crops it, resamples it once, and flips it."""
    return _placed(image, placement, options, 0, interpolated)


def place_map(
    classes: Int[Array, "*spatial"], placement: Placement, options: "AugmentOptions", ignore: int
) -> Int[Array, "*size"]:
    """Transforms a map of class numbers by its image's placement, with the nearest pixel; `ignore` outside of the map if `fill` is zero."""
    sample = functools.partial(nearest, outside=ignore)
    return _placed(classes[..., None], placement, options, ignore, sample)[..., 0]


def place_boxes(
    rows: Rows,
    placement: Placement,
    shape: tuple[int, ...],
    options: "AugmentOptions",
    visible: float,
) -> Rows:
    """Transforms boxes by their image's placement, whose displacement must be None.

    A transformed box is the smallest that contains the old one's transformed corners, cut at the border of the image. With `iou_crop`
    boxes whose centre is outside the image become padding.

    Args:
      rows: the boxes, as `data.boxes` stores them.
      placement: the placement of the image.
      shape: the shape of the image, channels last.
      options: the config's `augment` section.
      visible: the fraction of a box that must remain inside the image; rows of others become padding.
    """
    size = options.crop or shape[:-1]
    x0, y0, x1, y1 = jnp.moveaxis(rows[:, :4], -1, 0)
    corners = jnp.stack([jnp.stack([y0, y0, y1, y1]), jnp.stack([x0, x1, x0, x1])])  # (axis, corner, object)
    window = shape[:-1]
    if placement.corner is not None:
        window = window_size(shape, options)
        corners = corners + (options.pad - placement.corner).reshape(-1, 1, 1)
    if placement.warp is not None:  # which maps the middles of pixels, at half a pixel from their edges
        there, here = (np.divide(lengths, 2).reshape(-1, 1, 1) for lengths in (window, size))
        linear, offset = placement.warp[:, :-1], placement.warp[:, -1].reshape(-1, 1, 1)
        (a, b), (c, d) = linear
        inverse = jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)
        corners = jnp.einsum("ij,jco->ico", inverse, corners - there - offset) + here
    for axis, flipped in ((1, placement.flip_horizontal), (0, placement.flip_vertical)):
        if flipped is not None:
            corners = corners.at[axis].set(jnp.where(flipped, size[axis] - corners[axis], corners[axis]))
    low, high = corners.min(1), corners.max(1)
    rows = jnp.concatenate([jnp.stack([low[1], low[0], high[1], high[0]], -1), rows[:, 4:]], -1)
    return cut_boxes(rows, (0,) * len(size), size, visible, central=options.iou_crop is not None)


def cut_boxes(
    rows: Rows,
    start: Sequence[Array | int],
    end: Sequence[Array | int],
    visible: float,
    central: bool = False,
) -> Rows:
    """Cuts boxes at the border of a window.

    Args:
      rows: the boxes, as `data.boxes` stores them.
      start: the top and the left edge of the window.
      end: its bottom and right edge.
      visible: the fraction of a box that must remain inside; rows of others become padding.
      central: whether rows of boxes whose centre is outside become padding too.
    """
    low, high = jnp.stack([start[1], start[0]]), jnp.stack([end[1], end[0]])
    edges = rows[:, :4].reshape(-1, 2, 2)
    inside = jnp.clip(edges, low, high)
    area, seen = ((part[:, 1] - part[:, 0]).prod(-1) for part in (edges, inside))
    kept = present(rows) & (seen > 0) & (seen >= visible * area)
    if central:
        centre = edges.mean(1)
        kept &= ((low < centre) & (centre < high)).all(-1)
    classes = jnp.where(kept, rows[:, CLASS], PADDING)
    return jnp.concatenate([inside.reshape(-1, 4), classes[:, None], rows[:, STATUS:]], -1)


def _placed(
    array: Shaped[Array, "*spatial channel"],
    placement: Placement,
    options: "AugmentOptions",
    outside: int,
    sample: Callable[[Array, Places, str], Array],
) -> Shaped[Array, "*size channel"]:
    """Transforms an array in the example's plane: `sample` interpolates, and `outside` is the value beyond the border."""
    size = options.crop or array.shape[:-1]
    fill = "zero" if options.fill == "constant" else options.fill  # an image's pixels are relative to the constant
    if placement.corner is not None:
        window = window_size(array.shape, options)
        array = cut_window(array, placement.corner, options.pad, window, fill, outside)
    if placement.warp is not None or placement.displacement is not None:
        array = sample(array, source_places(placement.warp, placement.displacement, array.shape[:-1], size), fill)
    if placement.flip_horizontal is not None:
        array = jnp.where(placement.flip_horizontal, array[..., ::-1, :], array)
    if placement.flip_vertical is not None:
        array = jnp.where(placement.flip_vertical, array[..., ::-1, :, :], array)
    if placement.flip_depth is not None:
        array = jnp.where(placement.flip_depth, array[::-1], array)
    return array


def draw_corner(key: Key[Array, ""], shape: tuple[int, ...], pad: int, size: tuple[int, ...]) -> Int[Array, "axes"]:
    """Draws the start of a window along each axis, anywhere in an image with `pad` pixels of padding."""
    room = jnp.array([whole + 2 * pad - part for whole, part in zip(shape[:-1], size, strict=True)])
    return jax.random.randint(key, (len(size),), 0, room + 1)


def cut_window(
    image: Image, corner: Int[Array, "axes"], pad: int, size: tuple[int, ...], fill: str, outside: int = 0
) -> Image:
    """Crops a window of an image with `pad` pixels of padding, whose value is `outside` if `fill` is zero."""
    around = *((pad, pad) for _ in size), (0, 0)
    padded = jnp.pad(image, around, constant_values=outside) if fill == "zero" else jnp.pad(image, around, mode=fill)
    return jax.lax.dynamic_slice(padded, (*corner, 0), (*size, image.shape[-1]))


def warp_matrix(
    key: Key[Array, ""], options: "AugmentOptions", shape: tuple[int, ...], size: tuple[int, ...]
) -> Matrix | None:
    """The matrix A from output to source: source (y, x) = A (y, x, 1), each relative to its image's centre; None for the identity.

    A volume, (depth, y, x), is rotated in the planes of depth and y, depth and x (`tilt`), and y and x (`rotation`), in this
    order from the output to the source.

    Args:
      key: the key of the example.
      options: the config's `augment` section.
      shape: the size of the source along each axis.
      size: the size of the output along each axis, which differs from the source's if a crop is resized.
    """
    turned = options.rotation, options.tilt, options.shift, options.stretch, options.shear
    if not any((*turned, options.resized_crop, options.zoom_out > 1)):
        return None

    def within(stream: str, bound: float, *size: int) -> Array:
        if not bound:
            return jnp.zeros(size)
        return jax.random.uniform(stream_key(key, stream), size, minval=-bound, maxval=bound)

    axes = len(shape)
    linear = jnp.diag(1 / (1 + within("stretch", options.stretch, axes)))
    if axes == 2:
        angle = within("rotation", math.radians(options.rotation))
        shear = jnp.tan(within("shear", math.radians(options.shear)))
        sheared = jnp.array([[1.0, 0.0], [0.0, 1.0]]).at[1, 0].set(shear)
        linear = _turn(angle) @ sheared @ linear
    elif options.rotation or options.tilt:
        tilts = within("tilt", math.radians(options.tilt), 2)
        angles = {(0, 1): tilts[0], (0, 2): tilts[1], (1, 2): within("rotation", math.radians(options.rotation))}
        for plane, angle in angles.items():
            linear = jnp.eye(axes).at[np.ix_(plane, plane)].set(_turn(angle)) @ linear
    offset = -within("shift", options.shift, axes)
    if options.resized_crop:
        extent, centre = _crop_box(stream_key(key, "resized_crop"), shape, options.resized_crop)
        # From the middle of the crop's first pixel to that of its last: never beyond the border.
        shrink = jnp.maximum(extent - 1, 0) / np.maximum(np.subtract(size, 1), 1)
        middle = np.subtract(shape, 1) / 2
        linear, offset = linear @ jnp.diag(shrink), offset + linear @ (centre - middle)
    matrix = jnp.concatenate([linear, offset[:, None]], axis=1)
    if options.zoom_out == 1:
        return matrix
    return cut(matrix, *zoomed_out(stream_key(key, "zoom_out"), size, options.zoom_out), size)


def cut(
    matrix: Matrix | None,
    start: Float[Array | np.ndarray, "axes"],
    extent: Float[Array | np.ndarray, "axes"],
    size: tuple[int, ...],
) -> Matrix:
    """The matrix of a warp whose output is cut to a window, which is resized to the output's size.

    Args:
      matrix: the matrix of the warp, as of `warp_matrix`; None for the identity.
      start: the start of the window along each axis, in pixels of the output; it may be outside.
      extent: the length of the window along each axis.
      size: the size of the output along each axis.
    """
    matrix = jnp.eye(len(size), len(size) + 1) if matrix is None else matrix
    size = np.array(size, np.float32)
    linear, offset = matrix[:, :-1], matrix[:, -1]
    offset = offset + linear @ (start + extent / 2 - size / 2)
    return jnp.concatenate([linear * (extent / size), offset[:, None]], axis=1)


def zoomed_out(
    key: Key[Array, ""], size: tuple[int, ...], largest: float
) -> tuple[Float[Array, "axes"], Float[Array, "axes"]]:
    """The start and the extent of a canvas on which the image lies at random, of 1 to `largest` times its sides; half of the time the image."""
    happens, factor, place = jax.random.split(key, 3)
    factor = jnp.where(jax.random.bernoulli(happens), jax.random.uniform(factor, minval=1.0, maxval=largest), 1.0)
    size = np.array(size, np.float32)
    return -jax.random.uniform(place, size.shape) * (factor - 1) * size, factor * size


def iou_crop(
    key: Key[Array, ""], rows: Rows, size: tuple[int, ...], sides: tuple[float, float]
) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
    """The start and the extent of SSD's crop: a window with an object whose centre is inside, or the whole image.

    For each of `OVERLAPS` the first of `TRIALS` windows is taken that has at least this IoU with such an object, and of these and the whole
    image one is chosen, all with equal probability.

    Args:
      key: the key of the example and operation.
      rows: the objects, as `data.boxes` stores them; those that do not count are disregarded.
      size: the height and width of the image.
      sides: the smallest and largest fraction of the image's height and width, each drawn by itself.
    """
    draw, choose = jax.random.split(key)
    size = np.array(size, np.float32)
    length, place = jax.random.uniform(draw, (2, len(OVERLAPS), TRIALS, 2))
    extent = size * (sides[0] + (sides[1] - sides[0]) * length)
    start = place * (size - extent)
    end, aspect = start + extent, extent[..., 1] / extent[..., 0]
    centres = (rows[:, 1::-1] + rows[:, 3:1:-1]) / 2
    inside = ((start[..., None, :] < centres) & (centres < end[..., None, :])).all(-1)
    windows = jnp.concatenate([start[..., ::-1], end[..., ::-1]], -1)
    overlaps = jax.vmap(intersection_over_union, (0, None))(windows, rows[:, :4])
    counted = inside & present(rows) & (rows[:, STATUS] == COUNTED)
    best = jnp.where(counted, overlaps, -1).max(-1, initial=-1)
    good = (best >= np.array(OVERLAPS)[:, None]) & (ASPECTS[0] <= aspect) & (aspect <= ASPECTS[1])
    first, numbers = good.argmax(1), np.arange(len(OVERLAPS))
    possible = jnp.concatenate([jnp.ones(1, bool), good.any(1)])
    chosen = jax.random.categorical(choose, jnp.where(possible, 0.0, -jnp.inf))
    starts = jnp.concatenate([jnp.zeros((1, 2)), start[numbers, first]])
    extents = jnp.concatenate([size[None], extent[numbers, first]])
    return starts[chosen], extents[chosen]


def _turn(angle: Float[Array, ""]) -> Float[Array, "2 2"]:
    return jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])


def _crop_box(key: Key[Array, ""], size: tuple[int, ...], area: tuple[float, float]) -> tuple[Array, Array]:
    """The extent (height, width) and the centre of a random crop, reduced if its aspect does not fit."""
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
    """The displacements in pixels: uniform noise of -1..1 smoothed by a Gaussian, times the strength (Simard et al., 2003).

    The smoothed noise is scaled to a standard deviation of 1/4 per component, so that the strength is about the largest
    displacement for any smoothness.
    """
    height, width = shape[:2]
    noise = jax.random.uniform(key, (2, height, width), minval=-1, maxval=1)
    smooth = [_gaussian_matrix(length, options.elastic_smoothness) for length in (height, width)]
    field = jnp.einsum("ij,cjk,lk->cil", smooth[0], noise, smooth[1])
    # Its deviation in an infinite image: each smoothing multiplies the variance by the sum of squared weights.
    deviation = math.sqrt(1 / 3) * math.prod(float(np.sqrt((matrix**2).sum(1).mean())) for matrix in smooth)
    return options.elastic * field / (4 * deviation)


def _gaussian_matrix(length: int, deviation: float) -> np.ndarray:
    """The matrix that smooths along an axis: every row has the Gaussian's weights, scaled to sum 1 inside the image."""
    if not deviation:
        return np.eye(length, dtype=np.float32)
    distance = np.arange(length)[:, None] - np.arange(length)[None]
    weights = np.exp(-0.5 * (distance / deviation) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def resample(
    image: Image,
    warp: Matrix | None,
    displacement: Displacement | None,
    fill: str,
    size: tuple[int, ...] | None = None,
) -> Float[Array, "*size channel"]:
    """Interpolates an image linearly at the places of a warp and a displacement; arguments as in `source_places`."""
    sides = image.shape[:-1]
    return interpolated(image, source_places(warp, displacement, sides, size or sides), fill)


def resized(
    images: Float[Array, "batch *spatial channel"], size: tuple[int, ...]
) -> Float[Array, "batch *size channel"]:
    """Images resized by linear interpolation; a smaller size averages all pixels of a larger one, as Pillow does."""
    return jax.image.resize(images.astype(jnp.float32), (len(images), *size, images.shape[-1]), "linear")


def source_places(
    warp: Matrix | None, displacement: Displacement | None, sides: tuple[int, ...], size: tuple[int, ...]
) -> Places:
    """The place in the source, in pixels, of every pixel of the output.

    Args:
      warp: the matrix of `warp_matrix`; None is the identity.
      displacement: the displacement that is added to the places, in pixels; None is 0.
      sides: the size of the source along each axis.
      size: the size of the output along each axis.
    """
    axes = len(sides)
    places = jnp.stack(jnp.meshgrid(*map(jnp.arange, size), indexing="ij")).astype(jnp.float32)
    if warp is not None:
        there, here = (_along_axes(np.subtract(lengths, 1) / 2, axes) for lengths in (sides, size))
        places = jnp.einsum("ij,j...->i...", warp[:, :-1], places - here) + _along_axes(warp[:, -1], axes) + there
    return places if displacement is None else places + displacement


def interpolated(image: Image, places: Places, fill: str) -> Float[Array, "*size channel"]:
    """Interpolates linearly along each axis at some places; `fill` is the rule for values outside: zero, edge or reflect."""
    sides, axes = image.shape[:-1], len(places)
    floor = jnp.floor(places)
    part = places - floor
    corners = []
    for beyond in itertools.product((0, 1), repeat=axes):  # the pixels around a place
        near = [floor[axis].astype(jnp.int32) + step for axis, step in enumerate(beyond)]
        shares = [part[axis] if step else 1 - part[axis] for axis, step in enumerate(beyond)]
        weight = functools.reduce(operator.mul, shares)
        if fill == "reflect":
            near = [_reflect(place, length) for place, length in zip(near, sides, strict=True)]
        elif fill == "zero":
            weight = weight * _inside(near, sides)
        corners.append(weight[..., None] * image[_within(near, sides)])
    return sum(corners)


def nearest(
    array: Shaped[Array, "*spatial channel"], places: Places, fill: str, outside: int = 0
) -> Shaped[Array, "*size channel"]:
    """The nearest pixel at some places (ties go to the higher index); `outside` beyond the border if `fill` is zero."""
    sides = array.shape[:-1]
    near = [*jnp.floor(places + 0.5).astype(jnp.int32)]
    if fill == "reflect":
        near = [_reflect(place, length) for place, length in zip(near, sides, strict=True)]
    found = array[_within(near, sides)]
    return jnp.where(_inside(near, sides)[..., None], found, outside) if fill == "zero" else found


def _inside(near: Sequence[Int[Array, "*size"]], sides: tuple[int, ...]) -> Bool[Array, "*size"]:
    """Whether indices along each axis are inside the image."""
    return functools.reduce(
        operator.and_, [(place >= 0) & (place < length) for place, length in zip(near, sides, strict=True)]
    )


def _within(near: Sequence[Int[Array, "*size"]], sides: tuple[int, ...]) -> tuple[Int[Array, "*size"], ...]:
    """Indices along each axis, clipped to the image."""
    return tuple(jnp.clip(place, 0, length - 1) for place, length in zip(near, sides, strict=True))


def _along_axes(values: Float[Array | np.ndarray, "axes"], axes: int) -> Float[Array | np.ndarray, "axes *ones"]:
    """One value per axis, reshaped for broadcasting over positions."""
    return values.reshape(-1, *(1,) * axes)


def _reflect(position: Int[Array, "..."], length: int) -> Int[Array, "..."]:
    """Indices mirrored at the outermost pixels, which are not repeated: -1 becomes 1."""
    period = max(2 * (length - 1), 1)
    position = jnp.abs(position) % period
    return jnp.minimum(position, period - position)


def box_mask(shape: tuple[int, ...], start: Sequence[Array] | Array, extent: Sequence[Array | int] | Array) -> Box:
    """The mask of a box, (*spatial, 1): True inside.

    Args:
      shape: the shape of the image, channels last.
      start: the start of the box along each axis.
      extent: the length of the box along each axis.
    """
    inside = []
    for axis, (first, length) in enumerate(zip(start, extent, strict=True)):
        place = jnp.arange(shape[axis]).reshape([-1 if other == axis else 1 for other in range(len(shape))])
        inside += [place >= first, place < first + length]
    return functools.reduce(operator.and_, inside)
