"""The learning-rate range test: trains with a rising rate to find where the loss falls fastest and where it diverges."""

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

# The loss counts as diverged, which ends the test, when the smoothed loss exceeds its minimum by this factor.
DIVERGED = 4.0
SMOOTHING = 0.9


@dataclasses.dataclass(frozen=True)
class RateTest:
    """The result of a range test.

    Attributes:
      rates: the learning rate of each step.
      losses: the loss of each batch, including the penalty.
      smoothed: the exponential moving average of the losses with decay 0.9, bias corrected.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    smoothed: Sequence[float]

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest, as a function of the logarithm of the rate."""
        if len(self.smoothed) < 3:
            return self.rates[0]
        slopes = np.gradient(self.smoothed, np.log(self.rates))
        return float(self.rates[int(np.argmin(slopes))])

    @property
    def suggestion(self) -> float:
        """A tenth of the rate with the smallest smoothed loss: a usual choice for the highest rate of a schedule."""
        return float(self.rates[int(np.argmin(self.smoothed))] / 10)


def find_learning_rate(
    config: ConfigDict,
    dataset: Dataset,
    devices: list[jax.Device],
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 100,
) -> RateTest:
    """Trains a new network while the rate rises from `lowest` to `highest` by a constant factor per step (Smith, WACV 2017).

    The test ends early if the smoothed loss exceeds four times its minimum or is no longer finite.

    Args:
      config: the resolved config; its learning rate, schedule, accumulation and averages are ignored.
      dataset: the loaded data set, which is repeated as often as needed.
      devices: the devices that share each batch.
      lowest: the learning rate of the first step.
      highest: the learning rate of the last step.
      steps: the number of steps.

    Raises:
      ValueError: the rates or the number of steps are out of range, or the config does not fit the data.
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
            if smoothed[-1] > DIVERGED * min(smoothed) or len(rates) == steps:
                return RateTest(rates, losses, smoothed)
        epoch += 1
