"""The input of the rules: the curves and the layers of a training, read from the run's log."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnjax.report.diagnosis.thresholds import EXPLODING, NO_SKILL, STANDARD_ERRORS
from cnnjax.runs import network_shape, stored_config
from cnnjax.training import run_directory
from cnnjax.training.experiment import DataFacts, build, state_shapes

# The quantities that determine a layer's step; only finite values are logged.
STEP_QUANTITIES = {"update_ratio", "weight_norm", "gradient_norm"}


@dataclasses.dataclass(frozen=True)
class TrainingCurves:
    """The curves of a training, arrays with an entry for each measured epoch, and the probes of its layers.

    Attributes:
      config: the resolved config.
      epochs: the epochs of the training figures.
      train_loss: the training loss, in nats for cross-entropy, including penalties, augmentation and dropout.
      train_accuracy: the training accuracy, 0 to 1, including augmentation and dropout.
      rates: the learning rate at the end of each epoch.
      valid_epochs: the epochs of the validation figures.
      valid_loss: the validation loss, without penalty.
      valid_accuracy: the validation accuracy, 0 to 1.
      layers: (epoch, {layer: {quantity: value}}), from epoch 0, before the first step.
      classes: the number of classes.
      guess: the accuracy of always predicting the most frequent class.
      guess_loss: the loss of predicting the frequencies of the classes.
      train_examples: the number of training images in an epoch.
      valid_examples: the number of images in the validation split.
      image_shape: the shape of a prepared image.
      finished: whether the training reached its end or was stopped early by the config.
      error: the error that ended the training, if its loss was no longer finite.
    """

    config: ConfigDict
    epochs: Float[np.ndarray, "epoch"]
    train_loss: Float[np.ndarray, "epoch"]
    train_accuracy: Float[np.ndarray, "epoch"]
    rates: Float[np.ndarray, "epoch"]
    valid_epochs: Float[np.ndarray, "valid"]
    valid_loss: Float[np.ndarray, "valid"]
    valid_accuracy: Float[np.ndarray, "valid"]
    layers: Sequence[tuple[float, Mapping[str, Mapping[str, float]]]]
    classes: int
    guess: float
    guess_loss: float
    train_examples: int
    valid_examples: int
    image_shape: Sequence[int]
    finished: bool
    error: str | None

    def skill(self, accuracy: Any) -> Any:
        """The accuracy rescaled: 0 for guessing, 1 for perfection."""
        return (accuracy - self.guess) / (1 - self.guess) if self.guess < 1 else np.ones_like(accuracy)

    def sampling_error(self, accuracy: float, examples: int) -> float:
        """The standard error of an accuracy measured on this number of examples."""
        share = min(max(accuracy, self.guess), 1 - 1 / (examples + 2))
        return math.sqrt(share * (1 - share) / max(examples, 1))

    @cached_property
    def fitted(self) -> float:
        """The larger of the final skills on training and validation, since augmentation and dropout lower the first."""
        accuracies = [curve[-1] for curve in (self.train_accuracy, self.valid_accuracy) if len(curve)]
        return float(self.skill(max(accuracies))) if accuracies else 0.0

    def skill_at(self, epoch: float) -> float:
        """The skill in an epoch, on training or validation; 0 before the first, unless the run started from weights."""
        if epoch == 0:
            return 1.0 if self.config.initial.run or self.config.initial.weights else 0.0
        pairs = (self.epochs, self.train_accuracy), (self.valid_epochs, self.valid_accuracy)
        return max(float(self.skill(curve[epochs == epoch][0])) for epochs, curve in pairs if epoch in epochs)

    @cached_property
    def decay_an_epoch(self) -> float:
        """The exponent of the shrinkage of the weights by weight decay in an epoch, at the highest rate, for SGD and AdamW."""
        optimizer = self.config.optimizer
        if optimizer.name not in ("sgd", "adamw") or not len(self.rates):
            return 0.0
        rate = self.rates.max() / (1 - optimizer.get("momentum", 0.0))
        return float(optimizer.weight_decay * rate * self.steps_per_epoch)

    @cached_property
    def gap(self) -> float:
        """Skill on training minus skill on validation, at the end; 0 if one of them is not known."""
        if not len(self.train_accuracy) or not len(self.valid_accuracy):
            return 0.0
        return float(self.skill(self.train_accuracy[-1]) - self.skill(self.valid_accuracy[-1]))

    @cached_property
    def gap_errors(self) -> float:
        """The gap in standard errors of the validation accuracy."""
        if not len(self.valid_accuracy):
            return 0.0
        return self.gap * (1 - self.guess) / self.sampling_error(self.valid_accuracy[-1], self.valid_examples)

    def learned_nothing(self, accuracy: Float[np.ndarray, "epoch"], examples: int) -> bool:
        """Whether the accuracy never exceeded that of guessing significantly, given the number of examples."""
        if not len(accuracy):
            return False
        best = float(accuracy.max())
        beyond = (best - self.guess) / self.sampling_error(self.guess, examples)
        return self.skill(best) < NO_SKILL or beyond < STANDARD_ERRORS + 1

    @cached_property
    def knows_new_images(self) -> bool:
        """Whether the network was better than guessing in the first epoch, on training images that it had not seen."""
        if not len(self.epochs) or self.epochs[0] != 1:
            return False
        beyond = (self.train_accuracy[0] - self.guess) / self.sampling_error(self.guess, self.train_examples)
        return bool(beyond >= STANDARD_ERRORS + 1)

    @cached_property
    def knows_others(self) -> bool:
        """Whether the network is better than guessing on the validation images at the end, in accuracy and in loss."""
        if not len(self.valid_loss) or self.valid_loss[-1] >= self.guess_loss:
            return False
        return not self.learned_nothing(self.valid_accuracy[-1:], self.valid_examples)

    @cached_property
    def explodes_from_the_start(self) -> bool:
        """Whether |g| |w| was too large before the first step."""
        return any(
            value >= EXPLODING
            for epoch, layers in self.layers
            if epoch == 0
            for value in self.elasticities(layers).values()
        )

    @cached_property
    def steps_per_epoch(self) -> int:
        """The number of steps in an epoch: whole batches of the training split."""
        return self.train_examples // self.config.train.batch_size

    @cached_property
    def updates(self) -> list[float]:
        """The largest |u| / |w| over the layers in each probed epoch; the output layer's norm counts at least as its usual norm."""
        largest = []
        for _, layers in self.layers:
            scale = 1 / self.output_shortfall(layers)
            ratios = {name: layer["update_ratio"] for name, layer in layers.items() if "update_ratio" in layer}
            if ratios:
                *_, output = ratios
                largest.append(max(ratio * (scale if name == output else 1) for name, ratio in ratios.items()))
        return largest

    @cached_property
    def reach(self) -> float | None:
        """The largest possible reduction of the loss by all steps, in units of the loss of guessing.

        To first order a step lowers the loss by at most |u| |g|; values between the probes are interpolated.
        """
        slopes = [
            (epoch, sum(layer["update_ratio"] * layer["weight_norm"] * layer["gradient_norm"] for layer in moved))
            for epoch, layers in self.layers
            if (moved := [layer for layer in layers.values() if layer.keys() >= STEP_QUANTITIES])
        ]
        if len(slopes) < 2:
            return None
        epochs, values = np.array(slopes).T
        return float(np.trapezoid(values, epochs) * self.steps_per_epoch / self.guess_loss)

    def output_shortfall(self, layers: Mapping[str, Mapping[str, float]]) -> float:
        """The factor by which the output layer's weights are smaller than usual; 1 if they are not.

        Weights with a variance of 1 / inputs have a norm of about the square root of the number of outputs, here the classes. A
        network that begins at the loss of guessing has small output weights, and hence small gradients in earlier layers; these
        grow with the output weights, so they are judged as if the output weights had their usual norm.
        """
        norms = [layer["weight_norm"] for layer in layers.values() if layer.get("weight_norm", 0) > 0]
        return max(1.0, math.sqrt(self.classes) / norms[-1]) if norms else 1.0

    @cached_property
    def has_batch_statistics(self) -> bool:
        """Whether the network has batch normalisation, by its probes or otherwise its variables."""
        if self.layers:
            return any("statistics_drift" in layer for _, layers in self.layers for layer in layers.values())
        facts = DataFacts({"num_classes": self.classes}, self.config.train.batch_size, [1] * self.classes)
        experiment = build(self.config, facts)
        return bool(state_shapes(experiment, network_shape(self.config, self.image_shape)).batch_stats)

    def elasticities(self, layers: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """|g| |w| / loss of guessing for every trained layer with nonzero weights."""
        return {
            name: layer["gradient_norm"] * layer["weight_norm"] / self.guess_loss
            for name, layer in layers.items()
            if layer.get("weight_norm", 0) > 0 and "gradient_norm" in layer
        }


def read_logs(workdir: Path) -> tuple[list[dict[str, Any]], ConfigDict, dict[str, Any]]:
    """Reads the arguments of `diagnose_history` from a run directory; no checkpoint is needed.

    Raises:
      FileNotFoundError: the directory holds no run.
      ValueError: one of its files is damaged.
    """
    if not run_directory.is_run(workdir):
        raise FileNotFoundError(f"{workdir} holds no run ({run_directory.CONFIG} is missing)")
    return run_directory.read_history(workdir), stored_config(workdir), run_directory.read_description(workdir)


def read_curves(
    history: Sequence[Mapping[str, Any]], config: ConfigDict, described: Mapping[str, Any]
) -> TrainingCurves:
    """The curves of a history; arguments as in `diagnose_history`."""

    def curve(key: str, lines: Sequence[Mapping[str, Any]]) -> np.ndarray:
        return np.array([line[key] for line in lines], np.float64)

    trained = [line for line in history if "train/loss" in line]
    rated = [line for line in history if "valid/loss" in line and math.isfinite(line["valid/loss"])]
    classes = len(described["label_names"])
    counts = np.array(described["class_counts"] or [1] * classes, np.float64)
    shares = counts / counts.sum()
    return TrainingCurves(
        config=config,
        epochs=curve("epoch", trained),
        train_loss=curve("train/loss", trained),
        train_accuracy=curve("train/accuracy", trained),
        rates=curve("learning_rate", trained),
        valid_epochs=curve("epoch", rated),
        valid_loss=curve("valid/loss", rated),
        valid_accuracy=curve("valid/accuracy", rated),
        layers=[(line["epoch"], layers) for line in history if (layers := _layers(line))],
        classes=classes,
        guess=float(shares.max()),
        guess_loss=_guess_loss(config.loss.name, shares),
        train_examples=described["examples"].get("train", 0),
        valid_examples=described["examples"].get("valid", 0),
        image_shape=described["image_shape"],
        finished=any("test/accuracy" in line for line in history)
        or (bool(trained) and trained[-1]["epoch"] >= config.train.epochs),
        error=next((line["error"] for line in history if "error" in line), None),
    )


def measures_accuracy(history: Sequence[Mapping[str, Any]], described: Mapping[str, Any]) -> bool:
    """Whether the labels are classes and every epoch of the history has an accuracy, which the rules need."""
    if described.get("class_counts") is None:
        return False
    return all(
        f"{split}/accuracy" in line for line in history for split in ("train", "valid") if f"{split}/loss" in line
    )


def _layers(line: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """A line's probes as {layer: {quantity: value}}."""
    layers: dict[str, dict[str, float]] = {}
    for key, value in line.items():
        if key.startswith("probe/"):
            path, _, quantity = key.removeprefix("probe/").rpartition("/")
            layers.setdefault(path, {})[quantity] = value
    return layers


def _guess_loss(loss: str, shares: Float[np.ndarray, "class"]) -> float:
    """The smallest loss of a constant prediction, for classes with these frequencies."""
    p = np.clip(shares, 1e-12, 1 - 1e-12)
    if loss == "binary_cross_entropy":
        return float(-(p * np.log(p) + (1 - p) * np.log(1 - p)).sum())
    if loss == "mean_squared_error":
        return float((p * (1 - p)).mean())
    return float(-(p * np.log(p)).sum())
