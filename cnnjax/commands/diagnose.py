"""`cnnjax diagnose`: names what is wrong with a training."""

import argparse
from pathlib import Path

from cnnjax.core.terminal import say

HELP = "what is wrong with a training, in words, and what to try"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `diagnose` takes."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories, of failed runs too")


def run(options: argparse.Namespace) -> None:
    """Prints the findings of each run with their evidence and advice, and what its logs cannot show."""
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
            say("\ncannot see " + "\ncannot see ".join(unseen))
