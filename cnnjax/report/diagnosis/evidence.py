"""A finding, and the figures and wording that several rules share."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from cnnjax.report.diagnosis.training_curves import TrainingCurves


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fault.

    Attributes:
      name: the fault's name, such as "over-fitting".
      words: one sentence for a person.
      evidence: the figures that the finding rests on.
      advice: what to try.
    """

    name: str
    words: str
    evidence: str
    advice: str


def shares(
    probed: Sequence[tuple[float, Mapping[str, Mapping[str, float]]]], quantity: str, least: float
) -> dict[str, float]:
    """The layers whose share was at least `least` in the last of these epochs."""
    layers = probed[-1][1] if probed else {}
    return {name: layer[quantity] for name, layer in layers.items() if layer.get(quantity, 0.0) >= least}


def values_of(layers: Mapping[str, Mapping[str, float]], quantity: str) -> list[float]:
    """The values of a quantity over the layers that have it."""
    return [layer[quantity] for layer in layers.values() if quantity in layer]


def best_accuracy(curves: TrainingCurves) -> float:
    """The larger of the training and validation accuracies at the end."""
    return max(
        [float(curve[-1]) for curve in (curves.train_accuracy, curves.valid_accuracy) if len(curve)], default=0.0
    )


def difference_error(curves: TrainingCurves, number: int) -> float:
    """The standard error of the difference between the training accuracies of an epoch and the one before it."""
    pair = curves.train_accuracy[number - 1 : number + 1]
    return math.hypot(*(curves.sampling_error(accuracy, curves.train_examples) for accuracy in pair))


def when(epoch: float) -> str:
    """The time of an epoch, in words."""
    return "before the first step" if epoch == 0 else f"in epoch {epoch:.0f}"


def others(count: int) -> str:
    """A remark on the number of further layers; empty for none."""
    return f" (and {count} more {'layer' if count == 1 else 'layers'})" if count else ""


def listed(shares: Mapping[str, float]) -> str:
    """Layers with their shares."""
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
