"""What a shell is told when the TAB key is pressed."""

import os
import subprocess
import sys

import pytest


def completions(line, folder):
    """How a shell could continue a line, as argcomplete's protocol has it."""
    pytest.importorskip("argcomplete")
    answer = folder / "answer"
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n"}
    subprocess.run(
        [sys.executable, "-m", "cnnjax"],
        env={**os.environ, **asked, "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)},
        check=True,
        timeout=120,
    )
    return [word.strip() for word in answer.read_text().split("\n")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cnnjax tra", ["train"]),
        ("cnnjax train --over", ["--overwrite"]),
        ("cnnjax train --config quick", ["quickstart"]),
        ("cnnjax train --config quickstart --config.dataset.resize", ["--config.dataset.resize", "--config.dataset.resize_mode"]),
        pytest.param("cnnjax summary vgg1", ["vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"], marks=pytest.mark.slow),
        pytest.param("cnnjax explore fash", ["fashion_mnist", "fashion_mnist_cnn", "fashion_mnist_cnn_augmented", "fashion_mnist_lenet5", "fashion_mnist_resnet18", "fashion_scenes", "fashion_scenes_unet"], marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_commands_flags_and_names_are_completed(line, words, tmp_path):
    assert sorted(completions(line, tmp_path)) == words
