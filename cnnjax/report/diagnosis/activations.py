"""Are units dead, or activation functions saturated?"""

from cnnjax.report.diagnosis.evidence import Finding, listed, others, shares, when
from cnnjax.report.diagnosis.thresholds import DEAD, FITTED, SATURATED
from cnnjax.report.diagnosis.training_curves import TrainingCurves


def dead_relus(curves: TrainingCurves) -> Finding | None:
    """In the last epoch that was probed, a layer of which half or more are zero for the whole probe batch, in an unfitted network.

    One that has fitted can do without them; and of the probe's 128 examples a unit that answers to one in a hundred meets none
    in every fourth such batch, so that selective units look dead.
    """
    layers = shares(curves.layers, "dead", DEAD)
    if not layers or curves.fitted >= FITTED:
        return None
    name, share = max(layers.items(), key=lambda item: item[1])
    first_epoch, first = curves.layers[0]
    before = first.get(name, {}).get("dead", 0.0)
    from_start = first_epoch == 0 and before >= DEAD
    return Finding(
        "dead ReLUs",
        f"{share:.0%} of {name}'s units are zero for every example{others(len(layers) - 1)}: they pass no gradient on and "
        f"learn no more; {'the initial weights made them so' if from_start else 'training has made them so'}.",
        f"dead share of {listed(layers)}; of {name} {when(first_epoch)} it was {before:.0%}",
        "Draw other initial weights (he_normal), normalise the images, use leaky_relu or batch normalisation."
        if from_start
        else "Lower the learning rate, warm it up, normalise the images, use leaky_relu or batch normalisation.",
    )


def saturated_activations(curves: TrainingCurves) -> Finding | None:
    """As long as the network had not fitted, a layer half of whose tanh or sigmoid values were beyond 0.97 of the bound.

    One that has fitted may be sure of its features.
    """
    unfitted = [(epoch, layers) for epoch, layers in curves.layers if curves.skill_at(epoch) < FITTED]
    layers = shares(unfitted, "saturated", SATURATED)
    if not layers:
        return None
    name, share = max(layers.items(), key=lambda item: item[1])
    (first_epoch, first), (epoch, _) = unfitted[0], unfitted[-1]
    return Finding(
        "saturated activations",
        f"{share:.0%} of {name}'s activations are on the flat ends of the activation function{others(len(layers) - 1)}: "
        "they pass hardly any gradient on.",
        f"saturated share of {listed(layers)} {when(epoch)}; of {name} {when(first_epoch)} it was "
        f"{first.get(name, {}).get('saturated', 0.0):.0%}",
        "Draw smaller initial weights (xavier_normal), normalise the images, lower the learning rate, or use ReLU or batch "
        "normalisation.",
    )
