import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optax import contrib

from cnnjax.core.locate import locate
from cnnjax.models import create_model
from cnnjax.tasks import Classification
from cnnjax.training.optimizers import (
    OPTIMIZERS,
    check_groups,
    kernel_mask,
    l2_penalty,
    make_optimizer,
    optimizer_options,
    takes_values,
)
from cnnjax.training.parallel import over_devices, replicate
from cnnjax.training.schedules import constant
from cnnjax.training.state import initial_state
from cnnjax.training.step import plain_inputs, train_step
from cnnjax.transfer.freezing import nothing

PARAMS = {"layer": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5])}}
GRADIENTS = {"layer": {"kernel": jnp.array([0.1, 0.3]), "bias": jnp.array([-0.2])}}


def steps(optimizer, count):
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(count):
        updates, state = optimizer.update(GRADIENTS, state, params)
        params = optax.apply_updates(params, updates)
    return params["layer"]


def by_hand(w, g, count, rate, momentum, decay, nesterov):
    """The textbook's update, a step at a time."""
    v = np.zeros_like(w)
    for _ in range(count):
        gradient = g + decay * w
        v = momentum * v + gradient
        w = w - rate * (gradient + momentum * v if nesterov else v)
    return w


@settings(max_examples=12)
@given(st.integers(1, 4), st.sampled_from([0.0, 0.9]), st.sampled_from([0.0, 0.1]), st.booleans())
def test_sgd_is_the_textbooks(count, momentum, decay, nesterov):
    nesterov = nesterov and momentum > 0
    for decayed in ("kernels", "all"):
        optimizer = make_optimizer(
            "sgd", constant(0.1, 10, 1), momentum=momentum, weight_decay=decay, nesterov=nesterov, decayed=decayed
        )
        result = steps(optimizer, count)
        kernel = by_hand(np.array([1.0, -2.0]), np.array([0.1, 0.3]), count, 0.1, momentum, decay, nesterov)
        bias_decay = decay if decayed == "all" else 0.0
        bias = by_hand(np.array([0.5]), np.array([-0.2]), count, 0.1, momentum, bias_decay, nesterov)
        np.testing.assert_allclose(result["kernel"], kernel, rtol=1e-5)
        np.testing.assert_allclose(result["bias"], bias, rtol=1e-5)


def test_the_learning_rate_follows_its_schedule():
    optimizer = make_optimizer("sgd", lambda step: 0.1 * 0.5**step, momentum=0.0)
    np.testing.assert_allclose(steps(optimizer, 3)["bias"], 0.5 + 0.2 * (0.1 + 0.05 + 0.025), rtol=1e-6)


def test_only_kernels_decay_by_default():
    params = {"conv": {"kernel": 1, "bias": 1}, "norm": {"scale": 1, "bias": 1}}
    assert kernel_mask(params) == {"conv": {"kernel": True, "bias": False}, "norm": {"scale": False, "bias": False}}


def make(name="sgd", rate=0.1, **options):
    return make_optimizer(name, constant(rate, 10, 1), **options)


def adam_by_hand(w, g, count, rate, b1, b2, epsilon, coupled=0.0, decoupled=0.0):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t in range(1, count + 1):
        gradient = g + coupled * w
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
        w = w - rate * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + epsilon) + decoupled * w)
    return w


W, G = np.array([1.0, -2.0]), np.array([0.1, 0.3])


def test_adam_and_adamw_are_their_papers():
    for name, kind in (("adam", "coupled"), ("adamw", "decoupled")):
        result = steps(make(name, weight_decay=0.1), 3)["kernel"]
        np.testing.assert_allclose(result, adam_by_hand(W, G, 3, 0.1, 0.9, 0.999, 1e-8, **{kind: 0.1}), rtol=1e-5)
    forced = steps(make("adam", weight_decay=0.1, decay="decoupled"), 3)["kernel"]
    np.testing.assert_allclose(forced, steps(make("adamw", weight_decay=0.1), 3)["kernel"], rtol=1e-6)


def test_rmsprop_and_adagrad_are_their_papers():
    w, v = W, np.zeros(2)
    for _ in range(3):
        v = 0.9 * v + 0.1 * G**2
        w = w - 0.1 * G / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(steps(make("rmsprop"), 3)["kernel"], w, rtol=1e-5)
    w, v = W, np.zeros(2)
    for _ in range(3):
        v = v + G**2
        w = w - 0.1 * G / np.sqrt(v)
    np.testing.assert_allclose(steps(make("adagrad"), 3)["kernel"], w, rtol=1e-4)


