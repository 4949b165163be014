"""Augmentation: random changes of training images, inside the compiled step.

Every example's key follows from (seed, epoch, its index), so that its changes are the same on any number of devices and
after any interruption. Images are floats of 0 to 255, before normalisation. What is off is left out of the program; RandAugment
at magnitude 0 is not, as some of its operations have no strength. Operations are applied in the order of the fields of
`AugmentOptions`; those of geometry, but the crop and the flips, make one resampling together.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from cnnjax.core.options import between, fraction
from cnnjax.core.randomness import AXIS, key_for
from cnnjax.data.batches import Batch

Image = Float[Array, "height width channel"]
Images = Float[Array, "batch height width channel"]
Matrix = Float[Array, "2 3"]

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow and torchvision weigh them


def _area(area: tuple[float, float]) -> str | None:
    return None if 0 < area[0] <= area[1] <= 1 else "two shares between 0 and 1, the smaller first"


_probability = between(0, 1)
# No picture here is larger, and float32 tells a pixel's parts apart up to there.
_pixels = between(0, 2**14)
# Of brightness, contrast and the like: beyond 255 any image is black and white.
_strength = between(0, 255)


def _size(size: tuple[int, int]) -> str | None:
    return None if min(size) > 0 and not any(map(_pixels, size)) else "a height and a width of 1 to 16,384"


def _operations(value: tuple[int, float]) -> str | None:
    good = between(1, 100)(value[0]) is None and between(0, 30)(value[1]) is None
    return None if good else "1 to 100 operations, a magnitude of 0 to 30"


def _alpha(value: float) -> str | None:
    return None if value == 0 or between(1e-3, 1e3)(value) is None else "0 (off), or 0.001 to 1,000"


@dataclasses.dataclass(frozen=True)
class AugmentOptions:
    """The config's `augment` section: what is done to training images; everything is off by default."""

    pad: Annotated[int, "pixels put around the image before the crop", _pixels] = 0
    crop: Annotated[
        tuple[int, int] | None,
        "height and width of a random crop in training, and of the central one in evaluation; None is the image's",
        _size,
    ] = None
    resized_crop: Annotated[
        tuple[float, float] | None,
        "least and greatest share of the area of a random part, of aspect 3/4 to 4/3, resized to `crop` or the image's size",
        _area,
    ] = None
    rotation: Annotated[float, "at most so many degrees, either way", between(0, 180)] = 0.0
    shift: Annotated[float, "at most so many pixels along each axis", _pixels] = 0.0
    stretch: Annotated[float, "each axis by a factor of 1 - s to 1 + s", fraction] = 0.0
    shear: Annotated[float, "at most so many degrees, either way", between(0, 89)] = 0.0
    elastic: Annotated[float, "strength of elastic deformation in pixels (Simard et al., 2003)", _pixels] = 0.0
    elastic_smoothness: Annotated[float, "standard deviation of its smoothing in pixels", _pixels] = 4.0
    fill: Annotated[Literal["zero", "edge", "reflect"], "what lies outside the image"] = "zero"
    flip_horizontal: Annotated[bool, "left and right, half of the time (not for digits and signs)"] = False
    flip_vertical: Annotated[bool, "above and below, half of the time"] = False
    randaugment: Annotated[
        tuple[int, float] | None,
        "(operations, magnitude 0 to 30) of RandAugment (Cubuk et al., 2020), such as (2, 9)",
        _operations,
    ] = None
    brightness: Annotated[float, "multiply by 1 - b to 1 + b", _strength] = 0.0
    contrast: Annotated[float, "distance from the mean grey, times 1 - c to 1 + c", _strength] = 0.0
    saturation: Annotated[float, "distance from the pixel's own grey, times 1 - s to 1 + s", _strength] = 0.0
    hue: Annotated[float, "turn the colour circle by at most this share", lambda h: (
        None if 0 <= h <= 0.5 else "a share of 0 to 0.5")] = 0.0  # fmt: skip
    greyscale: Annotated[float, "probability of losing colour", _probability] = 0.0
    lighting: Annotated[float, "AlexNet's PCA of colours: standard deviation along each axis", _strength] = 0.0
    noise: Annotated[float, "standard deviation of Gaussian noise, of 255", _strength] = 0.0
    cutout: Annotated[int, "side of a square set to the mean grey, in pixels (DeVries and Taylor, 2017)", _pixels] = 0
    erasing: Annotated[
        float,
        "probability of random erasing: 2 to 33 % of the area filled with noise (Zhong et al., 2020)",
        _probability,
    ] = 0.0
    mixup: Annotated[float, "alpha of mixup (Zhang et al., 2018)", _alpha] = 0.0
    cutmix: Annotated[float, "alpha of cutmix (Yun et al., 2019); with mixup, either by chance", _alpha] = 0.0


