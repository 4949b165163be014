"""TensorBoard event files of a run.

A folder of event files is a run to TensorBoard, and runs share a plot where their tags are equal: the training, validation and
test split are folders of their own, so that `metrics/loss` shows all of them. The part of a tag before the first slash
groups plots: the probes of a network are grouped by quantity, with one plot per layer.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from jaxtyping import UInt8

SPLITS = "train", "valid", "test"


def place_of(name: str) -> tuple[str, str] | None:
    """The folder and the tag of a number of `metrics.jsonl`; None for what is no curve.

    >>> place_of("valid/loss"), place_of("probe/conv1/bn/dead"), place_of("checkpoint")
    (('valid', 'metrics/loss'), ('train', 'dead/conv1/bn'), None)
    """
    first, _, rest = name.partition("/")
    if name in ("step", "epoch", "checkpoint"):
        return None
    if name in ("learning_rate", "train/batch_loss"):
        return "train", f"training/{name.rpartition('/')[2]}"
    if first in SPLITS:
        return first, f"metrics/{rest}"
    if first == "probe":
        layer, _, quantity = rest.rpartition("/")
        return "train", f"{quantity}/{layer}"
    return "train", name


class EventFiles:
    """The event files of a run, one per split.

    Args:
      folder: the folder of the files.
      step: the step at which the run is resumed; TensorBoard discards what it has of later steps.
    """

    def __init__(self, folder: Path, step: int):
        self._folder, self._purge = folder, step + 1 if step else None
        self._writers: dict[str, Any] = {}

    def _writer(self, name: str) -> Any:
        if name not in self._writers:
            self._writers[name] = summary_writer()(str(self._folder / name), purge_step=self._purge)
        return self._writers[name]

    def scalars(self, line: Mapping[str, Any]) -> None:
        """Writes the numbers of a line of `metrics.jsonl`."""
        for name, value in line.items():
            place = place_of(name)
            if place and isinstance(value, int | float):
                self._writer(place[0]).add_scalar(place[1], value, line["step"])
        for writer in self._writers.values():
            writer.flush()

    def histograms(self, step: int, params: Any) -> None:
        """Writes a histogram of each parameter's values, those that are finite."""
        for path, values in flax.traverse_util.flatten_dict(jax.device_get(params)).items():
            finite = np.asarray(values, np.float32).ravel()
            if (finite := finite[np.isfinite(finite)]).size:
                self._writer("train").add_histogram("/".join(["weights", *path]), finite, step)

    def images(self, tag: str, images: UInt8[np.ndarray, "image height width channel"]) -> None:
        """Writes images as one picture, before the first step."""
        self._writer("train").add_images(tag, images, 0, dataformats="NHWC")

    def close(self) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()


def summary_writer() -> type:
    """The writer class of tensorboardX, which would import an installed PyTorch too: 1.5 s of every start."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # an `import torch` that fails, which tensorboardX allows for
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return SummaryWriter
