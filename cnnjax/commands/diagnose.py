"""`cnnjax diagnose`: finds problems of a training."""

import argparse
from pathlib import Path

from cnnjax.core.terminal import say

HELP = "find what is wrong with a training, and what to try"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `diagnose`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories, also of failed runs")


def run(options: argparse.Namespace) -> None:
    """Prints the findings of each run with evidence and advice, and the problems that its logs cannot show."""
    from cnnjax.report import diagnosis

    for number, workdir in enumerate(options.runs):
        logged = diagnosis.read_logs(workdir)
        findings, unseen = diagnosis.diagnose_history(*logged), diagnosis.cannot_see_history(*logged)
        blank = "\n" if number else ""
        say(
            f"{blank}{workdir}: {', '.join(finding.name for finding in findings) or diagnosis.none_found(logged[0], logged[2])}"
        )
        for finding in findings:
            say(f"\n{finding.name}: {finding.words}\n  evidence: {finding.evidence}\n  advice: {finding.advice}")
        if unseen:
            say("\ncannot detect " + "\ncannot detect ".join(unseen))
