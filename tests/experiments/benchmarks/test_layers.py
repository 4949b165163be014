"""A network's convolutions, one by one."""

import numpy as np
import pytest

from cnnjax.models import MODELS
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


@pytest.mark.parametrize("name", ["mobilenet_v2", "convnext_tiny", "shufflenet_v2_x1_0"])
def test_depthwise_convolutions_have_a_channel_a_group(name):
    """With the rest of the published multiply-adds: of the output layer, of ConvNeXt's dense layers at each position."""
    network, found = NETWORKS[name], of(name)
    depthwise = [conv for conv in found if conv.groups > 1]
    assert depthwise and all(conv.groups == conv.channels == conv.features for conv in depthwise)
    forward = sum(number * conv.operations // (2 if conv.first else 3) for conv, number in found.items())
    dense = {"mobilenet_v2": 1_280_000, "shufflenet_v2_x1_0": 1_024_000}
    pointwise = sum(
        8 * side**2 * width**2 * count for side, width, count in ((56, 96, 3), (28, 192, 3), (14, 384, 9), (7, 768, 3))
    )
    rest = dense.get(name, pointwise + 768_000)
    assert forward // (2 * network.batch_size) + rest == MODELS[network.model].counts[1]
    with pytest.raises(ValueError, match="not square"):
        of("inception_v3")


def test_both_libraries_have_a_task_for_each_convolution_and_the_large_product():
    small = Convolution(2, 5, 3, 4, 3, 2, 1, 1, True)
    images, kernel, gradient = layers._arrays(small)
    assert (images.shape, kernel.shape, gradient.shape) == ((2, 5, 5, 3), (3, 3, 3, 4), (2, 3, 3, 4))
    assert layers._arrays(Convolution(2, 5, 6, 6, 3, 2, 1, 6, True))[1].shape == (3, 3, 1, 6)
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
