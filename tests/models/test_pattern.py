import shutil
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cnnjax
from cnnjax.models import create_model
from cnnjax.models.pattern import Plan, Stage, format_plan, parse_plan, repeat
from cnnjax.training.checkpoints import CheckpointOptions, Checkpoints, StructureError
from tests.one_program import apply, draw, init

WIDTHS = st.lists(st.integers(1, 512), min_size=1, max_size=4).map(tuple)
PLANS = st.builds(
    Plan, st.lists(st.builds(Stage, WIDTHS, st.booleans()), max_size=4).map(tuple), st.one_of(st.just(()), WIDTHS)
)


@given(PLANS)
def test_a_plan_in_words_is_read_back(plan):
    assert parse_plan(format_plan(plan)) == plan


# The five a textbook lists, as (N, M, K, pool): what the pattern makes of them on 8x8x3 images and 10 classes.
INSTANCES = {
    "linear: INPUT -> FC": (repeat(0, 0, 0), "", [(192, 10)]),
    "MLP: INPUT -> [FC -> RELU]*2 -> FC": (repeat(0, 0, 2, units=16), "fc 16 16", [(192, 16), (16, 16), (16, 10)]),
    "INPUT -> CONV -> RELU -> FC": (repeat(1, 1, 0, 4, pool=False), "conv 4", [(3, 3, 3, 4), (256, 10)]),
    "INPUT -> [CONV -> RELU -> POOL]*2 -> FC -> RELU -> FC": (
        repeat(1, 2, 1, 4, 16),
        "conv 4 pool | conv 8 pool | fc 16",
        [(3, 3, 3, 4), (3, 3, 4, 8), (32, 16), (16, 10)],
    ),
    "INPUT -> [CONV -> RELU -> CONV -> RELU -> POOL]*3 -> [FC -> RELU]*2 -> FC": (
        repeat(2, 3, 2, 4, 16),
        "conv 4 4 pool | conv 8 8 pool | conv 16 16 pool | fc 16 16",
        [
            (3, 3, 3, 4),
            (3, 3, 4, 4),
            (3, 3, 4, 8),
            (3, 3, 8, 8),
            (3, 3, 8, 16),
            (3, 3, 16, 16),
            (16, 16),
            (16, 16),
            (16, 10),
        ],
    ),
}


@pytest.mark.parametrize("name", INSTANCES)
def test_the_textbooks_five(name):
    plan, words, kernels = INSTANCES[name]
    assert format_plan(plan) == words
    model = create_model("pattern", 10, plan=words)
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 8, 8, 3)))
    shapes = sorted(layer["kernel"].shape for layer in variables["params"].values())
    assert shapes == sorted(kernels)
    assert jax.eval_shape(model.apply, variables, np.zeros((2, 8, 8, 3))).shape == (2, 10)


def test_a_linear_plan_is_a_linear_classifier():
    model = create_model("pattern", 4, plan="")
    x = np.random.RandomState(0).randn(3, 2, 2, 1).astype(np.float32)
    variables = draw(model, x)
    output = variables["params"]["output"]
    np.testing.assert_allclose(
        apply(model, variables, x), x.reshape(3, 4) @ output["kernel"] + output["bias"], atol=1e-6
    )


def test_its_other_fields_do_what_they_say():
    model = create_model(
        "pattern", 3, plan="conv 4 pool | fc 5", norm="batch", activation="tanh", pooling="average", kernel_size=5, padding="valid",
        conv_dropout_rate=0.5, dense_dropout_rate=0.5, initializer="zeros",
    )  # fmt: skip
    variables = jax.device_get(init(model, np.ones((2, 8, 8, 1), np.float32)))
    assert variables["params"]["conv1_1"]["kernel"].shape == (5, 5, 1, 4) and "bn1_1" in variables["batch_stats"]
    assert not variables["params"]["fc1"]["kernel"].any() and variables["params"]["fc1"]["kernel"].shape == (
        2 * 2 * 4,
        5,
    )


@pytest.mark.parametrize(
    ("name", "options", "biased"),
    [
        ("pattern", {"plan": "conv 4 pool | fc 5", "norm": "batch"}, {"bn1_1", "fc1", "output"}),
        ("pattern", {"plan": "conv 4 pool | fc 5"}, {"conv1_1", "fc1", "output"}),
        ("lenet5_bn", {}, {"bn_c1", "bn_c3", "bn_c5", "bn_f6", "output"}),
    ],
)
def test_a_layer_before_batch_norm_has_no_bias(name, options, biased):
    """Its gradient would be rounding errors, which Adam divides by their own size."""
    model = create_model(name, 3, **options)
    params = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32, 1)))["params"]
    assert {layer for layer, values in params.items() if "bias" in values} == biased


def test_a_run_from_before_with_biases_there_is_refused_by_name(digits_config, tmp_path):
    plan = {"name": "pattern", "plan": "conv 4 pool | fc 8", "norm": "batch"}
    config = {**digits_config, "model": plan, "train": {"batch_size": 128, "epochs": 1}}
    state = cnnjax.train(config, tmp_path / "run").state
    with_bias = {**state.params, "conv1_1": {**state.params["conv1_1"], "bias": np.zeros(4, np.float32)}}
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with Checkpoints(tmp_path / "run" / "checkpoints", CheckpointOptions(), "accuracy", "max") as checkpoints:
        checkpoints.save(state.replace(params=with_bias), {"sums": None}, {"valid/accuracy": 0.5})
    for opened in (lambda: cnnjax.load_run(tmp_path / "run"), lambda: cnnjax.train(config, tmp_path / "run")):
        with pytest.raises(StructureError, match=r"params/conv1_1/bias is float32 of \(4,\) there and absent here"):
            opened()


def test_strides_are_those_of_a_stages_last_convolution():
    model = create_model("pattern", 3, plan="conv 4 4 | conv 4 pool | fc 5", strides=2)
    x = np.ones((1, 16, 16, 1), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    assert variables["params"]["fc1"]["kernel"].shape == (2 * 2 * 4, 5)  # 16 -> 16 -> 8 -> 4, pooled to 2
    seen_of = partial(model.apply, capture_intermediates=True, mutable=["intermediates"])
    _, seen = jax.eval_shape(seen_of, variables, x)
    heights = {name: seen["intermediates"][name]["__call__"][0].shape[1] for name in ("conv1_1", "conv1_2", "conv2_1")}
    assert heights == {"conv1_1": 16, "conv1_2": 8, "conv2_1": 4}


@pytest.mark.parametrize(
    "text", ["conv", "conv 3 pool 4", "fc 3 | conv 4", "pool", "conv 0", "conv x", "fc 3 | fc 4", "| conv 3"]
)
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(ValueError, match="expected stages such as 'conv 32 32 pool'"):
        parse_plan(text)
    with pytest.raises(ValueError, match=r"model.plan=.*: expected stages such as"):
        create_model("pattern", 3, plan=text)
