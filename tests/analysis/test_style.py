"""Style transfer against the paper's equations, worked out by NumPy, and as a user meets it."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import cnnjax
from cnnjax import analysis, layers
from cnnjax.analysis import style
from cnnjax.commands import style as command
from cnnjax.core.options import declared
from tests.commands.shell import run


class Net(nn.Module):
    """Two scales and a dense layer, which takes images of one size alone."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(layers.Conv(8, 3, padding=1, name="conv1_1")(x))
        x = nn.relu(layers.Conv(8, 3, padding=1, name="conv1_2")(x))
        x = layers.max_pool(x, 2, name="pool1")
        x = nn.relu(layers.Conv(12, 3, padding=1, name="conv2_1")(x))
        return layers.Dense(10, name="dense")(layers.flatten(x))


@pytest.fixture(scope="module")
def network():
    return Net(), jax.jit(Net().init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))


@pytest.fixture(scope="module")
def pictures():
    """A picture of 64x64 pixels with a bright disc, and one of 48x80 with stripes of two colours."""
    rows, columns = np.mgrid[:64, :64]
    disc = ((rows - 30) ** 2 + (columns - 34) ** 2 < 400)[..., None] * np.array([200, 180, 90]) + 30
    stripes = np.full((48, 80, 3), [20, 60, 160])
    stripes[:, ::6] = stripes[:, 1::6] = [240, 200, 40]
    return disc.astype(np.uint8), stripes.astype(np.uint8)


@pytest.fixture(scope="module")
def grey_run(digits_config, tmp_path_factory):
    """A small convolutional network that had one step on digits."""
    model = {"name": "lenet5"}
    train, dataset = {"batch_size": 32, "epochs": 1}, {"name": "digits", "examples_per_class": 4}
    changed = {"model": model, "train": train, "dataset": dataset}
    return cnnjax.train({**digits_config, **changed}, tmp_path_factory.mktemp("style") / "grey")


def test_the_gram_matrix_is_the_mean_of_outer_products():
    features = np.random.RandomState(0).normal(size=(3, 5, 4)).astype(np.float32)
    expected = np.mean([np.outer(row, row) for row in features.reshape(-1, 4)], 0)
    np.testing.assert_allclose(style.gram_matrix(jnp.asarray(features)), expected, rtol=1e-5, atol=1e-6)