def test_lars_and_lamb_scale_by_the_ratio_of_norms():
    gradient = G + 0.1 * W
    ratio = 0.001 * np.linalg.norm(W) / np.linalg.norm(gradient)
    np.testing.assert_allclose(
        steps(make("lars", weight_decay=0.1), 1)["kernel"], W - 0.1 * ratio * gradient, rtol=1e-6
    )
    direction = G / (np.abs(G) + 1e-6) + 0.1 * W  # Adam's first step is the gradient's sign
    ratio = np.linalg.norm(W) / np.linalg.norm(direction)
    np.testing.assert_allclose(
        steps(make("lamb", weight_decay=0.1), 1)["kernel"], W - 0.1 * ratio * direction, rtol=1e-4
    )


def test_lion_moves_by_the_sign_of_a_mean_that_it_keeps_another_of():
    w, m = W, np.zeros(2)
    for g in (G, -G, G):
        w = w - 0.1 * (np.sign(0.9 * m + 0.1 * g) + 0.2 * w)
        m = 0.8 * m + 0.2 * g
    optimizer = make("lion", b2=0.8, weight_decay=0.2)
    params, state = PARAMS, optimizer.init(PARAMS)
    for sign in (1, -1, 1):
        updates, state = optimizer.update(jax.tree.map(lambda g, sign=sign: sign * g, GRADIENTS), state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["layer"]["kernel"], w, rtol=1e-5)


def test_muon_moves_kernels_along_orthogonal_directions():
    generator = np.random.RandomState(0)
    params = {"conv": {"kernel": jnp.array(generator.randn(3, 3, 2, 12)), "bias": jnp.zeros(12)}}
    gradients = {"conv": {"kernel": jnp.array(generator.randn(3, 3, 2, 12)), "bias": jnp.ones(12)}}
    optimizer = make("muon")
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    matrix = np.asarray(updates["conv"]["kernel"]).reshape(18, 12)
    values = np.linalg.svd(matrix, compute_uv=False)
    assert values.max() / values.min() < 2.5  # the five iterations stop near, not at, equal singular values
    assert np.sum(matrix * np.asarray(gradients["conv"]["kernel"]).reshape(18, 12)) < 0
    np.testing.assert_allclose(updates["conv"]["bias"], -0.1 * (1 + 0.9 * 0.1 / 0.19), rtol=1e-4)  # NAdam's first step


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_optimiser_descends(name):
    """Least squares of one dense layer, by every optimiser with its defaults but the rate."""
    generator = np.random.RandomState(0)
    inputs, kernel = jnp.array(generator.randn(64, 4)), jnp.array(generator.randn(4, 3))
    loss = lambda p: jnp.mean((inputs @ p["layer"]["kernel"] + p["layer"]["bias"] - inputs @ kernel) ** 2)  # noqa: E731
    params = {"layer": {"kernel": jnp.array(generator.randn(4, 3)), "bias": jnp.zeros(3)}}
    optimizer = make(name, {"lars": 5.0, "adagrad": 0.3}.get(name, 0.03))
    state, first = optimizer.init(params), loss(params)

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(200):
        params, state = step(params, state)
    assert loss(params) < 0.1 * first


def test_l2_in_the_loss_on_the_gradient_and_decoupled():
    """For plain SGD all three are one; clipping and momentum tell them apart."""
    options = {"weight_decay": 0.1, "decay": "loss", "decayed": "kernels", "groups": ()}
    penalty = l2_penalty(options)
    np.testing.assert_allclose(penalty(PARAMS), 0.05 * (1 + 4), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(penalty)(PARAMS)["layer"]["kernel"], 0.1 * W, rtol=1e-6)
    assert not jax.grad(penalty)(PARAMS)["layer"]["bias"].any()
    assert l2_penalty(options | {"decay": "gradient"}) is None and l2_penalty(options | {"weight_decay": 0.0}) is None
    plain = [steps(make(momentum=0.0, weight_decay=0.1, decay=kind), 3)["kernel"] for kind in ("gradient", "decoupled")]
    np.testing.assert_allclose(plain[0], plain[1], rtol=1e-6)
    coupled = steps(make(momentum=0.9, weight_decay=0.1, decay="gradient"), 3)["kernel"]
    decoupled = steps(make(momentum=0.9, weight_decay=0.1, decay="decoupled"), 3)["kernel"]
    w, v = W, np.zeros(2)
    for _ in range(3):
        v = 0.9 * v + G
        w = w - 0.1 * (v + 0.1 * w)
    np.testing.assert_allclose(decoupled, w, rtol=1e-6)
    assert np.abs(coupled - decoupled).max() > 1e-3
    # "loss" is the gradient's, left to the step: the optimiser adds nothing
    np.testing.assert_allclose(steps(make(weight_decay=0.1, decay="loss"), 3)["kernel"], steps(make(), 3)["kernel"])


