"""Convolution in the sense of neural networks: cross-correlation, in which the kernel is not flipped."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.ops import batch_minor, choice, columns, depthwise, phases, side_by_side, winograd
from cnnjax.ops import groups as in_groups


def convolution(
    x: Float[Array, "batch *size channel"],
    kernel: Float[Array, "*kernel_size channel_per_group features"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
    groups: int = 1,
    bias: Float[Array, "features"] | None = None,
) -> Float[Array, "batch *output_size features"]:
    """y[n, p, f] = bias[f] + sum over q, c of x[n, p * strides + q * dilation - before, c] kernel[q, c, f].

    Args:
      x: the input, with channels last and any number of spatial axes.
      kernel: the kernel, with axes for space, the input channels of one group, and the output features.
      strides: the stride along each spatial axis.
      padding: the number of zeros (before, after) along each spatial axis.
      dilation: the distance between kernel elements along each spatial axis.
      groups: the number of groups into which the channels are split; each output feature uses the channels of one group.
      bias: the bias of each feature, or None.
    """
    strides, padding = tuple(strides), tuple(tuple(pair) for pair in padding)
    implementation = choice.convolution(x, kernel, strides, padding, dilation, groups)
    if implementation == "grouped":
        dense = partial(convolution, strides=strides, padding=padding, dilation=dilation)
        y = in_groups.convolution(dense, x, kernel, groups)
    elif implementation == "stock":
        y = _stock(x, kernel, strides, padding, dilation, groups)
    elif implementation == "product":
        y = _product(x, kernel, strides)
    elif implementation == "depthwise":
        y = depthwise.convolution(x, kernel, strides, padding, dilation)
    else:
        y = _convolution(x, kernel, strides, padding, implementation)
    if bias is None:
        return y
    return batch_minor.add_bias(y, bias) if implementation == "batch_minor" else y + bias


def _stock(
    x: Float[Array, "batch *size channel"],
    kernel: Float[Array, "*kernel_size channel_per_group features"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int] | None = None,
    groups: int = 1,
) -> Float[Array, "batch *output_size features"]:
    # The gradient with respect to the input is a convolution with dilation * (kernel - 1) - padding zeros on each side. If
    # that is negative on one side of an axis and positive on the other, XLA's CPU backend reads memory outside the array
    # (docs/troubleshooting.md). Padding beyond dilation * (kernel - 1) is therefore added explicitly.
    dilation = dilation or (1,) * len(strides)
    reach = [gap * (extent - 1) for gap, extent in zip(dilation, kernel.shape[:-2], strict=True)]
    excess = [tuple(max(side - most, 0) for side in pair) for pair, most in zip(padding, reach, strict=True)]
    if any(map(any, excess)):
        x = jnp.pad(x, ((0, 0), *excess, (0, 0)))
        padding = [tuple(min(side, most) for side in pair) for pair, most in zip(padding, reach, strict=True)]
    axes = "DHW"[-len(strides) :]
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=groups,
    )


def _product(
    x: Float[Array, "batch height width channel"],
    kernel: Float[Array, "1 1 channel features"],
    strides: Sequence[int],
) -> Float[Array, "batch output_height output_width features"]:
    """A 1x1 convolution as a matrix product, whose gradients are matrix products too."""
    x = x[:, :: strides[0], :: strides[1]]
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)


def _side_by_side(
    x: Float[Array, "batch height width channel"],
    kernel: Float[Array, "kernel_height kernel_width channel features"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Float[Array, "batch output_height output_width features"]:
    """The stock convolution, of several outputs of a row at a time where there are few features."""
    width = x.shape[2] + sum(padding[1]) - kernel.shape[1] + 1
    number = side_by_side.outputs(width, kernel.shape[-1]) if strides[1] == 1 else 1
    if number == 1:
        return _stock(x, kernel, strides, padding)
    y = _stock(x, side_by_side.widened(kernel, number), (strides[0], number), padding)
    return y.reshape(*y.shape[:2], width, -1)


def _input_gradient(
    shape: Sequence[int],
    kernel: Float[Array, "kernel_height kernel_width channel features"],
    gradient: Float[Array, "batch output_height output_width features"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Float[Array, "batch height width channel"]:
    """The gradient of the input, which has the given shape: with stride 1, the convolution with the flipped kernel."""
    if max(strides) > 1:
        return phases.input_gradient(shape, kernel, gradient, strides, padding)
    around = [
        (extent - 1 - before, extent - 1 - after)
        for extent, (before, after) in zip(kernel.shape, padding, strict=False)
    ]
    if min(map(min, around)) >= 0:
        return _side_by_side(gradient, kernel[::-1, ::-1].swapaxes(2, 3), strides, around)
    zeros = jnp.zeros(shape, gradient.dtype)
    return jax.vjp(lambda x: _stock(x, kernel, strides, padding), zeros)[1](gradient)[0]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolution(x, kernel, strides, padding, implementation):
    if implementation == "batch_minor" and x.shape[-1] == 1:
        return batch_minor.tap_by_tap(x, kernel, strides, padding)
    return _forward(x, kernel, strides, padding, implementation)[0]


def _forward(x, kernel, strides, padding, implementation):
    match implementation:
        case "winograd":
            y = winograd.convolution(x, kernel, padding)
        case "batch_minor":
            y = batch_minor.convolution(x, kernel, strides, padding)
        case "columns":
            y = _side_by_side(x, kernel, strides, padding)
    return y, (x, kernel)


def _backward(strides, padding, implementation, residuals, gradient):
    x, kernel = residuals
    match implementation:
        case "winograd":
            return (
                winograd.input_gradient(kernel, gradient, padding),
                winograd.weight_gradient(x, gradient, padding),
            )
        case "batch_minor":
            return (
                batch_minor.input_gradient(x.shape, kernel, gradient, strides, padding),
                batch_minor.weight_gradient(x, kernel.shape, gradient, strides, padding),
            )
        case "columns":
            return _input_gradient(x.shape, kernel, gradient, strides, padding), columns.weight_gradient(
                x, kernel.shape, gradient, strides, padding
            )


_convolution.defvjp(_forward, _backward)


def transposed_convolution(
    x: Float[Array, "batch *size channel"],
    kernel: Float[Array, "*kernel_size channel features"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Float[Array, "batch *larger features"]:
    """y[n, p * strides + q - before, f] = sum over p, q, c of x[n, p, c] kernel[q, c, f]: the adjoint of a convolution.

    Args:
      x: the input, with channels last and any number of spatial axes.
      kernel: the kernel, with axes for space, the input channels, and the output features.
      strides: the distance, along each spatial axis, between the outputs of neighbouring inputs.
      padding: the number of outputs left out (before, after) along each spatial axis.
    """
    strides, padding = tuple(strides), tuple(tuple(pair) for pair in padding)
    if choice.transposed_convolution(x, kernel, strides) == "columns":
        return _transposed_columns(x, kernel, strides, padding)
    return _transposed(x, kernel, strides, padding)


def _transposed(x, kernel, strides, padding):
    axes = range(len(strides))
    names = "DHW"[-len(strides) :]
    around = [tuple(extent - 1 - side for side in pair) for extent, pair in zip(kernel.shape, padding, strict=False)]
    y = lax.conv_general_dilated(
        x,
        jnp.flip(kernel, axes),
        (1,) * len(strides),
        [tuple(max(side, 0) for side in pair) for pair in around],
        lhs_dilation=strides,
        dimension_numbers=(f"N{names}C", f"{names}IO", f"N{names}C"),
    )
    # Negative padding is applied by cropping here, for the reason given in `_stock`.
    cut = [tuple(min(side, 0) for side in pair) for pair in around]
    if any(map(any, cut)):
        y = lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *((*pair, 0) for pair in cut), (0, 0, 0)])
    return y


# The gradient of a transposed convolution's kernel is that of the convolution it is the adjoint of, with the two arrays exchanged. XLA's
# own, a convolution with gaps, took a third of a U-Net's training step.
@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _transposed_columns(x, kernel, strides, padding):
    return _transposed(x, kernel, strides, padding)


def _transposed_backward(strides, padding, residuals, gradient):
    x, kernel = residuals
    adjoint = kernel.swapaxes(2, 3)
    towards_kernel = columns.weight_gradient(gradient, adjoint.shape, x, strides, padding)
    return convolution(gradient, adjoint, strides, padding, (1, 1)), towards_kernel.swapaxes(2, 3)


_transposed_columns.defvjp(
    lambda x, kernel, *sizes: (_transposed(x, kernel, *sizes), (x, kernel)), _transposed_backward
)
