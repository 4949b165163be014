"""Arrays that are computed once and stored.

XLA on a CPU fuses elementwise operations, and computes their result again in each operation that reads it.
"""

import jax
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Float

from cnnjax.ops import choice


def add(x: Float[Array, "batch *size channel"], y: Float[Array, "batch *size channel"]) -> Array:
    """x + y, for a residual connection.

    Of residual blocks in a row, each reads the sums of all blocks before it. In ResNet-20 the third block of a stage computed
    the batch normalisations of three blocks again: for the next block, for its statistics, for its gradients. This sum and its
    gradient are computed once. ResNet-20's training step (32x32, batch 128) takes 0.84 times as long (2 cores of an AMD EPYC).
    """
    total = x + y
    return stored(total) if choice.fast(total.dtype) else total


@jax.custom_vjp
def stored(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The array itself, which is computed once, as is its gradient."""
    # A demand for the memory order that it has anyway. Unlike `optimization_barrier`, it remains until operations are fused.
    return with_layout_constraint(x, Layout(major_to_minor=tuple(range(x.ndim))))


stored.defvjp(lambda x: (stored(x), None), lambda _, gradient: (stored(gradient),))
