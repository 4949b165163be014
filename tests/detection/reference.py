"""Values of torchvision 0.29.1 (`ops` and `models.detection`), for boxes, scores and maps that stand beside them."""

from pathlib import Path

import numpy as np

with np.load(Path(__file__).parent / "torchvision_parts.npz") as stored:
    PARTS = {name: stored[name] for name in stored}
