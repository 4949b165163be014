"""The common part of `ablate` and `search`: the arguments of a study, and its run from the trials to the table."""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cnnjax.commands.arguments import add_json, add_workdir, field_name
from cnnjax.core.terminal import print_table, say


def add_study_arguments(parser: argparse.ArgumentParser, kind: str, split: str) -> None:
    """Adds the arguments of a study.

    Args:
      parser: the parser of the command.
      kind: the suffix of the study's default folder.
      split: the split whose metric the table shows by default.
    """
    parser.add_argument(
        "--seeds", type=_seeds, metavar="N or A,B,...", help="number of seeds, or a list of seeds (default: 1)"
    )
    add_workdir(parser, f"the folder of the study (default: runs/<config name>-{kind})")
    parser.add_argument(
        "--metric", metavar="NAME", help=f"the metric in the table (default: {split}/<the task's metric>)"
    )
    parser.add_argument(
        "--strategy",
        default="auto",
        metavar="NAME",
        help="how trials that differ only in numbers are run: serial, vmap, devices (one trial per device) or auto",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table in Markdown")
    parser.add_argument("--latex", type=Path, metavar="FILE", help="also write the table in LaTeX")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="also write one row per trial as comma-separated values"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw the table as a .png file")
    parser.add_argument("--page", type=Path, metavar="FILE", help="also write a page for a browser, .html")
    add_json(parser)
    parser.set_defaults(kind=kind)


def _seeds(text: str) -> int | list[int]:
    if not text.replace(",", "").isdigit() or text.startswith(",") or text.endswith(","):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seeds, such as 5, or a list, such as 0,3,7")
    return [int(seed) for seed in text.split(",")] if "," in text else int(text)


def assigned_field(text: str) -> str:
    """FIELD=VALUES with the field name spelled as in the config.

    >>> assigned_field("train.batch-size=16,-1")
    'train.batch_size=16,-1'
    """
    field, equals, values = text.partition("=")
    return f"{field_name(field)}{equals}{values}"


def named_once(flag: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a mapping.

    Raises:
      ValueError: a name occurs twice; the message has the flag.
    """
    pairs = list(pairs)
    if len(dict(pairs)) < len(pairs):
        twice = next(name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1)
        raise ValueError(f"{flag}: {twice} is given twice: use it once")
    return dict(pairs)


def run_study(options: argparse.Namespace, study: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """Runs a study, prints its table and writes the requested files; with --json returns the table instead.

    Args:
      options: the options of the command.
      study: the function that runs the study and returns its table.
      arguments: the positional arguments of the function.
      settings: the keyword arguments of the function that do not come from `add_study_arguments`.
    """
    from cnnjax.ablation.table import LEAST
    from cnnjax.analysis import pictures
    from cnnjax.config import config_name
    from cnnjax.core import files

    for path in (options.markdown, options.latex, options.csv, options.plot, options.page):
        if path and not path.parent.is_dir():
            raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    workdir = options.workdir or Path("runs") / f"{config_name(options.config)}-{options.kind}"
    try:
        table = study(*arguments, workdir=workdir, metric=options.metric, strategy=options.strategy, **settings)
    except KeyboardInterrupt as stop:
        stop.args = (f"{str(stop) or 'interrupted'}; resume with the same command",)
        raise
    for path, content in ((options.markdown, table.markdown), (options.latex, table.latex), (options.csv, table.csv)):
        if path:
            files.write_atomically(path, content().rstrip("\n") + "\n")
    if options.plot:
        pictures.save(table.plot(), options.plot)
    if options.page:
        from cnnjax.ablation.page import as_page

        files.write_atomically(options.page, as_page(table, workdir.name))
    for record in table.trials:
        if record["status"] == "failed":
            say(f"failed: {record['variant']}, seed {record['seed']}: {record['error']}", error=True)
    if options.json:
        return {"metric": table.metric, "baseline": table.baseline, "variants": table.rows, "trials": table.trials}
    if sys.stdout.isatty():
        columns, rows = table.brief()
        print_table(columns, rows, least=LEAST)
    else:
        columns, *rows = table.cells()
        print_table(columns, rows)
    if table.power():
        say(table.power())
