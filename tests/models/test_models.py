import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax import layers
from cnnjax.analysis.summary import summarize
from cnnjax.models import MODELS, create_model, list_models
from cnnjax.models.convnext import ConvNeXt
from cnnjax.models.efficientnet import EfficientNet, Row
from cnnjax.models.linen import is_rate
from cnnjax.models.resnet import ResNet
from cnnjax.ops.choice import recorded, using
from cnnjax.tasks import Classification
from cnnjax.training.optimizers import make_optimizer
from cnnjax.training.parallel import check_replicas, over_devices, replicate
from cnnjax.training.schedules import constant
from cnnjax.training.state import initial_state
from cnnjax.training.step import plain_inputs, train_step
from tests.models.families import DEEPER, deeper_marked
from tests.one_program import apply, draw, init

TASK = Classification()
CLASSIFIERS = list_models(task="classification")
EACH = deeper_marked(CLASSIFIERS, pytest.mark.exhaustive)


@functools.cache
def shapes(name, image_shape=None, num_classes=None, **options):
    """The shapes of (logits, variables), nothing computed; for the published input unless said otherwise."""
    published = MODELS[name]
    model = create_model(name, num_classes or published.num_classes, **options)
    return traced(model, image_shape or published.image_shape)


def traced(model, image_shape, method="__call__", train=False):
    """The shapes of (output, variables), with the operations that are traced in less time."""
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    with using("stock"):
        return jax.eval_shape(
            lambda x: model.init_with_output(jax.random.key(0), x, train=train, method=method), images
        )


def count(name, **arguments):
    """Parameters by layer."""
    _, variables = shapes(name, **arguments)
    return {layer: sum(leaf.size for leaf in jax.tree.leaves(value)) for layer, value in variables["params"].items()}


# The papers' tables and torchvision 0.28's documentation. Of every model test_summary.py counts the parameters that `init` makes and
# compares them with its row's counts, and these with the published ones.
TOTALS = {
    "alexnet": 60_965_224,
    "alexnet_torchvision": 61_100_840,
    "all_cnn": 9 * 96 * (3 + 2 * 96) + 9 * 192 * (96 + 3 * 192) + 192 * (192 + 10) + 3 * 96 + 5 * 192 + 10,
    "cnn_8_16_32": 72 + 16 + 1152 + 32 + 4608 + 64 + 7 * 7 * 32 * 10 + 10,
    "cnn_small": 1_199_882,
    "googlenet": 13_378_280,
    "googlenet_torchvision": 13_004_888,
    "inception_v3": 27_161_264,
    "lenet5": 61_706,
    "lenet5_1998": 60_000,
    "lenet5_bn": 61_706 + (2 - 1) * (6 + 16 + 120 + 84),  # a scale and a shift, no bias
    "lenet_signs": 56_195,
    "lenet_signs_double": 12 * (75 + 1) + 32 * (300 + 1) + 240 * (800 + 1) + 43 * (240 + 1),
    "maxdrop_cnn": 7_640_394,
    "mlp": 636_010,
    "pattern": 896 + 9248 + 18496 + 36928 + 64 * 8 * 8 * 128 + 128 + 129 * 10,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet50_torchvision": 25_557_032,
    "resnet101": 44_549_160,
    "resnet101_torchvision": 44_549_160,
    "resnet152": 60_192_808,
    "resnet152_torchvision": 60_192_808,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
}
# Millions, as He et al. round them in table 6.
CIFAR_MILLIONS = {"resnet20": 0.27, "resnet32": 0.46, "resnet44": 0.66, "resnet56": 0.85, "resnet110": 1.7}


# Counted with auxiliary heads.
WITH_HEADS = ("googlenet", "googlenet_torchvision", "inception_v3")


def test_every_model_has_its_sources_parameters():
    counted = {name: MODELS[name].counts[0] for name in CLASSIFIERS}
    assert {name: counted[name] for name in TOTALS if name not in WITH_HEADS} == {
        name: total for name, total in TOTALS.items() if name not in WITH_HEADS
    }
    for name, millions in CIFAR_MILLIONS.items():
        assert abs(counted[name] / 1e6 - millions) < 0.03


@pytest.mark.parametrize("name", deeper_marked(WITH_HEADS))
def test_auxiliary_heads_have_their_parameters(name):
    assert sum(count(name).values()) == TOTALS[name]


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("lenet5", {"c1": 156, "c3": 2416, "c5": 48120, "f6": 10164, "output": 850}),
        ("lenet5_1998", {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164}),
        ("cnn_small", {"conv1": 320, "conv2": 18496, "dense": 1179776, "output": 1290}),
        (
            "alexnet",
            {
                "conv1": 34_944,
                "conv2": 307_456,
                "conv3": 885_120,
                "conv4": 663_936,
                "conv5": 442_624,
                "fc6": 37_752_832,
                "fc7": 16_781_312,
                "fc8": 4_097_000,
            },
        ),
    ],
)
def test_every_layer_has_its_tables_parameters(name, layers):
    assert count(name) == layers


