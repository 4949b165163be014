"""The diagnosis of a run: each fault is a rule, a pure function of the run's log; one subject per file.

A rule uses the curves (`metrics.jsonl`), the config, the number and frequencies of the classes, and, if the run was trained with
`log.probes`, its layers. All comparisons are dimensionless and independent of the data set: accuracies are scaled from guessing to
perfection, losses are compared with that of guessing or with one another, and differences with their sampling error. For a task
without an accuracy of class labels only the losses are judged (`losses.py`).

Sources: Stanford's CS231n, "Neural networks part 3" (loss curves, ratio of updates to weights) and "part 1" (dead ReLUs);
Glorot and Bengio, AISTATS 2010 (saturation, gradients through layers); He et al., ICCV 2015 (initialisation for ReLU);
Prechelt, "Early stopping - but when?", 1998 (the rise of the validation loss above its minimum).
"""

from cnnjax.report.diagnosis.blind_spots import cannot_see, cannot_see_history
from cnnjax.report.diagnosis.evidence import Finding
from cnnjax.report.diagnosis.rules import NONE_FOUND, RULES, diagnose, diagnose_history, none_found
from cnnjax.report.diagnosis.training_curves import read_logs

__all__ = [
    "NONE_FOUND",
    "RULES",
    "Finding",
    "cannot_see",
    "cannot_see_history",
    "diagnose",
    "diagnose_history",
    "none_found",
    "read_logs",
]
