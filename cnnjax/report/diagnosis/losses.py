"""What the losses alone show, of a training whose task has no accuracy of class labels.

A loss has no scale of its own here: what guessing would cost is not known, so that each loss is compared with itself at other times.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from cnnjax.core.terminal import count_of
from cnnjax.report.diagnosis.evidence import Finding
from cnnjax.report.diagnosis.thresholds import CURVE_EPOCHS, RISEN, STILL_FALLING

# A loss that has fallen by less than this fraction of itself since the first epoch has not fallen.
FALLEN = 0.01


@dataclasses.dataclass(frozen=True)
class LossCurves:
    """A training's losses, arrays with an entry for each epoch that was measured.

    Attributes:
      planned: the epochs that the config asks for.
      epochs: the epochs of the training loss.
      train: the training loss; penalties, augmentation and dropout are in it.
      valid_epochs: the epochs of the validation loss.
      valid: the validation loss.
      finished: whether the training reached its end, or was stopped early as the config says.
      error: what ended the training, if its loss was no longer finite.
    """

    planned: int
    epochs: Float[np.ndarray, "epoch"]
    train: Float[np.ndarray, "epoch"]
    valid_epochs: Float[np.ndarray, "valid"]
    valid: Float[np.ndarray, "valid"]
    finished: bool
    error: str | None


def read_losses(history: Sequence[Mapping[str, Any]], config: ConfigDict) -> LossCurves:
    """The losses of a history."""

    def curve(key: str) -> tuple[np.ndarray, np.ndarray]:
        lines = [line for line in history if key in line and math.isfinite(line[key])]
        return tuple(np.array([line[name] for line in lines], np.float64) for name in ("epoch", key))

    trained, valid = curve("train/loss"), curve("valid/loss")
    tested = any(name.startswith("test/") for line in history for name in line)
    finished = tested or (len(trained[0]) > 0 and trained[0][-1] >= config.train.epochs)
    error = next((line["error"] for line in history if "error" in line), None)
    return LossCurves(config.train.epochs, *trained, *valid, finished, error)


def diverging(curves: LossCurves) -> Finding | None:
    """The loss is no longer finite, or ends well above where it began."""
    advice = "Lower optimizer.learning_rate by 3 to 10 times (`cnnjax find-lr` shows where the loss diverges), warm it up, or clip."
    if curves.error:
        return Finding("diverging", "The training diverged: its numbers were no longer finite.", curves.error, advice)
    loss = curves.train
    if len(loss) < 2 or loss[-1] <= loss[0] + RISEN * abs(loss[0]):
        return None
    evidence = f"train/loss {loss[0]:.4g} in the first epoch, {loss[-1]:.4g} in the last"
    return Finding("diverging", "The training loss ends above where it began.", evidence, advice)


def not_learning(curves: LossCurves) -> Finding | None:
    """Neither loss has fallen since the first epoch."""
    measured = {"train": curves.train, "valid": curves.valid}
    losses = {name: loss for name, loss in measured.items() if len(loss)}
    if len(curves.train) < CURVE_EPOCHS or any(
        loss[0] - loss.min() >= FALLEN * abs(loss[0]) for loss in losses.values()
    ):
        return None
    return Finding(
        "not learning",
        "The loss has hardly fallen since the first epoch: the network learns nothing, or learned all that it can in that epoch.",
        "; ".join(f"{name}/loss {loss[0]:.4g} in the first epoch, {loss.min():.4g} at best" for name, loss in losses.items()),
        "See whether it can memorise a few images. If not: is the learning rate of the right size (`cnnjax find-lr`), are layers "
        "frozen, are the targets of about size 1, does the loss depend on the network's output?",
    )  # fmt: skip


def over_fitting(curves: LossCurves) -> Finding | None:
    """The validation loss has risen well above its minimum, while the training loss fell."""
    if len(curves.valid) < 2 or not len(curves.train):
        return None
    least = int(curves.valid.argmin())
    since = curves.valid_epochs[least]
    before = curves.train[curves.epochs <= since]
    risen = curves.valid[-1] - curves.valid[least] > RISEN * abs(curves.valid[least])
    if not risen or not len(before) or curves.train[-1] >= before[-1]:
        return None
    return Finding(
        "over-fitting",
        f"From epoch {since:.0f} on the network memorises its training images instead of learning what generalises.",
        f"valid/loss {curves.valid[least]:.4g} in epoch {since:.0f}, its minimum, and {curves.valid[-1]:.4g} in epoch "
        f"{curves.valid_epochs[-1]:.0f}, while train/loss fell from {before[-1]:.4g} to {curves.train[-1]:.4g}",
        "More or augmented images, weight decay, dropout, a smaller network, or train.early_stopping.",
    )


def still_improving(curves: LossCurves) -> Finding | None:
    """At the current rate, 25 % more epochs would reduce the loss by a tenth or more."""
    name, epochs, loss = "valid", curves.valid_epochs, curves.valid
    if len(loss) < 2:
        name, epochs, loss = "train", curves.epochs, curves.train
    if curves.error or not curves.finished or len(loss) < 2 or (loss <= 0).any() or loss[-1] > loss.min():
        return None
    last = max(2, math.ceil(len(loss) / 3))
    slope = np.polyfit(epochs[-last:], np.log(loss[-last:]), 1)[0]
    pace = 1 - math.exp(min(slope, 0) * epochs[-1] / 4)
    if pace < STILL_FALLING:
        return None
    return Finding(
        "still improving",
        "The training ended while the loss was still falling.",
        f"{name}/loss {loss[-last]:.4g} in epoch {epochs[-last]:.0f}, {loss[-1]:.4g} in epoch {epochs[-1]:.0f}, the last; at this "
        f"rate another {count_of(max(1, round(epochs[-1] / 4)), 'epoch')} would reduce it by {pace:.0%}",
        f"Train longer: more than train.epochs={curves.planned} (a run can be resumed with more).",
    )


LOSS_RULES: tuple[Callable[[LossCurves], Finding | None], ...] = (
    diverging, not_learning, over_fitting, still_improving,
)  # fmt: skip


def diagnose_losses(curves: LossCurves) -> list[Finding]:
    """The faults that the losses show; if one explains the others, only that one."""
    found = {rule: finding for rule in LOSS_RULES if (finding := rule(curves))}
    first = next(iter(found), None)
    if first in (diverging, over_fitting):
        return [found[first]]
    return list(found.values())


def cannot_see_in_losses(curves: LossCurves) -> list[str]:
    """The faults that losses do not show, each with advice on what would show it."""
    if not len(curves.epochs) and not curves.error:
        return ["anything: no epoch has been measured; train for at least one"]
    unseen = [
        "how far it is from guessing and from perfection, and so under-fitting, a learning rate too low, targets unrelated to the "
        "images, and faults of single layers: those rules compare accuracies of class labels, which this task does not have"
    ]
    if len(curves.epochs) < CURVE_EPOCHS and not curves.error:
        unseen.append(
            f"whether it learns: the curves have {count_of(len(curves.epochs), 'epoch')}; train for {CURVE_EPOCHS} or more"
        )
    if len(curves.valid) < 2:
        unseen.append(
            f"over-fitting: the validation split was measured {count_of(len(curves.valid), 'time')}; train for 2 epochs or more, "
            "with evaluate.every=1"
        )
    if not curves.finished and not curves.error:
        unseen.append(
            f"whether it ends too early: {count_of(len(curves.epochs), 'epoch')} of {curves.planned} have been trained; resume it"
        )
    return unseen
