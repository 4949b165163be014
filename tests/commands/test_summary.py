"""`cnnjax summary` as a user meets it."""

import json
from xml.etree import ElementTree

import jax

from tests.commands.shell import run


def test_summary_of_a_model(capsys):
    code, out, _ = run(capsys, "summary", "lenet5_1998")
    assert code == 0 and out[1].split("\t")[:4] == ["c1", "conv 5x5", "28x28x6", "(32 - 5 + 2*0)/1 + 1 = 28"]
    _, out, _ = run(capsys, "summary", "vgg16", "--input", "64,64,1", "--classes", "7", "--json")
    assert json.loads("\n".join(out))["layers"][-1]["output_shape"] == [7]
    code, _, err = run(capsys, "summary", "vgg16", "--input", "16,16,3")
    assert code == 1 and "pool5: a 2x2 window does not fit its 1x1 input" in err[0]
    code, _, err = run(capsys, "summary", "vgg16", "--classes", "-1")
    assert code == 1 and "num_classes=-1: expected a whole number of at least 1" in err[0]
    code, out, _ = run(capsys, "summary", "alexnet", "--config.model.towers=1")
    assert code == 0 and out[-1].split("\t")[4] == "62,378,344"
    code, _, err = run(capsys, "summary", "alexnet", "--config.model.tower=1")
    assert code == 1 and "unknown option of model alexnet 'tower': did you mean 'towers'" in err[0]
    code, _, err = run(capsys, "summary", "alexnet", "--config.seed=1")
    assert code == 1 and "--config.seed: expected an option of the model" in err[0]
    code, _, err = run(capsys, "summary", "vgg16", "--input", "16")
    assert code == 2 and "expected height,width,channels" in err[-1]
    code, _, err = run(capsys, "summary", "vgg16", "--input", "16,16")
    assert code == 1 and "model vgg16 on images of 16x16: conv1_1: kernel_size=(3, 3): expected one number" in err[0]
    code, out, _ = run(capsys, "summary", "lenet5", "--input", "32,1")
    assert code == 0 and "length" in out[0] and "conv 5" in "".join(out)


def test_summary_of_a_run_and_of_blocks(capsys, finished_run, tmp_path):
    code, out, _ = run(capsys, "summary", finished_run.workdir)
    count = sum(leaf.size for leaf in jax.tree.leaves(finished_run.state.params))
    assert code == 0 and out[-1].split("\t")[4] == f"{count:,}"
    code, _, err = run(capsys, "summary", tmp_path)
    assert code == 1 and "holds no run" in err[0]
    code, _, err = run(capsys, "summary", finished_run.workdir, "--classes", "3")
    assert code == 1 and "leave out --config and --classes" in err[0]
    code, out, _ = run(capsys, "summary", "resnet18", "--depth", "1", "--input", "64,64,3")
    assert code == 0 and [row.split("\t")[:3] for row in out if row.startswith("conv2_")] == [
        ["conv2_1", "4 layers", "16x16x64"], ["conv2_2", "4 layers", "16x16x64"]
    ]  # fmt: skip
    code, _, err = run(capsys, "summary", "resnet18", "--depth", "0")
    assert code == 1 and err == ["cnnjax: depth=0: expected at least 1"]


def test_a_long_network_is_shown_by_block_and_drawn(capsys, tmp_path):
    code, out, err = run(capsys, "summary", "resnet18", "--input", "64,64,3", "--svg", tmp_path / "net.svg")
    assert code == 0 and len(out) == 1 + 13 + 1 and err == [
        "43 layers in 13 blocks: --layers shows every layer, --depth N nested blocks", f"drawing: {tmp_path / 'net.svg'}"
    ]  # fmt: skip
    drawing = ElementTree.parse(tmp_path / "net.svg")
    assert sum(len(rect) for rect in drawing.iter("{http://www.w3.org/2000/svg}rect")) == 13
    code, out, err = run(capsys, "summary", "resnet18", "--input", "64,64,3", "--layers")
    assert code == 0 and len(out) == 1 + 43 + 1 and err == []
    code, _, err = run(capsys, "summary", "lenet5", "--svg", tmp_path / "net.png")
    assert code == 1 and "expected a name that ends in .svg" in err[0]
