import functools
import json
from xml.etree import ElementTree

import flax.linen as nn
import jax.numpy as jnp
import pytest

from cnnjax import layers
from cnnjax.analysis.summary import summarize
from cnnjax.core.options import declared
from cnnjax.models import MODELS
from tests.models.families import deeper_marked

# Multiply-adds in thousand millions, of torchvision 0.28's documentation ("GFLOPS" there), at 224; and the paper's ResNet-50.
GMACS = {
    "alexnet_torchvision": 0.714,
    "vgg11": 7.609,
    "vgg13": 11.308,
    "vgg16": 15.470,
    "vgg19": 19.632,
    "googlenet_torchvision": 1.498,
    "resnet18": 1.814,
    "resnet34": 3.664,
    "resnet50_torchvision": 4.089,
    "resnet101_torchvision": 7.801,
    "resnet152_torchvision": 11.514,
    "resnet50": 3.858,
}


# Receptive fields after the last convolution, and after the last pooling.
FIELDS = {
    "alexnet": (163, 195),
    "vgg16": (196, 212),
    "resnet50": (483, 7 + 2 * 2),
    "resnet101": (1027, 7 + 2 * 2),
    "resnet152": (1507, 7 + 2 * 2),
    "resnet50_torchvision": (427, 7 + 2 * 2),
    "resnet101_torchvision": (971, 7 + 2 * 2),
    "resnet152_torchvision": (1451, 7 + 2 * 2),
}


@functools.cache
def summary_of(name):
    """A network's summary, made once for all tests of this file."""
    return summarize(name)


def test_the_arithmetic_is_worked_out():
    rows = {row.name: row for row in summary_of("alexnet").layers}
    assert rows["conv1"].formula == "(227 - 11 + 2*0)/4 + 1 = 55"
    assert rows["conv1"].output_shape == (55, 55, 96) and rows["conv1"].macs == 55 * 55 * 96 * 11 * 11 * 3
    assert rows["conv2"].operation == "conv 5x5 in 2 groups" and rows["conv2"].macs == 27 * 27 * 256 * 5 * 5 * 48
    assert rows["fc8"].parameters == 4_097_000 and rows["fc8"].macs == 4_096_000
    assert rows["conv1"].activation_bytes == 4 * 55 * 55 * 96


