"""The metrics of a study: their names, directions and bounds."""

import dataclasses
import math
from collections.abc import Iterable, Mapping

from ml_collections import ConfigDict

from cnnjax.ablation.statistics import UNBOUNDED, Bounds
from cnnjax.core.locate import locate
from cnnjax.core.options import unknown
from cnnjax.data.slices import SPLITS
from cnnjax.tasks.registry import TASKS
from cnnjax.tasks.task import Mode, Task, bounds_of, directions_of, monitored

# The training time in seconds, which every trial has.
SECONDS = "time/seconds"


@dataclasses.dataclass(frozen=True)
class Metrics:
    """The facts about a study's metrics that are known before anything is measured; names have no split.

    Attributes:
      task: the name of the task's class, for messages.
      followed: the validation metric that the best checkpoint follows.
      directions: the direction ("min" or "max") of each metric that has one.
      bounds: the least and greatest possible value of each metric that has bounds.
    """

    task: str
    followed: str
    directions: Mapping[str, Mode]
    bounds: Mapping[str, Bounds]

    @property
    def names(self) -> list[str]:
        """The metrics that have a direction, with their splits; "nll" exists only for the test split."""
        each = [f"{split}/{name}" for split in SPLITS for name in self.directions if name != "nll" or split == "test"]
        return [*each, SECONDS]

    def sign(self, metric: str) -> int:
        """1 for a metric that should be large, -1 for one that should be small.

        Raises:
          ValueError: the metric has no direction.
        """
        if metric == SECONDS:
            return -1
        name = metric.partition("/")[2]
        if name not in self.directions:
            raise ValueError(f"metric {metric!r} has no direction: {self._advice(name)}")
        return 1 if self.directions[name] == "max" else -1

    def range(self, metric: str) -> Bounds:
        """The least and greatest possible value of a metric."""
        return (0.0, math.inf) if metric == SECONDS else self.bounds.get(metric.partition("/")[2], UNBOUNDED)

    def difference_range(self, metric: str) -> Bounds:
        """The least and greatest possible difference between two values of a metric."""
        low, high = self.range(metric)
        return low - high, high - low

    def check(self, metric: str) -> str:
        """Checks and returns the name of a metric.

        Raises:
          ValueError: the metric is unknown or has no direction; the message has the nearest names.
        """
        if metric in self.names:
            return metric
        split, _, name = metric.partition("/")
        own = f"(a metric of your own needs a direction: {self._advice(name)})" if name and split in SPLITS else ""
        raise ValueError(unknown("metric", metric, self.names, own))

    def _advice(self, name: str) -> str:
        return f"set {name!r} in {self.task}.directions, or as evaluate.metric with evaluate.mode"


def known_metrics(configs: Iterable[ConfigDict]) -> Metrics:
    """The metrics of the tasks in a study's configs; the followed metric is that of the first config.

    Raises:
      ValueError: a config's `evaluate.metric` has no direction.
    """
    different = {(config.task.to_json(), config.evaluate.metric, config.evaluate.mode): config for config in configs}
    known = [_of_config(config) for config in different.values()]
    directions = {name: mode for each in reversed(known) for name, mode in each.directions.items()}
    bounds = {name: values for each in reversed(known) for name, values in each.bounds.items()}
    return dataclasses.replace(known[0], directions=directions, bounds=bounds)


def _of_config(config: ConfigDict) -> Metrics:
    task = config_task(config)
    followed, mode = monitored(task, config.evaluate.metric, config.evaluate.mode)
    directions = {**directions_of(task), followed: mode}
    return Metrics(type(task).__name__, followed, directions, bounds_of(task))


def config_task(config: ConfigDict) -> Task:
    """The task of a config, without its loss, for its metrics."""
    options = config.task.to_dict()
    return locate("config: task.name", options.pop("name"), TASKS, config.folder)(**options)


def followed_metric(config: ConfigDict) -> tuple[str, int]:
    """The validation metric that a config's best checkpoint follows, named as in histories, and its sign as in `sign`."""
    metric, mode = monitored(config_task(config), config.evaluate.metric, config.evaluate.mode)
    return f"valid/{metric}", 1 if mode == "max" else -1
