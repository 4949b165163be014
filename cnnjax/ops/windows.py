"""Window arithmetic shared by convolution and pooling: padding and output sizes.

out = floor((in - (dilation * (kernel - 1) + 1) + before + after) / stride) + 1
"""

from collections.abc import Sequence

Padding = str | int | Sequence[int | tuple[int, int]]


def per_axis(value: int | Sequence[int], axes: int, name: str) -> tuple[int, ...]:
    """Expands a value to one value per axis: 2 -> (2, 2).

    Raises:
      ValueError: the number of values is not that of the axes, or a value is below 1.
    """
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes:
        raise ValueError(f"{name}={value}: expected one number or {axes}, one per spatial axis")
    if any(item < 1 for item in values):
        raise ValueError(f"{name}={value}: expected numbers of at least 1")
    return values


def explicit_padding(
    padding: Padding, size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Padding as (before, after) for each spatial axis.

    Args:
      padding: "valid" (no padding), "same" (an output of ceil(in / stride), with an odd pixel after, as in TensorFlow),
        a number for every side, or a number or pair for each axis.
      size: the size of the input, needed for "same".
      kernel: the size of the kernel.
      strides: the strides of the window.
      dilation: the distance between kernel elements.

    Raises:
      ValueError: the padding is another word, has numbers for another number of axes, or has a number below 0.
    """
    if isinstance(padding, str):
        if padding.lower() == "valid":
            return ((0, 0),) * len(kernel)
        if padding.lower() != "same":
            raise ValueError(f"padding={padding!r}: expected 'same', 'valid' or numbers")
        pairs = []
        for length, extent, step, gap in zip(size, kernel, strides, dilation, strict=True):
            total = max((-(-length // step) - 1) * step + gap * (extent - 1) + 1 - length, 0)
            pairs.append((total // 2, total - total // 2))
        return tuple(pairs)
    given = (padding,) * len(kernel) if isinstance(padding, int) else padding
    if len(given) != len(kernel):
        raise ValueError(f"padding={padding}: expected one number or pair for each of {len(kernel)} spatial axes")
    pairs = tuple((item, item) if isinstance(item, int) else tuple(item) for item in given)
    if any(side < 0 for pair in pairs for side in pair):
        raise ValueError(f"padding={padding}: expected numbers of at least 0")
    return pairs


def output_size(
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    layer: str,
) -> tuple[int, ...]:
    """The number of windows along each axis, by the formula above.

    Raises:
      ValueError: no window fits; the message names the layer.
    """
    result = []
    for length, extent, step, (before, after), gap in zip(size, kernel, strides, padding, dilation, strict=True):
        result.append((length - (gap * (extent - 1) + 1) + before + after) // step + 1)
    if any(length < 1 for length in result):
        window, given = ("x".join(map(str, numbers)) for numbers in (kernel, size))
        raise ValueError(f"{layer}: a {window} window does not fit its {given} input: give the model a larger image")
    return tuple(result)
