"""Squeeze-and-excitation: every feature map is scaled by a function of the means of all maps."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.layers.activations import ActivationName, activation
from cnnjax.layers.convolution import Conv
from cnnjax.layers.initializers import DEFAULT


class SqueezeExcitation(nn.Module):
    """y = x * gate(W2 hidden(W1 mean(x) + b1) + b2), the mean over space (Hu, Shen and Sun, CVPR 2018).

    `squeezed` is the number of hidden values; `gate` and `hidden` are the names of activations. Parameters: `fc1` and `fc2`,
    convolutions of one position.
    """

    squeezed: int
    gate: ActivationName = "sigmoid"
    kernel_init: nn.initializers.Initializer = DEFAULT
    dtype: Any = None
    hidden: ActivationName = "relu"

    @nn.compact
    def __call__(self, x: Float[Array, "batch *size channel"]) -> Float[Array, "batch *size channel"]:
        means = jnp.mean(x, range(1, x.ndim - 1), keepdims=True)
        initial = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        hidden = activation(self.hidden)(Conv(self.squeezed, 1, name="fc1", **initial)(means))
        return x * activation(self.gate)(Conv(x.shape[-1], 1, name="fc2", **initial)(hidden))
