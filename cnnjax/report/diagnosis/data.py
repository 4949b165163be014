"""Rules on the images and labels."""

from cnnjax.report.diagnosis.evidence import Finding, best_accuracy
from cnnjax.report.diagnosis.thresholds import AT_GUESSING, FITTED, STANDARD_ERRORS
from cnnjax.report.diagnosis.training_curves import TrainingCurves


def unnormalised_images(curves: TrainingCurves) -> Finding | None:
    """A network that has not fitted was given pixel values up to 255.

    The usual initialisations assume inputs with variance one; here the variance is ten thousand times as large, and so are the
    gradients of the first layer.
    """
    dataset = curves.config.dataset
    given = dataset.scale == "none" and dataset.normalize == "none" and not dataset.local_contrast
    if not given or (curves.fitted >= FITTED and not curves.error) or not (len(curves.epochs) or curves.error):
        return None
    return Finding(
        "images not normalised",
        "The network is given pixel values from 0 to 255, but initial weights and learning rates are made for values of about 1.",
        f"dataset.scale='none', dataset.normalize='none'; {curves.error or f'accuracy {best_accuracy(curves):.3f} at the end'}",
        "Set dataset.normalize='dataset', or dataset.scale='unit' at least.",
    )


def unrelated_labels(curves: TrainingCurves) -> Finding | None:
    """The network is better than guessing on its training images after it has seen them, but never on new images."""
    if not len(curves.epochs) or not len(curves.valid_loss) or curves.knows_new_images:
        return None
    learned = (curves.train_accuracy[-1] - curves.guess) / curves.sampling_error(curves.guess, curves.train_examples)
    # The mean over epochs, which avoids a bias from choosing the best.
    valid = float(curves.valid_accuracy.mean())
    beyond = (valid - curves.guess) / curves.sampling_error(curves.guess, curves.valid_examples)
    if learned < STANDARD_ERRORS + 1 or curves.train_loss[-1] > (1 - AT_GUESSING) * curves.guess_loss:
        return None
    if beyond >= STANDARD_ERRORS or curves.valid_loss.min() < (1 - AT_GUESSING) * curves.guess_loss:
        return None
    return Finding(
        "labels unrelated to the images",
        "The network memorises its training images and does not generalise to others: the labels do not depend on the images.",
        f"train/accuracy {curves.train_accuracy[0]:.3f} in epoch {curves.epochs[0]:.0f}, {curves.train_accuracy[-1]:.3f} at the "
        f"end; valid/accuracy {valid:.3f} in the mean of {curves.valid_examples:,} examples, guessing gives {curves.guess:.3f}; "
        f"valid/loss {curves.valid_loss.min():.4g} at best, guessing costs {curves.guess_loss:.3g}",
        "Look at some images with their labels (`cnnjax preview`): were they shuffled, or read in another order than the images? "
        "Another preparation of the validation images looks like this, too.",
    )
