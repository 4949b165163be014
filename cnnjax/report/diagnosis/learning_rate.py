"""Rules on learning rates that are too high or too low."""

import math
from functools import partial

import numpy as np
from jaxtyping import Float

from cnnjax.report.diagnosis.evidence import Finding, difference_error
from cnnjax.report.diagnosis.thresholds import (
    AT_GUESSING,
    CONFIDENTLY_WRONG,
    CURVE_EPOCHS,
    FITTED,
    IN_REACH,
    NO_SKILL,
    SHORT_OF_REACH,
    SMALL_UPDATE,
    STANDARD_ERRORS,
)
from cnnjax.report.diagnosis.training_curves import TrainingCurves

# With a learning rate that is too low the loss falls linearly (CS231n): the second half of the sum of rates lowers it by at least
# this fraction of the first half, and it falls in at least this fraction of the epochs.
LINEAR, MOSTLY = 0.4, 0.8
# A training loss oscillates if its increases, each by at least this fraction and beyond the accuracy's sampling error, multiply
# to at least this factor.
RISE, SWING = 0.1, 2.0
# If the loss fell by at least this fraction of what steps along the gradient could achieve, the steps were nearly straight
# downhill: none was too long, and longer ones would have achieved more.
STRAIGHT = 0.5


def rate_too_high(curves: TrainingCurves) -> Finding | None:
    """The loss is no longer finite, rose far above that of guessing without recovering, oscillates, or lost what was learned."""
    advice = "Lower optimizer.learning_rate by 3 to 10 times (`cnnjax find-lr` shows where the loss diverges), warm it up, or clip."
    finding = partial(Finding, "learning rate too high", advice=advice)
    loss, accuracy = curves.train_loss, curves.train_accuracy
    if curves.explodes_from_the_start:
        return None  # the cause was present before the first step
    if curves.error:
        return finding("The training diverged: its numbers were no longer finite.", curves.error)
    if len(loss) < 2:
        return None
    if _diverged(curves):
        worst = int(loss.argmax())
        return finding(
            "The loss diverged at the beginning and the network has not recovered.",
            f"train/loss {loss[worst]:.4g} in epoch {curves.epochs[worst]:.0f} and {loss[-1]:.4g} at the end; guessing costs "
            f"{curves.guess_loss:.3g}; train/accuracy {accuracy[-1]:.3f}",
        )
    best = int(accuracy.argmax())
    lost = curves.fitted < curves.skill(accuracy[best]) / 2 and loss[-1] > loss[best] and curves.decay_an_epoch < 1
    if lost and curves.skill(accuracy[best]) > 2 * NO_SKILL:
        return finding(
            f"The progress up to epoch {curves.epochs[best]:.0f} was lost again.",
            f"train/accuracy {accuracy[best]:.3f} in epoch {curves.epochs[best]:.0f}, {accuracy[-1]:.3f} at the end",
        )
    rises = [
        number
        for number in range(1, len(loss))
        if loss[number] > (1 + RISE) * loss[number - 1]
        and accuracy[number - 1] - accuracy[number] > STANDARD_ERRORS * difference_error(curves, number)
    ]
    factor = math.prod(float(loss[number] / max(loss[number - 1], 1e-30)) for number in rises)
    if len(rises) >= 2 and factor >= SWING:
        return finding(
            "The training loss oscillates instead of falling.",
            f"train/loss rose by {RISE:.0%} or more in {len(rises)} of {len(loss) - 1} epochs, {factor:.1f} times together: "
            + ", ".join(
                f"{loss[number - 1]:.3g} to {loss[number]:.3g} in epoch {curves.epochs[number]:.0f}"
                for number in rises[:3]
            ),
        )
    return None


def _diverged(curves: TrainingCurves) -> bool:
    """The loss was far above that of guessing, and the network has learned little or is worse than guessing at the end.

    Large initial weights look the same in the first epoch, but then the loss falls slowly and the accuracy rises. If probes do not
    rule them out, a high loss counts as divergence if it occurs later, or falls by more than half within an epoch while nothing is
    learned.
    """
    loss, accuracy = curves.train_loss, curves.train_accuracy
    if curves.fitted >= FITTED or (curves.skill(accuracy[-1]) >= FITTED / 2 and loss[-1] < curves.guess_loss):
        return False
    if (
        len(curves.valid_loss)
        and curves.valid_loss.max() < CONFIDENTLY_WRONG * curves.guess_loss
        and curves.knows_others
    ):
        return False  # only dropout and augmentation raise the training loss: the validation loss never was that high
    worst = int(loss.argmax())
    if loss[worst] < CONFIDENTLY_WRONG * curves.guess_loss:
        # The first steps made the network worse than guessing and then constant: no later epoch changes anything.
        above = loss[0] - loss[-1]
        stuck = len(loss) > 2 and worst == 0 and loss[1] - loss[-1] < above / 10
        return bool(stuck and above > curves.guess_loss / 4 and curves.learned_nothing(accuracy, curves.train_examples))
    if curves.updates:
        return max(curves.updates) > SMALL_UPDATE
    return worst > 0 or bool(loss[1] < loss[0] / 2 and curves.learned_nothing(accuracy, curves.train_examples))


