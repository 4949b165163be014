"""Linen written as others write it, against the same network called as its author calls it."""

import functools
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnjax.core.options import declared
from cnnjax.models.linen import build_model, with_train_argument
from tests.one_program import apply as output
from tests.one_program import draw, init

IMAGES = np.random.default_rng(0).standard_normal((4, 6, 6, 2)).astype(np.float32)


def network(x, train):
    """The body of all networks below: everything that differs in training."""
    x = nn.Conv(3, (3, 3))(x)
    x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
    return nn.Dense(5)(nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2))))


class Ours(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return network(x, train)


class Required(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return network(x, train)


class DefaultTrue(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = True):
        return network(x, train)


class KeywordOnly(nn.Module):
    @nn.compact
    def __call__(self, x, *, train: bool):
        return network(x, train)


class Later(nn.Module):
    @nn.compact
    def __call__(self, x, scale=1.0, train=False):
        return network(x * scale, train)


class Keras(nn.Module):
    @nn.compact
    def __call__(self, x, training=None):
        return network(x, bool(training))


class Haiku(nn.Module):
    @nn.compact
    def __call__(self, x, is_training):
        return network(x, is_training)


class Deterministic(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        return network(x, not deterministic)


class Several(nn.Module):
    @nn.compact
    def __call__(self, x, *, use_running_average, deterministic):
        assert use_running_average == deterministic
        return network(x, not deterministic)


class AnyKeywords(nn.Module):
    @nn.compact
    def __call__(self, x, **keywords):
        return network(x, keywords["train"])


class AField(nn.Module):
    train: bool

    @nn.compact
    def __call__(self, x):
        return network(x, self.train)


class AFieldWithDefault(nn.Module):
    deterministic: bool = False

    @nn.compact
    def __call__(self, x):
        return network(x, not self.deterministic)


class Merged(nn.Module):
    """As Flax's own layers have it: a field or an argument."""

    deterministic: bool | None = None

    @nn.compact
    def __call__(self, x, deterministic: bool | None = None):
        return network(x, not nn.merge_param("deterministic", self.deterministic, deterministic))


WRITTEN = [
    Required, DefaultTrue, KeywordOnly, Later, Keras, Haiku, Deterministic, Several, AnyKeywords, partial(AField, train=True),
    AFieldWithDefault, Merged, partial(Merged, deterministic=False),
]  # fmt: skip


@functools.cache
def program(model, train):
    """A call of the model, compiled once for all tests that use an equal model."""
    call = lambda variables, rngs: model.apply(variables, IMAGES, train, rngs=rngs, mutable=["batch_stats"])  # noqa: E731
    return jax.jit(call)


def apply(model, variables, train):
    return program(model, train)(variables, {"dropout": jax.random.key(2)})


@pytest.mark.parametrize("make", WRITTEN, ids=lambda make: getattr(make, "__name__", repr(make)))
def test_a_module_is_called_with_images_and_train_whatever_it_takes(make):
    module = make()
    model = with_train_argument(module)
    _, train = list(inspect.signature(model.__call__).parameters.values())[:2]
    assert train.name == "train" and train.default is False and train.kind is train.POSITIONAL_OR_KEYWORD
    variables = init(Ours(), IMAGES, seed=1)
    jax.tree.map(np.testing.assert_array_equal, init(model, IMAGES, seed=1), variables)
    for mode in (True, False):
        jax.tree.map(np.testing.assert_array_equal, apply(model, variables, mode), apply(Ours(), variables, mode))
    rngs = {"dropout": jax.random.key(2)}
    by_keyword = output(model, variables, IMAGES, train=True, rngs=rngs, mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, by_keyword, apply(Ours(), variables, True))
    np.testing.assert_array_equal(output(model, variables, IMAGES), output(Ours(), variables, IMAGES))


@pytest.mark.parametrize("make", WRITTEN, ids=lambda make: getattr(make, "__name__", repr(make)))
def test_it_remains_what_it_was(make):
    module = make()
    model, again = with_train_argument(module), with_train_argument(make())
    assert isinstance(model, type(module)) and type(model).__name__ == type(module).__name__
    assert type(model).__qualname__ == type(module).__qualname__ and type(model).__module__ == __name__
    assert type(model) is type(again) and model == again and hash(model) == hash(again)
    assert with_train_argument(model) is model
    assert with_train_argument(model.clone()) == model and repr(model) == repr(module)


def test_a_module_that_is_called_so_already_is_returned_itself():
    model = Ours()
    assert with_train_argument(model) is model


@pytest.mark.parametrize("make", [Ours, *WRITTEN], ids=lambda make: getattr(make, "__name__", repr(make)))
def test_a_bound_model_may_be_called_again_in_the_other_mode(make):
    model = with_train_argument(make())
    variables = draw(model, IMAGES, seed=1)

    def both(net):
        return net(IMAGES, True), net(IMAGES), net(IMAGES, True)

    (first, second, third), changed = output(
        model, variables, rngs={"dropout": jax.random.key(2)}, mutable=["batch_stats"], method=both
    )
    np.testing.assert_array_equal(first, apply(model, variables, True)[0])
    once = apply(model, variables, True)[1]
    np.testing.assert_allclose(second, apply(model, {**variables, **once}, False)[0], rtol=1e-5)
    twice = apply(model, {**variables, **once}, True)[1]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), changed, twice)
    assert not np.array_equal(first, third)  # another dropout mask


class Generator(nn.Module):
    """A network with `setup`, another method, and a submodule as a field."""

    trunk: nn.Module
    width: int = 3

    def setup(self):
        self.hidden = nn.Dense(self.width)
        self.drop = nn.Dropout(0.5)

    def __call__(self, x, training):
        return self.drop(self.hidden(self.trunk(x)), deterministic=not training)

    def generate(self, z):
        return self.hidden(z)


def test_methods_fields_and_submodules_stay():
    model = with_train_argument(Generator(nn.Conv(4, (3, 3))))
    variables = draw(model, IMAGES, seed=1)
    assert jax.tree.map(jnp.shape, variables["params"]) == {
        "trunk": {"kernel": (3, 3, 2, 4), "bias": (4,)}, "hidden": {"kernel": (4, 3), "bias": (3,)}
    }  # fmt: skip
    z = np.ones((2, 4), np.float32)
    expected = output(nn.Dense(3), {"params": variables["params"]["hidden"]}, z)
    np.testing.assert_array_equal(output(model, variables, z, method="generate"), expected)

    def unbound(net):
        inner, inside = net.unbind()
        assert isinstance(inner, Generator)
        return inner.apply(inside, IMAGES), net(IMAGES)

    np.testing.assert_array_equal(*output(model, variables, method=unbound))
    wider = jax.eval_shape(model.clone(width=7).init, jax.random.key(0), IMAGES)
    assert wider["params"]["hidden"]["kernel"].shape == (4, 7)
    table = model.tabulate(jax.random.key(0), IMAGES, console_kwargs={"width": 200})
    assert table.count("Generator") == 2  # the title and one row: the call is seen once
    _, captured = output(model, variables, IMAGES, capture_intermediates=True, mutable=["intermediates"])
    seen = captured["intermediates"]
    assert len(seen["__call__"]) == 1


def test_a_second_positional_argument_of_the_authors_own_reaches_the_module():
    model = with_train_argument(Later())
    variables = draw(model, IMAGES, seed=1)
    np.testing.assert_array_equal(
        jax.jit(lambda variables: model.apply(variables, IMAGES, 2.0))(variables), output(Ours(), variables, 2 * IMAGES)
    )
    np.testing.assert_array_equal(output(model, variables, IMAGES, scale=2.0), output(Ours(), variables, 2 * IMAGES))


def test_a_module_without_a_mode_is_the_same_in_both():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(x)

    model = with_train_argument(Plain())
    variables = draw(model, IMAGES, seed=1)
    np.testing.assert_array_equal(apply(model, variables, True)[0], output(model, variables, IMAGES))


def test_a_module_without_a_call_is_left_alone():
    class Pair(nn.Module):
        def encode(self, x):
            return x

    pair = Pair()
    assert with_train_argument(pair) is pair


def test_a_sequential_tells_its_layers():
    layers = [
        nn.Conv(3, (3, 3)),
        nn.Sequential([nn.BatchNorm(), nn.relu]),
        lambda x: x.mean((1, 2)),
        nn.Dropout(0.5),
        Keras2(),
    ]
    model = with_train_argument(nn.Sequential(layers))
    assert isinstance(model, nn.Sequential)
    variables = draw(model, IMAGES, seed=1)
    assert set(variables["params"]) == {"layers_0", "layers_1", "layers_4"}
    options = {"rngs": {"dropout": jax.random.key(2)}, "mutable": ["batch_stats"]}
    with_masks, changed = output(model, variables, IMAGES, train=True, **options)
    assert np.any(np.equal(with_masks, 0)) and np.any(changed["batch_stats"]["layers_1"]["layers_0"]["mean"])
    evaluated, same = output(model, variables, IMAGES, **options)
    assert np.all(evaluated)
    jax.tree.map(np.testing.assert_array_equal, same["batch_stats"], variables["batch_stats"])


class Keras2(nn.Module):
    @nn.compact
    def __call__(self, x, training):
        return nn.Dropout(0.5, deterministic=not training)(nn.Dense(50)(x))


def test_rematerialised_modules_are_models_too():
    model = with_train_argument(nn.remat(Required, static_argnums=(2,))())
    variables = draw(Ours(), IMAGES, seed=1)
    gradient = lambda model: jax.jit(  # noqa: E731
        jax.grad(lambda params: jnp.square(apply(model, {**variables, "params": params}, True)[0]).sum())
    )(variables["params"])
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), gradient(model), gradient(Ours()))


