"""What is computed for many examples at once is what NumPy's generators draw one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.data.seeded_uniforms import MOST, uniforms


def one_by_one(seeds, examples, count):
    sequences = [np.random.SeedSequence([*seeds, int(example)]) for example in examples]
    return np.stack([np.random.RandomState(np.random.MT19937(one)).uniform(size=count) for one in sequences])


@given(
    st.lists(st.integers(0, 2**70), max_size=4),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5),
    st.integers(1, MOST),
)
def test_they_are_numpys(seeds, examples, count):
    drawn = uniforms(seeds, np.array(examples), count)
    np.testing.assert_array_equal(drawn, one_by_one(seeds, examples, count))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_any_type_of_position_will_do(dtype):
    examples = np.array([0, 1, 2**31 - 1], dtype)
    np.testing.assert_array_equal(uniforms([1, 2], examples, 4), one_by_one([1, 2], examples, 4))
    assert uniforms([1, 2], examples[:0], 4).shape == (0, 4)
