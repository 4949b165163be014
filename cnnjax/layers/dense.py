"""The dense, or fully connected, layer, and a network's last one."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from cnnjax.layers.initializers import DEFAULT


class Dense(nn.Dense):
    """Dense layer over the last axis: y = x kernel + bias.

    Parameters: `kernel`, of shape (inputs, features), and `bias`, of shape (features,).
    """

    kernel_init: nn.initializers.Initializer = DEFAULT


def output(
    x: Float[Array, "batch feature"], num_classes: int, **options: Any
) -> Float[Array, "batch class"] | Float[Array, "batch feature"]:
    """A network's logits by a dense layer with these options, or its features where `num_classes` is 0, which removes the layer."""
    return Dense(num_classes, **options)(x) if num_classes else x
