"""Networks that give a class to every pixel."""

import json
from functools import partial

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import layers
from cnnjax.config import load_config, to_json
from cnnjax.models import MODELS, create_model, list_models
from cnnjax.models.farabet import FIRST, chosen, laplacian_pyramid, locally_normalized
from cnnjax.models.fcn import OFFSETS
from cnnjax.models.network import gives_maps
from cnnjax.models.unet import central, with_context
from cnnjax.training.experiment import DataFacts, build
from tests.one_program import apply, init

NETWORKS = list_models(task="segmentation")
# With auxiliary heads and 21 classes where the source counts so. The papers' figures, and torchvision's.
TOTALS = {
    "deeplabv3_mobilenet_v3_large": 11_029_328,
    "deeplabv3_resnet50": 42_004_074,
    "deeplabv3_resnet101": 60_996_202,
    # 22 connections of the first layer, 8 * 64 of the second, 32 * 256 of the third; the classifier of 768 features
    "farabet": 49 * (22 + 512 + 8192) + 16 + 64 + 256 + 769 * 1024 + 1025 * 8,
    "fcn8s": 134_489_759,
    "fcn16s": 134_815_994,
    "fcn32s": 136_152_917,
    "fcn_resnet50": 35_322_218,
    "fcn_resnet101": 54_314_346,
    "lraspp_mobilenet_v3_large": 3_221_538,
    "unet": 31_030_658,
    "unet_same": 31_030_658 + 2 * 9 * 64,  # three channels
}


# The others are made of the same parts.
QUICK = ["deeplabv3_mobilenet_v3_large", "farabet", "fcn8s", "fcn_resnet50", "lraspp_mobilenet_v3_large", "unet"]


def shapes(model, *size):
    images = jax.ShapeDtypeStruct((2, *size), jnp.float32)
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), images)


