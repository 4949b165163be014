"""`shard_map` in place of `pmap`: the same bits, the same program, checkpoints for both."""

import re

import jax
import numpy as np
import pytest

import cnnjax
from cnnjax.core.randomness import AXIS
from cnnjax.models import create_model
from cnnjax.training.parallel import over_devices, over_trials, replicate, steps_over_devices
from cnnjax.training.state import initial_state
from cnnjax.training.step import train_step
from tests.training.test_step import INPUTS, OPTIMIZER, SPLIT, TASK

BOTH = ("pmap", "shard_map")
NORMALIZED = create_model("pattern", 5, plan="conv 4", norm="batch")


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(jax.device_get(tree))]


@pytest.mark.parametrize("count", [1, 4])
def test_steps_have_the_same_bits_and_the_same_collectives(eight_devices, count):
    devices, results, programs = eight_devices[:count], [], []
    batch = {
        "image": SPLIT.images[:8], "label": SPLIT.labels[:8], "mask": np.array([1.0] * 7 + [0.0], np.float32),
        "index": np.arange(8, dtype=np.int32),
    }  # fmt: skip
    batch = {name: array.reshape(count, -1, *array.shape[1:]) for name, array in batch.items()}
    for parallel in BOTH:
        step = over_devices(train_step(NORMALIZED, OPTIMIZER, TASK, INPUTS, seed=3), devices, True, parallel)
        state = replicate(initial_state(NORMALIZED, OPTIMIZER, (4, 4, 1), seed=3), devices)
        program = step.lower(state, {}, batch).compile()
        for _ in range(2):
            state, sums = program(state, {}, batch)
        results.append(bits((state, sums)))
        programs.append(re.findall(r"= (.*) (all-reduce|all-gather|reduce-scatter)\(", program.as_text()))
    assert results[0] == results[1]
    assert programs[0] == programs[1] != []


def total(state, batch):
    """A state that every device adds to, and a sum over devices."""
    added = jax.lax.psum((batch["image"] * state["a"]).sum(), AXIS)
    return {"a": state["a"] + added, "b": 2 * state["b"]}, jax.lax.psum(batch["mask"].sum(), AXIS)


BATCH = {"image": np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6), "mask": np.ones((4, 6), np.float32)}


def test_several_steps_in_one_call(eight_devices):
    stacked = {name: np.stack([array, array + 1], axis=1) for name, array in BATCH.items()}
    state = {"a": np.float32(3), "b": np.float32(1)}
    old, new = (steps_over_devices(total, eight_devices[:4], parallel)(state, {}, stacked, 2) for parallel in BOTH)
    assert bits(old) == bits(new) and new[1].tolist() == [24.0, 48.0] and float(new[0]["b"]) == 4


def test_a_trial_on_each_device(eight_devices):
    states = {name: np.arange(4, dtype=np.float32) for name in "ab"}
    old, new = (over_trials(total, eight_devices[:4], parallel=parallel)(states, {}, BATCH) for parallel in BOTH)
    assert bits(old) == bits(new)
    np.testing.assert_allclose(new[0]["a"], states["a"] * (1 + BATCH["image"].sum(1)), rtol=1e-6)


def test_a_run_begun_with_one_is_resumed_with_the_other_to_the_same_bits(digits_config, tmp_path):
    config = {**digits_config, "devices": 2, "schedule": {"name": "constant"}}
    begun = cnnjax.train(
        cnnjax.load_config(config, {"train.epochs": 1, "train.parallel": "shard_map"}), tmp_path / "both"
    )
    resumed = cnnjax.train(config, tmp_path / "both")
    whole = cnnjax.train(config, tmp_path / "pmap")
    assert begun.history[0]["train/loss"] == whole.history[0]["train/loss"]
    assert bits(resumed.state) == bits(whole.state) and resumed.metrics["test/loss"] == whole.metrics["test/loss"]
    with pytest.raises(TypeError, match="train.parallel: expected one of .pmap., .shard_map."):
        cnnjax.load_config(config, {"train.parallel": "xmap"})