def test_the_losses_and_their_gradients_are_the_papers_equations():
    """Equations 1, 2, 4 and 6 with F and A as the paper has them: the Gram matrices are sums over M places."""
    random = np.random.RandomState(1)
    features, of_content, of_style = random.normal(size=(3, 4, 6, 5))
    flat, places, count = features.reshape(-1, 5).T, 24, 5
    gram, wanted = flat @ flat.T, of_style.reshape(-1, 5).T @ of_style.reshape(-1, 5)
    given = jnp.asarray(features, jnp.float32)

    loss, gradient = jax.value_and_grad(style.style_loss)(given, jnp.asarray(wanted / places, jnp.float32))
    np.testing.assert_allclose(loss, ((gram - wanted) ** 2).sum() / (4 * count**2 * places**2), rtol=1e-5)
    equation_6 = (flat.T @ (gram - wanted)).T / (count**2 * places**2)
    np.testing.assert_allclose(np.asarray(gradient).reshape(-1, 5).T, equation_6, rtol=1e-4, atol=1e-7)

    loss, gradient = jax.value_and_grad(style.content_loss)(given, jnp.asarray(of_content, jnp.float32))
    np.testing.assert_allclose(loss, ((features - of_content) ** 2).sum() / 2, rtol=1e-5)
    np.testing.assert_allclose(gradient, features - of_content, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_the_style_loss_is_that_of_finite_differences():
    random = np.random.RandomState(2)
    features, other = random.normal(size=(2, 3, 3, 2))
    with jax.enable_x64(True):
        gram = style.gram_matrix(jnp.asarray(other))
        gradient = np.asarray(jax.jit(jax.grad(style.style_loss))(features, gram))
        loss = jax.jit(style.style_loss)
        for place in np.ndindex(features.shape):
            step = np.zeros(features.shape)
            step[place] = 1e-5
            above, below = (float(loss(features + sign * step, gram)) for sign in (1, -1))
            assert gradient[place] == pytest.approx((above - below) / 2e-5, rel=1e-6, abs=1e-10)


def test_the_style_of_a_picture_does_not_depend_on_where_things_are():
    features = np.random.RandomState(3).normal(size=(4, 4, 3)).astype(np.float32)
    shuffled = np.random.RandomState(4).permutation(features.reshape(-1, 3)).reshape(4, 4, 3)
    gram = style.gram_matrix(jnp.asarray(features))
    assert style.style_loss(jnp.asarray(shuffled), gram) < 1e-12
    assert style.style_loss(jnp.tile(jnp.asarray(features), (2, 3, 1)), gram) < 1e-12  # nor on the size


def test_layers_are_read_at_any_size_and_pooled_as_asked(network):
    model, variables = network
    images = np.random.RandomState(5).normal(size=(1, 24, 20, 3)).astype(np.float32)
    seen = style.layer_outputs(model, variables, images, ["conv1_1", "conv2_1"])  # the dense layer takes 16x16 alone
    assert {layer: maps.shape for layer, maps in seen.items()} == {
        "conv1_1": (1, 24, 20, 8),
        "conv2_1": (1, 12, 10, 12),
    }

    def by_hand(pool):
        x = images
        for layer in ("conv1_1", "conv1_2"):
            x = nn.relu(layers.Conv(8, 3, padding=1).apply({"params": variables["params"][layer]}, x))
        return layers.Conv(12, 3, padding=1).apply({"params": variables["params"]["conv2_1"]}, pool(x, (2, 2), (2, 2)))

    by_hand = jax.jit(by_hand, static_argnums=0)
    np.testing.assert_allclose(seen["conv2_1"], by_hand(nn.max_pool), rtol=1e-5, atol=1e-5)
    with layers.max_pools_averaged():
        averaged = style.layer_outputs(model, variables, images, ["conv2_1"])["conv2_1"]
    np.testing.assert_allclose(averaged, by_hand(nn.avg_pool), rtol=1e-5, atol=1e-5)
    again = style.layer_outputs(model, variables, images, ["conv2_1"])["conv2_1"]
    np.testing.assert_array_equal(again, seen["conv2_1"])


def test_the_default_layers_of_vgg19_are_the_papers():
    shapes = style.map_shapes(cnnjax.create_model("vgg19", num_classes=3), (64, 48, 3))
    assert shapes["conv1_1"] == (64, 48, 64) and shapes["conv5_4"] == (4, 3, 512)
    assert style.default_layers(shapes) == (("conv4_2",), tuple(f"conv{block}_1" for block in range(1, 6)))


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_picture_of_64x64_takes_the_style_and_keeps_the_content(network, pictures, optimizer):
    content, stripes = pictures
    told = []
    settings = {"optimizer": optimizer, "style_weight": 1e5, "steps": 30, "every": 20}
    made = analysis.transfer_style(network, content, stripes, progress=lambda *one: told.append(one), **settings)
    assert made.shape == content.shape and made.dtype == np.uint8
    assert [step for step, _, _ in told] == [20, 30]
    np.testing.assert_array_equal(told[-1][1], made)
    # the style's loss alone, recomputed from the pictures, falls; so does the distance of the colours' means
    assert of_style(network, made, stripes) < 0.35 * of_style(network, content, stripes)
    mean = lambda picture: picture.reshape(-1, 3).mean(0)  # noqa: E731
    assert np.abs(mean(made) - mean(stripes)).sum() < 0.6 * np.abs(mean(content) - mean(stripes)).sum()
    losses = told[-1][2]
    assert losses.total == pytest.approx(losses.content + losses.style + losses.variation, rel=1e-5)
    inside, outside = made[20:40, 24:44].mean(), made[:8, :8].mean()
    assert inside > outside + 20  # the disc is still seen
    np.testing.assert_array_equal(made, analysis.transfer_style(network, content, stripes, **settings))  # the same bits


def of_style(network, picture, style_picture):
    """The style loss at conv1_1 and conv2_1 by NumPy, of features that are not scaled."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    grams = []
    for each in (picture, style_picture):
        images = ((each[None] / 255 - mean) / std).astype(np.float32)
        seen = style.layer_outputs(*network, images, ["conv1_1", "conv2_1"])
        flat = [np.maximum(np.asarray(maps)[0].reshape(-1, maps.shape[-1]), 0) for maps in seen.values()]
        grams.append([one.T @ one / len(one) for one in flat])
    return sum(((gram - wanted) ** 2).sum() for gram, wanted in zip(*grams, strict=True))


def test_without_style_the_content_comes_back_from_noise(network, pictures):
    content, stripes = pictures
    made = analysis.transfer_style(
        network, content, stripes, style_weight=0, content_layers=("conv1_1",), start="noise", steps=60
    )
    assert np.abs(made.astype(int) - content).mean() < 8


def test_a_grey_runs_layers_are_used_too(grey_run, pictures):
    content, stripes = pictures
    made = analysis.transfer_style(grey_run, content[..., :1], Image.fromarray(stripes), steps=3, optimizer="adam")
    assert made.shape == (64, 64, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"content_layers": ("conv1_3",)}, "unknown layer with maps 'conv1_3': did you mean 'conv1_2' or 'conv1_1'"),
        ({"style_layers": ("dense",)}, "unknown layer with maps 'dense'"),
        ({"steps": 0}, "steps=0: expected a number above 0"),
        ({"style_weight": -1.0}, "style_weight=-1.0: expected 0 or more"),
        ({"optimizer": "sgd"}, "optimizer: expected one of 'lbfgs', 'adam', got 'sgd'"),
        ({"content_weight": 0, "style_weight": 0}, "expected at least one above 0"),
        ({"style_layers": ()}, "style_layers names no layer: expected one or more, or style_weight 0"),
    ],
)
def test_wrong_settings_are_named(network, pictures, settings, message):
    with pytest.raises(ValueError, match=message):
        analysis.transfer_style(network, *pictures, **settings)


def test_pictures_that_are_none_are_refused(network, pictures):
    with pytest.raises(ValueError, match="content: float32 of shape .*: expected a grey or RGB picture of 8 bits"):
        analysis.transfer_style(network, np.zeros((8, 8, 3), np.float32), pictures[1])
    with pytest.raises(ValueError, match="style: uint8 of shape .*: expected a grey or RGB picture of 8 bits"):
        analysis.transfer_style(network, pictures[0], np.zeros((8, 8, 5), np.uint8))


def test_a_network_without_maps_or_that_outputs_nothing_is_refused(network, pictures):
    mlp = cnnjax.create_model("mlp", num_classes=10)
    with pytest.raises(ValueError, match="has no layer with maps"):
        analysis.transfer_style(
            (mlp, jax.jit(mlp.init)(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))), *pictures
        )
    model, variables = network
    with pytest.raises(ValueError, match="layer 'conv1_1' outputs nothing above 0"):
        analysis.transfer_style((model, jax.tree.map(jnp.zeros_like, variables)), *pictures)


def test_a_picture_that_does_not_fit_into_memory_is_refused(network, pictures, monkeypatch):
    monkeypatch.setattr(style, "device_memory", lambda device: 2**16)
    with pytest.raises(
        ValueError, match=r"a step at 64x64 pixels needs 0\.\d GiB, and there are 0\.0: make the content"
    ):
        analysis.transfer_style(network, *pictures, optimizer="adam", style_layers=("conv1_1",), content_weight=0)


def test_the_command_has_a_flag_for_each_setting(capsys):
    code, out, _ = run(capsys, "style", "--help")
    assert code == 0
    for name in declared(style.StyleOptions):
        assert any(f"--{name.replace('_', '-')}" in line for line in out), name


def test_the_command_writes_the_picture_and_the_film(capsys, grey_run, pictures, tmp_path):
    for name, picture in zip(("a.png", "b.png"), pictures, strict=True):
        Image.fromarray(picture).save(tmp_path / name)
    code, out, err = run(
        capsys, "style", tmp_path / "a.png", tmp_path / "b.png", "--workdir", grey_run.workdir, "--size", 40,
        "--steps", 4, "--every", 2, "--optimizer", "adam", "--out", tmp_path / "c.png", "--film", tmp_path / "c.gif",
    )  # fmt: skip
    assert code == 0, err
    assert [line.split(":")[0] for line in out] == ["step 2 of 4", "step 4 of 4", "film", "picture"]
    with Image.open(tmp_path / "c.png") as picture, Image.open(tmp_path / "c.gif") as film:
        assert picture.size == (40, 40) and film.n_frames == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "vgg19", "--workdir", "x"], "expected one of --network NAME and --workdir RUN"),
        ([], "expected one of --network NAME and --workdir RUN"),
        (["--network", "vgg20"], "unknown model 'vgg20': did you mean"),
        (["--network", "vgg19", "--weights", "missing.npz"], "missing.npz"),
        (["--network", "vgg19", "--out", "a.jpg"], "a.jpg"),
        (["--network", "vgg19", "--size", "0"], "--size 0: expected a number of pixels above 0"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(capsys, pictures, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pictures[0]).save("a.png")
    code, _, err = run(capsys, "style", "a.png", "a.png", *arguments)
    assert code == 1 and len(err) == 1 and message in err[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png"]


def test_an_untrained_network_says_what_to_expect(capsys, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pictures[0]).save("a.png")
    code, out, _ = run(
        capsys, "style", "a.png", "a.png", "--network", "cnn_8_16_32", "--size", 32, "--steps", 1, "--optimizer", "adam"
    )
    assert code == 0 and "untrained filters respond to colours" in out[0]
    assert (tmp_path / "style.png").is_file()


def test_settings_are_those_of_the_options():
    assert {field.name for field in dataclasses.fields(style.StyleOptions)} == set(declared(style.StyleOptions))
    assert command.HELP