COLOR = ("saturation", "hue", "greyscale", "lighting")


def check_channels(options: AugmentOptions, channels: int) -> None:
    """Raises ValueError if colours are to be changed in images that have none."""
    used = [name for name in COLOR if getattr(options, name)]
    if used and channels != 3:
        raise ValueError(f"config: augment.{used[0]} changes colours, and the images have {channels} channel(s)")


def output_shape(image_shape: tuple[int, int, int], options: AugmentOptions) -> tuple[int, int, int]:
    """The shape of images as the network takes them.

    Raises:
      ValueError: the crop is larger than the image, or what is done to it reaches beyond it.
    """
    height, width, channels = image_shape
    for name in ("pad", "shift", "elastic", "cutout"):
        if getattr(options, name) > max(height, width):
            raise ValueError(
                f"config: augment.{name}={getattr(options, name):g}: expected no more than the images' size, {height}x{width} pixels"
            )
    if options.crop and (options.crop[0] > height + 2 * options.pad or options.crop[1] > width + 2 * options.pad):
        raise ValueError(
            f"config: augment.crop={options.crop} is larger than the images, {height}x{width} with {options.pad} pixels around"
        )
    return (*(options.crop or (height, width)), channels)


def example_keys(seed: int, epoch: Int[Array, ""], index: Int[Array, "batch"]) -> Key[Array, "batch"]:
    """The keys of a batch's examples."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key_for(seed, "augment", epoch), index)


def training_inputs(
    options: AugmentOptions,
    normalize: Callable[[Array], Images],
    one_hot: Callable[[Int[Array, "batch"]], Float[Array, "batch class"]],
    seed: int,
    steps_per_epoch: int,
) -> Callable[[Batch, Int[Array, ""]], tuple[Images, Float[Array, "batch class"]]]:
    """What `training.step.train_step` takes its images and targets from: augmented, normalised, mixed."""

    def inputs(batch: Batch, step: Int[Array, ""]) -> tuple[Images, Float[Array, "batch class"]]:
        images, targets = batch["image"], one_hot(batch["label"])
        if changes(options):
            keys = example_keys(seed, step // steps_per_epoch, batch["index"])
            images = augment(images.astype(jnp.float32), keys, options)
        images = normalize(images)
        if options.mixup or options.cutmix:
            images, targets = mix(images, targets, key_for(seed, "mix", step), options)
        return images, targets

    return inputs


def changes(options: AugmentOptions) -> bool:
    """Whether anything is done to the images one by one."""
    return dataclasses.replace(options, mixup=0.0, cutmix=0.0) != AugmentOptions()


def augment(images: Images, keys: Key[Array, "batch"], options: AugmentOptions) -> Images:
    """A batch, each image changed by its own key.

    Args:
      images: 0 to 255.
      keys: one an image.
      options: what is done, and how strongly.
    """
    return jax.vmap(lambda image, key: _augment_one(image, key, options))(images, keys)


def _augment_one(image: Image, key: Key[Array, ""], options: AugmentOptions) -> Image:
    streams = iter(jax.random.split(key, 24))
    size = options.crop or image.shape[:2]
    if options.pad or (options.crop and not options.resized_crop):  # a resized crop has its size and place already
        kept = image.shape[:2] if options.resized_crop else size
        image = random_crop(image, next(streams), options.pad, kept, options.fill)
    warp = warp_matrix(next(streams), options, image.shape, size)
    displacement = elastic_field(next(streams), size, options) if options.elastic else None
    if warp is not None or displacement is not None:
        image = resample(image, warp, displacement, options.fill, size)
    if options.flip_horizontal:
        image = jnp.where(jax.random.bernoulli(next(streams)), image[:, ::-1], image)
    if options.flip_vertical:
        image = jnp.where(jax.random.bernoulli(next(streams)), image[::-1], image)
    if options.randaugment:
        image = randaugment(image, next(streams), *options.randaugment)
    for change, strength in (
        (brightness, options.brightness),
        (contrast, options.contrast),
        (saturation, options.saturation),
    ):
        if strength:
            low = max(0.0, 1 - strength)
            image = change(image, jax.random.uniform(next(streams), minval=low, maxval=1 + strength))
    if options.hue:
        image = turn_hue(image, jax.random.uniform(next(streams), minval=-options.hue, maxval=options.hue))
    if options.greyscale:
        image = jnp.where(jax.random.bernoulli(next(streams), options.greyscale), saturation(image, 0.0), image)
    if options.lighting:
        image = lighting(image, options.lighting * jax.random.normal(next(streams), (3,)))
    if options.noise:
        image = jnp.clip(image + 255 * options.noise * jax.random.normal(next(streams), image.shape), 0, 255)
    if options.cutout:
        image = cutout(image, next(streams), options.cutout)
    if options.erasing:
        image = random_erasing(image, next(streams), options.erasing)
    return image


# --- geometry ---------------------------------------------------------------------------------------------------


def random_crop(image: Image, key: Key[Array, ""], pad: int, size: tuple[int, int], fill: str) -> Image:
    """A window of `size`, anywhere in the image with `pad` pixels around it."""
    mode = {"zero": "constant", "edge": "edge", "reflect": "reflect"}[fill]
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode=mode)
    room = jnp.array([padded.shape[0] - size[0], padded.shape[1] - size[1]])
    top, left = jax.random.randint(key, (2,), 0, room + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), (*size, image.shape[-1]))


def warp_matrix(
    key: Key[Array, ""], options: AugmentOptions, shape: tuple[int, ...], size: tuple[int, int]
) -> Matrix | None:
    """Where each output pixel comes from: source (y, x) = A (y, x, 1), each from its image's centre; None for nowhere else.

    `shape` is the source's, `size` the result's; they differ where a crop is resized.
    """
    if not any((options.rotation, options.shift, options.stretch, options.shear, options.resized_crop)):
        return None
    keys = jax.random.split(key, 5)

    def within(key: Key[Array, ""], bound: float, *size: int) -> Array:
        return jax.random.uniform(key, size, minval=-bound, maxval=bound)

    angle = within(keys[0], math.radians(options.rotation))
    shear = jnp.tan(within(keys[1], math.radians(options.shear)))
    scale = 1 + within(keys[2], options.stretch, 2)
    turned = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    sheared = jnp.array([[1.0, 0.0], [0.0, 1.0]]).at[1, 0].set(shear)
    linear = turned @ sheared @ jnp.diag(1 / scale)
    offset = -within(keys[3], options.shift, 2)
    if options.resized_crop:
        extent, centre = _crop_box(keys[4], shape[:2], options.resized_crop)
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
    key: Key[Array, ""], shape: tuple[int, ...], options: AugmentOptions
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


# --- colour -----------------------------------------------------------------------------------------------------


def _grey(image: Image) -> Float[Array, "height width 1"]:
    return (image @ _GREY)[..., None] if image.shape[-1] == 3 else image.mean(-1, keepdims=True)


def _blend(image: Image, other: Array, factor: Array | float) -> Image:
    return jnp.clip(other + factor * (image - other), 0, 255)


def brightness(image: Image, factor: Array | float) -> Image:
    """Multiplied by a factor."""
    return _blend(image, jnp.zeros(()), factor)


def contrast(image: Image, factor: Array | float) -> Image:
    """The distance from the image's mean grey multiplied by a factor."""
    return _blend(image, _grey(image).mean(), factor)


