"""`cnnjax models`: lists the models, or the options of one."""

import argparse
import fnmatch
from typing import Any

from cnnjax.commands import completion
from cnnjax.commands.arguments import add_json
from cnnjax.core.terminal import print_table

HELP = "list the models with sizes and weights, or a model's options"
# Where a model has published weights, and the figure with its name there.
WEIGHTS = {"torchvision": "torchvision_weights", "Keras": "keras_weights"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `models`."""
    argument = parser.add_argument(
        "name", nargs="?", help="a model whose options are listed, or a pattern of models ('resnet*')"
    )
    argument.completer = completion.model_names
    parser.add_argument("--task", help="only models for a task: classification, segmentation or detection")
    add_json(parser)


def run(options: argparse.Namespace) -> Any:
    """Prints the table of models, or of the options of one model."""
    if options.name is not None and not set(options.name) & set("*?["):
        return _options(options)
    from cnnjax.core.options import unknown
    from cnnjax.data.card import shape_text
    from cnnjax.models import MODELS

    tasks = {row.task for row in MODELS.values()}
    if options.task is not None and options.task not in tasks:
        raise ValueError(unknown("task of models", options.task, tasks))
    found = [
        model
        for model in _models()
        if fnmatch.fnmatchcase(model["model"], options.name or "*") and options.task in (None, model["task"])
    ]
    if not found:
        raise ValueError(f"no model matches {options.name!r}: `cnnjax models` lists all")
    if options.json:
        return found
    rows = [
        (
            model["model"],
            *("-" if model[name] is None else f"{model[name]:,}" for name in ("parameters", "macs")),
            shape_text(model["image"] or ()) or "-",
            " and ".join(text for text, name in WEIGHTS.items() if model[name]) or "-",
            *(model[name] or "-" for name in ("task", "source", "published_result")),
        )
        for model in found
    ]
    columns = "model", "parameters", "MACs", "image", "weights of", "task", "source", "published result"
    print_table(columns, rows, least=("published result", "source", "image"))


def _models() -> list[dict[str, Any]]:
    """The figures of each model; only the origin of models of installed packages."""
    from cnnjax.config import offered_components
    from cnnjax.models import MODELS, list_models
    from cnnjax.transfer.keras import NETWORKS as KERAS_NETWORKS
    from cnnjax.transfer.torchvision import NETWORKS

    torchvision_names = {ours: theirs for theirs, ours in NETWORKS.items()}
    keras_names = {ours: theirs for theirs, ours in KERAS_NETWORKS.items()}
    figures = "parameters", "macs", "image", *WEIGHTS.values(), "task", "source", "published_result"
    rows = {
        name: (
            *_counts(name),
            MODELS[name].image_shape,
            torchvision_names.get(name),
            keras_names.get(name),
            MODELS[name].task,
            MODELS[name].source,
            MODELS[name].result or None,
        )
        for name in list_models()
    }
    for name, (reference, package) in offered_components("model").items():
        rows[name] = None, None, None, None, None, None, f"{reference} of {package}", None
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
