"""Is the learning rate too high or too low?"""

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

# If the learning rate is too low, CS231n says, the loss falls linearly: the second half of the rates' sum lowers it by at least this
# fraction of what the first half did, and it falls in at least this share of the epochs.
LINEAR, MOSTLY = 0.4, 0.8
# A training loss swings if its rises, each by at least this fraction and beyond the accuracy's sampling error, together multiply it
# by at least this factor.
RISE, SWING = 0.1, 2.0
# If the loss fell by at least this fraction of what steps straight downhill would have brought, the steps did go nearly straight
# downhill: none was too long, and longer ones would have brought more.
STRAIGHT = 0.5


def rate_too_high(curves: TrainingCurves) -> Finding | None:
    """The loss is no longer finite, or once was far above that of guessing and never recovered, or swings, or fell apart."""
    advice = "Lower optimizer.learning_rate by 3 to 10 times (`cnnjax find-lr` shows where the loss diverges), warm it up, or clip."
    finding = partial(Finding, "learning rate too high", advice=advice)
    loss, accuracy = curves.train_loss, curves.train_accuracy
    if curves.explodes_from_the_start:
        return None  # whatever follows, its cause was there before the first step
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
            f"What had been learned by epoch {curves.epochs[best]:.0f} is lost again.",
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
            "The training loss swings up and down instead of falling.",
            f"train/loss rose by {RISE:.0%} or more in {len(rises)} of {len(loss) - 1} epochs, {factor:.1f} times together: "
            + ", ".join(
                f"{loss[number - 1]:.3g} to {loss[number]:.3g} in epoch {curves.epochs[number]:.0f}"
                for number in rises[:3]
            ),
        )
    return None


def _diverged(curves: TrainingCurves) -> bool:
    """The loss was far above that of guessing, and the network ends with little learned or worse than guessing.

    In the first epoch large initial weights look the same, but from them the loss falls slowly and the accuracy rises. Where the
    probes do not rule them out, divergence is what continues later, or falls to less than half within an epoch and has learned
    nothing.
    """
    loss, accuracy = curves.train_loss, curves.train_accuracy
    if curves.fitted >= FITTED or (curves.skill(accuracy[-1]) >= FITTED / 2 and loss[-1] < curves.guess_loss):
        return False
    if (
        len(curves.valid_loss)
        and curves.valid_loss.max() < CONFIDENTLY_WRONG * curves.guess_loss
        and curves.knows_others
    ):
        return False  # without dropout and augmentation the loss never was that high: they raise it in training
    worst = int(loss.argmax())
    if loss[worst] < CONFIDENTLY_WRONG * curves.guess_loss:
        # Steps that made it worse than guessing for a while and then silent for ever: no epoch after the first changes anything.
        above = loss[0] - loss[-1]
        stuck = len(loss) > 2 and worst == 0 and loss[1] - loss[-1] < above / 10
        return bool(stuck and above > curves.guess_loss / 4 and curves.learned_nothing(accuracy, curves.train_examples))
    if curves.updates:
        return max(curves.updates) > SMALL_UPDATE
    return worst > 0 or bool(loss[1] < loss[0] / 2 and curves.learned_nothing(accuracy, curves.train_examples))


def rate_too_low(curves: TrainingCurves) -> Finding | None:
    """Far from fitted, and updates tiny in every layer, steps too short for the way, all straight downhill, or an even fall."""
    loss = curves.train_loss
    if curves.error or curves.fitted >= FITTED or len(loss) < 2:
        return None
    advice = "Raise optimizer.learning_rate 3 to 10 times (`cnnjax find-lr` shows where the loss falls fastest)."
    finding = partial(Finding, "learning rate too low", advice=advice)
    losses = f"train/loss {loss[0]:.4g} in the first epoch, {loss[-1]:.4g} in the last"
    # Half of the time, so that a schedule may end at zero, but not fall there at once.
    usual = float(np.median(curves.updates)) if curves.updates else math.inf
    blocked = any(
        layer.get("dead", 0) == 1 or layer.get("weight_norm") == 0
        for _, layers in curves.layers[-1:]
        for layer in layers.values()
    )
    if usual < SMALL_UPDATE and not blocked:
        if curves.rates[-1] < curves.rates.max() / 10:
            advice += f" Or let it fall later: schedule.name='{curves.config.schedule.name}' has spent it."
        return finding(
            "The updates are so small that the weights hardly change.",
            f"in half of the epochs an update changes no layer's weights by more than {usual:.1g} of their norm (usual: about "
            f"1e-3); {losses}",
            advice=advice,
        )
    if curves.reach is not None and curves.reach < SHORT_OF_REACH and not blocked:
        return finding(
            "All steps of the training together are too short to get far.",
            f"straight downhill they would lower the loss by {curves.reach:.1g} times that of guessing, "
            f"{curves.guess_loss:.3g}; {losses}",
        )
    if curves.reach is not None and curves.reach > IN_REACH:
        return None
    guessing = len(curves.valid_loss) and np.abs(curves.valid_loss / curves.guess_loss - 1).max() < AT_GUESSING
    if guessing and not curves.layers:
        return None  # without probes a network that cannot learn looks the same
    fell = loss[0] - loss[-1]
    if len(curves.valid_loss) and curves.valid_loss[0] - curves.valid_loss[-1] < fell / 2:
        return None  # what it learns holds for its training images alone, and more of it would not help
    straight = curves.reach is not None and fell >= STRAIGHT * curves.reach * curves.guess_loss
    if straight and len(loss) >= CURVE_EPOCHS and np.mean(np.diff(loss) < 0) >= MOSTLY:
        return finding(
            "The steps go straight downhill, and all of them together are too short to arrive.",
            f"they could lower the loss by {curves.reach:.2g} times that of guessing, {curves.guess_loss:.3g}, at most, and lowered "
            f"it by {fell / curves.guess_loss:.2g} times; {losses}",
        )
    measured = [("train", loss, curves.train_accuracy)]
    if np.array_equal(curves.valid_epochs, curves.epochs):
        measured.append(("valid", curves.valid_loss, curves.valid_accuracy))
    for name, loss, accuracy in measured:
        if len(loss) >= CURVE_EPOCHS and _falls_evenly(loss, curves.rates):
            return finding(
                "The loss falls slowly and evenly, with no steep beginning, and is far from its end.",
                f"{name}/loss {loss[0]:.4g} in epoch {curves.epochs[0]:.0f}, {loss[len(loss) // 2]:.4g} in epoch "
                f"{curves.epochs[len(loss) // 2]:.0f}, {loss[-1]:.4g} in epoch {curves.epochs[-1]:.0f}; {name}/accuracy "
                f"{accuracy[-1]:.3f}",
            )
    return None


def _falls_evenly(loss: Float[np.ndarray, "epoch"], rates: Float[np.ndarray, "epoch"]) -> bool:
    """Nearly always, by less than half in all, and as fast in the second half of the rates' sum as in the first, nearly."""
    spent = np.cumsum(rates)
    middle = int(np.searchsorted(spent, (spent[0] + spent[-1]) / 2))
    first, second = loss[0] - loss[middle], loss[middle] - loss[-1]
    falls = np.mean(np.diff(loss) < 0)
    return bool(falls >= MOSTLY and second > 0 and second >= LINEAR * first and loss[-1] > loss[0] / 2)
