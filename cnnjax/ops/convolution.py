"""Convolution, in the sense of neural networks: cross-correlation, the kernel is not flipped."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.ops import batch_minor, choice, columns, winograd


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
      x: images, channels last, of any number of spatial axes.
      kernel: its spatial axes, input channels of one group, output features.
      strides: one a spatial axis.
      padding: zeros (before, after) on each spatial axis.
      dilation: distance between the kernel's elements, one a spatial axis.
      groups: the number of groups into which the channels are split; no group sees another's.
      bias: added to each feature; None is none.
    """
    strides, padding = tuple(strides), tuple(tuple(pair) for pair in padding)
    formulation = choice.convolution(x, kernel, strides, padding, dilation, groups)
    if formulation == "stock":
        y = _stock(x, kernel, strides, padding, dilation, groups)
    elif formulation == "product":
        y = _product(x, kernel, strides)
    else:
        y = _convolution(x, kernel, strides, padding, formulation)
    if bias is None:
        return y
    return batch_minor.add_bias(y, bias) if formulation == "batch_minor" else y + bias


def _stock(
    x: Float[Array, "batch *size channel"],
    kernel: Float[Array, "*kernel_size channel_per_group features"],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int] | None = None,
    groups: int = 1,
) -> Float[Array, "batch *output_size features"]:
    # The gradient by the input is a convolution with dilation * (kernel - 1) - padding zeros on a side. Where that is
    # negative on one side of an axis and positive on the other, XLA's CPU backend reads memory that is not the array's
    # (docs/troubleshooting.md): what would make it negative is padded here.
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
    """A 1x1 convolution: a matrix product, and so are its gradients."""
    x = x[:, :: strides[0], :: strides[1]]
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolution(x, kernel, strides, padding, formulation):
    if formulation == "batch_minor" and x.shape[-1] == 1:
        return batch_minor.tap_by_tap(x, kernel, strides, padding)
    return _forward(x, kernel, strides, padding, formulation)[0]


def _forward(x, kernel, strides, padding, formulation):
    match formulation:
        case "winograd":
            y = winograd.convolution(x, kernel, padding)
        case "batch_minor":
            y = batch_minor.convolution(x, kernel, strides, padding)
        case "columns":
            y = _stock(x, kernel, strides, padding)
    return y, (x, kernel)


def _backward(strides, padding, formulation, residuals, gradient):
    x, kernel = residuals
    match formulation:
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
            (towards_x,) = jax.vjp(lambda x: _stock(x, kernel, strides, padding), x)[1](gradient)
            return towards_x, columns.weight_gradient(x, kernel.shape, gradient, strides, padding)


_convolution.defvjp(_forward, _backward)
