"""What XLA's compilers for TPUs and GPUs make of training steps, read from the compiled text; skipped without the compilers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import cnnjax
from cnnjax.ahead import process, targets
from tests.ahead.compiled_facts import NETWORKS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def installed(target):
    try:
        targets.check_compiler(targets.parse(target))
    except RuntimeError as missing:
        pytest.skip(str(missing))
    return target


@pytest.fixture(scope="module", params=["tpu:v5e:2x4", "cuda:h100:8"])
def facts(request):
    target = installed(request.param)
    command = [sys.executable, "-m", "tests.ahead.compiled_facts", target, *NETWORKS]
    ended = subprocess.run(command, env=process.environment(), cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return target, json.loads(ended.stdout)


def test_each_batch_norm_is_reduced_once_forward_and_once_backward(facts):
    """And the gradients, the loss and the sums of the metrics in few: on GPUs XLA joins those that are ready at the same time."""
    target, found = facts
    others = 4 if target.startswith("tpu") else 25
    for name, one in found.items():
        assert one["collectives"].keys() == {"all-reduce"}
        assert one["collectives"]["all-reduce"]["number"] <= 2 * NETWORKS[name][1] + others, name
    assert found["resnet18"]["collectives"]["all-reduce"]["number"] <= 44


def test_convolutions_of_a_bfloat16_step_are_in_bfloat16(facts):
    for name, found in facts[1].items():
        assert found["convolutions"] and not found["in_float32"], name


def test_no_maps_are_transposed_and_nothing_is_scattered_or_looped_over(facts):
    for name, found in facts[1].items():
        assert not found["transposed_maps"], name
        assert not {"scatter", "while"} & found["opcodes"].keys(), name


def test_the_state_is_updated_in_place(facts):
    target, found = facts
    for name, one in found.items():
        assert one["aliased"] == one["state_arrays"], name
        if target.startswith("cuda"):  # a TPU pads small arrays
            assert one["alias_bytes"] == one["state_bytes"], name


def test_compile_for_tells_memory_collectives_and_a_bound():
    installed("tpu:v5e:2x4")
    config = cnnjax.load_config("quickstart", {"train.batch_size": 64})
    compiled = cnnjax.compile_for(config, "tpu:v5e:2x4", largest_batch=False)
    train = compiled.train
    assert train["fits"] and train["memory"]["alias"] > 4 * 2 * 61_706  # weights and momentum of LeNet-5
    assert train["collectives"]["all-reduce"]["bytes"] >= 4 * 61_706
    assert 0 < train["bound"]["collective_share"] <= 1 and train["bound"]["images_per_second"] > 0
    with pytest.raises(ValueError, match="train.batch_size=60 cannot be shared equally by 8 devices"):
        cnnjax.compile_for(cnnjax.load_config(config, {"train.batch_size": 60}), "tpu:v5e:2x4")
    alone = cnnjax.compile_for(config, "tpu:v5e:1")
    assert not alone.train["collectives"] and alone.train["flops"] == pytest.approx(8 * train["flops"], rel=0.02)
    huge = cnnjax.load_config("quickstart", {"model.name": "vgg16", "train.batch_size": 2**15})
    assert not cnnjax.compile_for(huge, "tpu:v5e:1", (224, 224, 3)).train["fits"]
