"""Names of parameters and layers, such as conv1/kernel, and patterns that match them."""

import fnmatch
from typing import Any

import jax


def path_name(path: Any) -> str:
    """The path of a parameter in its tree as text: conv1/kernel."""
    return "/".join(str(part.key) for part in path)


def matches(name: str, pattern: str) -> bool:
    """Whether a shell pattern matches the path of a parameter or of a layer that contains the parameter.

    >>> [matches("conv2_1/bn1/scale", pattern) for pattern in ("conv2*", "conv2_1/bn1", "*/scale", "conv1")]
    [True, True, True, False]
    """
    parts = name.split("/")
    return any(fnmatch.fnmatchcase("/".join(parts[:depth]), pattern) for depth in range(1, len(parts) + 1))


def check_pattern(pattern: str, params: Any, field: str) -> None:
    """Checks that a pattern matches at least one parameter.

    Raises:
      ValueError: the pattern matches none; the message has the config field and the names of some layers.
    """
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    if not any(matches(name, pattern) for name in names):
        layers = list(dict.fromkeys(name.rpartition("/")[0] for name in names))
        raise ValueError(
            f"config: {field}: {pattern!r} matches no layer or parameter: choose from {', '.join(layers[:12])}"
            f"{', ...' if len(layers) > 12 else ''}, or a pattern such as '{layers[0]}*'"
        )
