"""The faults that a diagnosis could not judge, with advice on what would make it possible."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from cnnjax.core.terminal import count_of
from cnnjax.report.diagnosis.losses import cannot_see_in_losses, read_losses
from cnnjax.report.diagnosis.thresholds import CURVE_EPOCHS
from cnnjax.report.diagnosis.training_curves import measures_accuracy, read_curves
from cnnjax.runs import Run


def cannot_see(run: Run) -> list[str]:
    """The faults that could not be judged, each with advice on what would make it possible."""
    return cannot_see_history(run.history, run.config, run.described)


def cannot_see_history(
    history: Sequence[Mapping[str, Any]], config: ConfigDict, described: Mapping[str, Any]
) -> list[str]:
    """Like `cannot_see`; arguments as in `diagnose_history`."""
    if not measures_accuracy(history, described):
        return cannot_see_in_losses(read_losses(history, config))
    curves = read_curves(history, config, described)
    if not len(curves.epochs) and not curves.error:
        return ["anything: no epoch has been measured; train for at least one"]
    unseen = []
    if len(curves.epochs) < CURVE_EPOCHS and not curves.error:
        unseen.append(
            "a learning rate too low or too high, under-fitting: the curves have "
            f"{count_of(len(curves.epochs), 'epoch')}; train for {CURVE_EPOCHS} or more"
        )
    if len(curves.valid_epochs) < CURVE_EPOCHS:
        unseen.append(
            "when over-fitting began, whether more epochs would help: the validation split was measured "
            f"{count_of(len(curves.valid_epochs), 'time')}; train for {CURVE_EPOCHS} epochs or more, with evaluate.every=1"
        )
    if not curves.finished and not curves.error:
        unseen.append(
            f"whether it ends too early: {count_of(len(curves.epochs), 'epoch')} of {curves.config.train.epochs} "
            "have been trained; resume it"
        )
    if not curves.layers:
        unseen.append(
            "dead ReLUs, saturated activations, exploding and vanishing gradients: train with log.probes=True "
            "(it may be switched on when a run is resumed)"
        )
    else:
        watched = set().union(*(layer for _, layers in curves.layers for layer in layers.values()))
        if not watched & {"dead", "saturated"}:
            unseen.append(
                "dead ReLUs, saturated activations: the network has no activation function of cnnjax.layers.activation"
            )
    return unseen