def rate_too_low(curves: TrainingCurves) -> Finding | None:
    """The network is far from fitted, and its updates are tiny, its steps are too short, or its loss falls slowly and evenly."""
    loss = curves.train_loss
    if curves.error or curves.fitted >= FITTED or len(loss) < 2:
        return None
    advice = "Raise optimizer.learning_rate 3 to 10 times (`cnnjax find-lr` shows where the loss falls fastest)."
    finding = partial(Finding, "learning rate too low", advice=advice)
    losses = f"train/loss {loss[0]:.4g} in the first epoch, {loss[-1]:.4g} in the last"
    # The median, so that a schedule may end at zero but not reach it at once.
    usual = float(np.median(curves.updates)) if curves.updates else math.inf
    blocked = any(
        layer.get("dead", 0) == 1 or layer.get("weight_norm") == 0
        for _, layers in curves.layers[-1:]
        for layer in layers.values()
    )
    if usual < SMALL_UPDATE and not blocked:
        if curves.rates[-1] < curves.rates.max() / 10:
            advice += f" Or decay it later than schedule.name='{curves.config.schedule.name}' does."
        return finding(
            "The updates are so small that the weights hardly change.",
            f"in half of the epochs an update changes no layer's weights by more than {usual:.1g} of their norm (usual: about "
            f"1e-3); {losses}",
            advice=advice,
        )
    if curves.reach is not None and curves.reach < SHORT_OF_REACH and not blocked:
        return finding(
            "All steps of the training together are too short to make progress.",
            f"along the gradient they could lower the loss by {curves.reach:.1g} times that of guessing, "
            f"{curves.guess_loss:.3g}; {losses}",
        )
    if curves.reach is not None and curves.reach > IN_REACH:
        return None
    guessing = len(curves.valid_loss) and np.abs(curves.valid_loss / curves.guess_loss - 1).max() < AT_GUESSING
    if guessing and not curves.layers:
        return None  # without probes a network that cannot learn looks the same
    fell = loss[0] - loss[-1]
    if len(curves.valid_loss) and curves.valid_loss[0] - curves.valid_loss[-1] < fell / 2:
        return None  # it does not generalise, so that learning faster would not help
    straight = curves.reach is not None and fell >= STRAIGHT * curves.reach * curves.guess_loss
    if straight and len(loss) >= CURVE_EPOCHS and np.mean(np.diff(loss) < 0) >= MOSTLY:
        return finding(
            "The steps go straight downhill, but all of them together are too short to reach a minimum.",
            f"they could lower the loss by at most {curves.reach:.2g} times that of guessing, {curves.guess_loss:.3g}, and lowered "
            f"it by {fell / curves.guess_loss:.2g} times; {losses}",
        )
    measured = [("train", loss, curves.train_accuracy)]
    if np.array_equal(curves.valid_epochs, curves.epochs):
        measured.append(("valid", curves.valid_loss, curves.valid_accuracy))
    for name, loss, accuracy in measured:
        if len(loss) >= CURVE_EPOCHS and _falls_evenly(loss, curves.rates):
            return finding(
                "The loss falls slowly and evenly, without a steep beginning, and is far from its minimum.",
                f"{name}/loss {loss[0]:.4g} in epoch {curves.epochs[0]:.0f}, {loss[len(loss) // 2]:.4g} in epoch "
                f"{curves.epochs[len(loss) // 2]:.0f}, {loss[-1]:.4g} in epoch {curves.epochs[-1]:.0f}; {name}/accuracy "
                f"{accuracy[-1]:.3f}",
            )
    return None


def _falls_evenly(loss: Float[np.ndarray, "epoch"], rates: Float[np.ndarray, "epoch"]) -> bool:
    """Whether a loss falls in nearly all epochs, by less than half in total, and nearly as fast in the second half as in the first."""
    spent = np.cumsum(rates)
    middle = int(np.searchsorted(spent, (spent[0] + spent[-1]) / 2))
    first, second = loss[0] - loss[middle], loss[middle] - loss[-1]
    falls = np.mean(np.diff(loss) < 0)
    return bool(falls >= MOSTLY and second > 0 and second >= LINEAR * first and loss[-1] > loss[0] / 2)