@pytest.mark.parametrize(
    ("size", "window", "strides", "padding", "formula"),
    [
        (5, 2, 2, 0, "floor((5 - 2 + 2*0)/2) + 1 = 2, the last 1 of 5 dropped"),
        (11, 3, 4, 0, "(11 - 3 + 2*0)/4 + 1 = 3"),
        (12, 3, 4, 0, "floor((12 - 3 + 2*0)/4) + 1 = 3, the last 1 of 12 dropped"),
        (8, 3, 2, 1, "floor((8 - 3 + 2*1)/2) + 1 = 4"),  # one column of padding is left over, nothing of the image
    ],
)
def test_what_a_stride_drops_is_said(size, window, strides, padding, formula):
    class Pool(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layers.max_pool(x, window, strides, padding=padding)

    (row,) = summarize(Pool(), (size, size, 1)).layers
    assert row.formula == formula
    stem = summary_of("resnet18").layers[0]
    assert stem.formula == "floor((224 - 7 + 2*3)/2) + 1 = 112"  # what the stride leaves over is dropped


def test_what_enlarges_a_map_counts_what_is_multiplied_with_weights():
    class Enlarge(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = layers.Conv(3, 1, 2, name="halve")(x)
            x = layers.ConvTranspose(5, 4, 2, 1, name="double")(x)
            return layers.resize_bilinear(x, (33, 40))

    halve, double, resize = summarize(Enlarge(), (16, 20, 3)).layers
    assert (double.operation, double.output_shape) == ("transposed-conv 4x4/2", (16, 20, 5))
    assert double.formula == "(8 - 1)*2 + 2 = 16" and double.macs == 8 * 10 * 3 * 4 * 4 * 5
    assert (halve.receptive_field, double.receptive_field) == (1, 3)  # two values of every second pixel
    assert (resize.operation, resize.output_shape, resize.macs) == ("resize", (33, 40, 5), 0)


@pytest.mark.parametrize("name", deeper_marked(sorted(MODELS)))
def test_a_network_is_counted_as_its_row_says(name):
    """Its parameters (those that `init` makes: test_models.py), multiply-adds and receptive fields; published figures beside them."""
    published = MODELS[name]
    options = {"auxiliary_weight": 0.0} if "auxiliary_weight" in declared(published.build) else {}
    summary = summarize(name, **options) if options else summary_of(name)
    assert (summary.total_parameters, summary.total_macs) == published.counts
    if not options:  # nothing is published of a variant
        assert (summary.published_parameters, summary.published_macs) == (published.parameters, published.macs)
        last = summary.markdown().splitlines()[-1]
        assert last.startswith("| published |" if published.parameters or published.macs else "| total |")
    if name in FIELDS:
        fields = [
            [row.receptive_field for row in summary.layers if row.operation.startswith(kind)][-1]
            for kind in ("conv", "max-pool")
        ]
        assert tuple(fields) == FIELDS[name]


def test_multiply_adds_are_the_published_ones():
    assert {name: round(MODELS[name].counts[1] / 1e9, 3) for name in GMACS} == GMACS


def test_counted_figures_are_the_published_ones():
    """To the digit, or as the paper rounds; GoogLeNet's table 1 has 3 % fewer parameters and 5 % fewer MACs."""
    for name, row in MODELS.items():
        for ours, theirs in zip(row.counts or (), (row.parameters, row.macs), strict=False):
            rounded = theirs is not None and theirs % 10_000 == 0
            assert theirs is None or ours == theirs or (rounded and abs(ours / theirs - 1) < 0.06), name
    millions = [row for row in MODELS.values() if row.macs and row.torchvision and row.task == "classification"]
    assert len(millions) > 20  # of torchvision's documentation, in millions
    assert all(round(row.counts[1], -6) == row.macs for row in millions if row.source.endswith("torchvision"))


def test_published_figures_are_of_the_published_classes():
    other = summarize("lenet5_1998", num_classes=7)
    assert other.published_parameters is None and other.published_macs is None


def test_published_figures_have_no_more_digits_than_their_sources():
    last = {name: summary_of(name).table()[1][-2:] for name in ("vgg16", "resnet20", "resnet50", "lenet5_1998")}
    assert all((total[0], published[0]) == ("total", "published") for total, published in last.values())
    assert {name: [total[4:6], published[4:6]] for name, (total, published) in last.items()} == {
        "vgg16": [["138,357,544", "15,470,264,320"], ["138 million", ""]],
        "resnet20": [["269,722", "40,551,040"], ["0.27 million", ""]],
        "resnet50": [["25,557,032", "3,857,973,248"], ["", "3.8 billion"]],
        "lenet5_1998": [["60,000", "415,680"], ["60,000", ""]],
    }
    assert summary_of("lenet5").table()[1][-1][0] == "total"


@pytest.mark.parametrize(("name", "options"), [("resnet18", {}), ("googlenet", {"auxiliary_weight": 0.0})])
def test_folded_blocks_have_the_networks_totals_and_their_own_outputs(name, options):
    whole = summarize(name, (64, 64, 3), **options)
    for depth in (1, 2, 9):
        folded = whole.folded(depth)
        assert max(layer.name.count("/") for layer in folded.layers) < depth
        for total in ("total_parameters", "total_macs", "activation_bytes"):
            assert getattr(folded, total) == getattr(whole, total)
    assert whole.folded(9) == whole
    blocks = {layer.name: layer for layer in whole.folded(1).layers}
    if name == "googlenet":  # the branches' 64 + 128 + 32 + 32 features beside each other
        assert blocks["inception3a"].output_shape == (8, 8, 256) and blocks["inception3a"].operation == "7 layers"
    else:
        assert blocks["conv3_1"].output_shape == (8, 8, 128) and blocks["conv3_1"].receptive_field == 67
    with pytest.raises(ValueError, match="depth=0: expected at least 1"):
        whole.folded(0)


def test_other_inputs_and_classes_and_modules_of_ones_own():
    assert summarize("vgg16", (32, 32, 1), 10).layers[0].output_shape == (32, 32, 64)
    assert summarize("vgg16", (32, 32, 1), 10).published_parameters is None

    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = layers.Conv(4, (3, 3), dilation=2, padding="valid", name="wide")(x)
            return layers.Dense(2)(layers.global_average_pool(x))

    rows = summarize(Own(), (9, 9, 1)).layers
    assert [row.receptive_field for row in rows] == [5, 9, 9]
    assert rows[0].formula == "(9 - 5 + 2*0)/1 + 1 = 5"
    with pytest.raises(ValueError, match="num_classes=-1: expected a whole number of at least 1"):
        summarize("lenet5", num_classes=-1)
    with pytest.raises(TypeError, match="no published input: give its shape, --input H,W,C"):
        summarize(Own())
    with pytest.raises(ValueError, match="model lenet5 on images of 8x8x1: c3: a 5x5 window does not fit"):
        summarize("lenet5", (8, 8, 1))


def test_a_network_of_ones_own_needs_classes_and_an_input(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(
        "import flax.linen as nn\n\n\nclass Net(nn.Module):\n    num_classes: int\n\n    @nn.compact\n"
        "    def __call__(self, x, train=False):\n        return nn.Dense(self.num_classes)(x.mean((1, 2)))\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"model ./net.py:Net has no default for num_classes: give --classes N"):
        summarize("./net.py:Net", (8, 8, 3))
    with pytest.raises(TypeError, match=r"model ./net.py:Net has no published input: give its shape, --input H,W,C"):
        summarize("./net.py:Net", num_classes=5)
    assert summarize("./net.py:Net", (8, 8, 3), 5).total_parameters == 3 * 5 + 5


def test_it_is_written_in_markdown_and_json():
    summary = summarize("lenet5_1998")
    lines = summary.markdown().splitlines()
    assert lines[2].startswith("| c1 | conv 5x5 | 28x28x6 | (32 - 5 + 2*0)/1 + 1 = 28 | 156 | 117,600 | 5 |")
    assert lines[-2].startswith("| total |  |  |  | 60,000 |") and lines[-1].startswith(
        "| published |  |  |  | 60,000 |"
    )
    content = json.loads(json.dumps(summary.as_dict()))
    assert content["total_parameters"] == 60_000 and len(content["layers"]) == 6


class Generator(nn.Module):
    """A network whose output does not depend on the image, and a layer that prediction does not use."""

    @nn.compact
    def __call__(self, x, train=False):
        if self.is_initializing():
            nn.Dense(7, name="for_training_alone")(x.reshape(len(x), -1))
        return nn.Dense(3, name="from_noise")(jnp.zeros((len(x), 5)))


def test_layers_that_the_image_does_not_reach_are_counted_and_said():
    summary = summarize(Generator(), (4, 4, 1))
    [row] = summary.layers
    assert (row.name, row.operation, row.parameters) == ("from_noise", "not reached by the image", 5 * 3 + 3)
    assert summary.total_parameters == 18


def test_a_long_network_is_shown_by_block_and_drawn_with_a_bar_each():
    whole, small = summary_of("resnet50"), summary_of("lenet5")
    assert small.blocks() is small and len(whole.blocks().layers) == 21
    assert repr(small) == "Summary('lenet5' on 32x32x1: 8 layers, 61,706 parameters, 416,520 MACs)"
    for summary, bars in ((small, 8), (whole.blocks(), 21)):
        drawing = ElementTree.fromstring(summary.svg())
        rects = [rect for rect in drawing.iter("{http://www.w3.org/2000/svg}rect") if len(rect)]
        assert len(rects) == bars
        assert [next(rect.itertext()).partition(":")[0] for rect in rects] == [layer.name for layer in summary.layers]
    heights = [float(rect.get("height")) for rect in rects]
    assert heights[0] == pytest.approx(110 * (112 / 224) ** 0.5, abs=0.1)  # by the side's square root
    card = whole._repr_html_()
    assert "25,557,032 parameters" in card and "shown as 21 blocks" in card and card.count("<tr") == 1 + 21 + 2