def test_clipping():
    norm = np.sqrt(0.01 + 0.09 + 0.04)
    clipped = steps(make(momentum=0.0, clip_norm=0.1), 1)
    np.testing.assert_allclose(clipped["kernel"], W - 0.1 * G * 0.1 / norm, rtol=1e-6)
    np.testing.assert_allclose(clipped["bias"], 0.5 + 0.1 * 0.2 * 0.1 / norm, rtol=1e-6)
    np.testing.assert_allclose(steps(make(momentum=0.0, clip_norm=10.0), 1)["kernel"], W - 0.1 * G, rtol=1e-6)
    by_value = steps(make(momentum=0.0, clip_value=0.15), 1)
    np.testing.assert_allclose(by_value["kernel"], W - 0.1 * np.array([0.1, 0.15]), rtol=1e-6)
    decayed = steps(make(momentum=0.0, clip_norm=0.1, weight_decay=0.1), 1)["kernel"]
    np.testing.assert_allclose(decayed, W - 0.1 * (G * 0.1 / norm + 0.1 * W), rtol=1e-6)  # the decay is not clipped


def test_accumulation_makes_one_update_of_the_mean_gradient():
    optimizer = make(accumulate=2, weight_decay=0.1)
    state, params = optimizer.init(PARAMS), PARAMS
    for factor in (0.5, 1.5):
        gradients = jax.tree.map(lambda g, factor=factor: factor * g, GRADIENTS)
        before = params
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        if factor == 0.5:
            assert all(map(np.array_equal, jax.tree.leaves(before), jax.tree.leaves(params)))
    expected = steps(make(weight_decay=0.1), 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params["layer"], expected)


def test_groups_by_pattern():
    groups = (("layer", "learning_rate", 0.5), ("*/bias", "learning_rate", 0.0), ("layer/kernel", "weight_decay", 3.0))
    result = steps(make(momentum=0.0, weight_decay=0.1, groups=groups), 1)
    np.testing.assert_allclose(result["kernel"], W - 0.05 * (G + 0.3 * W), rtol=1e-6)
    assert result["bias"] == 0.5
    check_groups(groups, PARAMS)
    with pytest.raises(
        ValueError, match=r"optimizer.groups, learning_rate: 'conv\*' matches no layer or parameter: choose from layer"
    ):
        check_groups((("conv*", "learning_rate", 0.5),), PARAMS)


# --- optax's own, by name


def problem(count):
    """A step of a small network over `count` devices, with its first state and batch, and the batch's mean loss."""
    devices = jax.devices("cpu")[:count]
    model, task = create_model("mlp", 5, features=(8,)), Classification()
    inputs = plain_inputs(task, lambda images: images.astype(jnp.float32) / 255, {"num_classes": 5})
    generator = np.random.default_rng(0)
    batch = {
        "image": generator.integers(0, 256, (12, 4, 4, 1)).astype(np.uint8),
        "label": generator.integers(0, 5, 12).astype(np.int32),
        "mask": np.ones(12, np.float32),
        "index": np.arange(12, dtype=np.int32),
    }
    shared = {name: array.reshape(count, -1, *array.shape[1:]) for name, array in batch.items()}

    def one_step(optimizer, frozen=nothing):
        state = initial_state(model, optimizer, (4, 4, 1), seed=3)
        step = over_devices(train_step(model, optimizer, task, inputs, seed=3, frozen=frozen), devices, donate=False)
        return state, jax.device_get(step(replicate(state, devices), {}, shared)[0])

    def mean_loss(params):
        logits = model.apply({"params": params}, batch["image"] / 255.0)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()

    return one_step, mean_loss


def alike(first, second):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), first, second)


BY_NAME = {
    "optax:lion": lambda: optax.lion(0.1),
    "optax:polyak_sgd": lambda: optax.polyak_sgd(),
    "optax:lbfgs": lambda: optax.lbfgs(),
    "optax.contrib:prodigy": lambda: optax.contrib.prodigy(1.0),
}


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("count", [1, 3])
def test_one_update_is_optaxs_own_on_the_global_batch(name, count, eight_devices):
    one_step, mean_loss = problem(count)
    function = locate("optimizer.name", name, OPTIMIZERS)
    rate = 0.1 if name == "optax:lion" else optimizer_options(function)["learning_rate"].default
    state, after = one_step(make_optimizer(function, lambda step: rate))
    theirs = optax.with_extra_args_support(BY_NAME[name]())
    value, grad = jax.value_and_grad(mean_loss)(state.params)
    extra = {"value": value, "grad": grad, "value_fn": mean_loss}
    updates, _ = theirs.update(grad, theirs.init(state.params), state.params, **extra)
    alike(after.params, optax.apply_updates(state.params, updates))


