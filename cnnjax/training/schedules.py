"""Learning-rate schedules: step -> learning rate.

A schedule is made from the highest learning rate, the number of steps of the whole run and of an epoch, and its own
options. Durations in epochs are converted to steps here and nowhere else.
"""

from collections.abc import Callable
from typing import Annotated

import optax

from cnnjax.options import fraction, not_negative


def constant(learning_rate: float, total_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """The same learning rate at every step."""
    return optax.constant_schedule(learning_rate)


def cosine(
    learning_rate: float,
    total_steps: int,
    steps_per_epoch: int,
    *,
    warmup_epochs: Annotated[float, "epochs of linear rise from 0", not_negative] = 0.0,
    end_factor: Annotated[float, "share of the learning rate left at the end", fraction] = 0.0,
) -> optax.Schedule:
    """Half a cosine down to `end_factor` of the rate (Loshchilov and Hutter, ICLR 2017), after a linear warm-up from 0.

    With w warm-up steps of T: rate * step / w, then rate * (e + (1 - e) (1 + cos(pi (step - w) / (T - w))) / 2).

    Raises:
      ValueError: the warm-up takes the whole run or more.
    """
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if not 0 <= warmup_steps < max(total_steps, 1):
        raise ValueError(
            f"config: schedule.warmup_epochs={warmup_epochs:g}: expected at least 0 and less than the run's "
            f"{total_steps / steps_per_epoch:g} epochs"
        )
    decay = optax.cosine_decay_schedule(learning_rate, total_steps - warmup_steps, alpha=end_factor)
    if not warmup_steps:
        return decay
    return optax.join_schedules([optax.linear_schedule(0.0, learning_rate, warmup_steps), decay], [warmup_steps])


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {"constant": constant, "cosine": cosine}