def saturation(image: Image, factor: Array | float) -> Image:
    """The distance from each pixel's grey multiplied by a factor; 0 is a grey image."""
    return _blend(image, _grey(image), factor)


def turn_hue(image: Image, share: Array | float) -> Image:
    """Every colour turned by a share of the colour circle; lightness and saturation (of HSV) stay."""
    high, low = image.max(-1), image.min(-1)
    spread = jnp.where(high > low, high - low, 1)
    r, g, b = (image[..., channel] for channel in range(3))
    sixth = jnp.where(high == r, (g - b) / spread % 6, jnp.where(high == g, (b - r) / spread + 2, (r - g) / spread + 4))
    sixth = jnp.where(high > low, sixth, 0.0) + 6 * share
    # A channel is highest within one sixth of its own colour, lowest beyond two: 5, 3 and 1 are where each turns.
    ramps = [(start + sixth) % 6 for start in (5, 3, 1)]
    return jnp.stack([high - (high - low) * jnp.clip(jnp.minimum(k, 4 - k), 0, 1) for k in ramps], axis=-1)


# The covariance of ImageNet's colours, of values 0 to 1: its eigenvalues' roots times its eigenvectors. The figures are
# those published with Facebook's ResNet training code in 2016, which computed AlexNet's PCA anew.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)
_EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
)


