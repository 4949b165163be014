"""Rules on exploding and vanishing gradients."""

from cnnjax.report.diagnosis.evidence import Finding, others, values_of, when
from cnnjax.report.diagnosis.thresholds import DEAD, EXPLODING, FITTED, VANISHING
from cnnjax.report.diagnosis.training_curves import TrainingCurves


def exploding_gradients(curves: TrainingCurves) -> Finding | None:
    """|g| |w| beyond a thousand times the loss of guessing, in any layer before the first step, or later in an unfitted network."""
    found = [
        (value, name, epoch)
        for epoch, layers in curves.layers
        if epoch == 0 or curves.fitted < FITTED
        for name, value in curves.elasticities(layers).items()
    ]
    value, name, epoch = max(found, default=(0.0, "", 0))
    if value < EXPLODING:
        return None if curves.layers else _loss_far_above_guessing(curves)
    began = next(at for value, _, at in found if value >= EXPLODING)
    return Finding(
        "exploding gradients",
        f"The gradients are so large that an update of a thousandth of {name}'s weights may cost as much as guessing does, "
        f"{when(began)}{'' if began == epoch else f' and until epoch {epoch:.0f}'}.",
        f"gradient norm times weight norm of {name}: {value:,.0f} times the loss of guessing, {curves.guess_loss:.3g}, "
        f"{when(epoch)}{f'; {curves.error}' if curves.error else ''}",
        "Draw smaller initial weights (he_normal for ReLU, xavier_normal for tanh), normalise the images, add batch "
        "normalisation, or clip (optimizer.clip_norm=1)."
        if began == 0
        else "Lower the learning rate, warm it up, or clip the gradients (optimizer.clip_norm=1).",
    )


def _loss_far_above_guessing(curves: TrainingCurves) -> Finding | None:
    """Exploding gradients as seen in the loss, if no layer was probed."""
    if not len(curves.valid_loss) or curves.valid_loss.min() < 10 * curves.guess_loss or curves.fitted >= FITTED:
        return None
    return Finding(
        "exploding gradients",
        "The network is so confidently wrong throughout the training that its outputs and gradients must be far too large.",
        f"valid/loss {curves.valid_loss.min():,.4g} at best; guessing costs {curves.guess_loss:.3g}",
        "Draw smaller initial weights (he_normal for ReLU, xavier_normal for tanh), normalise the images, or add batch "
        "normalisation; log.probes=True shows where.",
    )


def vanishing_gradients(curves: TrainingCurves) -> Finding | None:
    """The network has learned little, and |g| |w| in the first layers never reached a tenth of the loss of guessing.

    The first layers are the first third of those with weights. Gradients shrink from the last layer to the first, so that they
    vanish there; in later layers single small gradients are normal.
    """
    probed = [layers for _, layers in curves.layers if curves.elasticities(layers)]
    if not probed or curves.fitted > FITTED / 2:
        return None
    if max(values_of(probed[0], "dead"), default=0.0) >= DEAD or 0 in values_of(probed[-1], "weight_norm"):
        return None  # no gradient can pass, whatever its size
    judged = [
        {name: value * curves.output_shortfall(layers) for name, value in curves.elasticities(layers).items()}
        for layers in probed
    ]
    names = list(judged[-1])[: max(1, len(judged[-1]) // 3)]
    largest = max(values.get(name, 0.0) for values in judged for name in names)
    if largest >= VANISHING:
        return None
    return Finding(
        "vanishing gradients",
        f"Hardly any gradient reaches {names[0]}{others(len(names) - 1)}: its weights do not learn.",
        f"gradient norm times weight norm of {', '.join(names)}: at most {largest:.2g} times the loss of guessing at any time; "
        f"at most {max(judged[-1].values()):.2g} in any layer {when(curves.layers[-1][0])}",
        "Draw larger initial weights (he_normal for ReLU, xavier_normal for tanh and sigmoid), use ReLU in place of sigmoid, "
        "add batch normalisation or residual connections.",
    )
