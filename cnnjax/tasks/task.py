"""The contract of a task: what is learned of a batch, and by which numbers it is judged.

A task is a frozen dataclass of pure functions. Its fields are the options of the config's section `task`; of its own are
`loss` and `summarize`, and whatever else differs from the defaults here::

    @dataclasses.dataclass(frozen=True)
    class Regression(cnnjax.Task):
        monitor, mode = "mae", "min"

        def loss(self, net, batch, train):
            error = net(batch["image"], train)[:, 0] - batch["label"]
            return error**2, {"absolute": abs(error)}

        def summarize(self, sums):
            return {"loss": sums["loss"] / sums["count"], "mae": sums["absolute"] / sums["count"]}

`net` is the model bound by Flax: its variables, its collections and its random streams are threaded for it. The framework
masks what `loss` returns and adds it up over examples, devices and processes; `summarize` divides, once.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Key

Batch = Mapping[str, Array]
Mode = Literal["min", "max"]


class Criterion(NamedTuple):
    """The config's loss, by example.

    Attributes:
      train: what is minimised: (outputs, targets) -> one value an example.
      evaluate: the same on the other splits, without smoothing and weights.
      probabilities: what the outputs mean as probabilities.
    """

    train: Callable[[Any, Any], Float[Array, "batch"]]
    evaluate: Callable[[Any, Any], Float[Array, "batch"]]
    probabilities: Callable[[Any], Any]


class Prepared(NamedTuple):
    """What the config makes of images, in training or in evaluation.

    Attributes:
      augment: stored images and a key an example -> images as augmented; in evaluation their central view.
      augment_examples: the same of a batch, whose labels `augment.extra` may change with its images.
      normalize: those -> what the network takes.
      mix: (images, targets) -> both mixed, by the config's mixup and cutmix; as they are where it has none, and in evaluation.
      outputs: the fields of the model that the data decide, as `Task.outputs` gave them.
    """

    augment: Callable[[Array, Key[Array, "batch"]], Array]
    augment_examples: Callable[[Batch, Key[Array, "batch"]], Batch]
    normalize: Callable[[Array], Array]
    mix: Callable[[Array, Array], tuple[Array, Array]]
    outputs: Mapping[str, Any]


class Details(NamedTuple):
    """What `cnnjax evaluate --details` prints: sentences, then a table."""

    sentences: Sequence[str]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()


def as_it_is(normalize: Callable[[Array], Array], outputs: Mapping[str, Any]) -> Prepared:
    """What is made of images that are neither augmented nor mixed."""
    return Prepared(lambda images, keys: images, lambda batch, keys: batch, normalize, lambda *both: both, outputs)


@dataclasses.dataclass(frozen=True)
class Task:
    """What is learned of a batch; the base of all tasks.

    Attributes:
      monitor: the metric of the validation split that the best checkpoint, early stopping, the plateau schedule and searches
        follow, unless `evaluate.metric` names another.
      mode: whether less or more of it is better.
      directions: the same of other metrics, merged over base classes and their monitors; {"robust_accuracy": "max"}.
      bounds: the least and the greatest value of a metric, where there are such; {"robust_accuracy": (0, 1)}. Intervals of means over
        seeds stay within.
      default_loss: the config's `loss.name` where it is not set.
      criterion: the config's loss; the framework sets it.
    """

    monitor: ClassVar[str] = "loss"
    mode: ClassVar[Mode] = "min"
    directions: ClassVar[Mapping[str, Mode]] = {}
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {}
    default_loss: ClassVar[str] = "cross_entropy"

    criterion: Criterion | None = dataclasses.field(
        default=None, kw_only=True, repr=False, compare=False, metadata={"option": False}
    )

    def prepare(self) -> None:
        """Loads what the task needs (a teacher, say): called once on the host, before anything is traced."""

    def outputs(self, dataset: Any) -> Mapping[str, Any]:
        """The fields of the model that the data decide: {"num_classes": 10}. A data set has `label_names` and `splits`."""
        return {}

    def inputs(self, batch: Batch, keys: Key[Array, "batch"], train: bool, prepared: Prepared) -> Batch:
        """The batch as `loss` and `predict` take it: augmented and normalised as the config says.

        Args:
          batch: "image" as stored, "label", "mask" (0 for padding) and "index" of each example.
          keys: a key an example, from the seed, the epoch and the example; in evaluation the same each time.
          train: whether a training step asks.
          prepared: what the config makes of images.
        """
        batch = prepared.augment_examples(batch, keys)
        return {**batch, "image": prepared.normalize(batch["image"])}

    def loss(self, net: Any, batch: Batch, train: bool) -> tuple[Float[Array, "batch"], Mapping[str, Array]]:
        """The loss of each example, and what else is added up of each: arrays (batch, ...)."""
        # The one method that every trained task writes; a task that only predicts needs none, so that Task is no abstract class.
        raise NotImplementedError(f"{type(self).__name__} has no `loss(self, net, batch, train)`")

    def summarize(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Metrics of the sums over all examples, "loss" and "count" among them."""
        return {"loss": sums["loss"] / sums["count"]}

    def auxiliary_loss(self, outputs: Any, batch: Batch) -> Float[Array, "batch"]:
        """The loss of outputs that a model sowed in its collection "auxiliary", in training; the sums leave it out."""
        # Asked for only where a model sows such outputs: to leave their loss out without a word would train another network.
        raise NotImplementedError(f"the model has auxiliary outputs and {type(self).__name__} no `auxiliary_loss`")

    def predict(self, net: Any, batch: Batch) -> Any:
        """What `run.predict` returns of each example and what views and ensembles average: arrays (batch, ...)."""
        return net(batch["image"], False)

    def score(self, predictions: Any, split: Any) -> dict[str, float]:
        """Metrics, computed on the host, of all predictions of a split in order: what no sum can say."""
        return {}

    def score_in_detail(self, predictions: Any, labels: np.ndarray) -> dict[str, float]:
        """Further metrics of predictions for `cnnjax evaluate` alone, which the history does not have."""
        return {}

    def sentence(self, metrics: Mapping[str, float]) -> str:
        """A split's metrics in words: the monitor first."""
        first = [self.monitor] if self.monitor in metrics else []
        names = [*first, *(name for name in metrics if name not in first)]
        return ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.4f}" for name in names)

    def details(self, predictions: Any, labels: np.ndarray, names: Sequence[str]) -> Details:
        """Figures of a split's predictions for a person, such as those of each class; `names` are the data set's label names."""
        return Details([f"{type(self).__name__} has no further details"])

    def columns(
        self, predictions: Any, names: Sequence[str], topk: int | None = None
    ) -> Mapping[str, Sequence[Any]] | None:
        """Predictions as the columns of a table, a value an example; None where they are no numbers of examples.

        Args:
          predictions: what `predict` returned, on the host.
          names: the data set's label names, which may be empty.
          topk: the number of classes to show; None is as the task likes.
        """
        if not isinstance(predictions, np.ndarray) or predictions.ndim > 2:
            return None
        values = predictions[:, None] if predictions.ndim == 1 else predictions
        names = number_names(names, values.shape[1])
        return {name: [float(f"{value:.6g}") for value in values[:, place]] for place, name in enumerate(names)}

    def describe(self, predictions: Any, names: Sequence[str], topk: int | None = None) -> Sequence[str] | None:
        """A text on each example's prediction; None where the predictions have no columns. Arguments as in `columns`."""
        columns = self.columns(predictions, names, topk)
        if columns is None:
            return None
        rows = zip(*columns.values(), strict=True)
        return ["  ".join(f"{name} {value}" for name, value in zip(columns, row, strict=True)) for row in rows]

    def score_of_metrics(self, metrics: Mapping[str, float]) -> dict[str, float] | None:
        """What `score` gives of the predictions of one view, where a split's metrics say it already; None where they do not."""
        return {} if type(self).score is Task.score else None


