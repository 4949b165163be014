"""What networks are made of."""

from flax.linen import Dense

from cnnjax.layers.activations import ActivationName, activation
from cnnjax.layers.convolution import Conv
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.pooling import PoolingName, average_pool, flatten, max_pool, pooling

__all__ = [
    "ActivationName",
    "Conv",
    "Dense",
    "Dropout",
    "PoolingName",
    "activation",
    "average_pool",
    "flatten",
    "max_pool",
    "pooling",
]
