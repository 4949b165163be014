"""A network's convolutions, one by one."""

import numpy as np

from experiments.benchmarks import layers
from experiments.benchmarks.layers import Convolution
from experiments.benchmarks.measurement import Measured, Turn
from experiments.benchmarks.networks import NETWORKS


def of(name):
    row = NETWORKS[name]
    return layers.convolutions(row.describe(), row.image_shape, row.batch_size)


def test_resnet20_has_19_convolutions_of_six_shapes_and_the_published_arithmetic():
    found = of("resnet20")
    assert sum(found.values()) == 19 and list(found.values()) == [1, 6, 1, 5, 1, 5]
    # With the output layer's 640 these are the 40,551,040 multiplications an image of `models/resnet.py`.
    forward = sum(number * conv.operations // (2 if conv.first else 3) for conv, number in found.items())
    assert forward // (2 * 128) == 40_550_400


def test_branches_and_shortcuts_are_followed():
    assert sum(of("googlenet").values()) == 57 and sum(of("resnet50").values()) == 53
    stride = [conv for conv in of("resnet50") if conv.strides == 2 and conv.size == 1]
    assert [(conv.side, conv.channels, conv.features) for conv in stride] == [
        (56, 256, 512),
        (28, 512, 1024),
        (14, 1024, 2048),
    ]


def test_both_libraries_have_a_task_for_each_convolution_and_the_large_product():
    small = Convolution(2, 5, 3, 4, 3, 2, 1, True)
    images, kernel, gradient = layers._arrays(small)
    assert (images.shape, kernel.shape, gradient.shape) == ((2, 5, 5, 3), (3, 3, 3, 4), (2, 3, 3, 4))
    tasks = layers.ours("lenet5").tasks
    assert list(tasks) == [*map(str, of("lenet5")), "product"]
    tasks["5x5, 1 to 6, 32x32"](1)


def test_the_sum_counts_each_convolution_as_often_as_there_are():
    seconds = {name: 0.001 * place for place, name in enumerate(map(str, of("lenet5")), start=1)}
    found = {
        name: {mode: Measured([Turn(factor * value, 0.0)]) for mode, factor in (("cnnjax", 1.0), ("torch", 2.0))}
        for name, value in {**seconds, "product": 0.1}.items()
    }
    table = layers.table("lenet5", found)
    assert table.rows[-1][:2] == ["all", "2"] and table.rows[-1][2] == "3.00" and table.rows[-1][-1] == "0.50"
    assert "cnnjax 172, torch 86" in table.notes[0]
    assert np.isclose(float(table.rows[0][3]), 2 * 2 * 128 * 28 * 28 * 25 * 6 / 0.001 / 1e9, rtol=0.01)
