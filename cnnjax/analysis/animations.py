"""Animations of convolutions for teaching. All numbers shown are computed by the library's own operations.

save_gif(animate_convolution(input_size=5, kernel_size=3, stride=2, padding=1), "convolution.gif")
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from cnnjax.core import files
from cnnjax.core.options import unknown
from cnnjax.data.displayed import displayed
from cnnjax.data.transforms import as_picture
from cnnjax.layers.filters import FILTERS, apply_filter
from cnnjax.layers.upsampling import ConvTranspose
from cnnjax.ops.convolution import convolution

# Limits beyond which an animation is too long to watch or its numbers are too small to read.
MOST_FRAMES, MOST_CELLS, MOST_KERNEL = 64, 13, 5
_SEEN, _FILLED, _BORDER = "#f5bd70", "#9cc3e6", "#e4e4e4"
# The longer side of an image in the animation of a filter, and the number of frames of the sweep.
_PICTURE, _SWEEP = 64, 48


def animate_convolution(
    input_size: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1, seed: int = 0
) -> list[Image.Image]:
    """Animates a convolution: a window moves over the padded input, and its sums of products fill the output.

    output = floor((input + 2 padding - dilation (kernel - 1) - 1) / stride) + 1

    Args:
      input_size: height and width of the input, whose values are drawn from 0 to 4.
      kernel_size: height and width of the kernel, drawn from -1 to 2.
      stride: the stride of the window.
      padding: the number of zeros on each side.
      dilation: the distance between kernel elements.
      seed: the seed of the drawn values.

    Returns:
      One frame per output value.

    Raises:
      ValueError: no window fits, a number is out of range, or the animation would be too large; the message has the formula.
    """
    _check(input_size=input_size, kernel_size=kernel_size, stride=stride, dilation=dilation)
    _check(0, padding=padding)
    formula = "output = floor((input + 2·padding − dilation·(kernel − 1) − 1) / stride) + 1"
    with_numbers = f"floor(({input_size} + 2·{padding} − {dilation}·({kernel_size} − 1) − 1) / {stride}) + 1"
    size = (input_size + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1
    if size < 1:
        raise ValueError(f"no window fits: {formula} = {with_numbers} = {size}: expected at least 1")
    _check_extent(size**2, input_size + 2 * padding, kernel_size, f"{formula} = {with_numbers} = {size}")
    image, kernel = _numbers(input_size, kernel_size, seed)
    computed = convolution(
        image[None, :, :, None], kernel[:, :, None, None], (stride,) * 2, ((padding,) * 2,) * 2, (dilation,) * 2
    )
    output = np.asarray(computed)[0, :, :, 0].round().astype(int)
    padded = np.pad(image, padding).astype(int)
    kernel = kernel.astype(int)

    figure, axis = _stage(f"{formula}\n{with_numbers} = {size}", [len(padded), kernel_size, size], kernel_size)
    around = f", zeros around it: {len(padded)}x{len(padded)}" if padding else ""
    titles = f"input {input_size}x{input_size}{around}", f"kernel {kernel_size}x{kernel_size}", f"output {size}x{size}"
    places = _places(axis, dict(zip(titles, (len(padded), kernel_size, size), strict=True)))
    _grid(axis, places[0], padded, border=padding)
    _grid(axis, places[1], kernel)
    _grid(axis, places[2], np.full((size, size), "", object))

    def steps() -> Iterable[tuple[list[Artist], list[Artist]]]:
        for row, column in np.ndindex(size, size):
            at = [(row * stride + dilation * i, column * stride + dilation * j) for i, j in np.ndindex(kernel.shape)]
            window = np.array([padded[place] for place in at]).reshape(kernel.shape)
            seen = [_cell(axis, places[0], *place, _SEEN) for place in at]
            values = [_value(axis, places[0], *place, padded[place]) for place in at]
            target = _cell(axis, places[2], row, column, _SEEN)
            total = output[row, column]
            kept = [_cell(axis, places[2], row, column, _FILLED), _value(axis, places[2], row, column, total)]
            yield kept, [*seen, *values, *_sum(axis, window, kernel, total), target, kept[1]]

    return _film(figure, steps())


def animate_transposed_convolution(
    input_size: int, kernel_size: int, stride: int = 1, padding: int = 0, seed: int = 0
) -> list[Image.Image]:
    """Animates a transposed convolution: every input value adds a scaled copy of the kernel to the output, then padding is cut off.

    output = (input - 1) stride + kernel - 2 padding

    Args:
      input_size: height and width of the input, whose values are drawn from 0 to 4.
      kernel_size: height and width of the kernel, drawn from -1 to 2.
      stride: the distance between the copies of neighbouring values.
      padding: the number of rows and columns cut off on each side.
      seed: the seed of the drawn values.

    Returns:
      One frame per input value.

    Raises:
      ValueError: the output would be empty, a number is out of range, or the animation would be too large.
    """
    _check(input_size=input_size, kernel_size=kernel_size, stride=stride)
    _check(0, padding=padding)
    formula = "output = (input − 1)·stride + kernel − 2·padding"
    with_numbers = f"({input_size} − 1)·{stride} + {kernel_size} − 2·{padding}"
    whole = (input_size - 1) * stride + kernel_size
    size = whole - 2 * padding
    if size < 1:
        raise ValueError(f"the output is empty: {formula} = {with_numbers} = {size}: expected at least 1")
    _check_extent(input_size**2, whole, kernel_size, f"{formula} = {with_numbers} = {size}")
    image, kernel = _numbers(input_size, kernel_size, seed)
    # Example n of the batch has the first n values, with zeros for the rest, so that its output is that of frame n.
    so_far = np.tril(np.ones((input_size**2,) * 2, np.float32)) * image.ravel()
    layer = ConvTranspose(1, (kernel_size,) * 2, stride, use_bias=False)
    computed = layer.apply(
        {"params": {"kernel": kernel[:, :, None, None]}}, so_far.reshape(-1, input_size, input_size, 1)
    )
    outputs = np.asarray(computed)[..., 0].round().astype(int)
    image, kernel = image.astype(int), kernel.astype(int)

    figure, axis = _stage(f"{formula}\n{with_numbers} = {size}", [input_size, kernel_size, whole], 1)
    cut = f"{whole}x{whole}, cropped to {size}x{size}" if padding else f"{size}x{size}"
    titles = f"input {input_size}x{input_size}", f"kernel {kernel_size}x{kernel_size}", f"output {cut}"
    places = _places(axis, dict(zip(titles, (input_size, kernel_size, whole), strict=True)))
    _grid(axis, places[0], image)
    _grid(axis, places[1], kernel)
    _grid(axis, places[2], np.full((whole, whole), "", object), border=padding)

    def steps() -> Iterable[tuple[list[Artist], list[Artist]]]:
        touched = np.zeros((whole, whole), bool)
        for number, (row, column) in enumerate(np.ndindex(input_size, input_size)):
            at = [(row * stride + i, column * stride + j) for i, j in np.ndindex(kernel.shape)]
            touched[tuple(np.transpose(at))] = True
            marks = [
                _cell(axis, places[0], row, column, _SEEN),
                _value(axis, places[0], row, column, image[row, column]),
            ]
            marks += [_cell(axis, places[2], *place, _SEEN) for place in at]
            values = [_value(axis, places[2], *place, outputs[number][tuple(place)]) for place in np.argwhere(touched)]
            text = f"{image[row, column]} times the kernel is added to the marked output values"
            yield [], [*marks, *values, axis.text(0, _bottom(places), text, **_text(axis, 0.34))]

    return _film(figure, steps())


def animate_filter(picture: Shaped[np.ndarray, "height width *channel"] | Image.Image, name: str) -> list[Image.Image]:
    """Animates a classic filter that sweeps over an image and fills the filtered image.

    Args:
      picture: the image, which is converted to grey and shrunk to at most 64 pixels per side.
      name: the filter's name, one of `cnnjax.layers.filters.FILTERS`.

    Raises:
      ValueError: there is no such filter.
    """
    if name not in FILTERS:
        raise ValueError(unknown("filter", name, FILTERS))
    if not isinstance(picture, Image.Image):
        picture = as_picture(displayed(picture[None] if picture.ndim == 3 else picture[None, ..., None])[0])
    picture = picture.convert("L")
    picture.thumbnail((_PICTURE, _PICTURE))
    pixels = np.asarray(picture)
    height, width = pixels.shape
    filtered = np.asarray(apply_filter(jnp.asarray(pixels, jnp.float32)[None, :, :, None], name))[0, :, :, 0]

    figure = Figure(figsize=(8.4, 3.7), dpi=100, layout="constrained")
    before, middle, after = figure.subplots(1, 3, width_ratios=[3, 1, 3])
    for axis, title in ((before, "picture"), (middle, name), (after, "filtered")):
        axis.set_title(title, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    before.imshow(pixels, cmap="gray", vmin=0, vmax=255)
    middle.imshow(np.zeros((3, 3)), cmap="gray_r", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(FILTERS[name]):
        middle.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize=9)
    after.imshow(np.full_like(pixels, 255), cmap="gray", vmin=0, vmax=255)
    span = {"vmin": filtered.min(), "vmax": max(filtered.max(), filtered.min() + 1)}

    def steps() -> Iterable[tuple[list[Artist], list[Artist]]]:
        for last in np.linspace(0, height * width - 1, _SWEEP).astype(int):
            row, column = divmod(int(last), width)
            done = np.arange(height * width).reshape(height, width) <= last
            shown = after.imshow(np.ma.array(filtered, mask=~done), cmap="gray", **span)
            window = before.add_patch(Rectangle((column - 1.5, row - 1.5), 3, 3, fill=False, color=_SEEN, linewidth=2))
            target = after.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, color=_SEEN, linewidth=2))
            yield [], [shown, window, target]

    return _film(figure, steps())


def save_gif(frames: Sequence[Image.Image], path: str | Path, seconds: float = 0.7) -> None:
    """Writes frames atomically as a looping GIF, whose last frame is shown longer.

    Args:
      frames: the frames, all of the same size.
      path: the path of the file, which ends in .gif.
      seconds: the time for which each frame is shown.

    Raises:
      ValueError: the name does not end in .gif.
      FileNotFoundError: the folder does not exist.
    """
    path = Path(path)
    files.check_writable(path, ".gif")
    palette = frames[-1].quantize(64)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    durations = [round(1000 * seconds)] * len(others) + [2500]
    buffer = io.BytesIO()
    first.save(buffer, "gif", save_all=True, append_images=others, duration=durations, loop=0, optimize=True)
    files.write_atomically(path, buffer.getvalue())


# --- numbers ----------------------------------------------------------------------------------------------------


def _check(least: int = 1, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name}={number}: expected at least {least}")


def _check_extent(frames: int, cells: int, kernel_size: int, size: str) -> None:
    if frames > MOST_FRAMES or cells > MOST_CELLS or kernel_size > MOST_KERNEL:
        raise ValueError(
            f"too much to show: {frames} frames, {cells}x{cells} cells and a {kernel_size}x{kernel_size} kernel ({size}): expected "
            f"at most {MOST_FRAMES}, {MOST_CELLS}x{MOST_CELLS} and {MOST_KERNEL}x{MOST_KERNEL}"
        )


def _numbers(
    input_size: int, kernel_size: int, seed: int
) -> tuple[Float[np.ndarray, "height width"], Float[np.ndarray, "height width"]]:
    generator = np.random.RandomState(seed)
    image = generator.randint(0, 5, (input_size, input_size))
    return image.astype(np.float32), generator.randint(-1, 3, (kernel_size, kernel_size)).astype(np.float32)


# --- drawing: cells have size 1, and the row axis points down ---------------------------------------------------


def _stage(title: str, sizes: Sequence[int], lines: int) -> tuple[Figure, Axes]:
    """A figure for grids of the given sizes side by side, with room for lines of text below."""
    width, height = sum(sizes) + len(sizes), max(sizes) + 1 + 0.62 * lines + 0.8
    inches = min(9 / width, 0.55)  # size of a cell
    across, down, title_height = max(inches * width, 6.5), inches * height, 0.5
    figure = Figure(figsize=(across, down + title_height), dpi=100)
    axis = figure.add_axes((0, 0, 1, down / (down + title_height)))
    axis.set_xlim(-0.5, across / inches - 0.5)
    axis.set_ylim(height - 1, -1)
    axis.set_axis_off()
    figure.text(0.5 * inches / across, 0.985, title, va="top", fontsize=9.5)
    return figure, axis


def _places(axis: Axes, sizes: dict[str, int]) -> list[tuple[float, float, int]]:
    """Draws the titles of the grids and returns (left, top, size) of each."""
    left, places = 0.0, []
    for title, size in sizes.items():
        axis.text(left, -0.3, title, **_text(axis, 0.3))
        places.append((left, 0.0, size))
        left += size + 1
    return places


def _bottom(places: Sequence[tuple[float, float, int]]) -> float:
    """The vertical position of the text below the grids."""
    return max(size for _, _, size in places) + 0.8


def _text(axis: Axes, cells: float) -> dict[str, Any]:
    """The settings of text whose height is given in cells."""
    left, right = axis.get_xlim()
    return {"fontsize": cells * axis.figure.get_figwidth() / (right - left) * 72}


def _grid(axis: Axes, place: tuple[float, float, int], values: np.ndarray, border: int = 0) -> None:
    """Draws cells with their values; a border of the given width is grey."""
    size = place[2]
    for (row, column), value in np.ndenumerate(values):
        inside = all(border <= position < size - border for position in (row, column))
        _cell(axis, place, row, column, "white" if inside else _BORDER)
        if str(value):
            _value(axis, place, row, column, value, "black" if inside else "0.55")


def _cell(axis: Axes, place: tuple[float, float, int], row: int, column: int, color: str) -> Artist:
    corner = place[0] + column, place[1] + row
    return axis.add_patch(Rectangle(corner, 1, 1, facecolor=color, edgecolor="0.6", linewidth=0.8))


def _value(
    axis: Axes, place: tuple[float, float, int], row: int, column: int, value: int, color: str = "black"
) -> Artist:
    x, y = place[0] + column + 0.5, place[1] + row + 0.5
    return axis.text(x, y, _signed(value), ha="center", va="center", color=color, **_text(axis, 0.42))


def _signed(value: int) -> str:
    return str(value).replace("-", "−")


def _sum(
    axis: Axes, window: Int[np.ndarray, "height width"], kernel: Int[np.ndarray, "height width"], total: int
) -> list[Artist]:
    """Draws the sum of products as text, one line per row of the kernel."""
    lines = []
    for row, (values, weights) in enumerate(zip(window, kernel, strict=True)):
        terms = " + ".join(
            f"{_signed(v)}·{_signed(w) if w >= 0 else f'({_signed(w)})'}" for v, w in zip(values, weights, strict=True)
        )
        lines.append(("" if row == 0 else "+ ") + terms)
    lines[-1] += f"  =  {_signed(total)}"
    bottom = axis.get_ylim()[0] - 0.62 * len(lines) + 0.2
    return [axis.text(0, bottom + 0.62 * number, line, **_text(axis, 0.34)) for number, line in enumerate(lines)]


def _film(figure: Figure, steps: Iterable[tuple[list[Artist], list[Artist]]]) -> list[Image.Image]:
    """Draws one frame per step from (kept, passing) artists: kept artists also appear in later frames, passing ones do not.

    Only the changes are drawn, since drawing a whole figure takes a hundred times as long.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, background, frames = canvas.get_renderer(), canvas.copy_from_bbox(figure.bbox), []
    for kept, passing in steps:
        canvas.restore_region(background)
        for artist in kept:
            artist.draw(renderer)
        background = canvas.copy_from_bbox(figure.bbox)
        for artist in passing:
            artist.draw(renderer)
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    return frames