def drawn(model, *size):
    """Parameters of unit gain, drawn by NumPy, which compiles nothing."""
    generator = np.random.default_rng(0)

    def draw(leaf):
        gain = np.sqrt(2 / np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.1
        return (gain * generator.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree.map(draw, shapes(model, *size)[1]["params"])


def test_a_network_is_for_one_task():
    assert set(NETWORKS) == set(TOTALS)
    assert not set(NETWORKS) & set(list_models(task="classification")) and not list_models(task="unknown")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_logits_have_the_images_size_and_the_parameters_their_number(name):
    published = MODELS[name]
    model = create_model(name, published.num_classes)
    logits, variables = shapes(model, 65, 97, published.image_shape[-1])
    assert logits.shape == (2, 65, 97, published.num_classes)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == TOTALS[name]
    # The trunk: all but the layers whose shape depends on the number of classes.
    features, trunk = shapes(create_model(name, 0), 65, 97, published.image_shape[-1])
    trunk, whole = (flax.traverse_util.flatten_dict(each["params"], sep="/") for each in (trunk, variables))
    assert features.ndim == 4 and trunk == {path: whole[path] for path in trunk}
    classes = published.num_classes
    assert all(classes in whole[path].shape or path.startswith("auxiliary") for path in whole.keys() - trunk.keys())


@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_mobilenet_v3_large"])
def test_auxiliary_logits_are_sown_in_training_alone(name):
    model = create_model(name, 5)
    assert model.auxiliary_weight == 0.5
    images = jax.ShapeDtypeStruct((2, 33, 47, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    apply = partial(model.apply, rngs={"dropout": jax.random.key(0)}, mutable=["auxiliary", "batch_stats"])
    for train in (False, True):
        logits, changed = jax.eval_shape(lambda v, x, train=train: apply(v, x, train), variables, images)
        sown = [leaf.shape for leaf in jax.tree.leaves(changed.get("auxiliary", {}))]
        assert logits.shape == (2, 33, 47, 5) and sown == [(2, 33, 47, 5)] * train
    without = jax.eval_shape(create_model(name, 5, auxiliary_weight=0.0).init, jax.random.key(0), images)
    assert without["params"].keys() == variables["params"].keys() - {"auxiliary"}


def test_a_network_for_segmentation_is_not_trained_to_classify():
    facts = DataFacts({"num_classes": 10}, 1000, [100] * 10)
    for name in QUICK:
        with pytest.raises(ValueError, match=f"model.name='{name}' is a network for segmentation and task.name='class"):
            build(load_config({}, {"model.name": name}), facts)
        json.dumps(to_json(load_config({}, {"model.name": name})))  # a config says a network in words
    assert build(load_config({}, {"model.name": "unet", "task.name": "segmentation"}), facts).model.num_classes == 10


# --- FCN ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 16])
def test_a_transposed_convolution_begins_as_bilinear_interpolation(size):
    """As the enlargement of the library's own, away from the borders, where the one mixes with zeros."""
    factor = size // 2
    x = np.random.RandomState(0).randn(1, 6, 7, 3).astype(np.float32)
    layer = layers.ConvTranspose(3, size, factor, factor // 2, False, layers.initializers.bilinear)
    enlarged = np.asarray(apply(layer, init(layer, x), x))
    expected = np.asarray(jax.jit(layers.upsample_bilinear, static_argnums=1)(x, factor))
    inner = slice(factor, -factor)
    np.testing.assert_allclose(enlarged[:, inner, inner], expected[:, inner, inner], atol=1e-5)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_the_crops_are_where_the_maps_stand_for_the_same_place(stride):
    """From the layers' geometry: the centre of each map's first value, in pixels of the image, and the step to the next."""
    at, step = 0.5 - 99, 1.0  # the image begins 99 pixels before itself; its convolutions of padding 1 move nothing
    places = {}
    for pool in range(1, 6):
        at, step = at + step / 2, 2 * step
        places[pool] = (at, step)
    at += 3 * step  # the unpadded 7x7

    def enlarged(factor, at, step):  # the first value's centre moves back by half of what the kernel adds
        return at - (2 * factor - 1) / 2 * step / factor, step / factor

    *offsets, last = OFFSETS[stride]
    for offset, pool in zip(offsets, (4, 3), strict=False):
        at, step = enlarged(2, at, step)
        place, width = places[pool]
        assert width == step and place + offset * step == at
    at, step = enlarged(stride, at, step)
    assert step == 1 and at + last == 0.5


@pytest.mark.parametrize("size", [(1, 1), (31, 64), (100, 33)])
@pytest.mark.parametrize("name", ["fcn8s", "fcn16s", "fcn32s"])
def test_an_fcn_takes_images_of_any_size(name, size):
    assert shapes(create_model(name, 3), *size, 3)[0].shape == (2, *size, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcn8s", "fcn32s"])
def test_an_fcn_is_its_network_in_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch.nn import functional

    model, generator = create_model(name, 4), np.random.default_rng(0)
    images, params = generator.standard_normal((1, 33, 50, 3), np.float32), drawn(model, 33, 50, 3)

    def conv(x, layer, padding=0):
        kernel = torch.tensor(layer["kernel"]).permute(3, 2, 0, 1)
        return functional.conv2d(x, kernel, torch.tensor(layer["bias"]), padding=padding)

    def enlarge(x, layer, factor):
        return functional.conv_transpose2d(x, torch.tensor(layer["kernel"]).permute(2, 3, 0, 1), stride=factor)

    with torch.no_grad():
        x, pools = torch.tensor(images).permute(0, 3, 1, 2), []
        for block, count in enumerate((2, 2, 3, 3, 3), start=1):
            for index in range(1, count + 1):
                layer = params["encoder"][f"conv{block}_{index}"]
                x = torch.relu(conv(x, layer, 100 if (block, index) == (1, 1) else 1))
            x = functional.max_pool2d(x, 2, ceil_mode=True)
            pools.append(x)
        x = torch.relu(conv(torch.relu(conv(x, params["fc6"])), params["fc7"]))
        x = conv(x, params["score_fc7"])
        if name == "fcn8s":
            for pool, offset, feature_map in (("pool4", 5, pools[3]), ("pool3", 9, pools[2])):
                x = enlarge(x, params[f"enlarge_{pool}"], 2)
                seen = conv(feature_map, params[f"score_{pool}"])
                x = x + seen[:, :, offset : offset + x.shape[2], offset : offset + x.shape[3]]
        factor, offset = (8, 31) if name == "fcn8s" else (32, 19)
        x = enlarge(x, params["enlarge_images"], factor)[:, :, offset : offset + 33, offset : offset + 50]
    expected = x.permute(0, 2, 3, 1).numpy()
    logits = jax.jit(model.apply)({"params": params}, images)
    assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


# --- U-Net ----------------------------------------------------------------------------------------------------------


def test_the_published_tile_and_its_output():
    """Figure 1: 388x388 classes are of a tile of 572x572, whose smallest map is 28x28."""
    x = jnp.zeros((1, 388, 388, 1))
    assert jax.eval_shape(lambda x: with_context(x, 4, True), x).shape == (1, 572, 572, 1)
    model = create_model("unet", 2)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    intermediates = jax.eval_shape(
        lambda v, x: model.apply(v, x, capture_intermediates=True)[1]["intermediates"], variables, x
    )
    outputs = {name: layer["__call__"][0].shape[1:] for name, layer in intermediates.items() if "__call__" in layer}
    assert outputs["down1"] == (568, 568, 64) and outputs["down4"] == (64, 64, 512)
    assert outputs["bottom"] == (28, 28, 1024) and outputs["enlarge4"] == (56, 56, 512)
    assert outputs["up4"] == (52, 52, 512) and outputs["up1"] == (*outputs["output"][:2], 64) == (388, 388, 64)


def test_mirrored_borders_show_an_image_as_part_of_a_larger_one():
    """An image of even structure, whose mirrored continuation is its own, has the classes that it has within a larger one."""
    rows = np.cos(np.arange(-200, 200)[:, None] * np.pi / 20) * np.ones((1, 400))
    large = rows[None, :, :, None].astype(np.float32)
    model = create_model("unet", 3, features=2, depth=1)
    variables, apply = {"params": drawn(model, 32, 32, 1)}, jax.jit(model.apply)
    within, alone = apply(variables, large[:, 160:221, 180:201]), apply(variables, large[:, 180:201, 180:201])
    np.testing.assert_allclose(alone, within[:, 20:41], atol=1e-4)


@pytest.mark.parametrize("valid", [False, True])
@pytest.mark.parametrize("size", [(37, 52), (1, 64)])
def test_the_middle_of_what_is_around_an_image_is_the_image(valid, size):
    x = np.random.RandomState(0).randn(1, *size, 2).astype(np.float32)
    around = jax.jit(with_context, static_argnums=(1, 2))(x, 2, valid)
    np.testing.assert_array_equal(jax.jit(central, static_argnums=1)(around, size), x)
    lengths = np.array(around.shape[1:3]) - (40 if valid else 0)  # two double convolutions of each map but the smallest
    assert (lengths >= size).all() and (lengths - size < 4).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "same", "batch_norm": True},
        {"padding": "same", "upsampling": "bilinear"},
        {"upsampling": "nearest", "skips": False},
        {"padding": "same", "upsampling": "bed_of_nails"},
        {"upsampling": "max_unpooling"},
    ],
)
def test_a_unet_of_any_kind_takes_odd_sizes(options):
    model = create_model("unet", 3, features=2, depth=2, **options)
    logits, variables = shapes(model, 37, 22, 3)
    assert logits.shape == (2, 37, 22, 3)
    kernel = variables["params"]["up1"]["conv1"]["kernel"].shape
    assert kernel[2] == (4 if options.get("skips", True) else 2)
    assert ("batch_stats" in variables) == options.get("batch_norm", False)


def test_a_unet_is_its_figure_in_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch.nn import functional

    model = create_model("unet", 3, features=3, depth=2)
    images = np.random.RandomState(0).randn(1, 24, 28, 2).astype(np.float32)
    params = drawn(model, 24, 28, 2)

    def double(x, name):
        for layer in params[name].values():
            kernel = torch.tensor(layer["kernel"]).permute(3, 2, 0, 1)
            x = torch.relu(functional.conv2d(x, kernel, torch.tensor(layer["bias"])))
        return x

    def beside(skip, x):
        cut = (skip.shape[2] - x.shape[2]) // 2
        return torch.cat((skip[:, :, cut : cut + x.shape[2], cut : cut + x.shape[3]], x), 1)

    def enlarge(x, layer):
        kernel = torch.tensor(layer["kernel"]).permute(2, 3, 0, 1)
        return functional.conv_transpose2d(x, kernel, torch.tensor(layer["bias"]), stride=2)

    with torch.no_grad():  # 24 + 40 is 64, whose maps are 60, 30, 26, 13, 9: the contracting path divides
        x = functional.pad(torch.tensor(images).permute(0, 3, 1, 2), (20, 20, 20, 20), mode="reflect")
        down1 = double(x, "down1")
        down2 = double(functional.max_pool2d(down1, 2), "down2")
        x = double(functional.max_pool2d(down2, 2), "bottom")
        x = double(beside(down2, enlarge(x, params["enlarge2"])), "up2")
        x = double(beside(down1, enlarge(x, params["enlarge1"])), "up1")
        output = params["output"]
        x = functional.conv2d(x, torch.tensor(output["kernel"]).permute(3, 2, 0, 1), torch.tensor(output["bias"]))
    np.testing.assert_allclose(
        jax.jit(model.apply)({"params": params}, images), x.permute(0, 2, 3, 1).numpy(), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    "encoder",
    [
        *("lenet5", "resnet18", "vgg11_bn"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("googlenet", "mobilenet_v3_small", "alexnet_torchvision")
        ),
    ],
)
def test_a_unet_on_any_network_has_that_networks_parameters(encoder):
    model = create_model("unet", 4, encoder=encoder, features=2)
    logits, variables = shapes(model, 71, 97, 3)
    assert logits.shape == (2, 71, 97, 4)
    network = create_model(encoder, 0)
    images = jax.ShapeDtypeStruct((1, 71, 97, 3), jnp.float32)
    own = jax.eval_shape(partial(network.init, method="feature_maps"), jax.random.key(0), images)
    for collection, values in own.items():
        assert variables[collection]["encoder"] == values


def test_an_encoder_has_options():
    plan = ("plan", "conv 3 5 pool | conv 7")
    model = create_model("unet", 2, encoder="pattern", encoder_options=(plan, ("norm", "batch")), features=2)
    logits, variables = shapes(model, 8, 6, 1)
    assert logits.shape == (2, 8, 6, 2)
    own = variables["params"]["encoder"]
    assert {name: values["kernel"].shape[-1] for name, values in own.items() if "kernel" in values} == {
        "conv1_1": 3,
        "conv1_2": 5,
        "conv2_1": 7,
    }
    assert "bn2_1" in variables["batch_stats"]["encoder"]
    with pytest.raises(ValueError, match="unknown option of encoder pattern 'plam': did you mean 'plan'"):
        shapes(create_model("unet", 2, encoder="pattern", encoder_options=(("plam", "conv 3"),)), 8, 6, 1)
    with pytest.raises(TypeError, match=r"model.encoder_options.norm: expected one of 'none', 'batch', got 'bath'"):
        shapes(create_model("unet", 2, encoder="pattern", encoder_options=(("norm", "bath"),)), 8, 6, 1)


def test_an_encoder_that_does_not_exist_or_has_no_maps_is_refused():
    with pytest.raises(ValueError, match="unknown encoder 'resnet33': did you mean 'resnet3"):
        shapes(create_model("unet", 2, encoder="resnet33"), 32, 32, 3)
    with pytest.raises(ValueError, match="max_unpooling' needs the poolings of the published"):
        shapes(create_model("unet", 2, encoder="resnet20", upsampling="max_unpooling"), 32, 32, 3)
    for name in ("mlp", "fcn8s"):
        assert not gives_maps(MODELS[name].build)
        with pytest.raises(ValueError, match=f"unknown encoder '{name}'"):
            shapes(create_model("unet", 2, encoder=name), 32, 32, 3)


# --- Farabet et al. -------------------------------------------------------------------------------------------------


def test_a_laplacian_pyramid_adds_up_to_its_image():
    x = np.random.RandomState(0).rand(2, 37, 50, 3).astype(np.float32)
    pyramid = jax.jit(laplacian_pyramid)(x)
    assert [each.shape[1:3] for each in pyramid] == [(37, 50), (19, 25), (10, 13)]
    total = pyramid[-1]
    for finer in reversed(pyramid[:-1]):
        total = finer + jax.jit(layers.resize_bilinear, static_argnums=1)(total, finer.shape[1:3])
    np.testing.assert_allclose(total, x, atol=1e-6)
    even = jax.jit(laplacian_pyramid)(np.ones((1, 16, 16, 1), np.float32))
    np.testing.assert_allclose(even[0], 0, atol=1e-6)


def test_every_patch_has_no_mean_and_unit_variance():
    x = 5 + 3 * np.random.RandomState(0).randn(1, 40, 40, 1).astype(np.float32)
    normalized = np.asarray(jax.jit(locally_normalized)(x))[0, :, :, 0]
    patch = normalized[13:28, 13:28]
    assert abs(patch.mean()) < 0.2 and abs(patch.std() - 1) < 0.2
    window = x[0, :15, :15, 0] - np.asarray(
        [[x[0, max(i - 7, 0) : i + 8, max(j - 7, 0) : j + 8, 0].mean() for j in range(15)] for i in range(15)]
    )
    np.testing.assert_allclose(normalized[7, 7] / window[7, 7] * np.sqrt((window**2).mean()), 1, atol=0.1)
    assert np.isfinite(np.asarray(locally_normalized(jnp.ones((1, 8, 8, 1))))).all()


def test_the_scales_share_one_network_whose_connections_are_chosen():
    _, variables = shapes(create_model("farabet", 8), 48, 64, 3)
    assert variables["params"].keys() == {"shared", "fc1", "fc2"}
    kernels = {name: layer["kernel"].shape for name, layer in variables["params"]["shared"].items()}
    assert kernels == {"conv1": (7, 7, 22), "conv2": (7, 7, 512), "conv3": (7, 7, 8192)}
    assert len(FIRST) == 16 and {len(sources) for sources in chosen(8, 16, 64)} == {8}
    assert {source for sources in chosen(8, 16, 64) for source in sources} == set(range(16))
