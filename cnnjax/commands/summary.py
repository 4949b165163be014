"""`cnnjax summary`: shows the layers of a model or of a run's network."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnjax.commands import completion
from cnnjax.commands.arguments import accept_overrides, add_json, image_shape
from cnnjax.core.terminal import print_table, say

if TYPE_CHECKING:
    from cnnjax.analysis.summary import Summary

HELP = "show a network's layers: shapes, parameters, MACs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `summary`."""
    argument = parser.add_argument(
        "model",
        metavar="MODEL|RUN",
        help="a model of `cnnjax models`, a model of your own (./file.py:Net), or a run directory",
    )
    argument.completer = completion.model_names
    parser.add_argument(
        "--input",
        type=image_shape,
        metavar="H,W,C",
        help="input shape: H,W,C for images, L,C for signals, D,H,W,C for volumes (default: as published, or the run's)",
    )
    parser.add_argument("--classes", type=int, metavar="N", help="number of classes (default: as published)")
    parser.add_argument(
        "--depth",
        type=int,
        metavar="N",
        help="show blocks down to this level, one row each (default: 1 for a long network)",
    )
    parser.add_argument("--layers", action="store_true", help="show every layer of a long network too")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw the rows to an .svg file")
    parser.add_argument("--format", choices=["table", "markdown"], default="table")
    add_json(parser)
    accept_overrides(parser)
    parser.epilog = (
        "Options of the model can be set, such as --config.model.towers=1; `cnnjax models MODEL` lists them."
    )


def run(options: argparse.Namespace) -> Any:
    """Prints the summary in the requested format."""
    from cnnjax.core import files

    if options.svg:
        files.check_writable(options.svg, ".svg")
    summary = _summarize(options)
    short = summary if options.layers else summary.blocks()
    shown = short if options.depth is None else summary.folded(options.depth)
    if options.svg:
        files.write_atomically(options.svg, shown.svg())
    if options.json:
        return (summary if options.depth is None else shown).as_dict()
    if options.format == "markdown":
        say(shown.markdown())
    else:
        columns, rows = shown.table()
        print_table(columns, rows, least=(columns[3], "memory", "receptive field"))
    if shown is short is not summary:
        layers = f"{len(summary.layers)} layers in {len(short.layers)} blocks"
        say(f"{layers}: --layers shows every layer, --depth N nested blocks", error=True)
    if options.svg:
        say(f"drawing: {options.svg}", error=True)
    return None


def _summarize(options: argparse.Namespace) -> "Summary":
    from cnnjax.analysis.summary import summarize
    from cnnjax.models import MODELS

    others = [path for path in options.overrides if not path.startswith("model.")]
    if others:
        raise ValueError(f"--config.{others[0]}: expected an option of the model, --config.model.NAME=VALUE")
    chosen = {path.removeprefix("model."): value for path, value in options.overrides.items()}
    if options.model in MODELS or not Path(options.model).is_dir():
        return summarize(options.model, options.input, options.classes, **chosen)
    if chosen or options.classes:
        raise ValueError(
            f"summary of the run {options.model}: the run's config determines the model: leave out --config and --classes"
        )
    return _summarize_run(Path(options.model), options.input)


def _summarize_run(workdir: Path, input_shape: tuple[int, ...] | None) -> "Summary":
    import dataclasses

    from cnnjax import runs
    from cnnjax.analysis.summary import summarize
    from cnnjax.report.diagnosis import read_logs
    from cnnjax.training.experiment import build

    _, config, described = read_logs(workdir)
    model = build(config, runs.stored_facts(config, described)).model
    summary = summarize(model, input_shape or runs.network_shape(config, described["image_shape"]))
    return dataclasses.replace(summary, model=config.model.name)