@pytest.mark.parametrize(
    ("name", "options", "total"),
    [
        ("alexnet", {"towers": 1}, 62_378_344),
        ("googlenet", {"auxiliary_weight": 0.0}, 6_998_552),
        ("googlenet_torchvision", {"auxiliary_weight": 0.0}, 6_624_904),
        # the projections of B where the shape changes, of C around every block; A has none
        ("resnet20", {"shortcut": "B"}, 269_722 + (16 + 2) * 32 + (32 + 2) * 64),
        (
            "resnet20",
            {"shortcut": "C"},
            269_722 + 3 * 18 * 16 + 18 * 32 + 2 * 34 * 32 + 34 * 64 + 2 * 66 * 64,
        ),
        ("resnet18", {"stem": "3x3"}, 11_689_512 - 64 * 3 * (49 - 9)),
        # normalised before the convolutions: none in the stem and the projections, one at the end, narrower ones where
        # a stage begins
        ("resnet18", {"preactivation": True}, 11_689_512 - 2 * 64 + 2 * 512 - 2 * 896 - 2 * (64 + 128 + 256)),
        # widths 1 1 | 2 2 | 4 4 4 | 8 8 8 on 3 channels: the sum of 9 in * out + out, and the output's 8 * 10 + 10
        ("maxdrop_cnn", {"features": 1}, 2022),
        ("mlp", {"features": ()}, 784 * 10 + 10),
        ("mlp", {"features": (300, 100)}, 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10),
        ("mobilenet_v2", {"width": 0.5}, 1_968_680),  # torchvision's and Keras's with that width
        ("mlp", {"features": (2500, 2000, 1500, 1000, 500)}, 11_972_510),
    ],
)
def test_variants_have_theirs(name, options, total):
    assert sum(count(name, **options).values()) == total


SMALL = {
    "alexnet": (67, 67),
    "alexnet_torchvision": (64, 64),
    "googlenet": (64, 64),
    "googlenet_torchvision": (64, 64),
    "inception_v3": (75, 75),
    "pilotnet": (64, 64),
    "zfnet": (64, 64),
}


def small_shape(name, channels=3):
    """An input on which the model is cheap, and which it still takes."""
    published = MODELS[name].image_shape
    height, width = SMALL.get(name, (32, 32) if published[0] > 32 else published[:2])
    return (height, width, channels)


def initial_variables(model, image_shape):
    """As a training draws them, by one program: a generator for each array takes XLA many seconds to compile."""
    return initial_state(model, optax.identity(), image_shape, 0).variables


# Fewer blocks of each kind, and no auxiliary heads.
FEWER = {
    "googlenet": {"auxiliary_weight": 0.0},
    "googlenet_torchvision": {"auxiliary_weight": 0.0},
    "inception_v3": {"auxiliary_weight": 0.0},
    "densenet_40_12": {"blocks": (2, 2, 2)},
    "regnet_y_400mf": {"depth": 6, "slope": 70.0},
    "resnext50_32x4d": {"stages": (1, 1, 1, 1)},
    "shufflenet_v2_x0_5": {"units": (1, 2, 1)},
    "wide_resnet28_10": {"stages": (1, 1, 1)},
}


def small_options(name):
    return FEWER.get(name, {})


@pytest.mark.parametrize("name", EACH)
def test_any_number_of_classes_and_channels_in_float32_and_bfloat16(name):
    for channels, classes, dtype in ((3, 7, jnp.float32), (1, 43, jnp.bfloat16)):
        options = {} if dtype == jnp.float32 else {"dtype": dtype}
        logits, variables = shapes(name, small_shape(name, channels), classes, **options, **small_options(name))
        assert logits.shape == (2, classes) and logits.dtype == dtype
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("lenet5", (8, 8, 1), "c3: a 5x5 window does not fit its 2x2 input"),
        ("lenet5", (5, 5, 1), "s2: a 2x2 window does not fit its 1x1 input"),
        ("lenet5_1998", (8, 8, 1), "c3: a 5x5 window does not fit its 2x2 input"),
        ("lenet5_1998", (5, 5, 1), "s2: a 2x2 window does not fit its 1x1 input"),
        ("alexnet", (50, 50, 3), "pool5: a 3x3 window does not fit its 1x1 input"),
        ("alexnet_torchvision", (28, 28, 3), "pool2: a 3x3 window does not fit its 2x2 input"),
        ("vgg16", (16, 16, 3), "pool5: a 2x2 window does not fit its 1x1 input"),
        ("googlenet", (64, 64, 3), "auxiliary4a/pool: a 5x5 window does not fit its 4x4 input"),
        ("googlenet_torchvision", (8, 8, 3), "pool3: a 3x3 window does not fit its 1x1 input"),
        ("inception_v3", (64, 64, 3), "auxiliary6e/pool: a 5x5 window does not fit its 2x2 input"),
        ("nin", (1, 1, 3), "pool1: a 3x3 window does not fit its 1x1 input"),
        ("squeezenet1_1", (8, 8, 3), "pool3: a 3x3 window does not fit its 1x1 input"),
        ("zfnet", (32, 32, 3), "pool5: a 3x3 window does not fit its 1x1 input"),
        ("maxdrop_cnn", (28, 28, 1), "pool4: a 4x4 window does not fit its 3x3 input"),
        ("cnn_small", (5, 5, 1), "pool: a 2x2 window does not fit its 1x1 input"),
        ("cnn_8_16_32", (3, 3, 1), "pool2: a 2x2 window does not fit its 1x1 input"),
    ],
)
def test_too_small_an_image_names_the_layer_it_shrinks_to_nothing_in(name, shape, message):
    with pytest.raises(ValueError, match=message):
        shapes(name, shape)


