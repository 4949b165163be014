"""The residual networks of later papers, which are options of ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.models import create_model
from cnnjax.models.resnet import ResNet


def parameters(name, **options):
    model = create_model(name, 1000, **options)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_squeeze_and_excitation_adds_what_the_paper_says():
    """Section 4 of Hu et al.: 2/r sum of N C^2 weights, r = 16, here with the biases of the two layers."""
    blocks = ((3, 256), (4, 512), (6, 1024), (3, 2048))
    weights = sum(2 * count * width**2 // 16 for count, width in blocks)
    biases = sum(count * (width + width // 16) for count, width in blocks)
    assert parameters("resnet50", squeeze_excitation=True) == 25_557_032 + weights + biases == 28_088_024


def test_the_deep_stem_replaces_a_kernel_by_three():
    """ResNet-D: 3x3 kernels 3-32-32-64, two normalisations more; means in place of strides have no parameters."""
    stem = 9 * (3 * 32 + 32 * 32 + 32 * 64) + 2 * 2 * 32 - 49 * 3 * 64
    assert parameters("resnet50", stem="deep", shortcut="D", stride_in="3x3") == 25_557_032 + stem == 25_576_264


def test_groups_need_bottleneck_blocks():
    with pytest.raises(ValueError, match="resnet: groups=2 needs bottleneck blocks"):
        parameters("resnet18", groups=2)


def test_a_grouped_bottleneck_is_parallel_paths():
    """Figure 3 of Xie et al.: a convolution in groups is the sum of paths, each with its part of the channels."""
    settings = {"num_classes": 3, "stages": (1,), "bottleneck": True, "features": 4, "stem": "3x3", "stride_in": "3x3"}
    grouped, whole = ResNet(**settings, groups=4, widening=2), ResNet(**settings, widening=2)
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 2))
    variables = jax.jit(grouped.init)(jax.random.key(1), x)
    kernel = variables["params"]["conv2_1"]["conv2"]["kernel"]
    assert kernel.shape == (3, 3, 2, 8)
    full = np.zeros((3, 3, 8, 8), np.float32)
    for group in range(4):
        part = slice(2 * group, 2 * group + 2)
        full[:, :, part, part] = kernel[..., part]
    block = {**variables["params"]["conv2_1"], "conv2": {"kernel": full}}
    widened = {**variables, "params": {**variables["params"], "conv2_1": block}}
    np.testing.assert_allclose(grouped.apply(variables, x), whole.apply(widened, x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("preactivation", [False, True])
def test_dropout_is_between_a_blocks_convolutions_in_training_alone(bottleneck, preactivation):
    shape = {"stages": (1, 1), "bottleneck": bottleneck, "features": 4, "stem": "3x3", "preactivation": preactivation}
    plain, dropped = ResNet(3, **shape), ResNet(3, **shape, dropout_rate=0.5)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = jax.jit(plain.init)(jax.random.key(1), x)
    assert jax.tree.structure(variables) == jax.tree.structure(jax.eval_shape(dropped.init, jax.random.key(1), x))
    np.testing.assert_array_equal(plain.apply(variables, x), dropped.apply(variables, x))
    outputs = [
        dropped.apply(variables, x, True, rngs={"dropout": jax.random.key(seed)}, mutable=["batch_stats"])[0]
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert np.abs(outputs[0] - outputs[2]).max() > 1e-3


@pytest.mark.parametrize("bottleneck", [False, True])
def test_stochastic_depth_skips_whole_blocks_more_often_the_deeper(bottleneck):
    """Rates of 0, 0.25 and 0.5: an example's last block is its input with probability 1/2, or its sum with twice the convolutions."""
    shape = {"stages": (3,), "bottleneck": bottleneck, "features": 4, "stem": "3x3"}
    plain, skipping = ResNet(3, **shape), ResNet(3, **shape, stochastic_depth_rate=0.5)
    x = jax.random.normal(jax.random.key(0), (64, 4, 4, 3))
    variables = jax.jit(plain.init)(jax.random.key(1), x)
    np.testing.assert_array_equal(plain.apply(variables, x), skipping.apply(variables, x))
    run = jax.jit(
        lambda key: skipping.apply(
            variables, x, True, rngs={"dropout": key}, mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: module.name in ("conv2_1", "conv2_2", "conv2_3"),
        )
    )  # fmt: skip
    seen = run(jax.random.key(2))[1]["intermediates"]
    first, second, third = (np.asarray(seen[f"conv2_{index}"]["__call__"][0]) for index in (1, 2, 3))
    for before, after, rate in ((first, second, 0.25), (second, third, 0.5)):
        skipped = (before == after).all((1, 2, 3)).mean()  # blocks end with ReLU, so that their inputs are their ReLU
        assert abs(skipped - rate) < 4 * np.sqrt(rate * (1 - rate) / 64)
