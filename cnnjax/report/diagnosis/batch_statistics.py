"""Do batch normalisation's running statistics fit the network?"""

import numpy as np

from cnnjax.report.diagnosis.evidence import Finding, values_of
from cnnjax.report.diagnosis.thresholds import AT_GUESSING, CONFIDENTLY_WRONG, RISEN, STANDARD_ERRORS, WIDE_GAP
from cnnjax.report.diagnosis.training_curves import TrainingCurves

# In these first epochs the training images are met for the first or second time, so that none is memorised yet.
UNLEARNED_EPOCHS = 2


def unsettled_statistics(curves: TrainingCurves) -> Finding | None:
    """With batch normalisation, validation is far worse than training, and was so when the training images were new themselves.

    Over-fitting cannot be its cause then. Training normalises by each batch, validation by running averages, which begin at mean 0
    and variance 1, of which momentum ** steps is left, and which lag behind weights that change fast; through many layers the
    errors multiply.
    """
    if not len(curves.train_loss) or not len(curves.valid_loss):
        return None
    wide = curves.gap >= WIDE_GAP and curves.gap_errors >= STANDARD_ERRORS
    apart = curves.train_loss[-1] < (1 - AT_GUESSING) * curves.guess_loss < curves.guess_loss < curves.valid_loss[-1]
    if not (wide or apart):
        return None
    early = curves.valid_epochs <= UNLEARNED_EPOCHS
    trained = np.interp(curves.valid_epochs, curves.epochs, curves.train_loss)
    bound = CONFIDENTLY_WRONG * np.maximum(trained, curves.guess_loss)
    wrong = early & (curves.valid_loss > bound)
    # If the two losses have met since, the statistics have settled, and what came later is over-fitting.
    met = (curves.valid_loss <= (1 + RISEN) * trained)[int(wrong.argmax()) :].any()
    wrong_from_the_first = bool(wrong.any() and not met)
    blind = curves.learned_nothing(curves.valid_accuracy, curves.valid_examples) and curves.knows_new_images
    if not (wrong_from_the_first or blind) or not curves.has_batch_statistics:
        return None
    steps = int(curves.epochs[-1] * curves.steps_per_epoch)
    drifts = [max(values) for _, layers in curves.layers if (values := values_of(layers, "statistics_drift"))]
    drift = f"; the running statistics were up to {max(drifts[1:]):.2g} nats from a batch's" if drifts[1:] else ""
    return Finding(
        "batch statistics not settled",
        "Batch normalisation's running statistics do not fit the network yet, so that it predicts far worse than it trains.",
        f"train/accuracy {curves.train_accuracy[-1]:.3f}, valid/accuracy {curves.valid_accuracy[-1]:.3f}, valid/loss "
        f"{curves.valid_loss[0]:.4g} in epoch {curves.valid_epochs[0]:.0f} already (guessing costs {curves.guess_loss:.3g}); "
        f"{steps} steps, averaged over the last 10 or so{drift}",
        "Train for more steps (more epochs, or smaller batches), and let the learning rate fall at the end (schedule.name='cosine'), "
        "so that the averages catch up with the weights; or begin with a lower rate.",
    )