def test_lenet5_is_its_definition():
    """The forward pass again, in NumPy with SciPy's correlation."""
    import scipy.signal

    model = create_model("lenet5", 10)
    x = np.random.RandomState(0).rand(1, 32, 32, 1).astype(np.float32)
    params = draw(model, x)["params"]

    def convolve(x, layer):
        kernel = params[layer]["kernel"]
        maps = [
            sum(scipy.signal.correlate2d(x[..., c], kernel[..., c, f], "valid") for c in range(x.shape[-1]))
            for f in range(kernel.shape[-1])
        ]
        return np.tanh(np.stack(maps, -1) + params[layer]["bias"])

    def halve(x):
        return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).mean((1, 3))

    y = halve(convolve(halve(convolve(x[0], "c1")), "c3")).ravel()
    for layer in ("c5", "f6"):
        y = np.tanh(y @ params[layer]["kernel"] + params[layer]["bias"])
    expected = y @ params["output"]["kernel"] + params["output"]["bias"]
    np.testing.assert_allclose(np.asarray(apply(model, {"params": params}, x))[0], expected, atol=1e-5)


@pytest.mark.parametrize("preactivation", [False, True])
@pytest.mark.parametrize(
    ("shortcut", "options"),
    [("A", {}), ("B", {}), ("C", {}), ("D", {}), ("B", {"widening": 2, "squeeze_excitation": True})],
)
def test_a_residual_network_is_its_papers_equations(shortcut, options, preactivation):
    """Two blocks, the second at half the size and twice as wide, written out again with SciPy's correlation."""
    import scipy.signal

    settings = {"shortcut": shortcut, "preactivation": preactivation, **options}
    model = ResNet(3, stages=(1, 1), bottleneck=False, features=2, stem="3x3", **settings)
    generator = np.random.RandomState(0)
    x = generator.randn(1, 6, 6, 2).astype(np.float32)
    drawn = jax.tree.map(
        lambda leaf: generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32) * generator.choice([-1, 1], leaf.shape),
        jax.eval_shape(model.init, jax.random.key(0), x),
    )
    params, statistics = drawn["params"], jax.tree.map(np.abs, drawn["batch_stats"])
    relu = lambda x: np.maximum(x, 0)  # noqa: E731

    def layer(path, tree):
        for name in path.split("/"):
            tree = tree[name]
        return tree

    def conv(x, path, stride=1):
        kernel = layer(path, params)["kernel"]
        padded = np.pad(x, ((kernel.shape[0] // 2,) * 2, (kernel.shape[1] // 2,) * 2, (0, 0)))
        maps = [
            sum(scipy.signal.correlate2d(padded[..., c], kernel[..., c, f], "valid") for c in range(x.shape[-1]))
            for f in range(kernel.shape[-1])
        ]
        return np.stack(maps, -1)[::stride, ::stride]

    def norm(x, path):
        running = layer(path, statistics)
        scaled = (x - running["mean"]) / np.sqrt(running["var"] + 1e-5)
        return scaled * layer(path, params)["scale"] + layer(path, params)["bias"]

    def excited(x, path):
        if "squeeze_excitation" not in options:
            return x
        one, two = (layer(f"{path}/{name}", params) for name in ("fc1", "fc2"))
        hidden = relu(x.mean((0, 1)) @ one["kernel"][0, 0] + one["bias"])
        return x / (1 + np.exp(-hidden @ two["kernel"][0, 0] - two["bias"]))

    y = conv(x[0], "conv1")
    if not preactivation:
        y = relu(norm(y, "bn1"))
    for block, stride in (("conv2_1", 1), ("conv3_1", 2)):
        entry = y
        changes = stride == 2 or "widening" in options
        projected = shortcut == "C" or (shortcut in "BD" and changes)
        if preactivation:  # h(x) + F(relu(norm(x))); a projection sees what the branch sees
            y = relu(norm(y, f"{block}/bn1"))
            seen = y if projected else entry
            y = conv(relu(norm(conv(y, f"{block}/conv1", stride), f"{block}/bn2")), f"{block}/conv2")
        else:
            seen = entry
            y = relu(norm(conv(y, f"{block}/conv1", stride), f"{block}/bn1"))
            y = norm(conv(y, f"{block}/conv2"), f"{block}/bn2")
        y = excited(y, f"{block}/se")
        if projected:
            if shortcut == "D" and stride == 2:
                seen, stride = seen.reshape(len(seen) // 2, 2, -1, 2, seen.shape[-1]).mean((1, 3)), 1
            seen = conv(seen, f"{block}/shortcut_conv", stride)
            seen = seen if preactivation else norm(seen, f"{block}/shortcut_bn")
        elif stride == 2:
            seen = np.pad(seen[::2, ::2], ((0, 0), (0, 0), (0, 2)))
        y = seen + y if preactivation else relu(seen + y)
    if preactivation:
        y = relu(norm(y, "bn_last"))
    expected = y.mean((0, 1)) @ params["fc"]["kernel"] + params["fc"]["bias"]
    logits = np.asarray(apply(model, {"params": params, "batch_stats": statistics}, x))
    np.testing.assert_allclose(logits[0], expected, rtol=2e-4)


def test_a_last_scale_of_zero_begins_every_block_as_the_identity():
    model = create_model("resnet20", 3, features=2, zero_init=True)
    params = jax.device_get(initial_variables(model, (16, 16, 1))["params"])
    blocks = [block for name, block in params.items() if name.startswith("conv") and "bn2" in block]
    assert len(blocks) == 9
    assert all((block["bn1"]["scale"] == 1).all() and (block["bn2"]["scale"] == 0).all() for block in blocks)
    with pytest.raises(ValueError, match="zero_init needs blocks that end with a scale"):
        shapes("resnet20", zero_init=True, preactivation=True)


def test_alexnet_starts_as_its_paper_says():
    """Section 5: N(0, 0.01^2), biases of 1 in conv 2, 4, 5 and the hidden dense layers, of 0 elsewhere."""
    images = np.zeros((1, 67, 67, 3), np.float32)
    params = jax.device_get(init(create_model("alexnet", 10), images)["params"])
    assert {name for name, layer in params.items() if (layer["bias"] == 1).all()} == {
        "conv2",
        "conv4",
        "conv5",
        "fc6",
        "fc7",
    }
    assert all((params[name]["bias"] == 0).all() for name in ("conv1", "conv3", "fc8"))
    for layer in params.values():
        np.testing.assert_allclose(layer["kernel"].std(), 0.01, rtol=0.02)


def test_alexnet_normalises_before_or_after_pooling_or_not_at_all():
    def order(**options):
        rows = summarize("alexnet", **options).layers
        return [row.operation.split(" ")[0] for row in rows if row.parameters == 0][:4]

    norm, pool = "local-response-norm", "max-pool"
    assert order() == [norm, pool, norm, pool]
    assert order(normalization="after_pooling") == [pool, norm, pool, norm]
    assert norm not in order(normalization="none")


def test_without_shortcuts_nothing_passes_blocks_that_begin_at_zero():
    x = np.random.default_rng(0).standard_normal((2, 16, 16, 1)).astype(np.float32)
    for shortcut in ("A", "none"):
        model = create_model("resnet20", 3, stages=(1, 1, 1), features=2, shortcut=shortcut, zero_init=True)
        logits = np.asarray(apply(model, initial_variables(model, x.shape[1:]), x))
        assert np.allclose(logits[0], logits[1]) == (shortcut == "none")


def test_glorot_uniform_has_its_bound():
    model = create_model("cnn_small", 10)
    kernel = np.asarray(init(model, np.zeros((1, 28, 28, 1), np.float32))["params"]["conv2"]["kernel"])
    bound = np.sqrt(6 / (9 * 32 + 9 * 64))
    assert np.abs(kernel).max() <= bound and np.abs(kernel).max() > 0.99 * bound
    np.testing.assert_allclose(np.std(kernel), bound / np.sqrt(3), rtol=0.02)


@pytest.mark.parametrize(
    "name",
    ["cnn_8_16_32", "googlenet_torchvision", "lenet5_bn", "resnet20", "resnet50_torchvision", "shufflenet_v2_x0_5", "vgg11_bn"],
)  # fmt: skip
def test_batch_statistics_change_in_training_and_not_in_evaluation(name):
    """Read off the program: in evaluation every statistic that comes out is one that went in, in training none is."""
    images = jax.ShapeDtypeStruct((2, *small_shape(name)), jnp.float32)
    model = create_model(name, 7, **small_options(name))
    _, variables = shapes(name, small_shape(name), 7, **small_options(name))
    assert variables["batch_stats"]

    def passed_on(train):
        def statistics(variables, images):
            keys = {"dropout": jax.random.key(0)}
            return model.apply(variables, images, train=train, rngs=keys, mutable=["batch_stats"])[1]["batch_stats"]

        program = jax.make_jaxpr(statistics)(variables, images).jaxpr
        assert len(program.outvars) == len(jax.tree.leaves(variables["batch_stats"]))
        return [value in program.invars for value in program.outvars]

    assert all(passed_on(train=False)) and not any(passed_on(train=True))


QUICK = ["cnn_8_16_32", "cnn_small", "pattern", "lenet5_1998", "lenet5_bn", "lenet_signs_double", "maxdrop_cnn", "mlp"]
OPTIONS = {**FEWER, "resnet18": {"stem": "3x3"}}


@pytest.mark.parametrize("name", ["lenet5_1998", "cnn_8_16_32"])
def test_vmap_over_seeds_draws_what_each_seed_draws(name):
    model, optimizer = create_model(name, 10), make_optimizer("sgd", constant(0.001, 1, 1))
    many = jax.vmap(lambda seed: initial_state(model, optimizer, MODELS[name].image_shape, seed))(jnp.arange(2))
    for seed in range(2):
        one = initial_state(model, optimizer, MODELS[name].image_shape, seed)
        jax.tree.map(lambda a, b, seed=seed: np.testing.assert_array_equal(a[seed], b), many, one)
    kernels = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(many.params) if path[-1].key == "kernel"]
    assert kernels and all(np.abs(kernel[0] - kernel[1]).max() > 0 for kernel in kernels)


# In their full width: test_each_trains.py has a narrow one of each file.
LARGE = DEEPER | {name for name in CLASSIFIERS if MODELS[name].num_classes == 1000}


def without_dropout(name):
    """A network of three classes whose training is no matter of chance."""
    fields = dataclasses.fields(create_model(name, 3))
    options = {field.name: 0.0 for field in fields if is_rate(field.name)}
    return create_model(name, 3, **options, **OPTIONS.get(name, {}))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.exhaustive if name in LARGE else pytest.mark.slow)
        for name in CLASSIFIERS
    ],
)
def test_a_training_step_lowers_the_loss_as_its_gradient_says(name):
    """A step of 0.02 / |g|^2 along -g lowers the loss by 0.02, were it linear: every layer's gradient is right."""
    height, width, channels = small_shape(name)
    # normalisation over the 4 values of 1x1 maps is chaotic
    if name.startswith(("efficientnet", "googlenet", "mnasnet", "mobilenet", "regnet", "resne", "shufflenet")):
        height, width = max(height, 64), max(width, 64)
    generator = np.random.RandomState(0)
    batch = {
        "image": generator.randint(0, 256, (1, 4, height, width, channels)).astype(np.uint8),
        "label": np.array([[0, 1, 2, 1]], np.int32),
        "mask": np.ones((1, 4), np.float32),
        "index": np.arange(4, dtype=np.int32)[None],
    }
    model = without_dropout(name)
    optimizer = optax.stateless(lambda g, _: optax.tree.scale(-0.02 / optax.tree.norm(g, squared=True), g))
    devices = jax.local_devices()[:1]
    step = over_devices(
        train_step(
            model, optimizer, TASK, plain_inputs(TASK, lambda x: x.astype(jnp.float32) / 128 - 1, {"num_classes": 3}), 0
        ),
        devices,
    )
    state = replicate(initial_state(model, optimizer, (height, width, channels), 0), devices)
    after, metrics = step(state, {}, batch)
    _, metrics_after = step(after, {}, batch)
    decrease = float(metrics["loss"] - metrics_after["loss"]) / 4
    assert 0.01 < decrease < 0.03, decrease
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(*map(jax.tree.leaves, (state.batch_stats, after.batch_stats)), strict=True)
    ]
    assert all(changed)


