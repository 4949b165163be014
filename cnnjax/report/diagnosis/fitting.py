"""Rules on learning nothing, over-fitting and under-fitting."""

import numpy as np

from cnnjax.report.diagnosis.evidence import Finding
from cnnjax.report.diagnosis.thresholds import (
    CURVE_EPOCHS,
    FITTED,
    IN_REACH,
    RISEN,
    STANDARD_ERRORS,
    WIDE_GAP,
)
from cnnjax.report.diagnosis.training_curves import TrainingCurves

# The smallest difference between the skills on training and validation that counts as over-fitting.
GAP = 0.05
# At this skill on training nothing is left to learn, so that a gap this wide will not close, whether the loss has risen or not.
MEMORISED, LASTING_GAP = 0.99, 0.1


def not_learning(curves: TrainingCurves) -> Finding | None:
    """The accuracy never exceeded that of guessing, on both splits or on validation."""
    if not len(curves.epochs):
        return None
    on_train = curves.learned_nothing(curves.train_accuracy, curves.train_examples)
    on_valid = curves.learned_nothing(curves.valid_accuracy, curves.valid_examples)
    if not (on_valid if len(curves.valid_accuracy) else on_train):
        return None
    only_on_train = curves.gap > WIDE_GAP and curves.gap_errors > STANDARD_ERRORS
    if not on_train and not only_on_train and curves.skill(curves.train_accuracy.max()) > WIDE_GAP:
        return None  # the training images are learned, and the validation images are too few to show a difference from them
    evidence = f"train/accuracy at most {curves.train_accuracy.max():.3f}"
    if len(curves.valid_accuracy):
        evidence += f", valid/accuracy at most {curves.valid_accuracy.max():.3f} of {curves.valid_examples:,} examples"
    evidence += f"; always naming the most frequent class gives {curves.guess:.3f}"
    zero = [name for _, layers in curves.layers[-1:] for name, layer in layers.items() if layer.get("weight_norm") == 0]
    if zero:
        evidence += f"; the weights of {', '.join(zero)} are all zero"
    works = curves.reach is not None and curves.reach > IN_REACH
    if works:
        evidence += f"; its steps could have lowered the loss by {curves.reach:.1f} times the loss of guessing"
    if only_on_train:
        return Finding(
            "not learning",
            "The network learns its training images but is no better than guessing on the validation images.",
            evidence,
            "Compare the two splits (`cnnjax preview`): are the validation images prepared like the training images, and do "
            "their labels have the same numbers?",
        )
    return Finding(
        "not learning",
        ("The optimiser works, but the" if works else "The")
        + " network is no better than guessing"
        + ("." if on_train else ", and little better on its training images."),
        evidence,
        "See whether it can memorise a few images (dataset.examples_per_class=2). If not: are all initial weights "
        "zero, is the learning rate of the right size (`cnnjax find-lr`), are layers frozen, do the images survive the "
        "augmentation (`cnnjax preview`)? If so: do the labels belong to the images?",
    )


def over_fitting(curves: TrainingCurves) -> Finding | None:
    """Training is better than validation and the validation loss has risen; or training is much better and complete."""
    if not len(curves.valid_loss) or curves.gap < GAP or curves.gap_errors < STANDARD_ERRORS:
        return None
    train, valid = curves.train_accuracy[-1], curves.valid_accuracy[-1]
    least = int(curves.valid_loss.argmin())
    risen = curves.valid_loss[-1] > (1 + RISEN) * curves.valid_loss[least]
    falling = curves.train_loss[-1] < curves.train_loss[curves.epochs <= curves.valid_epochs[least]][-1]
    rises = least < len(curves.valid_loss) - 1 and risen and falling
    lasting = curves.skill(train) >= MEMORISED and curves.gap >= LASTING_GAP
    if not rises and not lasting and curves.gap < WIDE_GAP:
        return None
    gaps = curves.skill(np.interp(curves.valid_epochs, curves.epochs, curves.train_accuracy)) - curves.skill(
        curves.valid_accuracy
    )
    since = curves.valid_epochs[least] if rises else curves.valid_epochs[int((gaps >= curves.gap / 2).argmax())]
    evidence = f"train/accuracy {train:.3f}, valid/accuracy {valid:.3f}"
    if rises:
        evidence += (
            f"; valid/loss {curves.valid_loss[least]:.4g} in epoch {since:.0f}, its minimum, and {curves.valid_loss[-1]:.4g} in epoch "
            f"{curves.valid_epochs[-1]:.0f}, while train/loss fell to {curves.train_loss[-1]:.4g}"
        )
    return Finding(
        "over-fitting",
        f"From epoch {since:.0f} on the network memorises its training images instead of learning what generalises.",
        evidence,
        "More or augmented images, weight decay, dropout, label smoothing, a smaller network, or train.early_stopping.",
    )


def under_fitting(curves: TrainingCurves) -> Finding | None:
    """Training and validation are both well above guessing and well below perfection, and no longer improve."""
    if len(curves.train_loss) < CURVE_EPOCHS or curves.error or curves.fitted >= FITTED:
        return None
    if curves.gap > (1 - curves.fitted) / 2:
        return None
    config, regularised = curves.config, []
    if config.optimizer.weight_decay:
        regularised.append(f"optimizer.weight_decay={config.optimizer.weight_decay:g}")
    regularised += [
        f"model.{key}={value:g}" for key, value in config.model.items() if key.endswith("dropout_rate") and value
    ]
    if config.loss.get("label_smoothing"):
        regularised.append(f"loss.label_smoothing={config.loss.label_smoothing:g}")
    weaken = f"less regularisation ({', '.join(regularised)}), " if regularised else ""
    return Finding(
        "under-fitting",
        "The network no longer improves and cannot even fit its training images.",
        f"train/accuracy {curves.train_accuracy[-1]:.3f}"
        + (f", valid/accuracy {curves.valid_accuracy[-1]:.3f}" if len(curves.valid_accuracy) else "")
        + f"; train/loss {curves.train_loss[-1]:.4g} at the end, guessing costs {curves.guess_loss:.3g}",
        f"A larger network, {weaken}or weaker augmentation; see whether many labels are wrong (`cnnjax preview`). If the data are "
        "hard, more of them do not help before this does.",
    )