def class_names(names: Sequence[str], count: int) -> list[str]:
    """The names of classes, their numbers where they have none."""
    return list(names) if len(names) == count else [str(number) for number in range(count)]


def number_names(names: Sequence[str], count: int) -> list[str]:
    """The names of the numbers that are predicted: the data set's label names where there are as many, else values by place."""
    if len(names) == count:
        return list(names)
    return ["value"] if count == 1 else [f"value_{number}" for number in range(1, count + 1)]


def directions_of(task: type[Task] | Task) -> dict[str, Mode]:
    """Whether less or more is better, of each metric of a task that says so."""
    kind = task if isinstance(task, type) else type(task)
    monitors = {base.monitor: base.mode for base in reversed(kind.__mro__) if issubclass(base, Task)}
    return {"loss": "min", "nll": "min", **monitors, **_merged(kind, "directions"), kind.monitor: kind.mode}


def bounds_of(task: type[Task] | Task) -> dict[str, tuple[float, float]]:
    """The least and the greatest value, of each metric of a task that says so."""
    return _merged(task if isinstance(task, type) else type(task), "bounds")


def _merged(kind: type[Task], name: str) -> dict[str, Any]:
    """A mapping that a task's class and its base classes have in parts."""
    return {key: value for base in reversed(kind.__mro__) for key, value in vars(base).get(name, {}).items()}


def monitored(task: Task, metric: str | None, mode: Mode | None) -> tuple[str, Mode]:
    """The metric that is followed and its direction.

    Args:
      task: its monitor is the default.
      metric: the config's `evaluate.metric`.
      mode: the config's `evaluate.mode`.

    Raises:
      ValueError: the metric has no direction.
    """
    if metric is None:
        return task.monitor, mode or task.mode
    known = directions_of(task)
    if mode is None and metric not in known:
        raise ValueError(
            f"config: evaluate.metric={metric!r} has no direction: set evaluate.mode to min or max, or give it in "
            f"{type(task).__name__}.directions (which has {', '.join(sorted(known))})"
        )
    return metric, mode or known[metric]
