"""Faults of detectors that their figures show: objects that were never matched with anchors, and objects that are not found.

Sources: Lin et al., "Focal loss for dense object detection", ICCV 2017, sections 3.3 and 4.1 (a detector begins by predicting background
everywhere); Lin et al., "Feature pyramid networks for object detection", CVPR 2017, section 5.1 (finer maps find the small
objects that coarse ones miss).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnjax.core.terminal import count_of
from cnnjax.report.diagnosis.evidence import Finding
from cnnjax.report.diagnosis.thresholds import CURVE_EPOCHS

# An AP50 below which nothing is found; the least recall of larger objects from which a detector works; and the fraction of that
# recall below which small objects are missed.
NOTHING, WORKS, FRACTION = 0.01, 0.3, 0.3
# The measures that a run has only if its task is detection.
MEASURE = "valid/AP50"


@dataclasses.dataclass(frozen=True)
class DetectionCurves:
    """The figures of a detector.

    Attributes:
      losses: the training losses of the network by name, an entry for each epoch.
      found: the AP50 of the validation split, an entry for each time it was measured.
      recalls: the last average recalls of the validation split by size: small, medium, large; those without objects are absent.
    """

    losses: Mapping[str, Sequence[float]]
    found: Sequence[float]
    recalls: Mapping[str, float]


def measures_detections(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a history is that of a detector."""
    return any(MEASURE in line for line in history)


def read_detections(history: Sequence[Mapping[str, Any]]) -> DetectionCurves:
    """The figures of a detector from its history."""
    trained = [line for line in history if "train/loss" in line]
    valid = [line for line in history if MEASURE in line]
    # The losses by name are measured of both splits; others of train's figures, such as the gradient's norm, of one.
    names = {name.partition("/")[2] for line in trained for name in line if name.startswith("train/")}
    names = sorted(name for name in names if name != "loss" and any(f"valid/{name}" in line for line in valid))
    losses = {name: [line.get(f"train/{name}", math.nan) for line in trained] for name in names}
    recalls = {
        size: valid[-1][f"valid/AR_{size}"] for size in ("small", "medium", "large") if f"valid/AR_{size}" in valid[-1]
    }
    return DetectionCurves(losses, [line[MEASURE] for line in valid], recalls)


def no_positives(curves: DetectionCurves) -> Finding | None:
    """A loss of the network is exactly 0 in every epoch: nothing was ever matched for which it could be computed."""
    empty = [name for name, values in curves.losses.items() if values and not any(values)]
    if not empty:
        return None
    return Finding(
        "no positives matched",
        "No anchor or position was ever matched with an object, so that the network learns that everything is background.",
        f"train/{empty[0]} is 0 in every epoch",
        "Are boxes in pixels of the prepared images, as x0, y0, x1, y1 (`cnnjax preview` draws them)? Are objects ignored or without "
        "area? Do the anchors have about the sizes of the objects (`cnnjax explore` shows them)?",
    )


def finds_nothing(curves: DetectionCurves) -> Finding | None:
    """After several epochs no object is found."""
    if len(curves.found) < CURVE_EPOCHS or max(curves.found) >= NOTHING:
        return None
    return Finding(
        "finds nothing",
        "The detector has not begun to find objects: it still predicts background everywhere, or its boxes are in wrong places.",
        f"valid/AP50 is at most {max(curves.found):.4f} in {count_of(len(curves.found), 'epoch')}",
        "Is the learning rate right (`cnnjax find-lr`)? A high rate needs a warm-up; with a rate that is too low the scores stay near their "
        "initial 0.01. Do boxes lie on their objects (`cnnjax preview`)? Start the encoder from trained weights, or train longer.",
    )


def misses_small_objects(curves: DetectionCurves) -> Finding | None:
    """Small objects are hardly found while larger ones are: the anchors are too large, or the maps too coarse."""
    larger = max((curves.recalls[size] for size in ("medium", "large") if size in curves.recalls), default=0.0)
    small = curves.recalls.get("small")
    if small is None or larger < WORKS or small >= FRACTION * larger:
        return None
    return Finding(
        "anchors too large",
        "Small objects are missed while larger ones are found: the smallest anchors are too large for them, or the finest map too coarse.",
        ", ".join(f"valid/AR_{size} {value:.3f}" for size, value in curves.recalls.items()),
        "Use smaller anchors (model.anchor_scale), one more map of the encoder (model.encoder_maps), or larger images (dataset.resize).",
    )


DETECTION_RULES: tuple[Callable[[DetectionCurves], Finding | None], ...] = (
    no_positives, finds_nothing, misses_small_objects,
)  # fmt: skip


def diagnose_detections(curves: DetectionCurves) -> list[Finding]:
    """The first fault that the figures of a detector show, which explains the others; empty without a fault."""
    return [finding for rule in DETECTION_RULES if (finding := rule(curves))][:1]
