"""`cnnjax evaluate`: measures a run, or several runs as an ensemble, on a split."""

import argparse
from typing import Any

from cnnjax.commands.arguments import add_json, add_workdir
from cnnjax.core.terminal import print_table, say

HELP = "measure a run, or several runs as an ensemble, on a split"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `evaluate`."""
    add_workdir(parser, "one or more run directories", nargs="+", required=True)
    parser.add_argument("--split", default="test", choices=["train", "valid", "test"], help="default: test")
    parser.add_argument(
        "--details", action="store_true", help="also print scores for each class or number, and other details"
    )
    add_json(parser)


def run(options: argparse.Namespace) -> Any:
    """Prints the metrics, and details if they are requested."""
    from cnnjax import runs

    loaded = [runs.load_run(workdir) for workdir in options.workdir]
    task = loaded[0].task
    result, details = runs.judge_split(loaded, options.split, details=options.details)
    if options.json:
        return {"runs": options.workdir, "split": options.split, "metrics": result} | _in_detail(details)
    what = str(options.workdir[0]) if len(options.workdir) == 1 else f"ensemble of {len(options.workdir)}"
    say(f"{what}: {options.split} {task.sentence(result)}")
    if details is not None:
        for sentence in details.sentences:
            say(sentence)
        if details.rows:
            print_table(details.columns, details.rows)
    return None


def _in_detail(details: Any) -> dict[str, Any]:
    """A task's details for JSON."""
    if details is None:
        return {}
    rows = [dict(zip(details.columns, row, strict=True)) for row in details.rows]
    return {"details": {"sentences": details.sentences, "rows": rows}}