def test_a_line_search_leaves_frozen_layers_where_they_are_and_sees_them(eight_devices):
    one_step, mean_loss = problem(3)
    state, after = one_step(make_optimizer(optax.lbfgs, lambda step: 1.0), lambda name: name.startswith("hidden1"))
    alike(after.params["hidden1"], state.params["hidden1"])
    theirs, part = optax.lbfgs(), {"output": state.params["output"]}
    part_loss = lambda part: mean_loss({**state.params, **part})  # noqa: E731
    value, grad = jax.value_and_grad(part_loss)(part)
    updates, _ = theirs.update(grad, theirs.init(part), part, value=value, grad=grad, value_fn=part_loss)
    alike(after.params["output"], optax.apply_updates(part, updates)["output"])


def sam(learning_rate, *, rho=0.05):
    """Foret et al., ICLR 2021: the gradient at the highest loss within rho of here."""

    def update(gradients, state, params, *, value_fn, **_):
        up = jax.tree.map(lambda w, g: w + rho * g / optax.tree.norm(gradients), params, gradients)
        return jax.tree.map(lambda g: -learning_rate(0) * g, jax.grad(value_fn)(up)), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def test_sam_is_a_function_of_ones_own(eight_devices):
    one_step, mean_loss = problem(3)
    state, after = one_step(make_optimizer(sam, lambda step: 0.1, rho=0.2))
    grad = jax.grad(mean_loss)(state.params)
    scale = 0.2 / optax.tree.norm(grad)
    there = jax.grad(mean_loss)(jax.tree.map(lambda w, g: w + scale * g, state.params, grad))
    alike(after.params, jax.tree.map(lambda w, g: w - 0.1 * g, state.params, there))


def test_optimizers_that_take_values_do_not_accumulate():
    assert [takes_values(name) for name in (optax.lion, optax.lbfgs, optax.polyak_sgd, sam, "muon")] == [
        False, True, True, True, False
    ]  # fmt: skip
    with pytest.raises(
        ValueError,
        match="uses the value of the loss needs the value of the same batch .* set optimizer.accumulate to 1",
    ):
        make_optimizer(optax.lbfgs, lambda step: 1.0, accumulate=2)
    assert isinstance(make_optimizer(optax.lion, lambda step: 1.0, accumulate=2), optax.MultiSteps)


def test_the_learning_rate_of_another_librarys_optimizer_is_a_number():
    for function, default in ((optax.lbfgs, 1.0), (contrib.prodigy, 1.0), (optax.lion, 0.01), (optax.polyak_sgd, 1.0)):
        option = optimizer_options(function)["learning_rate"]
        assert (option.default, option.type) == (default, float)


def test_lamb_scales_kernels_alone_where_asked():
    steps_of = lambda **options: steps(make("lamb", **options), 1)  # noqa: E731
    both, kernels = steps_of(), steps_of(scaled="kernels")
    np.testing.assert_array_equal(both["kernel"], kernels["kernel"])
    np.testing.assert_allclose(kernels["bias"], steps(make("adam", epsilon=1e-6), 1)["bias"], rtol=1e-6)
    assert not np.allclose(both["bias"], kernels["bias"])


def test_sam_and_schedule_free_are_optaxs(eight_devices):
    """Optax's SAM in its opaque mode, which asks for gradients, and its schedule-free SGD, whose average is evaluated."""
    one_step, mean_loss = problem(3)
    optimizer = locate("optimizer.name", "optax.contrib:schedule_free_sgd", OPTIMIZERS)
    state, after = one_step(make_optimizer(optimizer, lambda step: 0.1, b1=0.8))
    theirs = contrib.schedule_free_sgd(lambda step: 0.1, b1=0.8)
    gradient, own = jax.grad(mean_loss)(state.params), theirs.init(state.params)
    updates, own = theirs.update(gradient, own, state.params)
    params = optax.apply_updates(state.params, updates)
    alike(after.params, params)
    alike(after.variables["params"], contrib.schedule_free_eval_params(own, params))
    grouped = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), after)  # a group of trials has one more axis
    alike(grouped.variables["params"], jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), after.variables["params"]))

    def sam(learning_rate, *, rho=0.2):
        step = contrib.sam(optax.sgd(learning_rate), optax.chain(contrib.normalize(), optax.sgd(rho)), opaque_mode=True)

        def update(gradients, state, params, *, value_fn, **_):
            return step.update(gradients, state, params, grad_fn=lambda params, _: jax.grad(value_fn)(params))

        return optax.GradientTransformationExtraArgs(step.init, update)

    state, after = one_step(make_optimizer(sam, lambda step: 0.1))
    scale = 0.2 / optax.tree.norm(gradient)
    there = jax.grad(mean_loss)(jax.tree.map(lambda w, g: w + scale * g, state.params, gradient))
    alike(after.params, jax.tree.map(lambda w, g: w - 0.1 * g, state.params, there))
