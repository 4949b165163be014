"""Optimisers: a schedule and options -> an optax gradient transformation.

An update is made in this order, each part left out where its option is off:

    gradient -> clipped -> + weight decay ("gradient") -> the optimiser's direction -> + weight decay ("decoupled")
    -> times the group's factor -> times the learning rate -> subtracted from the parameters.

With `accumulate = k`, the gradients of k batches are averaged first and one update is made of them.
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
    """What every optimiser has."""

    learning_rate: Annotated[float, Traceable, "the schedule's highest", not_negative] = 0.01
    weight_decay: Annotated[float, Traceable, "strength of L2 regularisation, or of decoupled decay", not_negative] = (
        0.0
    )
    decay: Annotated[
        Literal["usual", "loss", "gradient", "decoupled"],
        "L2 in the loss, L2 added to the gradient (after clipping), or decoupled from it; usual is the optimiser's own",
    ] = "usual"
    decayed: Annotated[Literal["kernels", "all"], "which parameters decay: kernels, or all"] = "kernels"
    clip_norm: Annotated[float | None, "scale the gradient down to this global L2 norm", positive] = None
    clip_value: Annotated[float | None, "cut each component of the gradient to plus or minus this", positive] = None
    accumulate: Annotated[int, "batches whose mean gradient makes one update", positive] = 1
    groups: Annotated[
        Groups,
        "(pattern, learning_rate or weight_decay, factor): for parameters whose path matches; the last that does holds",
        _factors,
    ] = ()


class Rule(NamedTuple):
    """An optimiser: gradient -> direction, where its weight decay usually acts, and what follows a decoupled one."""

    direction: optax.GradientTransformation
    decay: Literal["gradient", "decoupled"] = "gradient"
    rescale: optax.GradientTransformation = optax.identity()


Momentum = Annotated[float, "share of the last update that is kept", fraction]
Beta1 = Annotated[float, "decay of the gradient's mean", fraction]
Beta2 = Annotated[float, "decay of the squared gradient's mean", fraction]
Epsilon = Annotated[float, "added to the divisor", positive]


def sgd(*, momentum: Momentum = 0.9, nesterov: Annotated[bool, "look ahead along the momentum"] = False) -> Rule:
    """Stochastic gradient descent with momentum, as the classic papers and PyTorch have it.

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
    *, initial: Annotated[float, "start of the sum of squares", not_negative] = 0.0, epsilon: Epsilon = 1e-10
) -> Rule:
    """Adagrad (Duchi et al., JMLR 2011): the direction is g / sqrt(initial + sum of g^2 + epsilon)."""
    return Rule(optax.scale_by_rss(initial, epsilon))


def lars(*, momentum: Momentum = 0.9, trust: Annotated[float, "of the ratio |w| / |g|", positive] = 0.001) -> Rule:
    """LARS (You et al., 2017): each array's gradient is scaled by trust * |w| / |g + weight_decay w|, then momentum."""
    return Rule(optax.chain(optax.scale_by_trust_ratio(trust_coefficient=trust), optax.trace(momentum)))


def lamb(*, b1: Beta1 = 0.9, b2: Beta2 = 0.999, epsilon: Epsilon = 1e-6) -> Rule:
    """LAMB (You et al., ICLR 2020): Adam's direction d, each array's scaled by |w| / |d + weight_decay w|."""
    return Rule(optax.scale_by_adam(b1, b2, epsilon), "decoupled", optax.scale_by_trust_ratio())


def lion(
    *, b1: Beta1 = 0.9, b2: Annotated[float, "decay of the gradient's mean that is kept", fraction] = 0.99
) -> Rule:
    """Lion (Chen et al., NeurIPS 2023): w = w - rate * (sign(b1 m + (1 - b1) g) + weight_decay * w), then m = b2 m + (1 - b2) g.

    Its rate is usually 3 to 10 times smaller than AdamW's, and its weight decay as many times greater.
    """
    return Rule(optax.scale_by_lion(b1, b2), "decoupled")


