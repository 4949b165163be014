"""The learning-rate range test: train while the rate rises, and see where the loss falls fastest and where it diverges."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cnnjax.data.datasets import Dataset
from cnnjax.training.experiment import build, data_facts
from cnnjax.training.parallel import replicate
from cnnjax.training.program import compile_program

# The test ends when the smoothed loss is this many times its least.
BURST = 4.0
SMOOTHING = 0.9


@dataclasses.dataclass(frozen=True)
class RateTest:
    """What the range test saw.

    Attributes:
      rates: the learning rate of each step.
      losses: each batch's loss in nats, the penalty included.
      smoothed: their running mean of decay 0.9, corrected for its start.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    smoothed: Sequence[float]

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest by the rate's logarithm."""
        if len(self.smoothed) < 3:
            return self.rates[0]
        slopes = np.gradient(self.smoothed, np.log(self.rates))
        return float(self.rates[int(np.argmin(slopes))])

    @property
    def suggestion(self) -> float:
        """A tenth of the rate where the smoothed loss is least: a usual choice for a schedule's highest."""
        return float(self.rates[int(np.argmin(self.smoothed))] / 10)


def find_learning_rate(
    config: ConfigDict,
    dataset: Dataset,
    devices: list[jax.Device],
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
) -> RateTest:
    """Trains a fresh network while the rate rises from `lowest` to `highest`, by the same factor each step (Smith, WACV 2017).

    It ends where the smoothed loss is four times its least, or no longer finite.

    Args:
      config: resolved; its learning rate, schedule, accumulation and averages play no part.
      dataset: loaded; passed over as often as the steps need.
      devices: that share each batch.
      lowest: of the first step.
      highest: of the last.
      steps: how many.

    Raises:
      ValueError: the rates or the steps are not in order, or the config does not fit the data.
    """
    if not 0 < lowest < highest < math.inf or steps < 2:
        raise ValueError(
            f"find-lr: lowest {lowest:g}, highest {highest:g}, {steps} steps: expected 0 < lowest < highest, at least 2 steps"
        )
    with config.copy_and_resolve_references().unlocked() as plain:
        plain.optimizer.learning_rate, plain.optimizer.accumulate, plain.train.ema = 1.0, 1, 0.0
        plain.schedule = ConfigDict({"name": "constant", "warmup_epochs": 0.0})
    experiment = build(plain, data_facts(plain, dataset))
    program = compile_program(plain, experiment, dataset, devices, None)
    epoch = 0
    state, rates, losses, smoothed, mean = replicate(program.initial(), devices), [], [], [], 0.0
    factor = (highest / lowest) ** (1 / (steps - 1))
    while True:
        for batch in program.feed(epoch, 0):
            rate = lowest * factor ** len(rates)
            state = state.replace(rate_scale=replicate(jnp.float32(rate), devices))
            state, metrics = program.steps(state, [batch], epoch)
            total, count = (np.ravel(metrics[name])[0] for name in ("loss", "count"))
            loss = float(total / count)
            if not math.isfinite(loss):
                return RateTest(rates, losses, smoothed)
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            rates.append(rate)
            losses.append(loss)
            smoothed.append(mean / (1 - SMOOTHING ** len(rates)))
            if smoothed[-1] > BURST * min(smoothed) or len(rates) == steps:
                return RateTest(rates, losses, smoothed)
        epoch += 1
