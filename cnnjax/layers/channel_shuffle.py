"""Channel shuffle: the channels of several groups are interleaved."""

from jaxtyping import Array, Float


def channel_shuffle(x: Float[Array, "batch *size channel"], groups: int) -> Float[Array, "batch *size channel"]:
    """Interleaves the channels of groups: the first of each group, then the second of each, and so on.

    Between grouped convolutions it distributes each group's outputs over all groups of the next (Zhang et al., "ShuffleNet", CVPR 2018).

    Raises:
      ValueError: the channels cannot be split into that number of groups.

    >>> import jax.numpy as jnp
    >>> channel_shuffle(jnp.arange(6)[None], groups=2).tolist()
    [[0, 3, 1, 4, 2, 5]]
    """
    *leading, channels = x.shape
    if groups < 1 or channels % groups:
        raise ValueError(f"channel_shuffle: {channels} channels cannot be split into {groups} groups")
    return x.reshape(*leading, groups, channels // groups).swapaxes(-1, -2).reshape(x.shape)
