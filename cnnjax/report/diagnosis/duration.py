"""The rule on the duration of the training."""

import math

import numpy as np

from cnnjax.core.terminal import count_of
from cnnjax.report.diagnosis.evidence import Finding
from cnnjax.report.diagnosis.thresholds import FITTED, NO_SKILL, STANDARD_ERRORS, STILL_FALLING
from cnnjax.report.diagnosis.training_curves import TrainingCurves


def still_improving(curves: TrainingCurves) -> Finding | None:
    """At the current rate, 25 % more epochs would reduce the loss by a tenth or more.

    Half of that is enough for a network that has not fitted, which would otherwise count as under-fitting (no longer improving).
    """
    measured = len(curves.valid_loss) >= 2
    loss, epochs = (curves.valid_loss, curves.valid_epochs) if measured else (curves.train_loss, curves.epochs)
    accuracy = curves.valid_accuracy if measured else curves.train_accuracy
    if (
        curves.error
        or not curves.finished
        or len(loss) < 2
        or (loss <= 0).any()
        or curves.skill(accuracy[-1]) < NO_SKILL
    ):
        return None
    last = max(2, math.ceil(len(loss) / 3))
    slope = np.polyfit(epochs[-last:], np.log(loss[-last:]), 1)[0]
    pace = 1 - math.exp(min(slope, 0) * epochs[-1] / 4)
    error = curves.sampling_error(accuracy[-1], curves.valid_examples if measured else curves.train_examples)
    least = STILL_FALLING if curves.fitted >= FITTED else STILL_FALLING / 2
    if pace < least or loss[-1] > loss.min() or 1 - accuracy[-1] < STANDARD_ERRORS * error:
        return None
    name = "valid" if measured else "train"
    return Finding(
        "still improving",
        "The training ended while the network was still getting better.",
        f"{name}/loss {loss[-last]:.4g} in epoch {epochs[-last]:.0f}, {loss[-1]:.4g} in epoch {epochs[-1]:.0f}, the last; at this "
        f"rate another {count_of(max(1, round(epochs[-1] / 4)), 'epoch')} would reduce it by {pace:.0%}",
        f"Train longer: more than train.epochs={curves.config.train.epochs} (a run can be resumed with more), or raise the "
        "learning rate if the loss falls evenly.",
    )
