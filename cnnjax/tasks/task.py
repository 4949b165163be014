"""The contract of a task: its loss, its metrics and its predictions.

A task is a frozen dataclass of pure functions, whose fields are the options of the config's section `task`. It defines `loss`
and `summarize` and overrides whatever else differs from the defaults::

    @dataclasses.dataclass(frozen=True)
    class Regression(cnnjax.Task):
        monitor, mode = "mae", "min"

        def loss(self, net, batch, train):
            error = net(batch["image"], train)[:, 0] - batch["label"]
            return error**2, {"absolute": abs(error)}

        def summarize(self, sums):
            return {"loss": sums["loss"] / sums["count"], "mae": sums["absolute"] / sums["count"]}

`net` is the model bound by Flax, with its variables, collections and random streams. The framework masks the values that
`loss` returns and adds them up over examples, devices and processes; `summarize` divides, once.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Key

Batch = Mapping[str, Array]
Mode = Literal["min", "max"]


class Criterion(NamedTuple):
    """The config's loss, one value per example.

    Attributes:
      train: the loss that is minimised: (outputs, targets) -> one value per example.
      evaluate: the loss on the other splits, without label smoothing and class weights.
      probabilities: the function from outputs to class probabilities.
    """

    train: Callable[[Any, Any], Float[Array, "batch"]]
    evaluate: Callable[[Any, Any], Float[Array, "batch"]]
    probabilities: Callable[[Any], Any]


class Prepared(NamedTuple):
    """The functions that prepare images as the config says, in training or in evaluation.

    Attributes:
      augment: (stored images, one key per example) -> augmented images; in evaluation the central view.
      augment_examples: the same for a whole batch, whose labels `augment.extra` may change together with its images. A third argument
        says that labels are maps of class numbers, to be moved with their images; it is the number for pixels outside the image. The
        argument `visible` says that they are boxes (`data.boxes`); it is the fraction of a box that must remain inside the image.
      normalize: augmented images -> the input of the network.
      mix: (images, targets) -> both mixed by the config's mixup and cutmix; unchanged without these and in evaluation.
      outputs: the model fields that depend on the data, as returned by `Task.outputs`.
    """

    augment: Callable[[Array, Key[Array, "batch"]], Array]
    augment_examples: Callable[..., Batch]
    normalize: Callable[[Array], Array]
    mix: Callable[[Array, Array], tuple[Array, Array]]
    outputs: Mapping[str, Any]


class Details(NamedTuple):
    """The output of `cnnjax evaluate --details`: sentences, followed by a table."""

    sentences: Sequence[str]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()


def as_it_is(normalize: Callable[[Array], Array], outputs: Mapping[str, Any]) -> Prepared:
    """The preparation of images that are neither augmented nor mixed."""
    return Prepared(
        lambda images, keys: images,
        lambda batch, keys, ignore=None, visible=None: batch,
        normalize,
        lambda *both: both,
        outputs,
    )


@dataclasses.dataclass(frozen=True)
class Task:
    """The base class of all tasks.

    Attributes:
      monitor: the validation metric that the best checkpoint, early stopping, the plateau schedule and searches follow, unless
        `evaluate.metric` names another.
      mode: whether the monitor should be small ("min") or large ("max").
      directions: the modes of other metrics, merged over base classes and their monitors: {"robust_accuracy": "max"}.
      bounds: the least and greatest possible value of a metric: {"robust_accuracy": (0, 1)}. Confidence intervals over seeds
        are limited to them.
      validates_predictions: whether `score` is computed for the validation split too, at each evaluation, rather than of the test split
        alone. A task whose monitor is among these metrics needs it; its trials are trained one by one.
      default_loss: the value of the config's `loss.name` if it is not set.
      criterion: the config's loss; set by the framework.
    """

    monitor: ClassVar[str] = "loss"
    mode: ClassVar[Mode] = "min"
    directions: ClassVar[Mapping[str, Mode]] = {}
    bounds: ClassVar[Mapping[str, tuple[float, float]]] = {}
    validates_predictions: ClassVar[bool] = False
    default_loss: ClassVar[str] = "cross_entropy"

    criterion: Criterion | None = dataclasses.field(
        default=None, kw_only=True, repr=False, compare=False, metadata={"option": False}
    )

    def prepare(self) -> None:
        """Loads what the task needs (a teacher, say): called once on the host, before anything is traced."""

    def outputs(self, dataset: Any) -> Mapping[str, Any]:
        """The model fields that depend on the data: {"num_classes": 10}. A data set has `label_names` and `splits`."""
        return {}

    def class_counts(self, dataset: Any) -> Sequence[int] | None:
        """The training split's examples of each class, by which a loss weighs classes; None where there are no classes."""
        return dataset.class_counts

    def check_config(self, config: Any) -> None:
        """Raises ValueError for what of the resolved config does not fit the task."""

    def inputs(self, batch: Batch, keys: Key[Array, "batch"], train: bool, prepared: Prepared) -> Batch:
        """The batch that `loss` and `predict` receive: augmented and normalised as the config says.

        Args:
          batch: the "image" as stored, "label", "mask" (0 for padding) and "index" of each example.
          keys: one key per example, derived from the seed, the epoch and the example; in evaluation always the same.
          train: whether the batch is for a training step.
          prepared: the functions that prepare images.
        """
        batch = prepared.augment_examples(batch, keys)
        return {**batch, "image": prepared.normalize(batch["image"])}

    def loss(self, net: Any, batch: Batch, train: bool) -> tuple[Float[Array, "batch"], Mapping[str, Array]]:
        """The loss of each example, and further quantities that are summed over examples: arrays (batch, ...)."""
        # Not an abstract method: a task that only predicts needs no loss.
        raise NotImplementedError(f"{type(self).__name__} has no `loss(self, net, batch, train)`")

    def summarize(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Metrics from the sums over all examples, which include "loss" and "count"."""
        return {"loss": sums["loss"] / sums["count"]}

    def auxiliary_loss(self, outputs: Any, batch: Batch) -> Float[Array, "batch"]:
        """The loss of outputs that a model sows in its collection "auxiliary" in training; not included in the sums."""
        # Called only if a model sows such outputs: silently omitting their loss would train a different network.
        raise NotImplementedError(f"the model has auxiliary outputs and {type(self).__name__} no `auxiliary_loss`")

    def predict(self, net: Any, batch: Batch) -> Any:
        """The predictions that `run.predict` returns and that views and ensembles average: arrays (batch, ...)."""
        return net(batch["image"], False)

    def mirrored_back(self, predictions: Any) -> Any:
        """The predictions for images from those for their mirror images (along the last spatial axis), which views average.

        The same predictions, unless they are at places of the image.
        """
        return predictions

    def tally(self, predictions: Any, labels: np.ndarray) -> Mapping[str, Any]:
        """Those of `loss`'s sums that follow from the predictions of some examples, by the same names, computed on the host.

        A task whose predictions are large defines this and what follows from such sums, `score_of_sums` and `details_of_sums`, in
        place of `score` and `details`: a split's predictions are then never in memory together.
        """
        return {}

    def score_of_sums(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Metrics of a split's predictions from the sums of `tally`, or of `loss`."""
        return {}

    def details_of_sums(self, sums: Mapping[str, Any], names: Sequence[str]) -> Details:
        """The result of `details` from the sums of `tally`, or of `loss`."""
        return Details([f"{type(self).__name__} has no further details"])

    def score(self, predictions: Any, split: Any) -> dict[str, float]:
        """Metrics of all predictions of a split in order, computed on the host: those that sums cannot express."""
        return self.score_of_sums(self.tally(predictions, split.labels))

    def score_in_detail(self, predictions: Any, labels: np.ndarray) -> dict[str, float]:
        """Further metrics of predictions, which only `cnnjax evaluate` shows and the history does not contain."""
        return {}

    def sentence(self, metrics: Mapping[str, float]) -> str:
        """The metrics of a split as text, the monitor first."""
        first = [self.monitor] if self.monitor in metrics else []
        names = [*first, *(name for name in metrics if name not in first)]
        return ", ".join(f"{name.replace('_', ' ')} {metrics[name]:.4f}" for name in names)

    def details(self, predictions: Any, labels: np.ndarray, names: Sequence[str]) -> Details:
        """Detailed results of a split's predictions to print, such as those of each class; `names` are the label names."""
        return self.details_of_sums(self.tally(predictions, labels), names)

    def columns(
        self, predictions: Any, names: Sequence[str], topk: int | None = None
    ) -> Mapping[str, Sequence[Any]] | None:
        """Predictions as table columns with one value per example; None if they cannot be written as columns of numbers.

        Args:
          predictions: the predictions that `predict` returned, on the host.
          names: the label names of the data set, which may be empty.
          topk: the number of classes to show; None leaves it to the task.
        """
        if not isinstance(predictions, np.ndarray) or predictions.ndim > 2:
            return None
        values = predictions[:, None] if predictions.ndim == 1 else predictions
        names = number_names(names, values.shape[1])
        return {name: [float(f"{value:.6g}") for value in values[:, place]] for place, name in enumerate(names)}

    def describe(self, predictions: Any, names: Sequence[str], topk: int | None = None) -> Sequence[str] | None:
        """A text for each example's prediction; None if the predictions have no columns. Arguments as in `columns`."""
        columns = self.columns(predictions, names, topk)
        if columns is None:
            return None
        rows = zip(*columns.values(), strict=True)
        return ["  ".join(f"{name} {value}" for name, value in zip(columns, row, strict=True)) for row in rows]

    def score_of_metrics(self, metrics: Mapping[str, float]) -> dict[str, float] | None:
        """The result of `score` for a single view if it follows from a split's metrics, else None."""
        return {} if type(self).score is Task.score else None


def takes_all_predictions(task: Task, details: bool = False) -> bool:
    """Whether a task scores the predictions of a whole split at once, and not by sums over examples.

    Args:
      task: the task.
      details: whether its `details` are asked for.
    """
    methods = ("score", "score_in_detail", *(["details"] if details else []))
    return any(getattr(type(task), method) is not getattr(Task, method) for method in methods)


def class_names(names: Sequence[str], count: int) -> list[str]:
    """The names of classes, or their numbers if they have no names."""
    return list(names) if len(names) == count else [str(number) for number in range(count)]


def number_names(names: Sequence[str], count: int) -> list[str]:
    """The names of predicted numbers: the label names of the data set if their count matches, else value_1, value_2, ..."""
    if len(names) == count:
        return list(names)
    return ["value"] if count == 1 else [f"value_{number}" for number in range(1, count + 1)]


def directions_of(task: type[Task] | Task) -> dict[str, Mode]:
    """The direction ("min" or "max") of each metric for which a task defines one."""
    kind = task if isinstance(task, type) else type(task)
    monitors = {base.monitor: base.mode for base in reversed(kind.__mro__) if issubclass(base, Task)}
    return {"loss": "min", "nll": "min", **monitors, **_merged(kind, "directions"), kind.monitor: kind.mode}


def bounds_of(task: type[Task] | Task) -> dict[str, tuple[float, float]]:
    """The least and greatest possible value of each metric for which a task defines them."""
    return _merged(task if isinstance(task, type) else type(task), "bounds")


def _merged(kind: type[Task], name: str) -> dict[str, Any]:
    """A mapping merged over the class of a task and its base classes."""
    return {key: value for base in reversed(kind.__mro__) for key, value in vars(base).get(name, {}).items()}


def monitored(task: Task, metric: str | None, mode: Mode | None) -> tuple[str, Mode]:
    """The metric to follow and its direction.

    Args:
      task: the task, whose monitor is the default.
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
