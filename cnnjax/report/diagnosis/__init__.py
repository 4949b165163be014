"""What is wrong with a run, in words: each fault a rule, a pure function of what the run logged; one subject a file.

A rule looks at the curves (`metrics.jsonl`), the config, how many classes there are and how often each comes, and, where the run
was trained with `log.probes`, at its layers. What it compares has no unit and is of no data set: accuracy between guessing
and perfection, losses with that of guessing or with one another, differences with their own sampling error. Of a task without an
accuracy of class labels the losses alone are judged (`losses.py`).

Sources: Stanford's CS231n, "Neural networks part 3" (loss curves, ratio of updates to weights) and "part 1" (dead ReLUs);
Glorot and Bengio, AISTATS 2010 (saturation, gradients through layers); He et al., ICCV 2015 (initialisation for ReLU);
Prechelt, "Early stopping - but when?", 1998 (how far the validation loss has risen from its least).
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
