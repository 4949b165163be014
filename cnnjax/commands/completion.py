"""Completion of the command line by the shell's TAB key, with argcomplete.

argcomplete asks the program itself, so that what is completed is what is installed; shtab writes a script once, which does not
know of configs, models and data sets that come later. It is imported only where a shell asks.
"""

import argparse
from collections.abc import Iterable
from typing import Any


def complete(parser: argparse.ArgumentParser) -> None:
    """Answers a shell and exits."""
    import argcomplete

    argcomplete.autocomplete(parser, always_complete_options=False)


def config_names(**_: Any) -> Iterable[str]:
    """The names of the shipped configs."""
    from cnnjax.core.locate import shipped_configs

    return shipped_configs()


def model_names(**_: Any) -> Iterable[str]:
    """The names of the models; they come with their networks, which takes JAX's start, about a second."""
    from cnnjax.models import list_models

    return list_models()


def torchvision_names(**_: Any) -> Iterable[str]:
    """The names of torchvision's networks whose weights can be imported."""
    from cnnjax.transfer.torchvision import NETWORKS

    return NETWORKS


def explored_names(**_: Any) -> Iterable[str]:
    """The names of the data sets and of the shipped configs."""
    from cnnjax.data.catalogue import CATALOGUE

    return [*CATALOGUE, *config_names()]
