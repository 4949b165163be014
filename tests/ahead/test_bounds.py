"""Bounds against arithmetic by hand."""

import pytest

from cnnjax.ahead import bounds, targets
from cnnjax.ahead.chips import CHIPS

REDUCED = {"all-reduce": {"number": 3, "bytes": 8 * 10**9}}


@pytest.mark.parametrize(
    ("target", "seconds"),
    [
        ("tpu:v5e:1", 0.0),
        ("tpu:v5e:2x4", 2 * 8e9 * 7 / 8 / 200e9),
        ("cuda:h100:8", 2 * 8e9 * 7 / 8 / 450e9),
        ("cuda:h100:16", 2 * 8e9 * 7 / 8 / 450e9),  # two hosts: within each, which takes longer than the network
        ("cuda:b200:16", 2 * 8e9 / 2 / (8 * 50e9)),  # over the network: eight adapters a host
    ],
)
def test_each_device_sends_its_share_of_an_all_reduce_twice(target, seconds):
    assert bounds.seconds_in_collectives(REDUCED, targets.parse(target)) == pytest.approx(seconds)


def test_a_step_takes_at_least_its_longest_part():
    program = {"flops": 197e12, "bytes": 2 * 819e9, "collectives": REDUCED}
    found = bounds.bound(program, targets.parse("tpu:v5e:2x4"), "bfloat16", 64)
    assert found["compute_seconds"] == pytest.approx(1) and found["memory_seconds"] == pytest.approx(2)
    assert found["seconds"] == pytest.approx(2) and found["collective_share"] == pytest.approx(0.07 / 2)
    assert found["images_per_second"] == pytest.approx(64 / 2)
    idle = bounds.bound({"flops": 0, "bytes": 1, "collectives": REDUCED}, targets.parse("tpu:v5e:2x4"), "bfloat16", 64)
    assert idle["seconds"] == pytest.approx(0.07) and idle["collective_share"] == 1  # bound by the links
    h100 = targets.parse("cuda:h100")
    half, whole = (bounds.bound(program | {"bytes": 0}, h100, precision, 1) for precision in ("bfloat16", "float32"))
    assert whole["seconds"] == pytest.approx(2 * half["seconds"])  # TF32


def test_every_chip_says_where_its_figures_are_from():
    assert all(len(chip.source) > 20 for chip in CHIPS.values())
    assert CHIPS["h200"].bandwidth > CHIPS["h100"].bandwidth and CHIPS["b200"].memory > CHIPS["h200"].memory