def rounded_otherwise(params, seed):
    """Each weight times 1 + 1e-6 z, z of a normal distribution."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda w: w * (1 + 1e-6 * generator.standard_normal(w.shape, np.float32)), params)


# Networks that have every fast implementation among them, which tests/ops compares by itself.
EACH_IMPLEMENTATION = ("cnn_small", "lenet5_1998", "maxdrop_cnn", "mobilenet_v3_small", "resnet18", "resnet20")


def relative_distance(tree, other):
    """The norm of their difference in units of the first's norm, by NumPy: JAX would compile a program for each shape."""
    leaves = [[np.asarray(leaf) for leaf in jax.tree.leaves(each)] for each in (tree, other)]
    norm = lambda arrays: np.sqrt(sum(np.square(array).sum(dtype=np.float64) for array in arrays))  # noqa: E731
    return norm([b - a for a, b in zip(*leaves, strict=True)]) / norm(leaves[0])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in EACH_IMPLEMENTATION else pytest.mark.exhaustive)
        for name in CLASSIFIERS
    ],
)
def test_gradients_with_fast_operations_are_those_with_stock_ones(name):
    """To 1e-4 of their norm (5e-4 with Winograd's rounding, whose 2e-6 decide some ReLUs and maxima otherwise: VGG-11 2.8e-4,
    `maxdrop_cnn` 1.5e-4), or as near as stock gradients at weights that each differ by some 1e-6, of several such weights:
    normalisation over the few values of small maps, ReLU and max-pooling turn float32's own rounding into more than that,
    and how much more depends on the processor.
    """
    height, width, channels = small_shape(name)
    if name.startswith(("googlenet", "resnet")):
        height, width = max(height, 64), max(width, 64)
    images = jax.random.normal(jax.random.key(1), (32 if height <= 32 else 8, height, width, channels))
    model = without_dropout(name)
    variables = initial_variables(model, images.shape[1:])

    @jax.jit
    def gradients(params):
        def loss(params):
            kept = {key: value for key, value in variables.items() if key != "params"}
            keys = {"dropout": jax.random.key(2)}
            logits, _ = model.apply({"params": params, **kept}, images, train=True, rngs=keys, mutable=True)
            return jnp.square(logits).sum()

        return jax.grad(loss)(params)

    params = jax.device_get(variables["params"])
    with using("stock"):
        stock = gradients(params)
        nearby = [gradients(rounded_otherwise(params, seed)) for seed in range(3)]
    with recorded() as implementations:
        fast = gradients(params)
    tolerance = 5e-4 if "winograd" in implementations.values() else 1e-4
    assert relative_distance(stock, fast) < max(tolerance, 3 * max(relative_distance(stock, each) for each in nearby))


