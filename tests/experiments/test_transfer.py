from pathlib import Path

import numpy as np
import pytest

import cnnjax
from experiments import transfer


def test_a_row_worked_out_by_hand():
    scratch, transferred = [0.70, 0.72, 0.71, 0.69, 0.73], [0.72, 0.73, 0.74, 0.70, 0.74]
    row = transfer.row("digits", 10, scratch, transferred)
    assert row["from scratch"] == "71.00 ± 1.58" and row["transferred"] == "72.60 ± 1.67"
    # differences 2 1 3 1 1: mean 1.6, deviation .894, interval 1.6 ± 2.776 * .894 / sqrt(5)
    half = 2.776 * np.sqrt(0.8) / np.sqrt(5)
    assert row["difference"] == f"+1.60 [{1.6 - half:+.2f}, {1.6 + half:+.2f}]"
    assert transfer.markdown([row]).splitlines()[0].startswith("| trained on | images a class | from scratch |")


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_a_pair_differs_in_its_start_alone(name):
    pair = [cnnjax.load_config(transfer.target_config(name, 30, 2, source)) for source in (None, Path("runs/source"))]
    differing = cnnjax.config.differences(*pair)
    assert differing == {"initial.run": (None, "runs/source"), "initial.head": ("match", "new")}
    assert pair[0].dataset.examples_per_class == 30 and pair[0].dataset.split_seed == pair[0].seed == 2