# --- what builds a model -----------------------------------------------------------------------------------------


class Sized(nn.Module):
    num_classes: int
    width: int = 8
    act: Callable = nn.relu
    conv: Any = nn.Conv
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        x = self.act(self.conv(self.width, (3, 3), dtype=self.dtype)(x))
        return nn.Dense(self.num_classes, dtype=self.dtype)(x.mean((1, 2)))


def test_a_component_is_given_what_it_has():
    model = build_model(Sized, {"num_classes": 7, "image_shape": (6, 6, 2)}, jnp.bfloat16, {"width": 4})
    assert (model.num_classes, model.width, model.dtype) == (7, 4, jnp.bfloat16)
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), IMAGES)
    assert logits.shape == (4, 7) and logits.dtype == jnp.bfloat16
    assert build_model(Ours, {"num_classes": 7}, jnp.bfloat16, {}) == Ours()


def test_callables_are_no_options_of_a_config_and_may_be_given_from_python():
    assert set(declared(Sized)) == {"width"}
    assert build_model(Sized, {"num_classes": 2}, jnp.float32, {"act": nn.tanh}).act is nn.tanh


def test_functions_and_partials_make_models():
    def make(num_classes, *, depth: int = 1, **others):
        return Sized(num_classes, width=depth, **others)

    assert build_model(make, {"num_classes": 3}, jnp.float32, {"depth": 2, "act": nn.tanh}).width == 2
    assert build_model(partial(make, depth=5), {"num_classes": 3}, jnp.float32, {}).width == 5
    assert build_model(partial(Sized, width=9), {"num_classes": 3}, None, {"width": 2}).width == 2
    assert build_model(lambda: Sized(4), {"num_classes": 3}, None, {}).num_classes == 4
    assert jax.eval_shape(
        build_model(AField, {}, None, {}).init, jax.random.key(0), IMAGES
    )  # each call says whether it trains


