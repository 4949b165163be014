"""`cnnjax models`: lists the models, or the options of one."""

import argparse

from cnnjax.core.terminal import print_table

HELP = "list the models with sizes and weights, or a model's options"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `models`."""
    parser.add_argument("name", nargs="?", help="a model whose options are listed")


def run(options: argparse.Namespace) -> None:
    """Prints the table of models, or of the options of one model."""
    if options.name is None:
        _print_models()
    else:
        _print_options(options.name)


def _print_models() -> None:
    from cnnjax.config import offered_components
    from cnnjax.models import MODELS, list_models
    from cnnjax.transfer.torchvision import NETWORKS

    weights = {ours: theirs for theirs, ours in NETWORKS.items()}
    rows = [
        (
            name,
            *(f"{count:,}" for count in _counts(name)),
            "x".join(map(str, MODELS[name].image_shape)),
            weights.get(name, "-"),
            MODELS[name].task,
            MODELS[name].source,
            MODELS[name].result or "-",
        )
        for name in list_models()
    ]
    packages = offered_components("model")
    rows += [(name, *"-----", f"{reference} of {package}", "-") for name, (reference, package) in packages.items()]
    columns = "model", "parameters", "MACs", "image", "torchvision weights", "task", "source", "published result"
    print_table(columns, rows, least=("published result", "source", "image"))


def _counts(name: str) -> tuple[int, int]:
    """The parameters and multiply-adds of a model at its published input size."""
    from cnnjax.analysis.summary import summarize
    from cnnjax.models import MODELS

    if MODELS[name].counts is not None:
        return MODELS[name].counts
    summary = summarize(name)
    return summary.total_parameters, summary.total_macs


def _print_options(name: str) -> None:
    from cnnjax.core.options import declared, describe
    from cnnjax.models import find_model

    known = declared(find_model(name).build).values()
    rows = [(field.name, repr(field.default), field.meaning or describe(field.type)) for field in known]
    print_table(("option", "default", "meaning"), rows)
