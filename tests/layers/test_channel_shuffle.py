import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.layers import channel_shuffle


@pytest.mark.parametrize(("groups", "channels", "size"), [(1, 6, (2,)), (2, 6, (2, 3)), (3, 12, (2, 1, 2)), (6, 6, ())])
def test_the_channels_of_groups_are_dealt_in_turn(groups, channels, size):
    x = np.random.RandomState(0).randn(2, *size, channels)
    y = np.asarray(channel_shuffle(jnp.asarray(x), groups))
    each = channels // groups
    for place in range(each):
        for group in range(groups):
            np.testing.assert_array_equal(y[..., place * groups + group], x[..., group * each + place].astype(y.dtype))
    np.testing.assert_array_equal(channel_shuffle(y, each), x.astype(y.dtype))  # the inverse


@pytest.mark.parametrize("groups", [0, -1, 4])
def test_groups_that_do_not_share_the_channels_are_refused(groups):
    with pytest.raises(ValueError, match=f"channel_shuffle: 6 channels cannot be split into {groups} groups"):
        channel_shuffle(jnp.zeros((1, 6)), groups)
