"""The tasks by name."""

from collections.abc import Mapping

from cnnjax.tasks.classification import Classification
from cnnjax.tasks.detection import Detection
from cnnjax.tasks.multilabel import MultiLabel
from cnnjax.tasks.regression import Regression
from cnnjax.tasks.segmentation import Segmentation
from cnnjax.tasks.task import Task

TASKS: Mapping[str, type[Task]] = {
    "classification": Classification,
    "detection": Detection,
    "multilabel": MultiLabel,
    "regression": Regression,
    "segmentation": Segmentation,
}
