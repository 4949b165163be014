"""The rules in order, and the diagnosis that applies them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from cnnjax.report.diagnosis.activations import dead_relus, saturated_activations
from cnnjax.report.diagnosis.batch_statistics import unsettled_statistics
from cnnjax.report.diagnosis.data import unnormalised_images, unrelated_labels
from cnnjax.report.diagnosis.detection import DETECTION_RULES, diagnose_detections, measures_detections, read_detections
from cnnjax.report.diagnosis.duration import still_improving
from cnnjax.report.diagnosis.evidence import Finding
from cnnjax.report.diagnosis.fitting import not_learning, over_fitting, under_fitting
from cnnjax.report.diagnosis.gradients import exploding_gradients, vanishing_gradients
from cnnjax.report.diagnosis.learning_rate import rate_too_high, rate_too_low
from cnnjax.report.diagnosis.losses import LOSS_RULES, diagnose_losses, read_losses
from cnnjax.report.diagnosis.training_curves import TrainingCurves, measures_accuracy, read_curves
from cnnjax.runs import Run

Rule = Callable[[TrainingCurves], Finding | None]
# The order of the findings: causes first. A new rule is a function in its subject's file and a line here.
RULES: tuple[Rule, ...] = (
    unnormalised_images,
    rate_too_high,
    exploding_gradients,
    vanishing_gradients,
    dead_relus,
    saturated_activations,
    rate_too_low,
    unrelated_labels,
    unsettled_statistics,
    not_learning,
    over_fitting,
    under_fitting,
    still_improving,
)
NONE_FOUND = f"none of the {len(RULES)} known faults was found"
NONE_FOUND_IN_LOSSES = f"none of the {len(LOSS_RULES)} faults that losses show was found"
NONE_FOUND_IN_DETECTIONS = (
    f"none of the {len(LOSS_RULES) + len(DETECTION_RULES)} faults that losses and detections show was found"
)
# The symptoms that follow from a fault and are not reported beside it.
UNFINISHED: tuple[Rule, ...] = (rate_too_low, not_learning, under_fitting, still_improving)
EXPLAINS: Mapping[Rule, tuple[Rule, ...]] = {
    unnormalised_images: (
        rate_too_high, exploding_gradients, vanishing_gradients, dead_relus, saturated_activations, *UNFINISHED,
    ),
    rate_too_high: (exploding_gradients, vanishing_gradients, unrelated_labels, unsettled_statistics, *UNFINISHED),
    exploding_gradients: UNFINISHED,
    vanishing_gradients: (dead_relus, *UNFINISHED),
    saturated_activations: (vanishing_gradients, rate_too_low, not_learning, under_fitting),
    rate_too_low: (not_learning, under_fitting, still_improving),
    # A network that memorises has enough units that are not dead.
    unrelated_labels: (dead_relus, over_fitting, *UNFINISHED),
    unsettled_statistics: (over_fitting, *UNFINISHED),
    not_learning: (over_fitting, under_fitting, still_improving),
    over_fitting: (still_improving,),
    still_improving: (under_fitting,),
}  # fmt: skip


def diagnose(run: Run) -> list[Finding]:
    """The faults of a run, causes before consequences; empty if none was found."""
    return diagnose_history(run.history, run.config, run.described)


def diagnose_history(
    history: Sequence[Mapping[str, Any]], config: ConfigDict, described: Mapping[str, Any]
) -> list[Finding]:
    """Like `diagnose`, from the lines of `metrics.jsonl`, the resolved config and the contents of `dataset.json`.

    A run that failed before its first checkpoint has only these. For a history without accuracies of class labels
    the losses are judged, and of a detector what it finds; `cannot_see_history` lists the faults that they do not show.
    """
    if not measures_accuracy(history, described):
        detections = diagnose_detections(read_detections(history)) if measures_detections(history) else []
        return [*detections, *diagnose_losses(read_losses(history, config))]
    curves = read_curves(history, config, described)
    found = {rule: finding for rule in RULES if (finding := rule(curves))}
    explained = {symptom for cause in found for symptom in EXPLAINS.get(cause, ())}
    return [finding for rule, finding in found.items() if rule not in explained]


def none_found(history: Sequence[Mapping[str, Any]], described: Mapping[str, Any]) -> str:
    """The sentence for a run without findings."""
    if measures_accuracy(history, described):
        return NONE_FOUND
    return NONE_FOUND_IN_DETECTIONS if measures_detections(history) else NONE_FOUND_IN_LOSSES