def lighting(image: Image, strength: Float[Array, "3"]) -> Image:
    """AlexNet's change of colour: [p1 p2 p3] [a1 l1, a2 l2, a3 l3]^T is added to every pixel (2012, section 4.1)."""
    return jnp.clip(image + 255 * (_EIGENVECTORS @ (strength * _EIGENVALUES)), 0, 255)


# --- parts left out ---------------------------------------------------------------------------------------------


def _box(shape: tuple[int, ...], top: Array, left: Array, height: Array, width: Array) -> Array:
    """True within a box, (height, width, 1)."""
    y, x = jnp.arange(shape[0])[:, None, None], jnp.arange(shape[1])[None, :, None]
    return (y >= top) & (y < top + height) & (x >= left) & (x < left + width)


def cutout(image: Image, key: Key[Array, ""], side: int) -> Image:
    """A square of mean grey about a random pixel; it may reach beyond the border."""
    y, x = jax.random.randint(key, (2,), 0, jnp.array(image.shape[:2]))
    box = _box(image.shape, y - side // 2, x - side // 2, side, side)
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
    box = _box(image.shape, places[0], places[1], box_height, box_width)
    noise = jax.random.uniform(keys[3], image.shape, maxval=255)
    return jnp.where(box & jax.random.bernoulli(keys[4], probability), noise, image)


# --- RandAugment ------------------------------------------------------------------------------------------------


def posterize(image: Image, bits: Array | int) -> Image:
    """Only the upper bits of each value are kept."""
    step = 2.0 ** (8 - bits)
    return jnp.floor(image / step) * step


def solarize(image: Image, threshold: Array | float) -> Image:
    """Values from the threshold on are inverted."""
    return jnp.where(image >= threshold, 255 - image, image)


def autocontrast(image: Image) -> Image:
    """Each channel's values stretched to 0..255."""
    low, high = image.min((0, 1)), image.max((0, 1))
    return jnp.where(high > low, (image - low) * 255 / jnp.where(high > low, high - low, 1), image)


def equalize(image: Image) -> Image:
    """Each channel's values spread so that their histogram is flat, as Pillow's ImageOps.equalize does."""

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
    """Blended with its smoothed self (weights 1, centre 5, of 13), by a factor above 1 away from it; the border stays."""
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = image.shape[:2]
    around = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))
    smooth = (around + 4 * image) / 13
    inner = _box(image.shape, jnp.array(1), jnp.array(1), jnp.array(height - 2), jnp.array(width - 2))
    return jnp.where(inner, _blend(image, smooth, factor), image)


