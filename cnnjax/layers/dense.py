"""The dense, or fully connected, layer."""

import flax.linen as nn

from cnnjax.layers.initializers import DEFAULT


class Dense(nn.Dense):
    """Dense layer over the last axis: y = x kernel + bias.

    Parameters: `kernel`, of shape (inputs, features), and `bias`, of shape (features,).
    """

    kernel_init: nn.initializers.Initializer = DEFAULT
