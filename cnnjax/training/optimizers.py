"""Optimisers: a schedule and options -> an optax gradient transformation.

An update is computed in this order, in which parts that are switched off are skipped:

    gradient -> clipped -> + weight decay ("gradient") -> the optimiser's direction -> + weight decay ("decoupled")
    -> times the group's factor -> times the learning rate -> subtracted from the parameters.

With `accumulate = k`, each update uses the mean gradient of k batches.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float
from optax import contrib

from cnnjax.core.options import Option, Traceable, declared, fraction, known_zero, not_negative, positive
from cnnjax.core.paths import check_pattern, matches, path_name

Groups = tuple[tuple[str, Literal["learning_rate", "weight_decay"], float], ...]


def _factors(groups: Groups) -> str | None:
    return next((f"factors of {wrong}" for *_, factor in groups if (wrong := not_negative(factor))), None)


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """The options that all optimisers have."""

    learning_rate: Annotated[float, Traceable, "the highest learning rate of the schedule", not_negative] = 0.01
    weight_decay: Annotated[float, Traceable, "strength of L2 regularisation, or of decoupled decay", not_negative] = (
        0.0
    )
    decay: Annotated[
        Literal["usual", "loss", "gradient", "decoupled"],
        "kind of weight decay: loss (L2 penalty in the loss), gradient (L2 added to the gradient after clipping), decoupled "
        "(from the gradient) or usual (the optimiser's default)",
    ] = "usual"
    decayed: Annotated[Literal["kernels", "all"], "which parameters decay: kernels only, or all"] = "kernels"
    clip_norm: Annotated[float | None, "scale the gradient down to this global L2 norm", positive] = None
    clip_value: Annotated[float | None, "clip each component of the gradient to plus or minus this value", positive] = (
        None
    )
    accumulate: Annotated[int, "number of batches whose mean gradient is used for one update", positive] = 1
    groups: Annotated[
        Groups,
        "(pattern, learning_rate or weight_decay, factor) for parameters whose path matches; the last match applies",
        _factors,
    ] = ()


class Rule(NamedTuple):
    """An optimiser.

    Attributes:
      direction: the transformation from gradient to direction.
      decay: where weight decay acts by default.
      rescale: the transformation that follows decoupled weight decay.
    """

    direction: optax.GradientTransformation
    decay: Literal["gradient", "decoupled"] = "gradient"
    rescale: optax.GradientTransformation = optax.identity()


Momentum = Annotated[float, "fraction of the last update that is kept", fraction]
Beta1 = Annotated[float, "decay of the gradient's moving mean", fraction]
Beta2 = Annotated[float, "decay of the squared gradient's moving mean", fraction]
Epsilon = Annotated[float, "added to the divisor", positive]


def sgd(*, momentum: Momentum = 0.9, nesterov: Annotated[bool, "use Nesterov momentum"] = False) -> Rule:
    """Stochastic gradient descent with momentum, as in the classic papers and PyTorch.

    v = momentum * v + g,   w = w - rate * v   (Nesterov's: w = w - rate * (g + momentum * v))
    """
    return Rule(optax.trace(momentum, nesterov) if momentum else optax.identity())


def adam(*, b1: Beta1 = 0.9, b2: Beta2 = 0.999, epsilon: Epsilon = 1e-8) -> Rule:
    """Adam (Kingma and Ba, ICLR 2015): w = w - rate * m / (sqrt(v) + epsilon), bias corrected."""
    return Rule(optax.scale_by_adam(b1, b2, epsilon))


def adamw(*, b1: Beta1 = 0.9, b2: Beta2 = 0.999, epsilon: Epsilon = 1e-8) -> Rule:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019): ... - rate * weight_decay * w."""
    return Rule(optax.scale_by_adam(b1, b2, epsilon), "decoupled")


def rmsprop(
    *,
    rho: Annotated[float, "decay of the squared gradient's mean", fraction] = 0.9,
    momentum: Momentum = 0.0,
    epsilon: Epsilon = 1e-8,
) -> Rule:
    """RMSProp (Tieleman and Hinton, 2012): v = rho v + (1 - rho) g^2, direction g / (sqrt(v) + epsilon), then momentum."""
    scale = optax.scale_by_rms(rho, epsilon, eps_in_sqrt=False)
    return Rule(optax.chain(scale, optax.trace(momentum)) if momentum else scale)


def adagrad(
    *, initial: Annotated[float, "initial value of the sum of squares", not_negative] = 0.0, epsilon: Epsilon = 1e-10
) -> Rule:
    """Adagrad (Duchi et al., JMLR 2011): the direction is g / sqrt(initial + sum of g^2 + epsilon)."""
    return Rule(optax.scale_by_rss(initial, epsilon))


def lars(
    *, momentum: Momentum = 0.9, trust: Annotated[float, "factor of the ratio |w| / |g|", positive] = 0.001
) -> Rule:
    """LARS (You et al., 2017): the gradient of each array is scaled by trust * |w| / |g + weight_decay w|, then momentum."""
    return Rule(optax.chain(optax.scale_by_trust_ratio(trust_coefficient=trust), optax.trace(momentum)))


def lamb(
    *,
    b1: Beta1 = 0.9,
    b2: Beta2 = 0.999,
    epsilon: Epsilon = 1e-6,
    scaled: Annotated[
        Literal["all", "kernels"], "which parameters' directions are scaled: all, or kernels only"
    ] = "all",
) -> Rule:
    """LAMB (You et al., ICLR 2020): Adam's direction d, scaled for each array by |w| / |d + weight_decay w|."""
    ratio = optax.scale_by_trust_ratio()
    ratio = ratio if scaled == "all" else optax.masked(ratio, kernel_mask)
    return Rule(optax.scale_by_adam(b1, b2, epsilon), "decoupled", ratio)


def lion(*, b1: Beta1 = 0.9, b2: Annotated[float, "decay of the gradient's moving mean", fraction] = 0.99) -> Rule:
    """Lion (Chen et al., NeurIPS 2023): w = w - rate * (sign(b1 m + (1 - b1) g) + weight_decay * w), then m = b2 m + (1 - b2) g.

    Its learning rate is usually 3 to 10 times smaller than AdamW's, and its weight decay 3 to 10 times larger.
    """
    return Rule(optax.scale_by_lion(b1, b2), "decoupled")


def muon(*, momentum: Annotated[float, "decay of the gradient's mean", fraction] = 0.95) -> Rule:
    """Muon (Jordan et al., 2024): orthogonalised momentum for kernels, Adam with Nesterov momentum for everything else."""

    def matrices(params: Any) -> Any:
        def axes(path: Any, leaf: Any) -> Any:
            if path[-1].key != "kernel" or leaf.ndim < 2:
                return None
            return contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

        return jax.tree_util.tree_map_with_path(axes, params)

    whole = contrib.muon(1.0, beta=momentum, muon_weight_dimension_numbers=matrices)
    return Rule(optax.chain(whole, optax.scale(-1.0)), "decoupled")


OPTIMIZERS: dict[str, Callable[..., Rule]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "lars": lars,
    "lamb": lamb,
    "lion": lion,
    "muon": muon,
}


def make_optimizer(
    component: str | Callable[..., Rule | optax.GradientTransformation] | optax.GradientTransformation,
    schedule: optax.Schedule | None,
    **options: Any,
) -> optax.GradientTransformation:
    """Assembles an optimiser from a component and options.

    Args:
      component: one of `OPTIMIZERS` or its name; an optax transformation; or a function that returns one. If the function has
        an argument `learning_rate`, it receives the schedule; else its updates are multiplied by the learning rate.
      schedule: the function from the number of updates to the learning rate; None if the component has its own.
      **options: the options of the component and of `OptimizerOptions`, without the learning rate.

    Raises:
      ValueError: the component returns something else, or cannot accumulate gradients.
    """
    if isinstance(component, str):
        component = OPTIMIZERS[component]
    if isinstance(component, optax.GradientTransformation):
        own, found = {}, component
    else:
        own = {name: options[name] for name in declared(component) if name in options}
        if _takes_learning_rate(component):
            found, schedule = component(learning_rate=schedule, **own), None
        else:
            found = component(**own)
    shared = {field.name for field in dataclasses.fields(OptimizerOptions)} - own.keys()
    common = OptimizerOptions(**{key: value for key, value in options.items() if key in shared})
    rule = found if isinstance(found, Rule) else None
    if rule is None and not isinstance(found, optax.GradientTransformation):
        raise ValueError(
            f"config: optimizer.name: expected an optax transformation, got {type(found).__name__} from "
            f"{getattr(component, '__name__', component)}"
        )
    where = "gradient" if common.decay == "usual" else common.decay
    where = rule.decay if rule and common.decay == "usual" else where
    decay = optax.identity() if known_zero(common.weight_decay) else _decay(common)
    rate = optax.identity() if schedule is None else optax.scale_by_learning_rate(schedule, flip_sign=rule is not None)
    parts = [
        optax.clip_by_global_norm(common.clip_norm) if common.clip_norm else optax.identity(),
        optax.clip(common.clip_value) if common.clip_value else optax.identity(),
        decay if where == "gradient" else optax.identity(),
        rule.direction if rule else found,
        decay if where == "decoupled" else optax.identity(),
        rule.rescale if rule else optax.identity(),
        _scale_groups(common.groups),
        rate,
    ]
    optimizer = optax.chain(*parts)
    if rule:  # our own optimisers take no values, although optax.partition inside declares that it passes them on
        optimizer = optax.GradientTransformation(optimizer.init, optimizer.update)
    if common.accumulate == 1:
        return optimizer
    if _uses_values(optimizer):
        raise ValueError(
            "config: optimizer.accumulate: an optimizer that uses the value of the loss needs the value of the same batch as "
            "the gradient: set optimizer.accumulate to 1"
        )
    return optax.MultiSteps(optimizer, common.accumulate)


def _takes_learning_rate(component: Callable[..., Any]) -> bool:
    return "learning_rate" in inspect.signature(component).parameters


def optimizer_options(component: Callable[..., Any]) -> dict[str, Option]:
    """The options of an optimiser: those of `OptimizerOptions`, overridden by its own.

    The default of `learning_rate` is 1 for an optax transformation that has none. An overriding option is traceable if the
    overridden one is.
    """
    shared = declared(OptimizerOptions)
    own = {
        name: dataclasses.replace(option, traceable=option.traceable or (name in shared and shared[name].traceable))
        for name, option in declared(component).items()
    }
    rate = shared["learning_rate"]
    if component not in OPTIMIZERS.values() and not _takes_learning_rate(component):
        rate = dataclasses.replace(rate, default=1.0, meaning="factor of the update")
    elif "learning_rate" in own:
        default = own["learning_rate"].default
        rate = dataclasses.replace(rate, default=1.0 if default is None else default)
    return {**shared, **own, "learning_rate": rate}


def takes_values(
    component: str | Callable[..., Any] | optax.GradientTransformation, options: Mapping[str, Any] | None = None
) -> bool:
    """Whether an optimiser needs the loss's `value`, `grad` and `value_fn`; the options are those of `make_optimizer`."""
    return _uses_values(make_optimizer(component, lambda step: 1.0, **{**(options or {}), "accumulate": 1}))


def _uses_values(optimizer: optax.GradientTransformation) -> bool:
    """Whether the update depends on the value of the loss; optax's type alone also covers transformations that ignore it."""
    if not isinstance(optimizer, optax.GradientTransformationExtraArgs):
        return False

    def update(params: Any, number: Array, **extra: Any) -> Any:
        return optimizer.update(params, optimizer.init(params), params, **extra)

    def update_with(params: Any, number: Array) -> Any:
        return update(params, number, value=number, grad=params, value_fn=lambda _: number)

    params = {"layer": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    try:
        return str(jax.make_jaxpr(update)(params, 1.0)) != str(jax.make_jaxpr(update_with)(params, 1.0))
    except Exception:  # the optimiser fails without the values
        return True


def evaluated_params(opt_state: optax.OptState, params: Any) -> Any:
    """The parameters for evaluation and prediction: the average that a schedule-free optimiser keeps, else the parameters.

    `optax.contrib.schedule_free` trains at y = (1 - b1) z + b1 x, and its result is x (Defazio et al., NeurIPS 2024).
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=_is_schedule_free)
    state = next(filter(_is_schedule_free, nodes), None)
    if state is None:
        return params

    def average(y: Array, z: Array) -> Array:
        # One b1 for each of a group of trials.
        b1 = jnp.reshape(state.b1, jnp.shape(state.b1) + (1,) * (y.ndim - jnp.ndim(state.b1)))
        return ((y - (1 - b1) * z) / b1).astype(y.dtype)

    return jax.tree.map(average, params, state.z)


def _is_schedule_free(node: Any) -> bool:
    return isinstance(node, contrib.ScheduleFreeState)


def l2_penalty(options: Mapping[str, Any]) -> Callable[[Any], Float[Array, ""]] | None:
    """The L2 penalty (weight_decay / 2) |w|^2 of the decayed parameters for `decay = "loss"`; None otherwise."""
    kept = {key: options[key] for key in ("weight_decay", "decay", "decayed", "groups") if key in options}
    common = OptimizerOptions(**kept)
    if common.decay != "loss" or known_zero(common.weight_decay):
        return None

    def penalty(params: Any) -> Float[Array, ""]:
        terms = jax.tree.map(lambda factor, w: factor * jnp.sum(jnp.square(w)), _decay_factors(common, params), params)
        return common.weight_decay / 2 * sum(jax.tree.leaves(terms))

    return penalty


def _decay(options: OptimizerOptions) -> optax.GradientTransformation:
    def add(updates: Any, params: Any) -> Any:
        factors = _decay_factors(options, params)
        return jax.tree.map(
            lambda update, factor, w: update + options.weight_decay * factor * w if factor else update,
            updates,
            factors,
            params,
        )

    return optax.stateless(add)


def _decay_factors(options: OptimizerOptions, params: Any) -> Any:
    factors = group_factors(options.groups, "weight_decay", params)
    if options.decayed == "all":
        return factors
    return jax.tree.map(lambda factor, kernel: factor if kernel else 0.0, factors, kernel_mask(params))


def _scale_groups(groups: Groups) -> optax.GradientTransformation:
    if not any(kind == "learning_rate" for _, kind, _ in groups):
        return optax.identity()

    def scale(updates: Any, params: Any) -> Any:
        return jax.tree.map(jnp.multiply, updates, group_factors(groups, "learning_rate", updates))

    return optax.stateless(scale)


def group_factors(groups: Groups, kind: str, params: Any) -> Any:
    """The factor of every parameter: that of the last group whose pattern matches its path, or 1."""

    def factor(path: Any, _: Any) -> float:
        name = path_name(path)
        matching = [value for pattern, of, value in groups if of == kind and matches(name, pattern)]
        return matching[-1] if matching else 1.0

    return jax.tree_util.tree_map_with_path(factor, params)


def check_groups(groups: Groups, params: Any) -> None:
    """Raises ValueError for a pattern that matches no parameter."""
    for pattern, kind, _ in groups:
        check_pattern(pattern, params, f"optimizer.groups, {kind}")


def kernel_mask(params: Any) -> Any:
    """True for parameters named `kernel`, False for biases and the scales of normalisations."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