def test_batch_statistics_are_those_of_the_global_batch(eight_devices):
    """A narrow ResNet of three blocks on one and four devices: the same parameters and running statistics."""
    generator = np.random.RandomState(0)
    images, labels = generator.randint(0, 256, (8, 16, 16, 3)).astype(np.uint8), generator.randint(0, 3, 8)
    model = create_model("resnet20", 3, stages=(1, 1, 1), features=4)
    optimizer = make_optimizer("sgd", constant(0.1, 1, 1))
    results = []
    for count in (1, 4):
        devices = eight_devices[:count]
        step = over_devices(
            train_step(model, optimizer, TASK, plain_inputs(TASK, lambda x: x / 255.0, {"num_classes": 3}), 0), devices
        )
        state = initial_state(model, optimizer, (16, 16, 3), 0)
        batch = {"image": images, "label": labels.astype(np.int32), "mask": np.ones(8, np.float32)} | {
            "index": np.arange(8, dtype=np.int32)
        }
        batch = {key: value.reshape(count, -1, *value.shape[1:]) for key, value in batch.items()}
        for _ in range(2):
            state, _ = step(state, {}, batch)
        check_replicas(state)
        results.append(state)
    for part in ("params", "batch_stats"):
        pair = (getattr(state, part) for state in results)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), *pair)