def muon(*, momentum: Annotated[float, "decay of the gradient's mean", fraction] = 0.95) -> Rule:
    """Muon (Jordan et al., 2024): kernels move along their orthogonalised momentum, everything else by Adam with Nesterov's momentum."""

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
    """An optimiser with the parts that its options ask for.

    Args:
      component: one of `OPTIMIZERS`, or its name; a function that returns an optax transformation, whose own `learning_rate` is the
        schedule, or whose update is multiplied by it where it has none; or such a transformation.
      schedule: update -> learning rate; None is the component's own.
      **options: the component's and those of `OptimizerOptions`, but the learning rate, which is the schedule's.

    Raises:
      ValueError: the component returns something else, or cannot accumulate.
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
    if rule:  # ours take no values; a partition inside says that it passes them on
        optimizer = optax.GradientTransformation(optimizer.init, optimizer.update)
    if common.accumulate == 1:
        return optimizer
    if _uses_values(optimizer):
        raise ValueError(
            "config: optimizer.accumulate: an optimizer that takes the loss's value needs it of the batch its gradient is "
            "of: set optimizer.accumulate to 1"
        )
    return optax.MultiSteps(optimizer, common.accumulate)


def _takes_learning_rate(component: Callable[..., Any]) -> bool:
    return "learning_rate" in inspect.signature(component).parameters


def optimizer_options(component: Callable[..., Any]) -> dict[str, Option]:
    """The options of an optimiser: those of `OptimizerOptions`, and its own in their place.

    `learning_rate` is 1 by default where an optax transformation has none, or None. What JAX may trace of the shared options, it
    may of those in their place.
    """
    shared = declared(OptimizerOptions)
    own = {
        name: dataclasses.replace(option, traceable=option.traceable or (name in shared and shared[name].traceable))
        for name, option in declared(component).items()
    }
    rate = shared["learning_rate"]
    if component not in OPTIMIZERS.values() and not _takes_learning_rate(component):
        rate = dataclasses.replace(rate, default=1.0, meaning="what the update is multiplied by")
    elif "learning_rate" in own:
        default = own["learning_rate"].default
        rate = dataclasses.replace(rate, default=1.0 if default is None else default)
    return {**shared, **own, "learning_rate": rate}


def takes_values(
    component: str | Callable[..., Any] | optax.GradientTransformation, options: Mapping[str, Any] | None = None
) -> bool:
    """Whether an optimiser takes the loss's `value`, `grad` and `value_fn`; the options are those of `make_optimizer`."""
    return _uses_values(make_optimizer(component, lambda step: 1.0, **{**(options or {}), "accumulate": 1}))


def _uses_values(optimizer: optax.GradientTransformation) -> bool:
    """Whether an update is another one where the loss's value is given: optax's type says so of many that do not use it."""
    if not isinstance(optimizer, optax.GradientTransformationExtraArgs):
        return False

    def update(params: Any, number: Array, **extra: Any) -> Any:
        return optimizer.update(params, optimizer.init(params), params, **extra)

    def update_with(params: Any, number: Array) -> Any:
        return update(params, number, value=number, grad=params, value_fn=lambda _: number)

    params = {"layer": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}
    try:
        return str(jax.make_jaxpr(update)(params, 1.0)) != str(jax.make_jaxpr(update_with)(params, 1.0))
    except Exception:  # it needs them
        return True


def l2_penalty(options: Mapping[str, Any]) -> Callable[[Any], Float[Array, ""]] | None:
    """(weight_decay / 2) |w|^2 of the decayed parameters, for `decay = "loss"`; None otherwise."""
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
    """Every parameter's factor: that of the last group whose pattern its path matches, or 1."""

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
    """True for the parameters named `kernel`: not biases, nor the scales of a normalisation."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