def randaugment(image: Image, key: Key[Array, ""], operations: int, magnitude: float) -> Image:
    """So many operations in turn, each drawn from the paper's 14, all of one magnitude of 0 to 30.

    The ranges at 30 are those of torchvision's RandAugment: 30 degrees, a shear of 0.3, a shift of 150/331 of the side, colours by
    0.9, 4 bits, a threshold of 0.
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
        color = (lambda image: saturation(image, factor)) if image.shape[-1] == 3 else (lambda image: image)
        branches: list[Callable[[Image], Image]] = [
            lambda image: image,
            warped(turn, zero),
            warped(eye.at[0, 1].set(shear), zero),
            warped(eye.at[1, 0].set(shear), zero),
            warped(eye, shift * jnp.array([1.0, 0.0])),
            warped(eye, shift * jnp.array([0.0, 1.0])),
            lambda image: brightness(image, factor),
            lambda image: contrast(image, factor),
            color,
            lambda image: sharpness(image, factor),
            lambda image: posterize(image, 8 - round(4 * level)),
            lambda image: solarize(image, 256 * (1 - level)),
            autocontrast,
            equalize,
        ]
        return jax.lax.switch(jax.random.randint(choose, (), 0, len(branches)), branches, image), None

    return jax.lax.scan(apply, image, jax.random.split(key, operations))[0]


# --- images mixed -----------------------------------------------------------------------------------------------


def mix(
    images: Images, targets: Float[Array, "batch class"], key: Key[Array, ""], options: AugmentOptions
) -> tuple[Images, Float[Array, "batch class"]]:
    """Mixup or cutmix of the global batch: each image with the one as far from the batch's end as it is from its start.

    mixup:   x = l x + (1 - l) x',  t = l t + (1 - l) t',  with l of Beta(alpha, alpha)
    cutmix:  a box of share 1 - l of the area comes from x', and t is mixed by the areas

    l and the box are drawn once a batch. Batches are shuffled, so the partner is a random example.
    """
    share_key, box_key, choice_key = jax.random.split(key, 3)
    both = bool(options.mixup and options.cutmix)
    cut = jax.random.bernoulli(choice_key) if both else jnp.array(bool(options.cutmix))
    shares = [jax.random.beta(share_key, alpha, alpha) if alpha else 1.0 for alpha in (options.mixup, options.cutmix)]
    others, other_targets = _reversed_batch(images), _reversed_batch(targets)
    height, width = images.shape[1:3]
    y, x = jax.random.randint(box_key, (2,), 0, jnp.array([height, width]))
    side = jnp.sqrt(1 - shares[1])
    half = jnp.array([height, width]) * side / 2
    top, left = jnp.clip(jnp.round(y - half[0]), 0, height), jnp.clip(jnp.round(x - half[1]), 0, width)
    bottom, right = jnp.clip(jnp.round(y + half[0]), 0, height), jnp.clip(jnp.round(x + half[1]), 0, width)
    box = _box(images.shape[1:], top, left, bottom - top, right - left)
    own = jnp.where(cut, 1 - (bottom - top) * (right - left) / (height * width), shares[0])
    mixed = jnp.where(cut, jnp.where(box, others, images), shares[0] * images + (1 - shares[0]) * others)
    return mixed, own * targets + (1 - own) * other_targets


def _reversed_batch(array: Any) -> Any:
    """The global batch from its end to its start, of which this device keeps its part."""
    try:
        devices = jax.lax.axis_size(AXIS)
    except NameError:  # not inside pmap: the batch is whole
        return array[::-1]
    # This device's partners are another device's whole part, reversed.
    return jax.lax.ppermute(array, AXIS, [(source, devices - 1 - source) for source in range(devices)])[::-1]
