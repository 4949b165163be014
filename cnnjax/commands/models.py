"""`cnnjax models`: lists the models, or the options of one."""

import argparse

from cnnjax.core.terminal import print_table

HELP = "the models: sizes, whose weights load; or the options of one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `models` takes."""
    parser.add_argument("name", nargs="?", help="a model")


def run(options: argparse.Namespace) -> None:
    """Prints the table of the models, or that of one model's options."""
    if options.name is None:
        _print_models()
    else:
        _print_options(options.name)


def _print_models() -> None:
    from cnnjax.models import MODELS, list_models
    from cnnjax.models.counts import COUNTS
    from cnnjax.transfer.torchvision import NETWORKS

    weights = {ours: theirs for theirs, ours in NETWORKS.items()}
    rows = [
        (
            name,
            *(f"{count:,}" for count in COUNTS[name]),
            "x".join(map(str, MODELS[name].image_shape)),
            weights.get(name, "-"),
            MODELS[name].source,
        )
        for name in list_models()
    ]
    columns = "model", "parameters", "MACs", "image", "torchvision's weights", "source"
    print_table(columns, rows, least=("source", "image"))


def _print_options(name: str) -> None:
    from cnnjax.core.options import declared, describe
    from cnnjax.models import find_model

    known = declared(find_model(name).build).values()
    rows = [(field.name, repr(field.default), field.meaning or describe(field.type)) for field in known]
    print_table(("option", "default", "meaning"), rows)
