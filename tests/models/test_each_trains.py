"""One network of each file, narrow and shallow, in training: the loss falls, it resumes, devices agree, bfloat16 computes.

The widths and depths that a model has no option for are the tables of its file, which `TABLES` replaces.
"""

import functools
import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax import layers, models
from cnnjax.models import create_model, efficientnet, inception_v3, mnasnet, mobilenet_v2, mobilenet_v3
from cnnjax.models.convnext import ConvNeXt
from cnnjax.models.densenet import DenseNet
from cnnjax.models.efficientnet import EfficientNet
from cnnjax.models.mobilenet_v2 import MobileNetV2
from cnnjax.models.mobilenet_v3 import MobileNetV3
from cnnjax.models.regnet import RegNet
from cnnjax.models.resnet import ResNet
from cnnjax.models.shufflenet_v2 import ShuffleNetV2
from cnnjax.models.vgg import VGG
from cnnjax.ops.choice import using
from cnnjax.tasks import Classification
from cnnjax.training.checkpoints import CheckpointOptions, Checkpoints
from cnnjax.training.parallel import check_replicas, over_devices
from cnnjax.training.state import start_from
from cnnjax.training.step import plain_inputs, train_step
from tests.one_program import draw

CLASSES, BATCH = 3, 4
INVERTED = (mobilenet_v2.Row(2, 8, 1, 2), mobilenet_v2.Row(2, 8, 1, 1))
MBCONV = (efficientnet.Row("MBConv", 2, 5, 2, 8, 2),)
FUSED = (efficientnet.Row("FusedMBConv", 1, 3, 1, 8, 1), efficientnet.Row("FusedMBConv", 2, 3, 2, 8, 2))
INCEPTIONS = {"4a": (4, 4, 4, 4, 4, 4)}


def once(name):
    """A function for inception modules of a kind, which makes one of that name as it is, the others of two 1x1 convolutions."""
    make = getattr(inception_v3, name)
    full = {"inception_a": "mixed_5b", "inception_c": "mixed_6b", "inception_e": "mixed_7b"}[name]

    def module(*widths, **shared):
        if shared["name"] == full:
            return make(*widths, **shared)
        return inception_v3.Inception((("branch1x1", ((8, 1),)),), 8, **shared)

    return module


def named(name, **options):
    return functools.partial(create_model, name, **options)


# A function from the number of classes and the type to the network, and the height and width of its images.
NETWORKS = {
    "airbench": (named("airbench94", features=4), 32),
    "alexnet": (named("alexnet"), 67),
    "alexnet_torchvision": (named("alexnet_torchvision"), 64),
    "all_cnn": (named("all_cnn", features=4), 32),
    "cnn_small": (named("cnn_small"), 28),
    "convnext": (functools.partial(ConvNeXt, counts=(1, 2), features=(8, 16)), 32),
    "densenet": (functools.partial(DenseNet, blocks=(1, 1), growth_rate=4, features=8, dropout_rate=0.2), 32),
    "efficientnet": (functools.partial(EfficientNet, rows=MBCONV, stem=8), 32),
    "efficientnet_v2": (functools.partial(EfficientNet, rows=FUSED, stem=8), 32),
    "googlenet": (named("googlenet"), 96),
    "googlenet_torchvision": (named("googlenet_torchvision"), 64),
    "inception_v3": (named("inception_v3", auxiliary_weight=0.0), 107),  # whose head needs images of 299
    "lecun1989": (named("lecun1989"), 16),
    "lenet5": (named("lenet5", batch_norm=True), 32),
    "lenet5_1998": (named("lenet5_1998"), 32),
    "maxdrop_cnn": (named("maxdrop_cnn", features=4), 32),
    "mlp": (named("mlp", features=(8,), dropout_rate=0.2), 8),
    "mnasnet": (named("mnasnet0_5"), 32),
    "mobilenet_v2": (functools.partial(MobileNetV2, rows=INVERTED, width=0.25), 32),
    "mobilenet_v3": (functools.partial(MobileNetV3, rows=(mobilenet_v3.SMALL[0], mobilenet_v3.SMALL[4]), hidden=16), 32),
    "nin": (named("nin"), 32),
    "pattern": (named("pattern", plan="conv 4 pool | fc 8", norm="batch", conv_dropout_rate=0.2), 16),
    "pilotnet": (named("pilotnet"), 66),
    "regnet": (functools.partial(RegNet, depth=2, initial_width=8, slope=8.0, step=2.0, group_width=8, squeeze_ratio=0.25), 32),
    "resnet": (functools.partial(ResNet, stages=(1, 2), bottleneck=False, features=4, stem="3x3", shortcut="A"), 16),
    "resnet, bottlenecks": (functools.partial(ResNet, stages=(1, 1), bottleneck=True, features=4), 32),
    "resnet, options": (
        functools.partial(
            ResNet, stages=(1, 1), bottleneck=True, features=4, stem="deep", shortcut="D", stride_in="3x3", groups=2,
            widening=2, squeeze_excitation=True, stochastic_depth_rate=0.2,
        ),
        32,
    ),
    "shufflenet_v2": (functools.partial(ShuffleNetV2, widths=(8, 16, 32, 32), units=(2, 1, 1)), 32),
    "squeezenet": (named("squeezenet1_1"), 32),
    "vgg": (functools.partial(VGG, blocks=(1, 1, 1, 1, 1), batch_norm=True), 32),
    "xception": (named("xception", middle_blocks=1), 64),
    "zfnet": (named("zfnet"), 64),
}  # fmt: skip
TABLES = {
    "googlenet": {"INCEPTIONS": INCEPTIONS},
    "googlenet_torchvision": {"INCEPTIONS": INCEPTIONS},
    "inception_v3": {name: once(name) for name in ("inception_a", "inception_c", "inception_e")},
    "mnasnet": {"STAGES": (mnasnet.Row(3, 3, 8, 2, 2),)},
    "squeezenet": {"FIRES": {number: (4, 8) for number in (2, 3, 5, 9)}},
    "vgg": {"FEATURES": (4, 4, 8, 8, 8)},
}

