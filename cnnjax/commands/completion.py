"""Completion of the command line by the shell's TAB key, with argcomplete.

argcomplete asks the installed program, so that completions are up to date; a script of shtab would not know
configs, models and data sets that are added later. argcomplete is imported only if a shell asks for completions.
"""

import argparse
import os
from collections.abc import Iterable
from typing import Any


def complete(parser: argparse.ArgumentParser) -> None:
    """Answers a shell and exits."""
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options=False)


def asked_fields() -> Iterable[str]:
    """The names of the config's fields if a shell completes --config.FIELD, else none, since importing them takes a second."""
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", 0))]
    if "_ARGCOMPLETE" not in os.environ or not (line.split(" ")[-1]).startswith("--config."):
        return []
    from cnnjax.config import describe_options

    return dict.fromkeys(field for field, *_ in describe_options())


def config_names(**_: Any) -> Iterable[str]:
    """The names of the shipped configs."""
    from cnnjax.core.locate import shipped_configs

    return shipped_configs()


def model_names(**_: Any) -> Iterable[str]:
    """The names of the models; they come with their networks, which takes JAX's start, about a second."""
    from cnnjax.models import list_models

    return list_models()


def imported_names(**_: Any) -> Iterable[str]:
    """The names of the networks of torchvision and Keras whose weights can be imported."""
    from cnnjax.transfer import keras, torchvision

    return [*torchvision.NETWORKS, *keras.NETWORKS]


def explored_names(**_: Any) -> Iterable[str]:
    """The names of the data sets and of the shipped configs."""
    from cnnjax.data.catalogue import CATALOGUE

    return [*CATALOGUE, *config_names()]
