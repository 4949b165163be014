"""`cnnjax diagnose`: finds problems of a training."""

import argparse
from pathlib import Path
from typing import Any

from cnnjax.commands.arguments import add_json
from cnnjax.core.terminal import say

HELP = "find what is wrong with a training, and what to try"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `diagnose`."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories, also of failed runs")
    add_json(parser)


def run(options: argparse.Namespace) -> Any:
    """Prints the findings of each run with evidence and advice, and the problems that its logs cannot show."""
    from cnnjax.report import diagnosis

    logs = {workdir: diagnosis.read_logs(workdir) for workdir in options.runs}
    found = {
        workdir: (diagnosis.diagnose_history(*logged), diagnosis.cannot_see_history(*logged))
        for workdir, logged in logs.items()
    }
    if options.json:
        return [
            {"run": workdir, "findings": findings, "cannot_detect": unseen}
            for workdir, (findings, unseen) in found.items()
        ]
    for number, (workdir, (findings, unseen)) in enumerate(found.items()):
        logged = logs[workdir]
        blank = "\n" if number else ""
        say(
            f"{blank}{workdir}: {', '.join(finding.name for finding in findings) or diagnosis.none_found(logged[0], logged[2])}"
        )
        for finding in findings:
            say(f"\n{finding.name}: {finding.words}\n  evidence: {finding.evidence}\n  advice: {finding.advice}")
        if unseen:
            say("\ncannot detect " + "\ncannot detect ".join(unseen))
