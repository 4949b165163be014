import math

import numpy as np
import pytest

from experiments.benchmarks import families
from experiments.benchmarks.networks import drawn, network_of


def row(**seconds):
    modes = {
        mode.replace("_", "-"): {
            "median_seconds": float(np.median(values)),
            "turns": [{"seconds": value} for value in values],
        }
        for mode, values in seconds.items()
    }
    return {"network": "lenet5", "images": 128, "modes": modes}


def test_a_row_is_judged_against_the_fastest_pytorch_round_by_round():
    found = families.judged(
        row(cnnjax=[1.2, 2.4, 1.2], flax=[2.0, 4.0, 2.0], torch=[9.0, 9.0, 9.0], torch_channels_last=[1.0, 2.0, 1.0])
    )
    assert found["pytorch"]["ratio"] == pytest.approx(1.2) and found["flax"]["ratio"] == pytest.approx(0.6)
    assert found["misses"] == ["pytorch > 1.10"]


def test_a_row_whose_interval_holds_the_bound_does_not_miss_it():
    found = families.judged(row(cnnjax=[1.0, 1.2, 1.3, 1.0, 1.2], flax=[1.0] * 5, torch=[1.0] * 5))
    low, high = found["pytorch"]["interval"]
    assert low == 1.0 < 1.1 < high and found["misses"] == []


def test_the_geometric_mean():
    assert families.geometric_mean([0.5, 2.0, 1.0]) == pytest.approx(1.0)
    assert families.geometric_mean([0.9, 0.8]) == pytest.approx(math.sqrt(0.72))


def test_the_table_names_what_misses():
    table = families.table([row(cnnjax=[2.0] * 5, flax=[1.0] * 5, torch=[4.0] * 5)])
    assert table.rows[0][2:] == ["0.50 (0.50 to 0.50)", "2.00 (2.00 to 2.00)", "flax > 1.00"]
    assert table.notes[0].endswith("0.500.")


def test_drawn_networks_are_a_function_of_the_seed_and_differ():
    assert network_of("drawn-3-1").options == drawn(3, 1).options
    assert len({drawn(3, number).options["plan"] for number in range(10)}) > 5
    assert drawn(3, 1).options != drawn(4, 1).options
