"""A convolution each of whose maps is connected to chosen input maps only, as in the networks of the 1990s."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnnjax.core.randomness import uniform_numbers
from cnnjax.ops.convolution import convolution
from cnnjax.ops.windows import Padding, explicit_padding, output_size


class PartialConv(nn.Module):
    """Convolution with a kernel for each connection between an input map and an output map, and a bias for each output map.

    `connections` has the input maps of each output map. Initial weights are uniform between -b and b, where `bound` returns b for the
    number of a map's inputs (its connections times the window's size). Parameters: `kernel`, of shape (*kernel_size, connections of all
    maps, one after the other), and `bias`, (maps,), unless `use_bias` is False.
    """

    connections: tuple[tuple[int, ...], ...]
    kernel_size: int
    padding: Padding
    bound: Callable[[int], float]
    dtype: Any = None
    strides: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channel"]) -> Float[Array, "batch h w map"]:
        size, count = (self.kernel_size,) * 2, len(self.connections)
        strides = (self.strides,) * 2
        padding = explicit_padding(self.padding, x.shape[1:-1], size, strides, (1, 1))
        output_size(x.shape[1:-1], size, strides, padding, (1, 1), "/".join(self.path))
        pairs = [(source, target) for target, sources in enumerate(self.connections) for source in sources]
        sources, targets = np.array(pairs).T
        bounds = np.array(
            [self.bound(self.kernel_size**2 * len(self.connections[target])) for target in targets], np.float32
        )

        def initial(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
            return uniform_numbers(key, shape).astype(dtype) * bounds

        connections = self.param("kernel", initial, (*size, len(pairs)), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (count,), jnp.float32) if self.use_bias else None
        kernel = jnp.zeros((*size, x.shape[-1], count)).at[:, :, sources, targets].set(connections)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return convolution(x, kernel, strides, padding, (1, 1), bias=bias)
