"""The parts of detectors, as functions: boxes and their coding, anchors, matching, losses, pooling of regions, suppression."""

from cnnjax.detection.losses import Ratio
from cnnjax.detection.objects import Detections, Objects

__all__ = ["Detections", "Objects", "Ratio"]
