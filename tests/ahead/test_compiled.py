"""What XLA's compilers for TPUs and GPUs make of training steps, read from the compiled text; skipped without the compilers."""

from concurrent.futures import ThreadPoolExecutor

import pytest

import cnnjax
from cnnjax.ahead import targets

pytestmark = pytest.mark.slow
# The networks at their own sizes, and their batch normalisations: in maps of 2x2 values XLA transposes.
NETWORKS = {
    "lenet5": ((32, 32, 1), 0), "resnet18": ((224, 224, 3), 20), "resnet50": ((224, 224, 3), 53), "googlenet": ((224, 224, 3), 0),
    "vgg16": ((224, 224, 3), 0), "alexnet": ((224, 224, 3), 0), "resnet20": ((32, 32, 3), 19),
}  # fmt: skip
# The compiler for TPUs takes minutes for each of the others.
SMALL = ("lenet5", "resnet20")


def installed(target):
    try:
        targets.check_compiler(targets.parse(target))
    except RuntimeError as missing:
        pytest.skip(str(missing))  # the reason says which extra holds the compiler: .[aot-tpu] or .[aot-cuda]
    return target


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("tpu:v5e:2x4", SMALL), id="tpu"),
        pytest.param(("cuda:h100:8", [*NETWORKS]), id="cuda"),
        pytest.param(("tpu:v5e:2x4", [*NETWORKS]), id="tpu-all", marks=pytest.mark.exhaustive),
    ],
)
def facts(request):
    """The figures of the training steps in bfloat16, 16 images a device."""
    target, names = installed(request.param[0]), request.param[1]
    fields = {"train.batch_size": 128, "train.precision": "bfloat16"}
    return target, {
        name: cnnjax.compile_for(
            cnnjax.load_config("quickstart", {"model.name": name, **fields}),
            target,
            NETWORKS[name][0],
            10,
            predict=False,
        ).train
        for name in names
    }


def test_each_batch_norm_is_reduced_once_forward_and_once_backward(facts):
    """And the gradients, the loss and the sums of the metrics in few: on GPUs XLA joins those that are ready at the same time."""
    target, found = facts
    others = 4 if target.startswith("tpu") else 25
    for name, one in found.items():
        assert one["collectives"].keys() == {"all-reduce"}
        assert one["collectives"]["all-reduce"]["number"] <= 2 * NETWORKS[name][1] + others, name
    assert "resnet18" not in found or found["resnet18"]["collectives"]["all-reduce"]["number"] <= 44


def test_convolutions_of_a_bfloat16_step_are_in_bfloat16(facts):
    for name, found in facts[1].items():
        assert found["instructions"]["convolutions"] and not found["instructions"]["float32_convolutions"], name


def test_no_maps_are_transposed_and_nothing_is_scattered_or_looped_over(facts):
    for name, found in facts[1].items():
        assert [found["instructions"][kind] for kind in ("map_transposes", "scatters", "loops")] == [0, 0, 0], name


def test_the_state_is_updated_in_place(facts):
    target, found = facts
    for name, one in found.items():
        assert one["instructions"]["aliased"] == one["instructions"]["state_arrays"], name
        if target.startswith("cuda"):  # a TPU pads small arrays
            assert one["memory"]["alias"] == one["memory"]["state"], name


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
    huge = cnnjax.compile_for(cnnjax.load_config(config, {"train.batch_size": 2**24}), "tpu:v5e:1", predict=False)
    assert not huge.train["fits"] and huge.predict is None


def test_two_processes_compile_for_tpus_at_the_same_time():
    target = installed("tpu:v5e:1")
    config = cnnjax.load_config("quickstart", {"model.name": "pattern", "model.plan": "conv 2 pool | fc 4"})
    with ThreadPoolExecutor() as threads:  # each compiles in a process of its own
        compiled = [
            threads.submit(cnnjax.compile_for, config, target, largest_batch=False, predict=False) for _ in range(2)
        ]
    first, second = (one.result().train["flops"] for one in compiled)
    assert first == second > 0
