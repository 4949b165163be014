import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.data import batches
from cnnjax.data.datasets import Split


@given(st.integers(0, 2**32 - 1), st.integers(0, 1000), st.integers(1, 300))
def test_an_epochs_order_is_a_permutation_fixed_by_seed_and_epoch(seed, epoch, examples):
    order = batches.epoch_order(seed, epoch, examples)
    np.testing.assert_array_equal(np.sort(order), np.arange(examples))
    np.testing.assert_array_equal(order, batches.epoch_order(seed, epoch, examples))


def test_the_order_is_the_same_for_ever():
    # Written down once: a change of NumPy or of this code must not reorder anybody's run.
    np.testing.assert_array_equal(batches.epoch_order(0, 0, 10), [6, 1, 0, 5, 3, 8, 7, 9, 2, 4])
    np.testing.assert_array_equal(batches.epoch_order(0, 1, 10), [7, 3, 5, 0, 1, 4, 6, 8, 9, 2])


def test_epochs_and_seeds_differ():
    orders = {tuple(batches.epoch_order(seed, epoch, 50)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_an_epoch_resumed_in_its_middle_has_the_same_batches(examples, batch_size, data):
    order = batches.epoch_order(3, 7, examples)
    whole = list(batches.training_batches(order, batch_size))
    assert len(whole) == examples // batch_size
    first = data.draw(st.integers(0, len(whole)))
    rest = list(batches.training_batches(order, batch_size, first))
    np.testing.assert_equal(rest, whole[first:])
    seen = np.concatenate([*whole, []])
    assert len(set(seen)) == len(seen)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 3))
def test_evaluation_sees_every_example_once(examples, batch_size, padding):
    seen = []
    for index, mask in batches.evaluation_batches(examples, batch_size, batch_size + padding):
        assert index.shape == mask.shape == (batch_size + padding,) and not index[mask == 0].any()
        seen.append(list(index[mask > 0]))
    assert seen == [list(range(examples))[start : start + batch_size] for start in range(0, examples, batch_size)]
    np.testing.assert_equal(
        list(batches.evaluation_batches(examples, batch_size)),
        list(batches.evaluation_batches(examples, batch_size, batch_size)),
    )


def test_resident_and_streaming_feeding_give_the_same_batch():
    generator = np.random.RandomState(0)
    split = Split(generator.randint(0, 256, (20, 4, 4, 1)).astype(np.uint8), np.arange(20, dtype=np.int32))
    batch = {"index": np.array([3, 19, 0], np.int32), "mask": np.ones(3, np.float32)}
    streamed = batches.gather({}, batches.fetch(split, batch))
    resident = batches.gather({name: jnp.array(array) for name, array in batches.resident_arrays(split).items()}, batch)
    assert streamed.keys() == resident.keys() == {"index", "mask", "image", "label"}
    for name in streamed:
        np.testing.assert_array_equal(streamed[name], resident[name])
    assert resident["image"].dtype == jnp.uint8


def test_a_batch_is_cut_in_order_for_the_devices():
    cut = batches.split_over_devices({"index": np.arange(6), "image": np.zeros((6, 2, 2, 1))}, 3)
    np.testing.assert_array_equal(cut["index"], [[0, 1], [2, 3], [4, 5]])
    assert cut["image"].shape == (3, 2, 2, 2, 1)


def test_what_is_resident_is_decided_by_size_unless_the_config_says():
    small = Split(np.zeros((2, 2, 2, 1), np.uint8), np.zeros(2, np.int32))
    huge = Split(np.broadcast_to(np.uint8(0), (3 * 2**20, 32, 32, 1)), np.zeros(1, np.int32))
    assert batches.is_resident(small, None) and not batches.is_resident(huge, None)
    assert not batches.is_resident(small, False) and batches.is_resident(huge, True)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 9))
def test_a_repeated_order_has_each_image_in_succession_and_as_many_examples(examples, repeats, epoch):
    order = batches.training_order(3, epoch, False, np.zeros(examples), repeats)
    assert len(order) == len(set(order.tolist())) == examples and order.dtype == np.int32
    plain = batches.epoch_order(3, epoch, examples)
    np.testing.assert_array_equal(order % examples, np.repeat(plain, repeats)[:examples])
    np.testing.assert_array_equal(order // examples, np.tile(np.arange(repeats), examples)[:examples])


def test_repetitions_are_fed_as_their_image_with_a_number_of_their_own():
    split = Split(np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1), np.arange(6, dtype=np.int32))
    feed = lambda order, resident: list(batches.feed(split, order, 3, 0, resident, 1, None))  # noqa: E731
    order = batches.training_order(0, 0, False, split.labels, 2)
    for resident in (True, False):
        fed = feed(order, resident)
        np.testing.assert_array_equal(np.concatenate([batch["draw"] for batch in fed]), order)
        np.testing.assert_array_equal(np.concatenate([batch["index"] for batch in fed]), order % 6)
    np.testing.assert_array_equal(np.concatenate([batch["image"].ravel() for batch in fed]), order % 6)
    assert "draw" not in feed(batches.epoch_order(0, 0, 6), True)[0]


def test_too_many_repetitions_are_refused():
    with pytest.raises(ValueError, match="augment.repeats=1000: expected at most 715 for 3,000,000 examples"):
        batches.repeated(np.broadcast_to(np.int32(0), 3_000_000), 1000)