def test_blocks_computed_again_give_the_same_gradients():
    images = jax.random.normal(jax.random.key(1), (16, 16, 16, 3))
    kept, again = (
        create_model("resnet20", 3, stages=(1, 1, 1), features=8, rematerialize=choice) for choice in (False, True)
    )
    variables = initial_variables(kept, images.shape[1:])
    shapes = jax.eval_shape(again.init, jax.random.key(0), images)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)

    def gradients(model):
        def loss(params):
            logits, changed = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
            return jnp.square(logits).mean(), changed

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    first, second = gradients(kept), gradients(again)
    assert relative_distance(first, second) < 1e-4


@pytest.mark.slow
def test_blocks_computed_again_need_less_memory():
    """A training step at batch 128: 0.46 instead of 0.67 GiB."""
    optimizer, devices = make_optimizer("sgd", constant(0.1, 1, 1), momentum=0.9), jax.local_devices()[:1]
    batch = {
        "image": jax.ShapeDtypeStruct((1, 128, 32, 32, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((1, 128), jnp.int32),
        "mask": jax.ShapeDtypeStruct((1, 128), jnp.float32),
        "index": jax.ShapeDtypeStruct((1, 128), jnp.int32),
    }

    def memory(model):
        state = jax.eval_shape(lambda: initial_state(model, optimizer, (32, 32, 3), 0))
        step = train_step(model, optimizer, TASK, plain_inputs(TASK, lambda x: x, {"num_classes": 10}), 0)
        program = over_devices(step, devices, donate=True).lower(state, {}, batch).compile()
        return program.memory_analysis().temp_size_in_bytes

    kept, again = (memory(create_model("resnet20", 10, rematerialize=choice)) for choice in (False, True))
    assert again < 0.8 * kept


@pytest.mark.parametrize(
    "model",
    [
        ConvNeXt(3, (1, 3), (4, 8), stochastic_depth_rate=0.3),
        EfficientNet(
            3, (Row("FusedMBConv", 1, 3, 1, 8, 2), Row("MBConv", 2, 3, 1, 8, 2)), 8, stochastic_depth_rate=0.4
        ),
    ],
    ids=["convnext", "efficientnet"],
)
def test_stochastic_depth_rises_linearly_from_the_first_block(model):
    """To its rate at the last block in ConvNeXt, and to where a block more would have it in EfficientNet, as in their sources."""
    rates = []

    def note(call, arguments, keywords, context):
        if isinstance(context.module, layers.StochasticDepth):
            rates.append(context.module.rate)
        return call(*arguments, **keywords)

    with nn.intercept_methods(note):
        images = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        jax.eval_shape(lambda x: model.init(keys, x, train=True), images)
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3])


def test_auxiliary_heads_speak_in_training_alone():
    model = create_model("googlenet", 7)
    assert model.auxiliary_weight == create_model("googlenet_torchvision", 7).auxiliary_weight == 0.3
    images = jax.ShapeDtypeStruct((2, 96, 96, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), images)
    assert "auxiliary" not in variables
    keys = {"dropout": jax.random.key(0)}
    logits, changed = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=True, rngs=keys, mutable=["auxiliary"]), variables, images
    )
    assert logits.shape == (2, 7)
    assert [leaf.shape for leaf in jax.tree.leaves(changed["auxiliary"])] == [(2, 7), (2, 7)]
    assert jax.eval_shape(model.apply, variables, images).shape == (2, 7)