@pytest.mark.parametrize(
    ("component", "options", "message"),
    [
        (Sized, {"widht": 4}, "unknown option of model Sized 'widht': did you mean 'width'"),
        (Sized, {"width": "wide"}, "model.width: expected a whole number"),
        (Generator, {}, "model Generator has no value for trunk: set model.trunk, or give the field a default"),
        (lambda: 3, {}, "model <lambda>: expected a flax.linen.Module, got int"),
    ],
)
def test_what_cannot_be_built_is_one_line(component, options, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        build_model(component, {"num_classes": 3}, jnp.float32, options)
    assert "\n" not in str(caught.value)


# --- nnx by the bridge -------------------------------------------------------------------------------------------


def nnx_network(num_classes: int, width: int = 8):
    """The recipe: a function that wraps an nnx class."""
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, num_classes, width, rngs):
            self.conv = nnx.Conv(2, width, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(width, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.output = nnx.Linear(width, num_classes, rngs=rngs)

        def __call__(self, x):
            return self.output(self.drop(nnx.relu(self.norm(self.conv(x))).mean((1, 2))))

    return nnx.bridge.to_linen(Net, num_classes, width)


def test_an_nnx_module_trains_a_step():
    model = build_model(nnx_network, {"num_classes": 3}, jnp.float32, {"width": 4})
    variables = init(model, IMAGES)
    assert set(variables) == {"params", "batch_stats"} and variables["params"]["conv"]["kernel"].shape == (3, 3, 2, 4)
    labels = jnp.array([0, 1, 2, 1])

    @jax.jit
    def step(variables, key):
        def loss(params):
            logits, changed = model.apply(
                {**variables, "params": params}, IMAGES, True, rngs={"dropout": key}, mutable=["batch_stats"]
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), changed

        gradients, changed = jax.grad(loss, has_aux=True)(variables["params"])
        return {"params": jax.tree.map(lambda w, g: w - 0.1 * g, variables["params"], gradients), **changed}

    def evaluate(variables):
        logits = output(model, variables, IMAGES)
        np.testing.assert_allclose(
            output(model, variables, IMAGES[:1]), np.asarray(logits)[:1], atol=1e-5
        )  # running statistics
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    trained = variables
    for number in range(100):
        trained = step(trained, jax.random.key(number))
    assert float(jnp.abs(trained["batch_stats"]["norm"]["mean"]).max()) > 0
    assert evaluate(trained) < evaluate(variables) - 0.1
