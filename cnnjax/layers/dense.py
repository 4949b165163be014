"""The dense, or fully connected, layer."""

import flax.linen as nn

from cnnjax.layers.initializers import DEFAULT


class Dense(nn.Dense):
    """y = x kernel + bias, over the last axis. Parameters: `kernel`, (inputs, features), and `bias`, (features,)."""

    kernel_init: nn.initializers.Initializer = DEFAULT