def test_names_and_options_that_do_not_exist_have_near_ones():
    with pytest.raises(ValueError, match="unknown model 'lenet': did you mean 'lenet5'"):
        create_model("lenet", 10)
    with pytest.raises(ValueError, match="unknown option of model mlp 'feature': did you mean 'features'"):
        create_model("mlp", 10, feature=(3,))
    with pytest.raises(ValueError, match="of model resnet18 'drop_rate': did you mean 'dropout_rate'\\?"):
        create_model("resnet18", 10, drop_rate=0.1)
    with pytest.raises(
        ValueError, match="no argument 'pretrained': cnnjax.load_torchvision and load_keras return a model"
    ):
        create_model("resnet18", 10, pretrained=True)
    with pytest.raises(TypeError, match="model.features: expected a tuple"):
        create_model("mlp", 10, features="wide")
    with pytest.raises(ValueError, match="num_classes=-1: expected a whole number of at least 1, or 0 for the trunk"):
        create_model("mlp", -1)


@pytest.mark.parametrize("name", EACH)
def test_without_classes_a_model_is_its_trunk(name):
    """Everything below the head: what is left of the parameters is what a head on the trunk's features needs."""
    features, trunk = traced(create_model(name, 0, **small_options(name)), small_shape(name))
    _, whole = shapes(name, small_shape(name), 7, **small_options(name))
    batch, width = features.shape
    left = {key: value for key, value in whole["params"].items() if key not in trunk["params"]}
    assert batch == 2 and trunk["params"] == {key: whole["params"][key] for key in trunk["params"]}
    assert trunk.get("batch_stats") == whole.get("batch_stats")
    kernels = [tuple(leaf.shape for leaf in jax.tree.leaves(layer)) for layer in left.values()]
    window = (1, 1) if name.startswith(("nin", "squeezenet")) else ()  # whose heads are convolutions
    bias = () if name == "airbench94" else ((7,),)
    # The output units of LeNet-5 of 1998 are fixed.
    assert kernels == ([] if name == "lenet5_1998" else [(*bias, (*window, width, 7))])
    if "auxiliary_weight" in small_options(name):  # also where training would have auxiliary heads
        assert "auxiliary" not in traced(create_model(name, 0), small_shape(name), train=True)[1]


def test_a_trunk_gives_what_the_head_is_given():
    images = np.random.default_rng(1).standard_normal((2, 16, 16, 3)).astype(np.float32)
    whole, trunk = (create_model("resnet20", classes, stages=(1, 1, 1), features=4) for classes in (5, 0))
    variables = draw(whole, images)
    features = np.asarray(apply(trunk, variables, images))
    head = variables["params"]["fc"]
    logits = apply(whole, variables, images)
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], logits, rtol=1e-5, atol=1e-6)


# One network of each file at its published input, and the heights of its maps.
HEIGHTS = {
    "alexnet": (55, 27, 13, 6),
    "alexnet_torchvision": (55, 27, 13, 6),
    "all_cnn": (32, 16, 6),
    "cnn_8_16_32": (28, 14, 7),
    "cnn_small": (24, 12),
    "googlenet": (112, 56, 28, 14, 7),
    "googlenet_torchvision": (112, 56, 28, 14, 7),
    "lenet5": (28, 10, 5),
    "lenet5_1998": (28, 10, 1),
    "maxdrop_cnn": (32, 16, 8, 4, 1),
    "convnext_tiny": (56, 28, 14, 7),
    "densenet121": (112, 56, 28, 14, 7),
    "densenet_40_12": (32, 16, 8),
    "efficientnet_b0": (112, 56, 28, 14, 7),
    "inception_v3": (147, 71, 35, 17, 8),
    "mnasnet0_5": (112, 56, 28, 14, 7),
    "mobilenet_v2": (112, 56, 28, 14, 7),
    "mobilenet_v3_large": (112, 56, 28, 14, 7),
    "mobilenet_v3_small": (112, 56, 28, 14, 7),
    "nin": (32, 16, 8),
    "regnet_y_400mf": (112, 56, 28, 14, 7),
    "shufflenet_v2_x0_5": (112, 56, 28, 14, 7),
    "squeezenet1_1": (111, 55, 27, 13),
    "wide_resnet28_10": (32, 16, 8),
    "xception": (147, 74, 37, 19, 10),
    "zfnet": (110, 55, 26, 13, 6),
    "resnet18": (112, 56, 28, 14, 7),
    "resnet20": (32, 16, 8),
    "resnet50_torchvision": (112, 56, 28, 14, 7),
    "vgg11_bn": (224, 112, 56, 28, 14, 7),
}


@pytest.mark.parametrize("name", deeper_marked(HEIGHTS))
def test_a_network_gives_its_maps_by_stride(name):
    published = MODELS[name]
    model = create_model(name, published.num_classes)
    (maps, variables), (_, whole) = traced(model, published.image_shape, "feature_maps"), shapes(name)
    assert tuple(feature_map.shape[1] for feature_map in maps) == HEIGHTS[name]
    assert all(feature_map.shape[:3] == (2, *feature_map.shape[1:2] * 2) for feature_map in maps)
    # No others than the network's own, and its head alone is left out.
    params = variables["params"]
    assert params == {key: whole["params"][key] for key in params}
    heads = (
        "fc",
        "head_norm",
        "conv10",
        "mlp3_2",
        "f6",
        "output",
        "dense",
        "auxiliary",
        *(("c5",) if name == "lenet5" else ()),
    )
    assert all(key.startswith(heads) for key in whole["params"].keys() - params.keys())
    assert variables.get("batch_stats", {}) == {
        key: value for key, value in whole.get("batch_stats", {}).items() if not key.startswith("auxiliary")
    }


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("alexnet", "maxdrop_cnn", "resnet20", "shufflenet_v2_x0_5")
        else pytest.param(name, marks=pytest.mark.exhaustive)
        for name in HEIGHTS
    ],
)
def test_vmap_over_seeds_initialises(name):
    """Of the fast tests one network of each way to draw: the layers are the same in all."""
    model = create_model(name, 7, **small_options(name))
    make = lambda seed: initial_state(model, optax.identity(), small_shape(name), seed).params  # noqa: E731
    many = jax.eval_shape(jax.vmap(make), jnp.arange(3))
    _, one = shapes(name, small_shape(name), 7, **small_options(name))
    assert jax.tree.map(lambda leaf: (3, *leaf.shape), one["params"]) == jax.tree.map(lambda leaf: leaf.shape, many)


