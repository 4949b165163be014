"""Learning-rate schedules: functions from the number of updates to the learning rate.

A schedule is made from the highest learning rate, the number of updates in the run and in an epoch, and its own options.
Durations in epochs are converted to updates only here.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from cnnjax.core.options import between, fraction, not_negative, positive

WarmUp = Annotated[
    float,
    "number of epochs in which the rate rises linearly from `warmup_factor` of its highest value",
    between(0, 1_000_000),
]
WarmUpFactor = Annotated[float, "learning rate at the start of the warm-up as a share of the highest", fraction]
Factor = Annotated[float, "factor by which the rate falls", lambda factor: (
    None if positive(factor) is None and fraction(factor) is None else "a number between 0 and 1")]  # fmt: skip


def _duration(epochs: float) -> str | None:
    return None if positive(epochs) is None and epochs <= 1_000_000 else "epochs above 0, at most 1,000,000"


def _durations(epochs: tuple[float, ...]) -> str | None:
    return next(filter(None, map(_duration, epochs)), None)


def _divisor(value: float) -> str | None:
    return None if value >= 1 and positive(value) is None else "1 or more"


def constant(
    learning_rate: float,
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_epochs: WarmUp = 0.0,
    warmup_factor: WarmUpFactor = 0.0,
) -> optax.Schedule:
    """The same learning rate at every step, after a linear warm-up from 0."""
    return _risen(
        lambda step: learning_rate + 0.0 * step,
        learning_rate,
        total_steps,
        steps_per_epoch,
        warmup_epochs,
        warmup_factor,
    )


def step(
    learning_rate: float,
    total_steps: int,
    steps_per_epoch: int,
    *,
    epochs: Annotated[tuple[float, ...], "the epochs after which the rate falls", _durations] = (),
    every: Annotated[float | None, "number of epochs between falls, instead of `epochs`", _duration] = None,
    factor: Factor = 0.1,
    warmup_epochs: WarmUp = 0.0,
    warmup_factor: WarmUpFactor = 0.0,
) -> optax.Schedule:
    """Step decay: rate * factor^n after the n-th of the given epochs, or after n periods of `every` epochs.

    Raises:
      ValueError: neither or both of `epochs` and `every` are given, or `every` is less than a step.
    """
    if bool(epochs) == (every is not None):
        raise ValueError("config: the step schedule needs schedule.epochs or schedule.every, one of the two")
    if every is not None and every * steps_per_epoch < 1:
        raise ValueError(f"config: schedule.every={every:g}: expected at least a step, {1 / steps_per_epoch:g} epochs")
    if every is not None:
        epochs = tuple(every * count for count in range(1, int(total_steps / steps_per_epoch / every) + 1))
    falls = jnp.array([min(round(epoch * steps_per_epoch), total_steps + 1) for epoch in epochs] or [total_steps + 1])

    def rate(step: Array) -> Float[Array, ""]:
        return learning_rate * factor ** (jnp.asarray(step)[..., None] >= falls).sum(-1)

    return _risen(rate, learning_rate, total_steps, steps_per_epoch, warmup_epochs, warmup_factor)


def exponential(
    learning_rate: float,
    total_steps: int,
    steps_per_epoch: int,
    *,
    factor: Factor = 0.95,
    every: Annotated[float, "number of epochs in which the rate falls by the factor", _duration] = 1.0,
    staircase: Annotated[bool, "whether the rate falls in steps, at the end of each period"] = False,
    warmup_epochs: WarmUp = 0.0,
    warmup_factor: WarmUpFactor = 0.0,
) -> optax.Schedule:
    """Exponential decay: rate * factor^(step / period), with a period of `every` epochs, counted from the end of the warm-up."""
    decay = optax.exponential_decay(learning_rate, every * steps_per_epoch, factor, staircase=staircase)
    return _risen(decay, learning_rate, total_steps, steps_per_epoch, warmup_epochs, warmup_factor, shifted=True)


def polynomial(
    learning_rate: float,
    total_steps: int,
    steps_per_epoch: int,
    *,
    power: Annotated[float, "the exponent; 1 is linear", positive] = 1.0,
    end_factor: Annotated[float, "final learning rate as a share of the highest", fraction] = 0.0,
    warmup_epochs: WarmUp = 0.0,
    warmup_factor: WarmUpFactor = 0.0,
) -> optax.Schedule:
    """Polynomial decay: rate * (e + (1 - e) (1 - step / T)^power), with T the number of steps after the warm-up."""
    left = total_steps - _warmup_steps(total_steps, steps_per_epoch, warmup_epochs)
    decay = optax.polynomial_schedule(learning_rate, end_factor * learning_rate, power, left)
    return _risen(decay, learning_rate, total_steps, steps_per_epoch, warmup_epochs, warmup_factor, shifted=True)


def cosine(
    learning_rate: float,
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_epochs: WarmUp = 0.0,
    warmup_factor: WarmUpFactor = 0.0,
    end_factor: Annotated[float, "final learning rate as a share of the highest", fraction] = 0.0,
) -> optax.Schedule:
    """Cosine decay down to `end_factor` of the rate (Loshchilov and Hutter, ICLR 2017), after a linear warm-up from 0.

    With w warm-up steps of T: rate * step / w, then rate * (e + (1 - e) (1 + cos(pi (step - w) / (T - w))) / 2).

    Raises:
      ValueError: the warm-up takes the whole run or more.
    """
    left = total_steps - _warmup_steps(total_steps, steps_per_epoch, warmup_epochs)
    decay = optax.cosine_decay_schedule(learning_rate, left, alpha=end_factor)
    return _risen(decay, learning_rate, total_steps, steps_per_epoch, warmup_epochs, warmup_factor, shifted=True)


def triangular(
    learning_rate: float,
    total_steps: int,
    steps_per_epoch: int,
    *,
    rise: Annotated[float, "share of the run in which the rate rises", fraction] = 0.23,
    start_factor: Annotated[float, "learning rate of the first step as a share of the highest", fraction] = 0.2,
    end_factor: Annotated[float, "final learning rate as a share of the highest", fraction] = 0.07,
) -> optax.Schedule:
    """A triangle: linear from `start_factor` of the rate up to the rate at step floor(rise * T) of T, then down to `end_factor`."""
    peak = int(rise * total_steps)

    def rate(step: Array) -> Float[Array, ""]:
        factors = jnp.array([start_factor, 1.0, end_factor])
        return learning_rate * jnp.interp(jnp.asarray(step, float), jnp.array([0, peak, total_steps], float), factors)

    return rate


def one_cycle(
    learning_rate: float,
    total_steps: int,
    steps_per_epoch: int,
    *,
    rise: Annotated[float, "share of the run in which the rate rises", fraction] = 0.3,
    start_divisor: Annotated[float, "ratio of the highest to the initial rate", _divisor] = 25.0,
    end_divisor: Annotated[float, "ratio of the initial to the final rate", _divisor] = 1e4,
) -> optax.Schedule:
    """One cycle: half a cosine up from rate / start_divisor, then half a cosine down (Smith and Topin, 2018; as in PyTorch).

    The highest rate is at step rise * T - 1 of T. With fewer than 1 / rise steps this lies before the first step, and the rate
    only falls.
    """
    start, end = learning_rate / start_divisor, learning_rate / start_divisor / end_divisor
    peak, last = rise * total_steps - 1, total_steps - 1

    def rate(step: Array) -> Float[Array, ""]:
        up = jnp.clip(step / max(peak, 1e-9), 0, 1)
        down = jnp.clip((step - peak) / max(last - peak, 1e-9), 0, 1)
        rising = learning_rate + (start - learning_rate) * (1 + jnp.cos(jnp.pi * up)) / 2
        falling = end + (learning_rate - end) * (1 + jnp.cos(jnp.pi * down)) / 2
        return jnp.where(step < peak, rising, falling)

    return rate


def plateau(
    learning_rate: float,
    total_steps: int,
    steps_per_epoch: int,
    *,
    monitor: Annotated[Literal["error", "loss"], "the validation quantity to follow"] = "error",
    factor: Factor = 0.1,
    patience: Annotated[int, "number of evaluations without improvement that are tolerated", not_negative] = 5,
    threshold: Annotated[float, "improvements up to this size do not count", not_negative] = 0.0,
    falls: Annotated[int | None, "how often the rate may fall; None for no limit", positive] = None,
    warmup_epochs: WarmUp = 0.0,
    warmup_factor: WarmUpFactor = 0.0,
) -> optax.Schedule:
    """Multiplies the rate by `factor` when the validation error stops improving (Krizhevsky et al., 2012, section 5).

    The function itself is constant; the loop multiplies it by `plateau_scale`, which depends on the measured errors.
    """
    return constant(
        learning_rate, total_steps, steps_per_epoch, warmup_epochs=warmup_epochs, warmup_factor=warmup_factor
    )


def plateau_scale(
    values: Sequence[float],
    factor: float = 0.1,
    patience: int = 5,
    threshold: float = 0.0,
    falls: int | None = None,
) -> float:
    """The factor of the learning rate after the given validation errors or losses.

    The factor falls after more than `patience` values in a row of which none is below the best by more than `threshold`. Then
    counting starts again.

    >>> [round(plateau_scale([0.5, 0.4, 0.4, 0.4, 0.4][:count], patience=1), 2) for count in range(6)]
    [1.0, 1.0, 1.0, 1.0, 0.1, 0.1]
    """
    best, waited, count = float("inf"), 0, 0
    for value in values:
        improved = value < best - threshold
        best, waited = (value, 0) if improved else (best, waited + 1)
        if waited > patience and (falls is None or count < falls):
            count, waited = count + 1, 0
    return factor**count


def _warmup_steps(total_steps: int, steps_per_epoch: int, warmup_epochs: float) -> int:
    steps = round(warmup_epochs * steps_per_epoch)
    if not 0 <= steps < max(total_steps, 1):
        raise ValueError(
            f"config: schedule.warmup_epochs={warmup_epochs:g}: expected at least 0 and less than the run's "
            f"{total_steps / steps_per_epoch:g} epochs"
        )
    return steps


def _risen(
    schedule: optax.Schedule,
    learning_rate: float,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    warmup_factor: float,
    shifted: bool = False,
) -> optax.Schedule:
    """A schedule with a linear warm-up; if `shifted`, the schedule counts its steps from the end of the warm-up."""
    steps = _warmup_steps(total_steps, steps_per_epoch, warmup_epochs)
    if not steps:
        return schedule
    begin = 0 if shifted else steps
    after = lambda step: schedule(step + begin)  # noqa: E731
    return optax.join_schedules(
        [optax.linear_schedule(warmup_factor * learning_rate, learning_rate, steps), after], [steps]
    )


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "step": step,
    "exponential": exponential,
    "polynomial": polynomial,
    "cosine": cosine,
    "triangular": triangular,
    "one_cycle": one_cycle,
    "plateau": plateau,
}

# Names of a schedule's positional arguments without a default, in cnnjax and in optax.
_RATE = ("learning_rate", "init_value", "value")
_STEPS = ("total_steps", "decay_steps", "transition_steps")


def make_schedule(
    component: Callable[..., optax.Schedule],
    learning_rate: float,
    total_steps: int,
    steps_per_epoch: float,
    **options: Any,
) -> optax.Schedule:
    """Makes a schedule with a function of cnnjax, the user or optax.

    Args:
      component: a function (learning_rate, total_steps, steps_per_epoch, *, options) -> schedule, or an optax function whose
        arguments without a default are the learning rate (`init_value`, `value`) and the number of steps (`decay_steps`,
        `transition_steps`), such as `optax.cosine_decay_schedule`.
      learning_rate: the learning rate of the optimiser.
      total_steps: the number of updates in the run.
      steps_per_epoch: the number of updates per epoch.
      **options: the options of the component.

    Raises:
      ValueError: the component needs other arguments.
    """
    known = {name: learning_rate for name in _RATE} | {name: total_steps for name in _STEPS}
    known["steps_per_epoch"] = steps_per_epoch
    parameters = inspect.signature(component).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each.name for each in parameters if each.kind in positional and each.default is each.empty]
    if missing := [name for name in needed if name not in known]:
        raise ValueError(
            f"config: schedule.name: {getattr(component, '__name__', component)} needs {', '.join(missing)}: write a function "
            "of learning_rate, total_steps and steps_per_epoch that supplies it"
        )
    return component(*(known[name] for name in needed), **options)
