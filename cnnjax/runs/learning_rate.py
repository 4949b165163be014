"""The learning-rate range test of a config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cnnjax.config import load_config
from cnnjax.data.datasets import DatasetOptions, load_dataset
from cnnjax.runs.run import reporter
from cnnjax.training import rate_finder
from cnnjax.training.experiment import (
    check_batch_size,
)
from cnnjax.training.parallel import choose_devices
from cnnjax.training.rate_finder import RateTest


def find_learning_rate(
    config: ConfigDict | Mapping[str, Any] | str | Path, lowest: float = 1e-6, highest: float = 10.0, steps: int = 100
) -> RateTest:
    """Runs the learning-rate range test of a config: its loss while the rate rises from `lowest` to `highest`.

    Args:
      config: a config from `load_config`, or anything that it accepts.
      lowest: the learning rate of the first step.
      highest: the learning rate of the last step; the test ends earlier if the loss diverges.
      steps: the number of steps.

    Raises:
      ValueError: the config cannot be trained, or the rates are not in order.
    """
    config = load_config(config)
    devices = choose_devices(config.devices)
    check_batch_size(config.train.batch_size, len(devices))
    dataset = load_dataset(DatasetOptions(**config.dataset), reporter(config), folder=config.folder)
    return rate_finder.find_learning_rate(config, dataset, devices, lowest, highest, steps)