# What becomes of the last map: flattened or averaged to that many positions an axis, then dense layers.
HEADS = {
    "all_cnn": (1, ("output",)),
    "cnn_8_16_32": (None, ("output",)),
    "cnn_small": (None, ("dense", "output")),
    "lenet5": (None, ("c5", "f6", "output")),
    "maxdrop_cnn": (None, ("output",)),
    "resnet20": (1, ("fc",)),
    "alexnet": (None, ("fc6", "fc7", "fc8")),
    "alexnet_torchvision": (None, ("fc6", "fc7", "fc8")),
    "googlenet": (1, ("fc",)),
    "googlenet_torchvision": (1, ("fc",)),
    "resnet18": (1, ("fc",)),
    "vgg11": (7, ("fc6", "fc7", "fc8")),
}
SMALLEST = {
    "resnet20": {"stages": (1, 1, 1), "features": 2},
    "maxdrop_cnn": {"features": 2},
    "all_cnn": {"features": 4},
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if MODELS[name].num_classes == 1000 else name for name in HEADS],
)
def test_the_last_map_through_the_head_gives_the_logits(name):
    size, layers = HEADS[name]
    model = create_model(name, 5, **SMALLEST.get(name, {}), **small_options(name))
    shape = (227, 227, 3) if name.startswith("alexnet") else small_shape(name)
    images = np.random.default_rng(1).standard_normal((2, *shape)).astype(np.float32)
    variables = initial_variables(model, images.shape[1:])
    *_, x = map(np.asarray, apply(model, variables, images, method="feature_maps"))
    variables = jax.device_get(variables)
    if size == 1:
        x = x.mean((1, 2))
    elif size:  # 1x1 maps: their average to 7x7 repeats them
        x = np.broadcast_to(x, (2, size, size, x.shape[-1]))
    x = x.reshape(2, -1)
    activate = np.tanh if name == "lenet5" else lambda x: np.maximum(x, 0)
    for layer in layers:
        x = x @ variables["params"][layer]["kernel"] + variables["params"][layer]["bias"]
        x = x if layer == layers[-1] else activate(x)
    np.testing.assert_allclose(x, apply(model, variables, images), rtol=1e-4, atol=1e-5)


def test_maps_within_another_module_have_its_parameters_and_train():
    class Decoder(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            encoder = create_model("resnet20", 0, stages=(1, 1, 1), features=2)
            encoder = encoder.clone(name="encoder", parent=self)
            return encoder.feature_maps(x, train)[-1]

    model, images = Decoder(), np.random.default_rng(1).standard_normal((2, 8, 8, 3)).astype(np.float32)
    variables = draw(model, images)
    network = create_model("resnet20", 3, stages=(1, 1, 1), features=2)
    inner = {collection: values["encoder"] for collection, values in variables.items()}
    for train in (False, True):
        outer_map, changed = apply(model, variables, images, train=train, mutable=["batch_stats"])
        maps, inner_changed = apply(network, inner, images, train=train, mutable=["batch_stats"], method="feature_maps")
        np.testing.assert_array_equal(outer_map, maps[-1])
        assert train == np.any(changed["batch_stats"]["encoder"]["bn1"]["mean"])
        jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"]["encoder"], inner_changed["batch_stats"])


@pytest.mark.parametrize(
    ("options", "lengths"),
    [
        ({"plan": "conv 4 4 pool | conv 8 | conv 8 pool"}, [16, 8, 4]),
        ({"plan": "conv 4 4 pool | conv 8", "strides": 2}, [16, 8, 4, 2]),
        ({"plan": "conv 4", "strides": 2}, [8]),
        ({"plan": ""}, [16]),
    ],
)
def test_a_plans_maps_end_where_a_pooling_or_a_stride_begins(options, lengths):
    model = create_model("pattern", 3, **options)
    images = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    init = lambda x: model.init_with_output(jax.random.key(0), x, method="feature_maps")  # noqa: E731
    assert [feature_map.shape[1] for feature_map in jax.eval_shape(init, images)[0]] == lengths


def test_models_are_listed_by_pattern():
    assert list_models() == sorted(MODELS)
    assert list_models("len*") == ["lenet5", "lenet5_1998", "lenet5_bn", "lenet_signs", "lenet_signs_double"]
    assert list_models("q*") == []
