"""`cnnjax models`: lists the models, or the options of one."""

import argparse
from typing import Any

from cnnjax.commands import completion
from cnnjax.commands.arguments import add_json
from cnnjax.core.terminal import print_table

HELP = "list the models with sizes and weights, or a model's options"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `models`."""
    argument = parser.add_argument("name", nargs="?", help="a model whose options are listed")
    argument.completer = completion.model_names
    add_json(parser)


def run(options: argparse.Namespace) -> Any:
    """Prints the table of models, or of the options of one model."""
    if options.name is not None:
        return _options(options)
    from cnnjax.data.card import shape_text

    found = _models()
    if options.json:
        return found
    rows = [
        (
            model["model"],
            *("-" if model[name] is None else f"{model[name]:,}" for name in ("parameters", "macs")),
            shape_text(model["image"] or ()) or "-",
            *(model[name] or "-" for name in ("torchvision_weights", "task", "source", "published_result")),
        )
        for model in found
    ]
    columns = "model", "parameters", "MACs", "image", "torchvision weights", "task", "source", "published result"
    print_table(columns, rows, least=("published result", "source", "image"))


def _models() -> list[dict[str, Any]]:
    """The figures of each model; of an installed package's models their origin alone."""
    from cnnjax.config import offered_components
    from cnnjax.models import MODELS, list_models
    from cnnjax.transfer.torchvision import NETWORKS

    weights = {ours: theirs for theirs, ours in NETWORKS.items()}
    figures = "parameters", "macs", "image", "torchvision_weights", "task", "source", "published_result"
    rows = {
        name: (
            *_counts(name),
            MODELS[name].image_shape,
            weights.get(name),
            MODELS[name].task,
            MODELS[name].source,
            MODELS[name].result or None,
        )
        for name in list_models()
    }
    for name, (reference, package) in offered_components("model").items():
        rows[name] = None, None, None, None, None, f"{reference} of {package}", None
    return [{"model": name, **dict(zip(figures, row, strict=True))} for name, row in rows.items()]


def _counts(name: str) -> tuple[int, int]:
    """The parameters and multiply-adds of a model at its published input size."""
    from cnnjax.analysis.summary import summarize
    from cnnjax.models import MODELS

    if MODELS[name].counts is not None:
        return MODELS[name].counts
    summary = summarize(name)
    return summary.total_parameters, summary.total_macs


def _options(options: argparse.Namespace) -> Any:
    from cnnjax.core.options import declared, describe
    from cnnjax.models import find_model

    known = declared(find_model(options.name).build).values()
    if options.json:
        return [
            {"option": field.name, "default": field.default, "meaning": field.meaning or describe(field.type)}
            for field in known
        ]
    rows = [(field.name, repr(field.default), field.meaning or describe(field.type)) for field in known]
    print_table(("option", "default", "meaning"), rows)