# The learning rates of networks whose first loss falls too steeply for 0.01.
RATES = {"lenet5_1998": 1e-4, "inception_v3": 1e-5}
LONG = {"inception_v3", "xception"}  # half a minute of compilation each


def test_every_file_has_its_network():
    files = {
        module.__name__.rpartition(".")[2]
        for module in models._MODULES
        if any(row.task == "classification" for row in module.PUBLISHED.values())
    }
    assert {name.partition(",")[0] for name in NETWORKS} == files


@pytest.fixture
def network(request, monkeypatch):
    """The network's function, the shape of its images and its learning rate; its tables replaced and its hidden dense layers narrow."""
    file = request.param.partition(",")[0]
    for table, rows in TABLES.get(file, {}).items():
        monkeypatch.setattr(importlib.import_module(f"cnnjax.models.{file}"), table, rows)
    dense = layers.Dense
    monkeypatch.setattr(
        layers, "Dense", lambda features, *a, **options: dense(16 if features > 1000 else features, *a, **options)
    )
    make, size = NETWORKS[request.param]
    return (
        make,
        (size, size, 1 if file in ("lecun1989", "lenet5", "lenet5_1998", "cnn_small") else 3),
        RATES.get(file, 0.01),
    )


TASK = Classification()


def step_on(count, model, optimizer):
    """The training step on some devices."""
    inputs = plain_inputs(TASK, lambda x: x.astype(jnp.float32) / 128 - 1, {"num_classes": CLASSES})
    step = over_devices(train_step(model, optimizer, TASK, inputs, 0), jax.local_devices()[:count])

    def call(state, batch):
        with using("stock"):  # whose programs are smaller; tests/ops compares the others with them
            return step(state, {}, shared(batch, count))

    return call


def shared(batch, devices):
    return {name: array.reshape(devices, -1, *array.shape[1:]) for name, array in batch.items()}


def difference(tree, other):
    """The distance of two trees in units of the first one's norm."""
    vectors = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(each)]) for each in (tree, other)]
    return np.linalg.norm(vectors[1] - vectors[0]) / np.linalg.norm(vectors[0])


@pytest.mark.parametrize(
    "network",
    [pytest.param(name, marks=pytest.mark.exhaustive if name in LONG else pytest.mark.slow) for name in NETWORKS],
    indirect=True,
)
def test_it_trains_resumes_agrees_on_devices_and_in_bfloat16(network, tmp_path):
    make, shape, rate = network
    optimizer = optax.sgd(rate, momentum=0.9)
    model = make(num_classes=CLASSES)
    generator = np.random.RandomState(0)
    batch = {
        "image": generator.randint(0, 256, (BATCH, *shape)).astype(np.uint8),
        "label": np.array([0, 1, 2, 1], np.int32),
        "mask": np.ones(BATCH, np.float32),
        "index": np.arange(BATCH, dtype=np.int32),
    }
    variables = draw(model, jax.ShapeDtypeStruct((BATCH, *shape), jnp.float32))
    begin = start_from(variables["params"], variables.get("batch_stats", {}), optimizer)
    begin = jax.tree.map(np.asarray, begin)
    step = step_on(1, model, optimizer)

    # Dropout draws the same masks at the same number of the step.
    losses, state = [], begin
    for _ in range(3):
        state, sums = step(state.replace(step=begin.step), batch)
        losses.append(float(sums["loss"]) / BATCH)
    assert losses[2] < losses[1] < losses[0] - 1e-4, losses

    first = jax.device_get(step(begin, batch)[0])
    with Checkpoints(tmp_path / "checkpoints", CheckpointOptions()) as checkpoints:
        checkpoints.save(first, {}, None)
        checkpoints.wait()
        restored = checkpoints.latest(begin).state
    second, resumed = (jax.device_get(step(each, batch)[0]) for each in (first, restored))
    assert jax.tree.all(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), second, resumed))

    for count in (2, 4):
        several, _ = step_on(count, model, optimizer)(begin, batch)
        check_replicas(several)
        several = jax.device_get(several)
        # After one step the momentum is the gradient. Rounding moves the deepest network's, Inception v3's, by 1.2e-3.
        assert difference(first.opt_state, several.opt_state) < 3e-3
        if begin.batch_stats:
            assert difference(first.batch_stats, several.batch_stats) < 1e-3

    types = set()

    def note(call, arguments, keywords, context):
        output = call(*arguments, **keywords)
        if isinstance(context.module, (layers.Conv, layers.BatchNorm, layers.LayerNorm)):
            types.add(output.dtype.name)
        return output

    with nn.intercept_methods(note):
        after, sums = step_on(1, make(num_classes=CLASSES, dtype=jnp.bfloat16), optimizer)(begin, batch)
    assert types <= {"bfloat16"} and abs(float(sums["loss"]) / BATCH / losses[0] - 1) < 0.1
    assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))
